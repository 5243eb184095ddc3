"""UMAP on FAISS neighbours, and how honest the map is.

    V (n, d) vectors, read by their direction only;  Y (n, 2) layout, the map;  k neighbours

CLIP keeps pictures and texts in two narrow cones far apart (the modality gap; Liang et al. 2022, "Mind the gap"), and
so do drawings and rendered words. Subtracting each kind's mean (`Centred`) lets the kinds of one concept meet.
"""

import warnings
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Float, Float32, Int64
from sklearn.neighbors import KDTree

from atlas.analysis.index import Index, neighbour_graph
from atlas.errors import Refused
from atlas.vectors import Rows, Unit, sample_rows, take_rows, unit_blocks, unit_rows

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)
    import umap

_SCORES_HELD = 2**25  # cosines held at a time while ranking: 128 MB of float32

Layout = Float[np.ndarray, "n 2"]
Labels = Sequence[str] | np.ndarray  # one a row
Graph = tuple[Int64[np.ndarray, "n k"], Float32[np.ndarray, "n k"]]  # ids and distances, itself first


class Centred:
    """Vectors of which each group's mean is subtracted, the rest scaled to unit norm: a view, made as it is read.

    `means` by group are measured from the rows; give another view's to put new rows into its space.
    """

    def __init__(
        self,
        vectors: Rows,
        groups: Labels,
        means: dict[str, Float32[np.ndarray, " d"]] | None = None,
    ):
        if len(groups) != len(vectors):
            raise Refused(f"{len(vectors)} vectors have {len(groups)} groups; give one label a row")
        self.vectors, self.groups = vectors, np.asarray(groups, dtype=object)
        self.means = group_means(vectors, self.groups) if means is None else means
        unknown = sorted(set(self.groups) - set(self.means))
        if unknown:
            raise Refused(f"no mean for group {unknown[0]}; there are means for {', '.join(self.means)}")
        self.shape = tuple(vectors.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, at: slice) -> Unit:
        rows = unit_rows(self.vectors[at])
        centred = rows - np.stack([self.means[group] for group in self.groups[at]])
        norms = np.linalg.norm(centred, axis=1, keepdims=True)
        # A row that is its group's mean (a group of one) has no direction left; it keeps its own.
        return np.where(norms > 1e-6, centred / np.maximum(norms, 1e-6), rows)


def group_means(vectors: Rows, groups: Labels) -> dict[str, Float32[np.ndarray, " d"]]:
    """Mean of the unit vectors of each group (d,), in the groups' sorted order."""
    groups = np.asarray(groups, dtype=object)
    sums = {group: np.zeros(vectors.shape[1]) for group in sorted(set(groups))}
    for start, block in unit_blocks(vectors):
        here = groups[start : start + len(block)]
        for group in set(here):
            sums[group] += block[here == group].sum(axis=0, dtype=np.float64)
    return {group: (total / (groups == group).sum()).astype(np.float32) for group, total in sums.items()}


