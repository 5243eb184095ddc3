import numpy as np
import pytest
import sklearn.manifold

from atlas.analysis.index import Index
from atlas.analysis.layout import (
    Centred,
    group_means,
    modality_gap,
    neighbour_preservation,
    place_new_rows,
    principal_components,
    project,
    trustworthiness,
    word_meets_drawing,
)
from atlas.errors import Refused
from tests.fakes import clustered, nearest


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return clustered(400, clusters=8)


@pytest.fixture(scope="module")
def layout(vectors) -> np.ndarray:
    return project(vectors, seed=1)


def kinds(n: int, d: int = 32, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """n concepts, each as an image and as a word, the two kinds a cone apart."""
    rng = np.random.default_rng(seed)
    concepts, cones = rng.standard_normal((n, d)), 30 * np.eye(2, d)
    rows = [concepts + cone + 0.1 * rng.standard_normal((n, d)) for cone in cones]
    return np.concatenate(rows).astype(np.float32), ["image"] * n + ["word"] * n


def test_the_map_keeps_neighbours_together(vectors, layout):
    assert layout.shape == (400, 2)
    shuffled = layout[np.random.default_rng(0).permutation(400)]
    assert trustworthiness(vectors, layout) > 0.85
    assert trustworthiness(vectors, shuffled) == pytest.approx(0.5, abs=0.05)


def test_the_same_seed_gives_the_same_map_and_another_another(vectors, layout):
    assert (project(vectors, seed=1) == layout).all()
    assert (project(vectors, seed=2) != layout).any()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 15, 16])
def test_few_rows_have_places_of_their_own(n):
    layout = project(clustered(n))
    assert layout.shape == (n, 2)
    assert np.isfinite(layout).all()
    assert len(np.unique(layout, axis=0)) == n


def test_identical_rows_can_be_mapped():
    assert np.isfinite(project(np.ones((40, 8), np.float32))).all()


def test_what_cannot_be_met_is_refused(vectors):
    with pytest.raises(Refused, match="the metric is cosine"):
        project(vectors, metric="euclidean")
    with pytest.raises(Refused, match="got 0 and 15"):
        project(vectors[:0])
    with pytest.raises(Refused, match="got 400 and 1"):
        project(vectors, n_neighbors=1)
    with pytest.raises(Refused, match="400 vectors have 3 groups"):
        project(vectors, groups=["image"] * 3)
    with pytest.raises(Refused, match="no mean for group text"):
        Centred(vectors[:1], ["text"], group_means(vectors, ["image"] * 400))


def test_principal_components_are_those_of_a_decomposition(vectors):
    centred = vectors - vectors.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    expected, found = centred @ axes[:2].T, principal_components(vectors)
    assert np.abs(found).max() == pytest.approx(10)
    for column in range(2):
        assert abs(np.corrcoef(expected[:, column], found[:, column])[0, 1]) == pytest.approx(1, abs=1e-4)


def test_centring_brings_the_kinds_of_a_concept_together():
    vectors, groups = kinds(100)
    layout, raw = project(vectors, groups=groups), project(vectors, groups=groups, centre=False)
    apart = [np.linalg.norm(y[:100] - y[100:], axis=1).mean() / y.std() for y in (layout, raw)]
    assert apart[0] < apart[1] / 3
    assert (raw == project(vectors)).all()
    before, after = modality_gap(vectors, groups), modality_gap(Centred(vectors, groups), groups)
    assert list(before) == list(after) == ["image-word"]
    assert before["image-word"] > 1.2
    assert after["image-word"] < 0.05


def test_centred_is_the_sum_written_out():
    vectors, groups = kinds(10)
    rows = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = np.concatenate([part - part.mean(axis=0) for part in (rows[:10], rows[10:])])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    view = Centred(vectors, groups)
    np.testing.assert_allclose(view[0:20], expected, atol=1e-5)
    np.testing.assert_allclose(Centred(vectors[:3], groups[:3], view.means)[0:3], expected[:3], atol=1e-5)
    alone = Centred(vectors[:1], ["image"])
    np.testing.assert_allclose(alone[0:1], rows[:1], atol=1e-6)


