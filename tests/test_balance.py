import numpy as np
import pytest

from atlas.analysis.balance import (
    KindNeighbours,
    balanced_graph,
    mixing,
    name_matches,
    preservation_within,
    varied_neighbours,
)
from atlas.analysis.index import Index
from atlas.analysis.layout import Centred, place_by_matches, project
from tests.fakes import nearest

SIZES = {"image": 7, "word": 3, "text": 1, "sound": 2}  # copies of every concept


def planted(concepts: int = 40, d: int = 32) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Concepts in four kinds of unequal sizes, each kind a cone apart and ordered by something of its own."""
    rng = np.random.default_rng(0)
    shared, vectors, kinds, labels = rng.standard_normal((concepts, d)), [], [], []
    for number, (kind, copies) in enumerate(SIZES.items()):
        style = rng.standard_normal((concepts // 4, d))  # concepts that look or sound alike
        alike = style[rng.permutation(concepts) // 4]
        rows = np.repeat(shared + 1.3 * alike + 30 * np.eye(4, d)[number], copies, axis=0)
        vectors.append(rows + 0.3 * rng.standard_normal(rows.shape))
        kinds += [kind] * len(rows)
        labels += [f"Thing {i}" for i in range(concepts) for _ in range(copies)]
    order = rng.permutation(len(kinds))  # rows of a kind need not stand together
    return np.concatenate(vectors)[order].astype(np.float32), np.array(kinds)[order], [labels[i] for i in order]


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray, list[str]]:
    return planted()


@pytest.fixture(scope="module")
def found(rows) -> KindNeighbours:
    return KindNeighbours.find(Centred(rows[0], rows[1]), rows[1], 15)


@pytest.fixture(scope="module")
def balanced(rows) -> np.ndarray:
    return project(rows[0], kinds=rows[1], n_epochs=200)


def test_neighbours_are_the_nearest_of_every_kind(rows, found):
    vectors, kinds, _ = rows
    centred = Centred(vectors, kinds)[:]
    for kind in SIZES:
        for other in SIZES:
            ids, scores = found.near[kind, other]
            own, there = found.rows[kind], found.rows[other]
            expected = centred[own] @ centred[there].T
            if kind == other:
                np.fill_diagonal(expected, -np.inf)
                assert not (ids == own[:, None]).any()
            assert set(kinds[ids.ravel()]) == {other}
            np.testing.assert_allclose(scores, -np.sort(-expected, axis=1)[:, :15], atol=1e-5)


def test_merged_neighbours_are_those_over_all_rows(rows, found):
    ids, distances = found.merged(16)
    centred = Centred(rows[0], rows[1])[:]
    assert (ids[:, 0] == np.arange(len(ids))).all()
    assert (ids == nearest(centred, centred, 16)).mean() > 0.999  # ties apart
    np.testing.assert_allclose(distances[:, 1], 1 - (centred * centred[ids[:, 1]]).sum(axis=1), atol=1e-5)


@pytest.mark.slow
def test_every_kind_has_the_same_say_in_a_row_whatever_its_size(rows, found):
    graph, kinds = balanced_graph(found, 14).tocsr(), rows[1]
    assert (graph != graph.T).nnz == 0
    strength = {kind: np.asarray(graph[:, kinds == kind].sum(axis=1)).ravel() for kind in SIZES}
    for kind in SIZES:
        for other in set(SIZES) - {kind}:
            assert strength[other][kinds == kind].min() > 1  # no row without matches in another kind


def test_a_balanced_map_joins_kinds_that_centring_leaves_apart(rows, balanced):
    vectors, kinds, labels = rows
    before = project(vectors, groups=kinds, n_epochs=200)
    now, then = name_matches(balanced, kinds, labels), name_matches(before, kinds, labels)
    assert len(now) == 12
    for pair in now:
        assert now[pair]["of_ten"] > max(0.5, then[pair]["of_ten"]), pair
    assert np.mean([now[pair]["first"] - then[pair]["first"] for pair in now]) > 0.05
    joined, apart = mixing(balanced, kinds), mixing(before, kinds)
    assert all(joined[kind] > apart[kind] for kind in SIZES)
    assert (project(vectors, kinds=kinds, n_epochs=200) == balanced).all()


def test_kinds_of_one_row_or_two_have_places():
    vectors = planted(12)[0]
    kinds = np.array(["image"] * (len(vectors) - 3) + ["word"] * 2 + ["text"])
    places = project(vectors, kinds=kinds, n_epochs=20)
    assert np.isfinite(places).all()
    assert len(np.unique(places, axis=0)) == len(places)
    one = project(vectors, kinds=["image"] * len(vectors), n_epochs=20)
    assert (one == project(vectors, groups=["image"] * len(vectors), n_epochs=20)).all()  # nothing to balance


def test_measures_are_those_counted_by_hand():
    line = np.stack([np.arange(6.0), np.zeros(6)], 1)
    kinds, labels = ["image", "image", "word", "word", "image", "word"], ["a", "b", "B", "c", "c", ""]
    assert mixing(line, kinds, k=1) == {"image": pytest.approx(1 / 3), "word": pytest.approx(2 / 3)}
    shares = name_matches(line, kinds, labels, k=2)
    assert shares["word-image"] == {"first": 1.0, "of_ten": 1.0}  # B is nearest to b, c to c
    assert shares["image-word"] == {"first": 1.0, "of_ten": 1.0}
    assert name_matches(line, kinds, list("abcdef")) == {}
    assert mixing(line[:1], kinds[:1]) == {}


def test_preservation_within_a_kind_ignores_the_others(rows, found, balanced):
    kept = preservation_within(found, balanced, 5)
    assert list(kept) == sorted(SIZES)
    kind = found.rows["word"]
    centred, places = Centred(rows[0], rows[1])[:][kind], balanced[kind]
    near = nearest(centred, centred, 6)[:, 1:]
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    on_map = np.argsort(apart, axis=1, kind="stable")[:, 1:6]
    expected = np.mean([len(set(a) & set(b)) / 5 for a, b in zip(near, on_map, strict=True)])
    assert kept["word"] == pytest.approx(expected, abs=1e-6)


def test_a_new_row_lies_at_a_match_and_not_between_two_meanings():
    vectors = np.eye(4, dtype=np.float32)[[0, 0, 1, 1, 1]] + 0.01 * np.eye(5, 4, dtype=np.float32)
    places = np.array([[0, 0], [0.01, 0], [9, 9], [9.01, 9], [9, 9.01]], np.float32)
    new = (vectors[0] + vectors[2])[None]
    place = place_by_matches(new, Index.build(vectors), places)
    assert min(np.linalg.norm(places - place, axis=1)) == 0
    assert np.linalg.norm(place - places[2]) < 0.1  # most weight lies there
    np.testing.assert_allclose(place_by_matches(vectors[:1], vectors, places)[0], places[0])


def test_a_card_shows_each_thing_once_and_every_kind(rows, found):
    _vectors, kinds, labels = rows
    names = [f"{label}{' dark skin tone' if i % 2 else ''}" for i, label in enumerate(labels)]
    near = varied_neighbours(found, names, 10)
    for row in range(0, len(near), 7):
        shown = [other for other in near[row].tolist() if other != row]
        for kind in SIZES:
            things = [labels[other] for other in shown if kinds[other] == kind]
            assert len(set(things)) == len(things) >= 2
            assert kind != kinds[row] or labels[row] not in things
        first = next(labels[other] for other in shown if kinds[other] == kinds[row])
        best = next(
            labels[other]
            for other in found.near[kinds[row], kinds[row]][0][np.searchsorted(found.rows[kinds[row]], row)].tolist()
            if labels[other] != labels[row]
        )
        assert first == best