def project(
    vectors: Rows,
    n_neighbors: int = 15,
    min_dist: float = 0.1,
    metric: str = "cosine",
    seed: int = 0,
    groups: Labels | None = None,
    centre: bool = True,
    n_epochs: int | None = None,
    graph: Graph | None = None,
) -> Float32[np.ndarray, "n 2"]:
    """Lay vectors (n, d) out on a plane (n, 2) by UMAP (McInnes et al. 2018), cosine, neighbours taken from FAISS.

    `groups`, a label a row (image | word | text), closes the modality gap by `Centred`, unless `centre` is false.
    Starts from the principal components: UMAP's own spectral start is no better, and on a graph in one piece can
    take longer than all the rest. `n_epochs` is 500 up to 10,000 rows, as UMAP's own, and 100 above, half of UMAP's:
    of trustworthiness nothing was lost on 50,000 rows in clusters. `n_neighbors` counts the row itself. The same
    seed gives the same map. `graph`, what `neighbours` gave for these (centred) vectors, saves finding them again.
    Raises `Refused` for another metric, where there are no rows, or where one is zero or not finite.
    """
    if metric != "cosine":
        raise Refused(f"no metric {metric!r}: vectors are laid out by their direction; the metric is cosine")
    if n_neighbors < 2 or not len(vectors):
        raise Refused(f"a map needs 1 row and 2 n_neighbors or more, got {len(vectors)} and {n_neighbors}")
    if groups is not None and centre:
        vectors = Centred(vectors, groups)
    start = principal_components(vectors)
    if len(vectors) < 5:  # too few for a graph
        return start
    start += np.random.default_rng(seed).normal(scale=1e-4, size=start.shape)  # as UMAP does: no copies, no flat axis
    k = min(n_neighbors, len(vectors) - 1)
    ids, distances = (part[:, :k] for part in graph or neighbour_graph(vectors, k, seed))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"precomputed_knn\[2\] \(knn_search_index\) is not an NNDescent", UserWarning)
        mapper = umap.UMAP(
            n_neighbors=ids.shape[1],
            min_dist=min_dist,
            metric=metric,
            n_epochs=n_epochs or (500 if len(vectors) <= 10_000 else 100),
            init=start,  # pyright: ignore[reportArgumentType] - UMAP takes an array too
            random_state=seed,
            n_jobs=1,  # what a random_state comes to anyway; said here, UMAP does not warn of it
            precomputed_knn=(ids.astype(np.int32), distances),
        )
        # With its neighbours and start given, all that UMAP asks of the data is how many rows there are.
        return np.asarray(mapper.fit_transform(start), np.float32)


def principal_components(vectors: Rows) -> Float32[np.ndarray, "n 2"]:
    """The first two principal components of the unit rows, scaled to -10..10, UMAP's range, and always signed alike."""
    moment, total = np.zeros((vectors.shape[1],) * 2), np.zeros(vectors.shape[1])
    for _, block in unit_blocks(vectors):
        moment += block.T @ block
        total += block.sum(axis=0, dtype=np.float64)
    mean = total / len(vectors)
    axes = np.linalg.eigh(moment / len(vectors) - np.outer(mean, mean))[1][:, :-3:-1]
    axes = np.pad(axes, ((0, 0), (0, 2 - axes.shape[1])))
    axes *= np.sign(np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0))
    scores = np.concatenate([(block - mean) @ axes for _, block in unit_blocks(vectors)])
    return (10 * scores / max(np.abs(scores).max(), 1e-6)).astype(np.float32)


