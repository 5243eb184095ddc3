"""Plain arrays give what a Store of the same numbers gives, a block of rows at a time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest

import decompose
from atlas.analysis import significance
from atlas.analysis.derivation import summarise_neurons
from atlas.errors import Refused
from atlas.model.directions import Directions
from atlas.store.store import Store
from decompose.renderings import display_texts, tell_things
from tests.fakes import WORDS, FakeClip, fake_store, part, write_array

U, E, N = 16, 32, 420
CAT = 3


class Plain(NamedTuple):
    """What the Store of a model holds, as arrays."""

    A: np.ndarray
    E: np.ndarray
    W: np.ndarray
    captions: list[str]
    groups: list[str]


@pytest.fixture(scope="module")
def clip() -> FakeClip:
    W = np.random.default_rng(0).normal(size=(U, E)).astype(np.float32) / E**0.5
    clip = FakeClip(W)
    W[CAT] += 3 * clip.encode_texts("cat")[0]
    return clip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, clip: FakeClip) -> Store:
    """Of images alone, by two vendors; neuron CAT answers to cats, and points there; its maps' mean is half its max."""
    store = fake_store(tmp_path_factory.mktemp("arrays"), images=N, words=0, texts=0, neurons=U, dim=E, derived=False)
    (shard,) = store.of_kind("image")
    labels = np.array(display_texts(shard.table(["label", "caption"])))
    X = clip.encode_texts(labels.tolist()) + np.random.default_rng(1).normal(size=(N, E)) / 10
    write_array(store, shard, "embedding", (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float16))
    A = np.asarray(shard.array("max")) + 3 * (np.arange(U) == CAT) * (np.char.find(labels, "cat") >= 0)[:, None]
    write_array(store, shard, "max", A.astype(np.float16))
    write_array(store, shard, "mean", (A.astype(np.float16) / 2))
    summarise_neurons(store)
    with store.deriving(part("neurons/basis"), {}) as folder:
        np.save(folder / "basis.npy", clip.basis())
    return store


@pytest.fixture(scope="module")
def plain(store: Store, clip: FakeClip) -> Plain:
    table = store.table(["label", "caption", "group"], "image")
    read = (np.asarray(store.array(name, "image")[:]) for name in ("max", "embedding"))
    return Plain(next(read), next(read), clip.basis(), display_texts(table), table["group"].to_pylist())


def ask(text: str, clip: FakeClip) -> tuple[np.ndarray, np.ndarray]:
    texts = significance.random_texts(text, 500)
    return clip.encode_texts(text)[0], clip.encode_texts(texts)


def same(found: pa.Table, expected: pa.Table) -> None:
    assert found.column_names == [name for name in expected.column_names if name in found.column_names]
    for name in found.column_names:
        one, other = found[name].to_pylist(), expected[name].to_pylist()
        assert one == (pytest.approx(other, rel=1e-4) if isinstance(one[0], float) else other), name


@pytest.mark.parametrize("by", ["basis", "response", None])
def test_neurons_are_ranked_as_a_search_ranks_them(store: Store, plain: Plain, clip: FakeClip, by: str | None) -> None:
    pytest.importorskip("wordfreq")
    weights, scale = tell_things(plain.captions, plain.groups).weights, np.exp(3.0)
    found = decompose.rank_neurons(*ask("cat", clip), plain.W, plain.A, plain.E, 5, by, scale, weights)
    same(found.drop("attribution"), decompose.neurons_of_text(clip, "cat", 5, store, by))
    assert found["neuron"][0].as_py() == CAT
    assert found["q"][0].as_py() < 0.05


def test_neurons_are_ranked_by_a_basis_alone(plain: Plain, clip: FakeClip) -> None:
    pytest.importorskip("wordfreq")
    same(decompose.rank_neurons(*ask("cat", clip), plain.W), decompose.neurons_of_text(clip, "cat"))
    x, null = ask("cat", clip)
    A = np.array(plain.A)
    A[:, CAT] = 0.7
    silent = decompose.rank_neurons(x, null, plain.W, A, k=U).to_pylist()
    assert next(row for row in silent if row["neuron"] == CAT)["score"] == 0


def test_labels_are_those_of_a_store(store: Store, plain: Plain, clip: FakeClip) -> None:
    T = clip.encode_texts(list(WORDS))
    expected = decompose.label_neurons(store, clip, WORDS, draws=1000)
    given: dict[str, Any] = {
        "captions": plain.captions,
        "W": plain.W,
        "groups": plain.groups,
        "scale": float(np.exp(3.0)),
    }
    same(decompose.label_activations(plain.A, WORDS, T, plain.E, draws=1000, **given), expected)
    alone: list[dict[str, Any]] = [{"E": plain.E}, {"captions": plain.captions}, {"W": plain.W}]
    for evidence in alone:
        (name,) = evidence
        table = decompose.label_activations(plain.A, WORDS, T, draws=1000, **evidence).to_pylist()
        assert len({row["neuron"] for row in table}) == U
        assert {row["evidence"] for row in table} <= {"", {"E": "images", "W": "basis"}.get(name, name)}


def test_facets_are_those_of_a_store(store: Store, plain: Plain, clip: FakeClip) -> None:
    T = clip.encode_texts(list(WORDS))
    found = decompose.split_activations(plain.A, plain.E, WORDS, T, images=24, draws=500)
    same(found, decompose.split_neurons(store, clip, WORDS, images=24, draws=500))
    assert len(set(found["neuron"].to_pylist())) == U
    with pytest.raises(Refused, match="E has 419 rows"):
        decompose.split_activations(plain.A, plain.E[:-1], WORDS, T)
    with pytest.raises(Refused, match="give one or more"):
        decompose.split_activations(plain.A, plain.E, [], T[:0])


