"""Maps by UMAP on FAISS neighbours, and their quality: trustworthiness, neighbour preservation, modality gap.

    V (n, d) vectors, of which only the direction is used;  Y (n, 2) layout, the map;  k neighbours

CLIP embeds images and texts in two narrow cones far apart (the modality gap; Liang et al. 2022, "Mind the gap"), and
drawings and rendered words likewise. Subtracting the mean of each kind (`Centred`) brings equal concepts together in
the vectors; neighbours balanced over kinds (`atlas.analysis.balance`) bring them together on the map.
"""

import warnings
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Float, Float32, Int64

from atlas.analysis.balance import KindNeighbours, Layout, balanced_graph
from atlas.analysis.index import Index, neighbour_graph
from atlas.arrays import accepts
from atlas.errors import Refused
from atlas.vectors import Rows, Unit, sample_rows, take_rows, unit_blocks, unit_rows

# UMAP and scikit-learn are imported where a map is made: a search, which makes none, would wait a second for them.

N_NEIGHBORS, MIN_DIST = 15, 0.1  # defaults of UMAP
NEURON_NEIGHBORS, NEURON_MIN_DIST = 30, 0.5  # of the neuron atlas: points far enough apart to be told apart
CELL_NEIGHBORS, CELL_MIN_DIST = 50, 0.05  # of the activation atlas, as those that Carter et al. (2019) published
_REPULSION = 10.0  # of a balanced map: 1, UMAP's default, leaves the places of different concepts mixed
_SCORES_HELD = 2**25  # cosines in memory at a time while ranking: 128 MB of float32

Labels = Sequence[str] | np.ndarray  # one per row
Graph = tuple[Int64[np.ndarray, "n k"], Float32[np.ndarray, "n k"]]  # ids and distances, the row itself first