def trustworthiness(vectors: Rows, layout: Layout, k: int = 15, size: int = 5000, seed: int = 0) -> float:
    """Whether neighbours on the map are neighbours indeed: 1 is all (Venna and Kaski 2001), 0.5 is chance.

    `size` seeded rows are asked, their neighbours ranked against all rows by cosine. k is cut to what the formula
    bears, under half the rows; NaN for fewer than 3 rows.
    """
    n = len(layout)
    k = min(k, (n - 1) // 2)
    if k < 1:
        return float("nan")
    rows, queries = sample_rows(vectors, size, seed)
    near = _map_neighbours(layout, rows, k)
    step = max(1, _SCORES_HELD // n)
    penalty = 0
    for first in range(0, len(rows), step):
        part = slice(first, first + step)
        penalty += np.maximum(_ranks(queries[part], vectors, rows[part], near[part]) - k, 0).sum()
    return float(1 - 2 * penalty / (len(rows) * k * (2 * n - 3 * k - 1)))


def neighbour_preservation(
    vectors: Rows,
    layout: Layout,
    k: int = 15,
    rows: Int64[np.ndarray, " m"] | None = None,
    seed: int = 0,
    graph: Graph | None = None,
) -> Float32[np.ndarray, " n"]:
    """For each point the share of its k nearest rows that are among its k nearest on the map: (n,), 0..1.

    All points, or `rows` only (positions, rising), NaN elsewhere. NaN where there is only one row.
    """
    n = len(layout)
    k = min(k, n - 1)
    share = np.full(n, np.nan, np.float32)
    if k < 1:
        return share
    if rows is None:
        rows, near = np.arange(n), (graph or neighbour_graph(vectors, k + 1, seed))[0][:, 1 : k + 1]
    else:
        found = Index.build(vectors, seed=seed).search(take_rows(vectors, rows), k + 1)[1]
        near = _without_self(found, rows)
    on_map = _map_neighbours(layout, rows, k)
    share[rows] = (near[:, :, None] == on_map[:, None, :]).any(axis=2).mean(axis=1)
    return share


def place_new_rows(
    new: Float[np.ndarray, "m d"], vectors: Rows | Index, layout: Layout, k: int = 15
) -> Float32[np.ndarray, "m 2"]:
    """Where new vectors (m, d) belong on the map (m, 2): the mean of their k nearest rows' places.

    Weighted by 1 / distance^2 (Shepard 1968), the distance being cosine: a copy of a mapped vector lands on it.
    Vectors of a centred map are centred first, by its means: `Centred(new, groups, means)`.
    """
    index = vectors if isinstance(vectors, Index) else Index.build(vectors)
    scores, ids = index.search(new, k)
    weights = 1 / np.maximum(1 - scores, 1e-6).astype(np.float64) ** 2
    weights /= weights.sum(axis=1, keepdims=True)
    return np.einsum("mk,mkc->mc", weights, layout[ids]).astype(np.float32)


def modality_gap(vectors: Rows, groups: Labels) -> dict[str, float]:
    """The modality gap between every two groups, "image-word" -> distance of their mean unit vectors, 0..2.

    Ask it of the vectors and of `Centred(vectors, groups)`: before and after.
    """
    means = group_means(vectors, groups)
    return {f"{a}-{b}": float(np.linalg.norm(means[a] - means[b])) for a, b in combinations(means, 2)}


def word_meets_drawing(
    words: Rows, word_labels: Labels, drawings: Rows, drawing_labels: Labels, centre: bool = False
) -> float:
    """How often a rendered word's nearest drawing carries its name: a share of the words that some drawing carries.

    A drawing carries a word where its label is the word, or has it among its words, case aside. `centre` subtracts
    the mean of each side first. NaN where no drawing carries any of the words.
    """
    names = [{label.casefold(), *label.casefold().split()} for label in drawing_labels]
    known = set().union(*names)
    asked = [i for i, word in enumerate(word_labels) if word.casefold() in known]
    if not asked:
        return float("nan")
    if centre:
        words, drawings = Centred(words, ["word"] * len(words)), Centred(drawings, ["drawing"] * len(drawings))
    nearest = Index.build(drawings).search(take_rows(words, np.array(asked)), 1)[1][:, 0]
    met = [word_labels[word].casefold() in names[drawing] for word, drawing in zip(asked, nearest, strict=True)]
    return float(np.mean(met))


def _map_neighbours(layout: Layout, rows: Int64[np.ndarray, " m"], k: int) -> Int64[np.ndarray, "m k"]:
    """The k nearest points of some points on the map, themselves left out; exact: in the plane a tree beats FAISS."""
    return _without_self(KDTree(layout).query(layout[rows], k + 1, return_distance=False), rows)


def _without_self(ids: Int64[np.ndarray, "m k1"], rows: Int64[np.ndarray, " m"]) -> np.ndarray:
    """Leave each row out of its own neighbours, or the last of them where copies have crowded it out."""
    is_self = ids == rows[:, None]
    is_self[~is_self.any(axis=1), -1] = True
    return ids[~is_self].reshape(len(ids), -1)


def _ranks(
    queries: Unit, vectors: Rows, rows: Int64[np.ndarray, " m"], near: Int64[np.ndarray, "m k"]
) -> Int64[np.ndarray, "m k"]:
    """Rank (1 is the nearest) of each query's map neighbours `near` among all rows but the query itself."""
    scores = np.empty((len(rows), len(vectors)), np.float32)
    for start, block in unit_blocks(vectors):
        scores[:, start : start + len(block)] = queries @ block.T
    scores[np.arange(len(rows)), rows] = -np.inf
    limits = np.take_along_axis(scores, near, axis=1)
    return np.stack([np.count_nonzero(scores > limit[:, None], axis=1) for limit in limits.T], axis=1) + 1