@pytest.mark.parametrize("k", [1, 5, 15])
def test_trustworthiness_is_scikit_learns(vectors, layout, k):
    expected = sklearn.manifold.trustworthiness(vectors, layout, n_neighbors=k, metric="cosine")
    assert trustworthiness(vectors, layout, k) == pytest.approx(expected, abs=1e-6)


def test_trustworthiness_of_a_sample_is_near_that_of_all(vectors, layout, monkeypatch):
    rough = np.round(layout + np.random.default_rng(0).standard_normal(layout.shape))
    whole = trustworthiness(vectors, rough, size=400)
    assert trustworthiness(vectors, rough, size=200) == pytest.approx(whole, abs=0.03)
    monkeypatch.setattr("atlas.analysis.layout._SCORES_HELD", 1000)  # two queries at a time
    assert trustworthiness(vectors, rough, size=400) == whole


def test_trustworthiness_of_few_rows():
    rows = clustered(5)
    assert trustworthiness(rows, rows[:, :2]) <= 1
    assert np.isnan(trustworthiness(rows[:2], rows[:2, :2]))


def test_preservation_is_the_share_of_neighbours_kept(vectors, layout):
    truth = nearest(vectors, vectors, 6)[:, 1:]
    apart = -np.linalg.norm(layout[:, None] - layout[None], axis=2)
    on_map = np.argsort(-apart, axis=1, kind="stable")[:, 1:6]
    expected = [len(set(a) & set(b)) / 5 for a, b in zip(truth, on_map, strict=True)]
    share = neighbour_preservation(vectors, layout, k=5)
    np.testing.assert_allclose(share, expected, atol=1e-6)
    some = neighbour_preservation(vectors, layout, k=5, rows=np.array([3, 50, 399]))
    np.testing.assert_allclose(some[[3, 50, 399]], share[[3, 50, 399]])
    assert np.isnan(some).sum() == 397


def test_a_plane_preserves_itself_and_a_single_row_nothing():
    circle = np.stack([np.cos(a := np.linspace(0, 6, 50)), np.sin(a)], axis=1).astype(np.float32)
    assert (neighbour_preservation(circle, circle, k=4) == 1).all()
    assert np.isnan(neighbour_preservation(circle[:1], circle[:1])).all()


def test_a_copy_lands_on_its_original_and_a_stranger_among_its_neighbours(vectors, layout):
    np.testing.assert_allclose(place_new_rows(vectors[:9], Index.build(vectors), layout), layout[:9], atol=1e-3)
    new = vectors[:50] + 0.02 * np.random.default_rng(0).standard_normal((50, 32)).astype(np.float32)
    away = np.linalg.norm(place_new_rows(new, vectors, layout) - layout[:50], axis=1)
    assert np.median(away) < layout.std() / 10


def test_a_word_meets_its_drawing_once_the_kinds_are_centred():
    vectors, _ = kinds(60)
    names = [f"Thing{i} face" for i in range(60)]
    words = [f"thing{i}" for i in range(60)]
    assert word_meets_drawing(vectors[60:], words, vectors[:60], names) < 0.5
    assert word_meets_drawing(vectors[60:], words, vectors[:60], names, centre=True) > 0.95


def test_meets_counts_only_words_that_a_drawing_carries():
    rows = np.eye(4, dtype=np.float32)
    drawings = ["hot dog", "Cat", "red heart", "sun"]
    assert word_meets_drawing(rows, ["dog", "CAT", "red heart", "moon"], rows, drawings) == 1.0
    assert word_meets_drawing(rows, ["dog", "sun", "heart", "moon"], rows, drawings) == pytest.approx(2 / 3)
    assert word_meets_drawing(rows, ["hotdog", "do", "art", "moon"], rows, drawings) != word_meets_drawing(
        rows[:1], ["dog"], rows, drawings
    )
    assert np.isnan(word_meets_drawing(rows, ["a", "b", "c", "d"], rows, drawings))
