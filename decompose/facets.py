"""Clusters of the images that activate one neuron most, and how separate they are: is the neuron polysemantic?

E (k, e) embeddings of a neuron's strongest images, centred on the mean of all images, of unit norm    T (t, e) texts
"""

from collections.abc import Iterator, Sequence
from typing import Unpack

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from atlas.analysis.naming import NONE
from atlas.analysis.significance import max_null_p_values, q_values
from atlas.arrays import accepts
from atlas.formatting import Record
from atlas.model.clip import Clip
from atlas.model.directions import Directions
from atlas.store.store import Store
from atlas.vectors import Rows, scaled_rows
from decompose.candidates import Candidates, LabelTest, LabelTesting
from decompose.enrichment import draw_blocks
from decompose.evidence import mean_embedding
from decompose.prompting import Templates
from decompose.responses import Responses, check_rows, picked_rows

_CLUSTERED_IMAGES = 48  # strongest images of a neuron that are clustered
_SMALLEST_CLUSTER, _MOST_CLUSTERS = 6, 4  # images in a cluster, at least; clusters of a neuron, at most
_FURTHER_CUTS = 8  # further cuts of the tree, which split outliers off
_STRAGGLER = 0.25  # silhouette below which an image belongs to no cluster: "no substantial structure"
_SEPARATE = 0.5  # silhouette from which clusters are "a reasonable structure" (Kaufman and Rousseeuw 1990)
_IMAGE_POOL = 8192  # images that the null draws from, a seeded sample of the Store's
_NULL_SIZES = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48)  # sizes of the random sets of images in the null
_CLUSTER_TEST = LabelTesting(draws=2000)  # what a cluster's label is tested with, unless told otherwise


def split_neurons(
    store: Store,
    clip: Clip,
    vocabulary: Sequence[str] | None = None,
    templates: Templates = None,
    directions: Directions | None = None,
    images: int = _CLUSTERED_IMAGES,
    **testing: Unpack[LabelTesting],
) -> pa.Table:
    """Clusters of the images that activate each neuron most: one row a cluster, the largest first.

    Columns: neuron, facet (the cluster's number), size, label, p, q, polysemanticity, rows (positions in the Store).
    `images`: how many of the strongest images of each neuron are clustered. `vocabulary`, `templates`, `directions`
    and `testing` are those of `label_neurons`, with 2,000 draws by default.

    Clustering is average linkage of embeddings centred on the mean of all images. Polysemanticity is the mean
    silhouette of the loosest cluster, at the coarsest cut into two to four clusters of six or more images where that
    is at least 0.5. If no cut reaches 0.5, polysemanticity is that of the best cut, and all images are one cluster. A
    cluster's label is the text nearest to the mean of its images; "none" if the means of as many random images are as
    near to a text.

    Raises Refused as `label_neurons` does, and for a Store without images.
    """
    test, candidates = LabelTest(**(_CLUSTER_TEST | testing)), Candidates.of(store, clip, vocabulary, templates)
    E, positions = store.array("embedding", "image"), store.positions("image")
    return _table(Responses.of(store, "image", directions), E, positions, candidates, images, test)


@accepts(A=2, E=2, concepts="texts", T=2)
def split_activations(
    A: Rows,
    E: Rows,
    concepts: Sequence[str],
    T: Float[np.ndarray, "t e"],
    images: int = _CLUSTERED_IMAGES,
    **testing: Unpack[LabelTesting],
) -> pa.Table:
    """Clusters of the images that activate each neuron most, from plain arrays; the columns of `split_neurons`.

    `A`, `E`, `concepts` and `T` are those of `label_activations`, the options those of `split_neurons`; `rows` are the
    rows of `A`. Raises Refused for arrays of different lengths, and for numbers that are not finite.
    """
    test, candidates = LabelTest(**(_CLUSTER_TEST | testing)), Candidates(tuple(concepts), T)
    check_rows(len(A), E=E)
    return _table(Responses(A), E, np.arange(len(A)), candidates, images, test)