class Centred:
    """A view on vectors that subtracts the mean of each row's group and scales to unit norm, computed when read.

    `means`: {group: mean}; computed from the rows if None. New rows are brought into the space of another view by its
    means. Raises `Refused` if vectors and groups have different lengths, or if a mean is missing.
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
        # A row that equals its group's mean (a group of one) would have no direction; it is left as it is.
        return np.where(norms > 1e-6, centred / np.maximum(norms, 1e-6), rows)


def group_means(vectors: Rows, groups: Labels) -> dict[str, Float32[np.ndarray, " d"]]:
    """Mean (d,) of the unit vectors of each group: {group: mean}, sorted by group."""
    groups = np.asarray(groups, dtype=object)
    sums = {group: np.zeros(vectors.shape[1]) for group in sorted(set(groups))}
    for start, block in unit_blocks(vectors):
        here = groups[start : start + len(block)]
        for group in set(here):
            sums[group] += block[here == group].sum(axis=0, dtype=np.float64)
    return {group: (total / (groups == group).sum()).astype(np.float32) for group, total in sums.items()}


@accepts(vectors=2)
def project(
    vectors: Rows,
    n_neighbors: int = N_NEIGHBORS,
    min_dist: float = MIN_DIST,
    metric: str = "cosine",
    seed: int = 0,
    groups: Labels | None = None,
    centre: bool = True,
    n_epochs: int | None = None,
    graph: Graph | KindNeighbours | None = None,
    kinds: Labels | None = None,
) -> Float32[np.ndarray, "n 2"]:
    """Map vectors (n, d) to the plane (n, 2) by UMAP (McInnes et al. 2018) on cosine neighbours found with FAISS.

    `n_neighbors`: neighbours of each row, the row itself included. `groups`: a label per row (image | word | text);
    the modality gap between groups is closed by `Centred`, unless `centre` is false. `n_epochs`: by default 500 up to
    10,000 rows, as in UMAP, and 100 above, which is half of UMAP's (trustworthiness was the same on 50,000 rows in
    clusters); 200 with `kinds`. `kinds`: a label per row, as `groups`; the vectors are centred by them too, and every
    row gets neighbours of every kind, however many rows a kind has. `graph`: a `neighbour_graph` of these (centred)
    vectors, or their `KindNeighbours` if `kinds` are given, if there is one already.

    UMAP starts from the principal components: a spectral start is not better, and takes long. The same seed gives the
    same map. Raises `Refused` for another metric, without rows, and for a row that is zero or not finite.

    >>> import numpy as np
    >>> project(np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32), n_neighbors=5, n_epochs=10).shape
    (30, 2)
    """
    if metric != "cosine":
        raise Refused(f"no metric {metric!r}: vectors are laid out by their direction; the metric is cosine")
    if n_neighbors < 2 or not len(vectors):
        raise Refused(f"a map needs 1 row and 2 n_neighbors or more, got {len(vectors)} and {n_neighbors}")
    groups = groups if kinds is None else kinds
    if groups is not None and centre:
        vectors = Centred(vectors, groups)
    start = principal_components(vectors)
    if len(vectors) < 5:  # too few for a graph
        return start
    start += np.random.default_rng(seed).normal(scale=1e-4, size=start.shape)  # as UMAP does: no two rows at one point
    k, few = min(n_neighbors, len(vectors) - 1), len(vectors) <= 10_000
    if kinds is not None and len(set(kinds)) > 1:
        found = graph if isinstance(graph, KindNeighbours) else KindNeighbours.find(vectors, kinds, k, seed)
        return _balanced_layout(found, start, k, min_dist, n_epochs or (500 if few else 200), seed)
    n_epochs = n_epochs or (500 if few else 100)
    graph = graph.merged(k) if isinstance(graph, KindNeighbours) else graph or neighbour_graph(vectors, k, seed)
    ids, distances = (part[:, :k] for part in graph)
    return _umap_layout(ids, distances, start, min_dist, n_epochs, seed)


def _umap_layout(
    ids: Int64[np.ndarray, "n k"],
    distances: Float32[np.ndarray, "n k"],
    start: Layout,
    min_dist: float,
    n_epochs: int,
    seed: int,
) -> Float32[np.ndarray, "n 2"]:
    """Places by UMAP, of neighbours that are known."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)
        import umap

        warnings.filterwarnings("ignore", r"precomputed_knn\[2\] \(knn_search_index\) is not an NNDescent", UserWarning)
        mapper = umap.UMAP(
            n_neighbors=ids.shape[1],
            min_dist=min_dist,
            metric="cosine",
            n_epochs=n_epochs,
            init=start,  # pyright: ignore[reportArgumentType] - UMAP takes an array too
            random_state=seed,
            n_jobs=1,  # random_state implies it, and UMAP warns unless it is given
            precomputed_knn=(ids.astype(np.int32), distances),
        )
        # Given neighbours and a start, UMAP uses only the number of rows of its data.
        return np.asarray(mapper.fit_transform(start), np.float32)


def _balanced_layout(
    found: KindNeighbours, start: Layout, k: int, min_dist: float, n_epochs: int, seed: int
) -> Float32[np.ndarray, "n 2"]:
    """Places by UMAP's optimisation of a balanced graph."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)
        from umap.umap_ import find_ab_params, simplicial_set_embedding

    a, b = find_ab_params(1.0, min_dist)
    places, _ = simplicial_set_embedding(
        data=start,  # only its number of rows counts
        graph=balanced_graph(found, k - 1),
        n_components=2,
        initial_alpha=1.0,
        a=a,
        b=b,
        gamma=_REPULSION,
        negative_sample_rate=5,
        n_epochs=n_epochs,
        init=start,
        random_state=np.random.RandomState(seed),
        metric="euclidean",
        metric_kwds={},
        densmap=False,
        densmap_kwds={},
        output_dens=False,
    )
    return np.asarray(places, np.float32)


def principal_components(vectors: Rows) -> Float32[np.ndarray, "n 2"]:
    """The first two principal components of the unit rows, scaled to UMAP's range -10..10, with a fixed sign."""
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
    """How many neighbours on the map are neighbours in the vectors too (Venna and Kaski 2001): 1 is all, 0.5 is chance.

    Measured on `size` seeded rows, whose map neighbours are ranked by cosine among all rows. k is capped at
    (n - 1) // 2. NaN for fewer than 3 rows.
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
    """Fraction of each row's k nearest rows that are also among its k nearest on the map: (n,), 0..1.

    `rows`: positions, ascending, of the rows to measure (the others are NaN); all rows by default. NaN for a single
    row.
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
    """Places (m, 2) of new vectors (m, d) on the map: the weighted mean of the places of their k nearest rows.

    Weights are 1 / cosine distance^2 (Shepard 1968), so a copy of a mapped vector gets its place. For a centred map,
    centre the vectors by its means first: `Centred(new, groups, means)`.
    """
    index = vectors if isinstance(vectors, Index) else Index.build(vectors)
    scores, ids = index.search(new, k)
    weights = 1 / np.maximum(1 - scores, 1e-6).astype(np.float64) ** 2
    weights /= weights.sum(axis=1, keepdims=True)
    return np.einsum("mk,mkc->mc", weights, layout[ids]).astype(np.float32)