def test_the_likeness_of_neurons_is_that_of_a_store(store: Store, plain: Plain) -> None:
    for by in ("response", "basis", "images"):
        found = decompose.compare_neurons(plain.A, 7, 15, by, plain.W)
        same(found, decompose.similar_neurons(store, 7, 15, by))
        assert 7 not in found["neuron"].to_pylist()
    assert decompose.compare_neurons(plain.A, 7)["basis"].null_count == 10
    one = Directions.neurons([7], U)
    itself = decompose.compare_neurons(plain.A, one, 1, W=plain.W).to_pylist()[0]
    assert itself == pytest.approx({"neuron": 7, "response": 1, "basis": 1, "images": 1})


def test_the_universality_of_arrays_is_that_of_stores(store: Store, plain: Plain, tmp_path: Path) -> None:
    B = np.random.default_rng(2).permutation(plain.A, axis=1)
    twin = fake_store(tmp_path, images=N, words=0, texts=0, neurons=U, dim=E, derived=False)
    write_array(twin, twin.of_kind("image")[0], "max", B)
    found = decompose.match_neurons(plain.A, B, shuffles=3)
    same(found, decompose.universality(store, Store.open(twin.path), shuffles=3))
    assert len(found) == U
    assert max(found["q"].to_pylist()) < 0.05


class Spy:
    """An array that remembers the largest part of it that was read at once."""

    def __init__(self, array: np.ndarray):
        self.array, self.shape, self.most = array, array.shape, 0

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, at: Any) -> np.ndarray:
        self.most = max(self.most, len(self.array[at]))
        return self.array[at]


def test_no_more_than_a_block_of_rows_is_read_at_once(plain: Plain, clip: FakeClip, monkeypatch) -> None:
    monkeypatch.setattr("decompose.responses.RESPONSE_BLOCK", 50)
    monkeypatch.setattr("decompose.evidence.RESPONSE_BLOCK", 50)
    monkeypatch.setattr("decompose.evidence._POOL", 50)
    T, null = clip.encode_texts(list(WORDS)), np.random.default_rng(0).normal(size=(120, E)).astype(np.float32)

    def results(A: Any, E: Any) -> list[pa.Table]:
        return [
            decompose.rank_neurons(T[0], null, plain.W, A, E),
            decompose.label_activations(A, WORDS, T, E, plain.captions, groups=plain.groups, draws=100),
            decompose.compare_neurons(A, 2),
            decompose.match_neurons(A, A, shuffles=1),
        ]

    A, embeddings = Spy(plain.A), Spy(plain.E)
    for found, expected in zip(results(A, embeddings), results(plain.A, plain.E), strict=True):
        assert found == expected
    assert A.most == 50
    assert embeddings.most < N / 2


def spoilt(array: np.ndarray) -> np.ndarray:
    return np.where(np.arange(len(array))[:, None] == 5, np.nan, array).astype(array.dtype)


def test_arrays_that_do_not_fit_are_refused(plain: Plain, clip: FakeClip) -> None:
    A, X, W, captions, _ = plain
    T, null = clip.encode_texts(list(WORDS)), clip.encode_texts([f"word {n}" for n in range(120)])
    rank, label = decompose.rank_neurons, decompose.label_activations
    cases: dict[str, Callable[[], Any]] = {
        "give A= and E=": lambda: rank(T[0], null, W, A, by="both"),
        "searched by": lambda: rank(T[0], null, W, by="smell"),
        "at least one neuron": lambda: rank(T[0], null, W, k=0),
        "99 random texts to compare with": lambda: rank(T[0], null[:99], W),
        "W has 15 rows where 16": lambda: rank(T[0], null, W[:15], A),
        "E has 9 rows where 420": lambda: rank(T[0], null, W, A, X[:9]),
        "an array of shape": lambda: rank(T[0], null, W, A[0]),
        "W holds numbers": lambda: rank(T[0], null, spoilt(W)),
        "A holds numbers that are not finite, in rows 0 to 419": lambda: rank(T[0], null, W, spoilt(A)),
        "the embeddings E hold numbers": lambda: rank(T[0], null, W, A, spoilt(X)),
        "no evidence": lambda: label(A, WORDS, T),
        "each once": lambda: label(A, ("cat", "cat"), T[:2], X),
        "0 concepts": lambda: label(A, (), T[:0], X),
        "T has 13 rows where 14": lambda: label(A, WORDS, T[1:], X),
        "captions has 9 rows": lambda: label(A, WORDS, T, captions=captions[:9]),
        "groups has 9 rows": lambda: label(A, WORDS, T, X, groups=captions[:9]),
        "the embeddings E hold": lambda: label(A, WORDS, T, spoilt(X)),
        "the text embeddings T hold": lambda: label(A, WORDS, spoilt(T), X),
        "false discovery rate": lambda: label(A, WORDS, T, X, rate=1.5),
        "neuron 16 is out of range: A has": lambda: decompose.compare_neurons(A, 16),
        "compared by": lambda: decompose.compare_neurons(A, 1, by="taste"),
        "needs W": lambda: decompose.compare_neurons(A, 1, by="basis"),
        "one direction": lambda: decompose.compare_neurons(A, Directions.neurons([1, 2], U)),
        "are of 4 neurons": lambda: decompose.compare_neurons(A, Directions.neurons([1], 4)),
        "B has 100 rows where 420": lambda: decompose.match_neurons(A, A[:100]),
        "have 20 rows, and 30": lambda: decompose.match_neurons(A[:20], A[:20]),
        "not finite": lambda: decompose.match_neurons(A, spoilt(A)),
    }
    for message, ask in cases.items():
        with pytest.raises(Refused, match=message) as refused:
            ask()
        assert "\n" not in str(refused.value)