def _table(
    answers: Responses,
    E: Rows,
    positions: Int[np.ndarray, " n"],
    candidates: Candidates,
    images: int,
    test: LabelTest,
) -> pa.Table:
    """One row a cluster. E (n, e) is an array or a Store's view; `positions` are the numbers that its rows go by."""
    top, mean = answers.strongest(images)[0], mean_embedding(E)
    rows: list[Record] = []
    means = []
    for neuron, found in enumerate(top):
        near = scaled_rows(picked_rows(E, found).astype(np.float32) - mean)
        member, polysemanticity = cluster_rows(near)
        for cluster in range(member.max() + 1):
            inside = member == cluster
            means.append(near[inside].mean(0))
            shown = {"size": int(inside.sum()), "rows": positions[found[inside]].tolist()}
            rows.append({"neuron": neuron, "facet": cluster, "polysemanticity": polysemanticity, **shown})
    sizes, T = np.array([row["size"] for row in rows]), candidates.T - candidates.T.mean(0)
    best, p = _nearest_texts(E, mean, np.stack(means), sizes, T, test.draws, np.random.default_rng(test.seed))
    for row, concept, p_value, q in zip(rows, best, p, q_values(p), strict=True):
        row |= {"label": candidates.texts[concept] if q <= test.rate else NONE, "p": float(p_value), "q": float(q)}
    return pa.Table.from_pylist(rows).select(["neuron", "facet", "size", "label", "p", "q", "polysemanticity", "rows"])


def cluster_rows(E: Float[np.ndarray, "k e"]) -> tuple[Int[np.ndarray, " k"], float]:
    """The cluster of each unit row (the largest is 0, outliers are -1), and the mean silhouette of the loosest cluster.

    The clusters are those of the coarsest cut of the tree whose loosest cluster has a silhouette of at least 0.5, so
    that outliers beside one tight cluster are not a second cluster. If there is no such cut, all rows are in cluster 0.
    """
    D = np.clip(1 - E @ E.T, 0, 2)
    np.fill_diagonal(D, 0)
    one = np.zeros(len(E), np.int64)
    if len(E) < 2 * _SMALLEST_CLUSTER:
        return one, 0.0
    tree = linkage(squareform(D, checks=False), "average")
    best = 0.0
    for count in range(2, len(E) // _SMALLEST_CLUSTER + _FURTHER_CUTS):
        member = _large(fcluster(tree, count, "maxclust") - 1)
        inside = member >= 0
        if 2 <= member.max() + 1 <= _MOST_CLUSTERS:
            scores = silhouettes(D[inside][:, inside], member[inside])
            found = float((np.bincount(member[inside], scores) / np.bincount(member[inside])).min())
            if found >= _SEPARATE:
                member[inside] = np.where(scores < _STRAGGLER, -1, member[inside])
                return member, found
            best = max(best, found)
    return one, best


def silhouettes(D: Float[np.ndarray, "k k"], member: Int[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Silhouettes (Rousseeuw 1987) of rows in clusters of two or more, from distances, without input checks."""
    sizes = np.bincount(member)
    sums = D @ np.eye(len(sizes))[member]
    own = np.arange(len(D)), member
    inside = sums[own] / (sizes[member] - 1)
    means = sums / sizes
    means[own] = np.inf
    outside = means.min(1)
    return (outside - inside) / np.maximum(np.maximum(inside, outside), 1e-12)


def _large(member: Int[np.ndarray, " k"]) -> Int[np.ndarray, " k"]:
    """Clusters of six rows or more, numbered by size, the largest 0; -1 for the rows of smaller ones."""
    sizes = np.bincount(member)
    rank = np.argsort(np.argsort(-sizes, kind="stable"))
    return np.where(sizes[member] >= _SMALLEST_CLUSTER, rank[member], -1)


def _nearest_texts(
    E: Rows,
    mean: Float[np.ndarray, " e"],
    means: Float[np.ndarray, "f e"],
    sizes: Int[np.ndarray, " f"],
    T: Float[np.ndarray, "t e"],
    draws: int,
    random: np.random.Generator,
) -> tuple[Int[np.ndarray, " f"], Float[np.ndarray, " f"]]:
    """The text nearest to the mean of each cluster's images, and its p-value against means of random images.

    Means are compared by cosine, because means of similar images are longer. The null takes means of as many images
    or fewer: means of fewer images lie nearer to texts, so the p-value is never too small.
    """
    pooled = picked_rows(E, np.sort(random.permutation(len(E))[:_IMAGE_POOL]))
    pool = scaled_rows(pooled.astype(np.float32) - mean)
    best, p = np.zeros(len(means), np.int64), np.ones(len(means))
    steps = np.array([size for size in _NULL_SIZES if size <= sizes.max()])
    step = steps[np.maximum(np.searchsorted(steps, sizes, side="right") - 1, 0)]
    for size in np.unique(step):

        def null(size: int = int(size)) -> Iterator[np.ndarray]:
            for block in draw_blocks(draws):
                picks = random.integers(0, len(pool), (block, size))
                yield scaled_rows(np.stack([pool[row].mean(0) for row in picks])) @ T.T

        here = step == size
        z, claims = max_null_p_values(scaled_rows(means[here]) @ T.T, null())
        best[here] = z.argmax(1)
        p[here] = claims[np.arange(len(z)), best[here]]
    return best, p