def place_by_matches(
    new: Float[np.ndarray, "m d"], vectors: Rows | Index, layout: Layout, k: int = 5
) -> Float32[np.ndarray, "m 2"]:
    """Places (m, 2) of new vectors on a balanced map: the place of one of the k matches: the one
    with most weight near it on the map.

    A mean would lie between the places of two meanings, where neither is. Weights are 1 / cosine distance^2 relative
    to the best match, and a copy of a mapped vector gets its place.
    """
    index = vectors if isinstance(vectors, Index) else Index.build(vectors)
    scores, ids = index.search(new, k)
    distances = np.maximum(1 - scores, 1e-6).astype(np.float64)
    weights = (distances[:, :1] / distances) ** 2
    places = layout[ids].astype(np.float64)
    apart = np.linalg.norm(places[:, :, None] - places[:, None], axis=3)
    reach = np.ptp(layout, axis=0).max() / 100 or 1.0
    support = (weights[:, None] / (1 + (apart / reach) ** 2)).sum(axis=2)
    return np.take_along_axis(places, (support * weights).argmax(axis=1)[:, None, None], axis=1)[:, 0].astype(
        np.float32
    )


def modality_gap(vectors: Rows, groups: Labels) -> dict[str, float]:
    """The modality gap of each pair of groups: {"image-word": distance of their mean unit vectors}, 0..2.

    `modality_gap(Centred(vectors, groups), groups)` gives the gap that is left after centring.
    """
    means = group_means(vectors, groups)
    return {f"{a}-{b}": float(np.linalg.norm(means[a] - means[b])) for a, b in combinations(means, 2)}


def word_meets_drawing(
    words: Rows, word_labels: Labels, drawings: Rows, drawing_labels: Labels, centre: bool = False
) -> float:
    """How often the drawing nearest to a rendered word has that word in its label: a fraction of the words, 0..1.

    Only words that occur in the label of some drawing are counted; case is ignored. `centre`: subtract the mean of
    words and of drawings first. NaN if there are no such words.
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
    """The k nearest points of some points on the map, without the points themselves; exact, by a k-d tree."""
    from sklearn.neighbors import KDTree

    return _without_self(KDTree(layout).query(layout[rows], k + 1, return_distance=False), rows)


def _without_self(ids: Int64[np.ndarray, "m k1"], rows: Int64[np.ndarray, " m"]) -> np.ndarray:
    """Remove each row from its own neighbours; if copies have displaced it, remove the last neighbour."""
    is_self = ids == rows[:, None]
    is_self[~is_self.any(axis=1), -1] = True
    return ids[~is_self].reshape(len(ids), -1)


def _ranks(
    queries: Unit, vectors: Rows, rows: Int64[np.ndarray, " m"], near: Int64[np.ndarray, "m k"]
) -> Int64[np.ndarray, "m k"]:
    """Ranks (1 is the nearest) of each query's map neighbours `near` among all other rows."""
    scores = np.empty((len(rows), len(vectors)), np.float32)
    for start, block in unit_blocks(vectors):
        scores[:, start : start + len(block)] = queries @ block.T
    scores[np.arange(len(rows)), rows] = -np.inf
    limits = np.take_along_axis(scores, near, axis=1)
    return np.stack([np.count_nonzero(scores > limit[:, None], axis=1) for limit in limits.T], axis=1) + 1
