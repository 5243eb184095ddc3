from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from atlas.analysis import stats
from atlas.analysis.derivation import summarise_neurons
from atlas.analysis.naming import NeuronNames
from atlas.errors import Refused
from atlas.model.directions import Directions
from atlas.store.store import Store
from decompose.neighbours import similar_neurons, universality
from decompose.responses import Responses
from tests.fakes import fake_store, part, write_array


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """With real statistics, and a basis in which neuron 5 is all but neuron 3."""
    store = fake_store(tmp_path_factory.mktemp("one"), images=150, derived=False)
    summarise_neurons(store)
    W = np.random.default_rng(0).normal(size=(16, 32)).astype(np.float32)
    W[5] = 2 * W[3] + 0.01
    with store.deriving(part("neurons/basis"), {}) as folder:
        np.save(folder / "basis.npy", W)
    return store


def rewrite(path: Path, one: Store, change: np.ndarray) -> Store:
    """A Store of the same rows whose neurons are other mixtures of the first one's: A @ change."""
    other = fake_store(path, images=150, derived=False)
    for kind in ("image", "word"):
        for shard in other.of_kind(kind):
            A = np.asarray(shard.array("max"), np.float32) @ change
            write_array(other, shard, "max", A.astype(np.float16))
    return other


def test_responses_are_the_store_s_whatever_the_block(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.asarray(store.array("max", "image"), np.float32)
    monkeypatch.setattr("decompose.responses.RESPONSE_BLOCK", 64)
    rows, blocks = zip(*Responses.of(store, "image"), strict=True)
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    np.testing.assert_array_equal(np.concatenate(rows), np.arange(150))
    assert len(blocks) == 3
    for neuron, found in enumerate(Responses.of(store, "image").strongest(10)[1]):
        np.testing.assert_array_equal(found, np.sort(whole[:, neuron])[:-11:-1])


def test_rows_of_a_dead_neuron_are_scattered(store: Store) -> None:
    dead = Directions(np.zeros((1, 16)), np.zeros((1, 16)), ("dead",), np.zeros(1))
    rows, values = Responses.of(store, "image", dead).strongest(8)
    assert (values == 0).all()
    assert len(set(rows[0].tolist())) == 8
    assert np.abs(np.diff(np.sort(rows[0]))).min() > 2
    assert rows.max() < 150


def test_nearest_by_each_way_is_what_a_loop_finds(store: Store) -> None:
    A = np.asarray(store.array("max", "image"), np.float64)
    table = similar_neurons(store, 3, k=15).to_pydict()
    expected = np.corrcoef(A.T)[3]
    assert table["neuron"] == [int(i) for i in np.argsort(-expected) if i != 3]
    np.testing.assert_allclose(table["response"], expected[table["neuron"]], atol=1e-5)
    first = similar_neurons(store, 3, k=1, by="basis").to_pylist()[0]
    assert first["neuron"] == 5
    assert first["basis"] > 0.99
    overlap = similar_neurons(store, 3, k=15, by="images").to_pylist()[0]
    tops = [set(np.argsort(-A[:, i], kind="stable")[: stats.TOP_ROWS].tolist()) for i in range(16)]
    shares = [len(tops[3] & each) / len(tops[3] | each) for each in tops]
    assert overlap["images"] == pytest.approx(sorted(shares)[-2])


def test_a_neuron_taken_as_a_direction_is_nearest_to_itself(store: Store) -> None:
    for by in ("response", "basis"):
        first = similar_neurons(store, Directions.neurons([7], 16), k=1, by=by).to_pylist()[0]
        assert first["neuron"] == 7
        assert first[by] == pytest.approx(1, abs=0.03)  # the fake's mean is half its max, rounded to float16


def test_universality_finds_a_permuted_model_and_not_a_random_one(store: Store, tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(16)
    twin = rewrite(tmp_path / "twin", store, np.eye(16, dtype=np.float32)[:, order])
    table = universality(store, twin).to_pydict()
    assert len(table["neuron"]) == 16
    assert all(order[other] == neuron for neuron, other in zip(table["neuron"], table["other"], strict=True))
    assert max(table["q"]) < 0.05
    assert min(table["correlation"]) > 0.999
    stranger = rewrite(tmp_path / "stranger", store, np.zeros((16, 16), np.float32))
    assert universality(store, stranger).num_rows == 0  # neurons that never change are like none


def test_neighbours_are_called_what_their_own_stores_call_them(tmp_path: Path) -> None:
    one, other = (fake_store(tmp_path / name, images=150, derived=False) for name in ("one", "other"))
    summarise_neurons(one)
    for store, word in ((one, "cat"), (other, "dog")):
        with store.deriving(part("neurons/labels"), {}) as folder:
            rows = {"neuron": [3, 5, 5, 7], "label": [word, f"a {word}", f"its {word}", "none"]}
            pq.write_table(pa.table(rows), folder / "labels.parquet")
    called = {row["neuron"]: row["label"] for row in similar_neurons(one, 3, k=15).to_pylist()}
    names = NeuronNames.read(one)
    assert called == {i: str(names[i]) for i in range(16) if i != 3}
    assert called[5] == "a cat, its cat"
    pairs = {row["neuron"]: (row["label"], row["other_label"]) for row in universality(one, other).to_pylist()}
    assert pairs[3] == ("cat", "dog")
    assert pairs[7] == (str(names[7]), None)


def test_shuffled_rows_are_not_significant(store: Store, tmp_path: Path) -> None:
    other = fake_store(tmp_path / "other", images=150, derived=False)
    for shard in other.of_kind("image"):
        A = np.random.default_rng(2).permutation(np.asarray(shard.array("max")))
        write_array(other, shard, "max", A)
    assert min(universality(store, other, shuffles=20).to_pydict()["q"]) > 0.05


def test_pairs_of_neurons_that_share_nothing_have_p_of_any_size(tmp_path: Path) -> None:
    one, other = (fake_store(tmp_path / name, images=60, neurons=60, derived=False) for name in ("a", "b"))
    found, random = [], np.random.default_rng(0)
    for _ in range(6):
        for store in (one, other):
            (shard,) = store.of_kind("image")
            write_array(store, shard, "max", random.normal(size=(60, 60)).astype(np.float16))
        found += universality(one, other).to_pydict()["p"]
    assert len(found) > 60
    assert 0.4 < np.mean(found) < 0.65
    assert 0.03 < np.mean(np.array(found) <= 0.1) < 0.2


def test_what_is_refused(store: Store, tmp_path: Path) -> None:
    for message, ask in {
        "out of range": lambda: similar_neurons(store, 16),
        "out of range:": lambda: similar_neurons(store, -1),
        "compared by": lambda: similar_neurons(store, 0, by="taste"),
        "at least one": lambda: similar_neurons(store, 0, k=0),
        "one direction": lambda: similar_neurons(store, Directions.neurons([1, 2], 16)),
        "of 4 neurons": lambda: similar_neurons(store, Directions.neurons([1], 4)),
        "share .* images by id": lambda: universality(store, fake_store(tmp_path, images=20, derived=False)),
    }.items():
        with pytest.raises(Refused, match=message) as refused:
            ask()
        assert "\n" not in str(refused.value)
