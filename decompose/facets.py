"""Facets: the separate things that the strongest images of one neuron show, and how separate they are.

E (k, e) embeddings of a neuron's strongest images, centred over the Store's, of unit norm    T (t, e) texts
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from atlas.analysis.naming import NONE
from atlas.analysis.significance import max_null_p_values, q_values
from atlas.errors import Refused
from atlas.model.clip import Clip
from atlas.model.directions import Directions
from atlas.store.store import Store
from atlas.vectors import Rows, scaled_rows
from decompose.attribution import Templates, check_model, concept_embeddings
from decompose.evidence import draw_blocks, mean_embedding
from decompose.labels import candidate_labels, check_rate
from decompose.responses import Responses, check_rows

_CLUSTERED_IMAGES = 48  # strongest images of a neuron that are clustered
_SMALLEST_CLUSTER, _MOST_CLUSTERS = 6, 4  # images in a cluster, at least; clusters of a neuron, at most
_FURTHER_CUTS = 8  # further cuts of the tree, for stragglers to fall off
_STRAGGLER = 0.25  # silhouette below which an image belongs to no facet: "no substantial structure"
_IMAGE_POOL = 8192  # images that the null draws from, a seeded sample of them
_NULL_SIZES = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48)  # of sets of images that nulls are drawn for
_SEPARATE = 0.5  # silhouette from which clusters are "a reasonable structure" (Kaufman and Rousseeuw 1990)


def split_neurons(
    store: Store,
    clip: Clip,
    vocabulary: Sequence[str] | None = None,
    templates: Templates = None,
    directions: Directions | None = None,
    images: int = _CLUSTERED_IMAGES,
    rate: float = 0.05,
    draws: int = 2000,
    seed: int = 0,
) -> pa.Table:
    """The clusters that each neuron's (or direction's) strongest images fall into, a row each, the largest first.

    Columns are neuron, facet, size, label, p, q, polysemanticity and rows (positions in the Store). Of `images`
    strongest ones, those in clusters of six or more (average linkage of embeddings centred over the Store) are facets,
    and polysemanticity is the mean silhouette of the loosest of them at the coarsest cut into two to four that has 0.5
    or more; where none has, it is the best one's, and the neuron has one facet, of all its images. A facet's label is
    the text nearest to the direction of the mean of its images, "none" where the means of as many random images give
    one as near.
    Raises Refused as `label_neurons` does, and for a Store without images.
    """
    check_model(store, clip)
    check_rate(rate)
    concepts = candidate_labels(store, vocabulary)
    T, answers = concept_embeddings(clip, concepts, templates), Responses.of(store, "image", directions)
    E, positions = store.array("embedding", "image"), store.positions("image")
    return _facets(answers, E, positions, concepts, T, images, rate, draws, seed)


def split_activations(
    A: Rows,
    E: Rows,
    concepts: Sequence[str],
    T: Float[np.ndarray, "t e"],
    images: int = _CLUSTERED_IMAGES,
    rate: float = 0.05,
    draws: int = 2000,
    seed: int = 0,
) -> pa.Table:
    """`split_neurons` of plain arrays: the facets of every neuron, of the same columns; `rows` are those of A.

    A          (n, u) activations, a row an image: an array or a memory map, read in blocks; only their order counts
    E          (n, e) embeddings of the images, of unit norm
    concepts   the t texts to choose labels from, each once, with their embeddings T (t, e), of unit norm

    Raises Refused for arrays that do not fit together, and where numbers are not finite.
    """
    check_rate(rate)
    check_rows(len(A), E=E)
    check_rows(len(concepts), T=T)
    if not len(concepts) or not np.isfinite(T).all():
        raise Refused("facets are labelled by concepts: give one or more, with embeddings that are finite")
    return _facets(Responses(A), E, np.arange(len(A)), tuple(concepts), T, images, rate, draws, seed)


def _facets(
    answers: Responses,
    E: Any,
    positions: Int[np.ndarray, " n"],
    concepts: Sequence[str],
    T: Float[np.ndarray, "t e"],
    images: int,
    rate: float,
    draws: int,
    seed: int,
) -> pa.Table:
    """A row a facet; E is an array or a Store's view, `positions` are what its rows are called by."""
    top, mean = answers.strongest(images)[0], mean_embedding(E)
    rows, means = [], []
    for neuron, found in enumerate(top):
        near = scaled_rows(E[found].astype(np.float32) - mean)
        member, polysemanticity = cluster_rows(near)
        for facet in range(member.max() + 1):
            inside = member == facet
            means.append(near[inside].mean(0))
            shown = {"size": int(inside.sum()), "rows": positions[found[inside]].tolist()}
            rows.append({"neuron": neuron, "facet": facet, "polysemanticity": polysemanticity, **shown})
    sizes = np.array([row["size"] for row in rows])
    best, p = _nearest_texts(E, mean, np.stack(means), sizes, T - T.mean(0), draws, np.random.default_rng(seed))
    for row, concept, p_value, q in zip(rows, best, p, q_values(p), strict=True):
        row |= {"label": concepts[concept] if q <= rate else NONE, "p": float(p_value), "q": float(q)}
    return pa.Table.from_pylist(rows).select(["neuron", "facet", "size", "label", "p", "q", "polysemanticity", "rows"])


def cluster_rows(E: Float[np.ndarray, "k e"]) -> tuple[Int[np.ndarray, " k"], float]:
    """Which facet each unit row belongs to, the largest 0 and stragglers -1, and how separate the facets are.

    The coarsest cut of the tree that is separate enough; all 0 where none is. A cut is as separate as its loosest
    facet: a heap of stragglers beside one tight cluster is no second facet.
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
    """Silhouettes (Rousseeuw 1987) of members of clusters of two or more, from distances: scikit-learn's, unchecked."""
    sizes = np.bincount(member)
    sums = D @ np.eye(len(sizes))[member]
    own = np.arange(len(D)), member
    inside = sums[own] / (sizes[member] - 1)
    means = sums / sizes
    means[own] = np.inf
    outside = means.min(1)
    return (outside - inside) / np.maximum(np.maximum(inside, outside), 1e-12)


def _large(member: Int[np.ndarray, " k"]) -> Int[np.ndarray, " k"]:
    """Clusters of LEAST rows or more by size, the largest 0; -1 for the rows of all others."""
    sizes = np.bincount(member)
    rank = np.argsort(np.argsort(-sizes, kind="stable"))
    return np.where(sizes[member] >= _SMALLEST_CLUSTER, rank[member], -1)


def _nearest_texts(
    E: Any,
    mean: Float[np.ndarray, " e"],
    means: Float[np.ndarray, "f e"],
    sizes: Int[np.ndarray, " f"],
    T: Float[np.ndarray, "t e"],
    draws: int,
    random: np.random.Generator,
) -> tuple[Int[np.ndarray, " f"], Float[np.ndarray, " f"]]:
    """The text nearest to each mean of images, and its p against means of random images.

    Means are compared by direction: those of images that are alike are longer, whatever they show. The null is of as
    many images or fewer: fewer point nearer to what each of them shows, so that p is never too small for it.
    """
    pool = scaled_rows(E[np.sort(random.permutation(len(E))[:_IMAGE_POOL])].astype(np.float32) - mean)
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
