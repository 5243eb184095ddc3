"""The map against UMAP by itself: `pytest tests/bench/test_projection.py -s` (not in the default run)."""

import time
import warnings
from collections.abc import Callable

import numpy as np
import pytest

from atlas.index import neighbours
from atlas.projection import preservation, project, trustworthiness, umap  # umap as imported there: without warnings
from tests.test_index import clustered


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return clustered(50_000, 256, clusters=100)


def sheets(n: int, d: int, clusters: int, seed: int = 0) -> np.ndarray:
    """Clusters that are six-dimensional sheets and touch: their k-NN graph is in one piece, as that of CLIP's is."""
    rng = np.random.default_rng(seed)
    centres, axes = rng.standard_normal((clusters, d)), rng.standard_normal((clusters, 6, d)) / 2
    rows = 1.5 * rng.standard_normal((n, d), dtype=np.float32)
    for cluster, here in enumerate(np.array_split(rng.permutation(n), clusters)):
        rows[here] += centres[cluster] + rng.standard_normal((len(here), 6)) @ axes[cluster]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def by_umap(vectors: np.ndarray, **options) -> np.ndarray:
    """UMAP with the same parameters, finding its own neighbours."""
    mapper = umap.UMAP(n_neighbors=15, min_dist=0.1, metric="cosine", random_state=0, n_jobs=1, **options)
    return np.asarray(mapper.fit_transform(vectors))


def timed(action: Callable[[np.ndarray], np.ndarray], vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Seconds, by the clock and of all processors, and the layout."""
    start = np.array([time.perf_counter(), time.process_time()])
    layout = action(vectors)
    return np.array([time.perf_counter(), time.process_time()]) - start, layout


@pytest.mark.parametrize("data", [clustered, sheets])
def test_layout_takes_at_most_0_45_of_umaps_time_and_is_as_true(data):
    vectors = data(50_000, 256, clusters=100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        project(vectors[:5000])  # both compiled before the clock starts
        by_umap(vectors[:5000])
        theirs_s, theirs = timed(by_umap, vectors)
    ours_s, ours = timed(project, vectors)
    trust = [trustworthiness(vectors, layout) for layout in (ours, theirs)]
    print(f"\nours {ours_s}, umap {theirs_s} (clock, processor): {ours_s / theirs_s}; trustworthiness {trust}")
    assert ours_s[1] <= 0.45 * theirs_s[1]  # of processor time, which a busy machine leaves alone
    assert trust[0] >= trust[1] - 0.005


def test_trustworthiness_of_50_000(benchmark, vectors):
    assert benchmark.pedantic(trustworthiness, args=(vectors, vectors[:, :2]), rounds=1) > 0.4


def test_preservation_of_50_000(benchmark, vectors):
    assert benchmark.pedantic(preservation, args=(vectors, vectors[:, :2]), rounds=1).shape == (50_000,)


def test_neighbours_of_50_000(benchmark, vectors):
    ids, _ = benchmark.pedantic(neighbours, args=(vectors, 15), rounds=1)
    assert ids.shape == (50_000, 15)
