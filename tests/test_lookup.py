"""A made-up model: texts lie in random directions, and some neurons point at some of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atlas.analysis.derivation import summarise_neurons
from atlas.errors import Refused
from atlas.model.directions import Directions
from atlas.store.store import Store
from decompose.lookup import TextBank, frequency_bands, neurons_of_text, texts_of_neuron
from decompose.ranking import rank_neurons
from tests.fakes import WORDS, FakeClip, fake_store, write_array

U, E = 16, 32
CAT, PIZZA, DEAD = 3, 7, 11


@pytest.fixture(scope="module")
def clip() -> FakeClip:
    """Neuron CAT points at "cat", PIZZA at "pizza"; DEAD points at "sun" and fires on no image."""
    W = np.random.default_rng(0).normal(size=(U, E)).astype(np.float32) / E**0.5
    clip = FakeClip(W)
    W[[CAT, PIZZA, DEAD]] += 3 * clip.encode_texts(["cat", "pizza", "sun"])
    return clip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, clip: FakeClip) -> Store:
    """Embeddings say what a row shows; neuron 5 answers to cats, whatever its basis row."""
    store = fake_store(tmp_path_factory.mktemp("store"), images=140, words=56, neurons=U, dim=E, derived=False)
    for shard in store.of_kind(None):
        shows = [WORDS[i % len(WORDS)] for i in range(shard.rows)]
        X = clip.encode_texts(shows) + np.random.default_rng(1).normal(size=(shard.rows, E)) / 10
        write_array(store, shard, "embedding", (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float16))
        if shard.kind != "text":
            A = np.asarray(shard.array("max")) + 3 * (np.arange(U) == 5) * (np.array(shows) == "cat")[:, None]
            A[:, DEAD] = 0 if shard.kind == "image" else 3 * (np.array(shows) == "sun")
            write_array(store, shard, "max", A.astype(np.float16))
            write_array(store, shard, "mean", (A / 2).astype(np.float16))
    summarise_neurons(store)
    return store


def first(table: Any) -> dict[str, Any]:
    return table.to_pylist()[0]


def test_search_by_basis_finds_the_neuron_that_points_there(clip: FakeClip) -> None:
    pytest.importorskip("wordfreq")
    assert first(neurons_of_text(clip, "cat"))["neuron"] == CAT
    best = neurons_of_text(clip, "pizza", k=4).to_pydict()
    assert best["neuron"][0] == PIZZA
    assert best["p"][0] < 0.002
    assert best["q"][0] < 0.05
    assert best["score"] == sorted(best["score"], reverse=True)
    assert len(best["label"]) == 4


def test_p_of_a_text_that_no_neuron_serves_is_not_small(clip: FakeClip) -> None:
    pytest.importorskip("wordfreq")
    small = [
        first(neurons_of_text(clip, query, k=1))["q"] < 0.05 for query in ("lamp", "שלום", "qxzzv", "two words", "🍕")
    ]
    assert sum(small) <= 1


def test_search_by_response_finds_the_neuron_that_answers(clip: FakeClip, store: Store) -> None:
    pytest.importorskip("wordfreq")
    answering = first(neurons_of_text(clip, "cat", store=store, by="response"))
    assert answering["neuron"] == 5
    assert answering["p"] < 0.01
    both = neurons_of_text(clip, "cat", k=2, store=store).to_pydict()
    assert set(both["neuron"]) == {CAT, 5}
    assert first(neurons_of_text(clip, "cat", store=store, by="basis"))["neuron"] == CAT


def test_a_neuron_that_never_fires_does_not_win(clip: FakeClip, store: Store) -> None:
    pytest.importorskip("wordfreq")
    assert first(neurons_of_text(clip, "sun"))["neuron"] == DEAD
    for by in ("basis", "response", "both"):
        ranked = neurons_of_text(clip, "sun", k=U, store=store, by=by).to_pylist()
        assert ranked[0]["neuron"] != DEAD
        assert next(row for row in ranked if row["neuron"] == DEAD)["score"] == 0


def test_a_direction_is_searched_as_a_neuron_is(clip: FakeClip, store: Store) -> None:
    pytest.importorskip("wordfreq")
    some = Directions.neurons([1, PIZZA, 5], U)
    assert first(neurons_of_text(clip, "pizza", k=1, directions=some))["label"] == f"neuron {PIZZA}"
    assert first(neurons_of_text(clip, "cat", k=1, store=store, by="response", directions=some))["neuron"] == 2
    assert texts_of_neuron(clip, some[1], 1, ["cat", "pizza", "sun"])["text"].to_pylist() == ["pizza"]


def test_texts_of_a_neuron_and_their_bank(clip: FakeClip) -> None:
    pytest.importorskip("wordfreq")
    bank = TextBank.build(clip, [*WORDS, "cat"])
    found = texts_of_neuron(clip, PIZZA, 3, bank)
    assert found.column_names == ["text", "score"]
    assert first(found)["text"] == "pizza"
    assert first(found)["score"] > 0.7
    assert found.to_pylist() == texts_of_neuron(clip, PIZZA, 3, WORDS).to_pylist()
    assert texts_of_neuron(FakeClip(np.zeros((U, E), np.float32)), 0, 3, bank).num_rows == 0


def test_what_frequency_does_to_embeddings_does_not_rank_texts(clip: FakeClip) -> None:
    pytest.importorskip("wordfreq")
    common, rare = ("time", "people", "new", "good"), ("zoological", "quicksand", "archduke", "gondola")
    shift = np.ones(E, np.float32) * 5

    class Biased(FakeClip):
        def encode_texts(self, texts: Sequence[str] | str) -> np.ndarray:
            X = super().encode_texts(texts) + np.array([[text in rare] for text in texts]) * shift
            return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)

    assert len(set(frequency_bands(rare)) & set(frequency_bands(common))) == 0
    biased = Biased(np.tile(shift, (U, 1)))
    found = texts_of_neuron(biased, 0, 8, [*common, *rare])["text"].to_pylist()
    assert set(found[:4]) != set(rare)


def test_neurons_are_judged_by_words_where_there_are_no_images(clip: FakeClip, tmp_path: Path) -> None:
    pytest.importorskip("wordfreq")
    store = fake_store(tmp_path / "words", images=0, words=56, texts=0, neurons=U, dim=E, derived=False)
    for shard in store.of_kind("word"):
        A = np.array(shard.array("mean"))
        A[:, CAT] = 0
        write_array(store, shard, "mean", A)
    ranked = neurons_of_text(clip, "cat", k=U, store=store, by="basis").to_pylist()
    assert ranked[0]["neuron"] != CAT
    assert next(row for row in ranked if row["neuron"] == CAT)["score"] == 0
    assert first(neurons_of_text(clip, "pizza", store=store))["neuron"] == PIZZA


def test_the_templates_of_texts_count(clip: FakeClip) -> None:
    pytest.importorskip("wordfreq")
    plain, said = (texts_of_neuron(clip, PIZZA, 3, WORDS, templates) for templates in (None, "the word {}"))
    assert first(plain)["text"] == "pizza"
    assert first(plain)["score"] > first(said)["score"] + 0.1  # the made-up model puts that anywhere


@pytest.mark.parametrize("query", ["", "  \n", "x" * 10_000])
def test_queries_that_are_refused(clip: FakeClip, query: str) -> None:
    pytest.importorskip("wordfreq")
    with pytest.raises(Refused) as refused:
        neurons_of_text(clip, query)
    assert "\n" not in str(refused.value)


def test_what_else_is_refused(clip: FakeClip, store: Store, tmp_path: Path) -> None:
    pytest.importorskip("wordfreq")
    stranger = FakeClip(clip.basis(), sha="1" * 64)
    only_texts = fake_store(tmp_path / "texts", images=0, words=0, texts=1, neurons=U, dim=E, derived=False)
    for message, ask in {
        "was made by fake": lambda: neurons_of_text(stranger, "cat", store=store),
        "needs a Store": lambda: neurons_of_text(clip, "cat", by="both"),
        "searched by": lambda: neurons_of_text(clip, "cat", by="smell"),
        "at least one": lambda: neurons_of_text(clip, "cat", k=0),
        "neither images nor words": lambda: neurons_of_text(clip, "cat", store=only_texts, by="response"),
        "neuron 16 is out of range": lambda: texts_of_neuron(clip, U),
        "neuron -1 is out of range": lambda: texts_of_neuron(clip, -1),
        "one direction": lambda: texts_of_neuron(clip, Directions.neurons([1, 2], U)),
        "at least one text": lambda: texts_of_neuron(clip, 0, k=0),
        "no text": lambda: texts_of_neuron(clip, 0, vocabulary=[]),
        "empty": lambda: texts_of_neuron(clip, 0, vocabulary=["cat", ""]),
    }.items():
        with pytest.raises(Refused, match=message) as refused:
            ask()
        assert "\n" not in str(refused.value)


def test_p_holds_for_few_random_texts_and_fewer_than_a_hundred_are_refused(clip: FakeClip) -> None:
    random = np.random.default_rng(0)
    X, W = random.normal(size=(60, 101, E)), random.normal(size=(40, E))
    unit = lambda V: (V / np.linalg.norm(V, axis=-1, keepdims=True)).astype(np.float32)  # noqa: E731
    p = [rank_neurons(x[0], x[1:], W.astype(np.float32), k=40)["p"].to_numpy() for x in unit(X)]
    assert 0.035 < np.mean(np.concatenate(p) <= 0.05) < 0.065
    with pytest.raises(Refused, match="99 random texts"):
        neurons_of_text(clip, "cat", random=99)
