"""The map against UMAP by itself: `pytest tests/bench/test_projection.py -s` (not in the default run)."""

import subprocess
import sys

import numpy as np
import pytest

from atlas.analysis.index import neighbour_graph
from atlas.analysis.layout import neighbour_preservation, trustworthiness
from tests.fakes import clustered


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


RACE = """
import sys, time, warnings
import numpy as np
import umap
from atlas.analysis.layout import project, trustworthiness
vectors = np.load(sys.argv[1])
def ours():
    return project(vectors)
def theirs():
    mapper = umap.UMAP(n_neighbors=15, min_dist=0.1, metric="cosine", random_state=0, n_jobs=1)
    return np.asarray(mapper.fit_transform(vectors))
warnings.simplefilter("ignore")
if sys.argv[2] == "warm":
    vectors, whole = vectors[:5000], vectors
    ours(), theirs()
    vectors = whole
spent, trust = [], []
for layout in (ours, theirs):
    began = time.perf_counter()
    made = layout()
    spent.append(time.perf_counter() - began)
    trust.append(trustworthiness(vectors, made))
print(*spent, *trust)
"""


@pytest.mark.parametrize("data", [clustered, sheets])
@pytest.mark.parametrize("compiled", ["cold", "warm"])
def test_layout_against_umap(data, compiled, tmp_path):
    """In one fresh process, ours first, so that what both compile is on our side; warm: compiled before the clock."""
    np.save(tmp_path / "vectors.npy", data(50_000, 256, clusters=100))
    race = [sys.executable, "-c", RACE, str(tmp_path / "vectors.npy"), compiled]
    out = subprocess.run(race, check=True, stdout=subprocess.PIPE, text=True).stdout
    ours, theirs, our_trust, their_trust = map(float, out.split())
    print(f"\n{compiled}, {data.__name__}: {ours:.1f} s against {theirs:.1f} s, {ours / theirs:.2f}; ", end="")
    print(f"trustworthiness {our_trust:.4f} against {their_trust:.4f}")
    assert our_trust >= their_trust - 0.005
    if compiled == "cold":
        assert ours <= 0.45 * theirs


def test_trustworthiness_of_50_000(benchmark, vectors):
    assert benchmark.pedantic(trustworthiness, args=(vectors, vectors[:, :2]), rounds=1) > 0.4


def test_preservation_of_50_000(benchmark, vectors):
    assert benchmark.pedantic(neighbour_preservation, args=(vectors, vectors[:, :2]), rounds=1).shape == (50_000,)


def test_neighbours_of_50_000(benchmark, vectors):
    ids, _ = benchmark.pedantic(neighbour_graph, args=(vectors, 15), rounds=1)
    assert ids.shape == (50_000, 15)
