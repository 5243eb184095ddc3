"""Neighbours balanced over kinds, so that a map joins images, words and texts; and how far a map joins them.

    V (n, d) vectors, of which only the direction is used;  Y (n, 2) layout;  k neighbours

Among all rows, nearly all neighbours of a rendered word are other words, and a layout of these tears the kinds apart.
So every row keeps its neighbours of its own kind, and gets its best matches in every other kind beside them.
"""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64
from scipy.sparse import coo_matrix

from atlas.analysis.index import graph_index
from atlas.formatting import Record
from atlas.vectors import Rows, Unit, take_rows, unit_blocks

# UMAP and scikit-learn are imported where a map is made: a search, which makes none, would wait a second for them.

MATCHES = 2  # best matches of a row in every other kind; more of them blur the place of a concept
OWN_WEIGHT_LOST = 0.64  # by which an edge within a kind counts less than 1, times the kind's share of all rows
OTHERS_SHOWN = 2  # of every other kind, among the neighbours that a card shows
_VARIANT = re.compile(r"[:,]? (?:medium[ -])?(?:light|medium|dark) skin tone", re.IGNORECASE)
_HUB_NEIGHBOURS = 10  # by their mean cosine, rows that lie near everything are found

Kinds = Sequence[str] | np.ndarray  # one per row
Layout = Float[np.ndarray, "n 2"]


class Chosen:
    """A view on some rows (ascending) of vectors, at unit norm, computed when read."""

    def __init__(self, vectors: Rows, rows: Int64[np.ndarray, " m"]):
        self.vectors, self.rows = vectors, rows
        self.shape = (len(rows), vectors.shape[1])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: slice) -> Unit:
        return take_rows(self.vectors, self.rows[at])


@dataclass(frozen=True)
class KindNeighbours:
    """The k nearest rows of every row in every kind, without the row itself, by cosine.

    `rows`: {kind: positions (m,)}; `near`: {(kind, other): ids (m, k) and cosines (m, k)}. k is smaller for a kind of
    few rows.
    """

    rows: dict[str, Int64[np.ndarray, " m"]]
    near: dict[tuple[str, str], tuple[Int64[np.ndarray, "m k"], Float32[np.ndarray, "m k"]]]

    @classmethod
    def find(cls, vectors: Rows, kinds: Kinds, k: int, seed: int = 0) -> "KindNeighbours":
        """Search every kind for the neighbours of all rows: exact for kinds of up to 10,000 rows."""
        kinds = np.asarray(kinds, dtype=object)
        rows = {kind: np.flatnonzero(kinds == kind).astype(np.int64) for kind in sorted(set(kinds))}
        views = {kind: Chosen(vectors, positions) for kind, positions in rows.items()}
        near = {}
        for other, found in views.items():
            index = graph_index(found, seed)
            for kind, view in views.items():
                own = kind == other
                parts = [
                    _nearest(index.search(block, min(k + own, len(found))), start if own else None)
                    for start, block in unit_blocks(view)
                ]
                ids, scores = (np.concatenate(part) for part in zip(*parts, strict=True))
                near[kind, other] = rows[other][ids], scores
        return cls(rows, near)

    @cached_property
    def size(self) -> int:
        """The number of rows of all kinds."""
        return sum(map(len, self.rows.values()))

    def merged(self, k: int) -> tuple[Int64[np.ndarray, "n k"], Float32[np.ndarray, "n k"]]:
        """The k nearest rows of every row over all kinds, the row itself first: ids and cosine distances."""
        width = min(k, self.size)
        ids, distances = np.empty((self.size, width), np.int64), np.empty((self.size, width), np.float32)
        for kind, positions in self.rows.items():
            found = [self.near[kind, other] for other in self.rows]
            own = np.concatenate([positions[:, None], *(ids for ids, _ in found)], axis=1)
            scores = np.concatenate([np.full((len(positions), 1), np.inf), *(scores for _, scores in found)], axis=1)
            order = np.argsort(-scores, axis=1, kind="stable")[:, :width]
            ids[positions] = np.take_along_axis(own, order, axis=1)
            distances[positions] = np.maximum(1 - np.take_along_axis(scores, order, axis=1), 0)
        distances[:, 0] = 0
        return ids, distances

    def matches(self, kind: str, other: str, k: int) -> tuple[Int64[np.ndarray, "m k"], Float32[np.ndarray, "m k"]]:
        """The k best matches of a kind's rows in another kind, best first, and their distances.

        A row that lies near everything matches nothing in particular, so half of its mean cosine to its nearest rows
        of the asking kind is subtracted (as in CSLS, Conneau et al. 2018).
        """
        ids, scores = self.near[kind, other]
        mean = np.zeros(self.size, np.float32)
        mean[self.rows[other]] = self.near[other, kind][1][:, :_HUB_NEIGHBOURS].mean(axis=1)
        order = np.argsort(mean[ids] / 2 - scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(ids, order, axis=1), 1 - np.take_along_axis(scores, order, axis=1)


def balanced_graph(found: KindNeighbours, k: int) -> coo_matrix:
    """UMAP's graph (n, n) of k neighbours of the own kind and `MATCHES` of every other, each pair smoothed by itself.

    So every kind has the same say in the place of a row, however many rows it has. The larger a kind is, the less its
    own edges count: its rows would push those of other kinds aside.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)
        from umap.umap_ import smooth_knn_dist

    parts = []
    for kind, other in found.near:
        own = kind == other
        ids, scores = found.near[kind, other]
        ids, distances = (ids[:, :k], 1 - scores[:, :k]) if own else found.matches(kind, other, MATCHES)
        if not ids.shape[1]:  # a kind of one row
            continue
        distances = np.maximum(distances, 0).astype(np.float32)
        padded = np.pad(distances, ((0, 0), (1, 0)))  # UMAP counts the row itself
        scale, nearest = smooth_knn_dist(padded, float(padded.shape[1]))
        beyond = np.maximum(distances - nearest[:, None], 0)
        counted = 1 - OWN_WEIGHT_LOST * len(ids) / found.size if own else 1
        weights = np.exp(-beyond / np.maximum(scale[:, None], 1e-9)) * counted
        parts.append((np.repeat(found.rows[kind], ids.shape[1]), ids.ravel(), weights.ravel().astype(np.float32)))
    start, end, weights = (np.concatenate(part) for part in zip(*parts, strict=True))
    one_way = coo_matrix((weights, (start, end)), shape=(found.size, found.size)).tocsr()
    back = one_way.T.tocsr()
    return (one_way + back - one_way.multiply(back)).tocoo()  # the fuzzy union, as in UMAP


def varied_neighbours(found: KindNeighbours, names: Sequence[str], k: int = 8) -> Int64[np.ndarray, "n k"]:
    """The nearest rows of every row, each thing once: first of its own kind, then `OTHERS_SHOWN` of every other.

    Names that differ by skin tone or by case are one thing; a row's own thing is left out of its own kind. Where there
    are too few, the row itself stands in the place.
    """
    things = np.unique([_VARIANT.sub("", name).casefold() for name in names], return_inverse=True)[1]
    near = np.repeat(np.arange(found.size)[:, None], k, axis=1)
    for kind, rows in found.rows.items():
        others = [other for other in found.rows if other != kind]
        most = {kind: max(OTHERS_SHOWN, k - OTHERS_SHOWN * len(others))} | dict.fromkeys(others, OTHERS_SHOWN)
        start = 0
        for other, room in most.items():
            end = min(k, start + room)
            told = np.full((len(rows), end - start), -1)
            count, line = np.zeros(len(rows), np.int64), np.arange(len(rows))
            for column in found.near[kind, other][0].T:
                new = (told != things[column][:, None]).all(axis=1) & (count < end - start)
                new &= (things[column] != things[rows]) | (other != kind)
                told[line[new], count[new]] = things[column][new]
                near[rows[new], start + count[new]] = column[new]
                count += new
            start = end
    return near


# -- quality -----------------------------------------------------------------------------------------------------------


def measure_joining(found: KindNeighbours, layout: Layout, labels: Sequence[str], k: int = 15) -> Record:
    """How far a map joins the kinds, and how many neighbours it keeps within each; {} where there is one kind."""
    if len(found.rows) < 2:
        return {}
    kinds = np.empty(found.size, object)
    for kind, rows in found.rows.items():
        kinds[rows] = kind
    return {
        "preservation_within": preservation_within(found, layout, k),
        "mixing": mixing(layout, kinds),
        "name_matches": name_matches(layout, kinds, labels),
    }


def preservation_within(found: KindNeighbours, layout: Layout, k: int = 15) -> dict[str, float]:
    """The share of a row's k nearest rows of its kind that are also so on the map, on average: {kind: 0..1}."""
    kept = {}
    for kind, rows in found.rows.items():
        near = np.searchsorted(rows, found.near[kind, kind][0][:, :k])
        if near.shape[1]:
            on_map = _others_near(layout[rows], near.shape[1])
            kept[kind] = float((near[:, :, None] == on_map[:, None, :]).any(axis=2).mean())
    return kept


def mixing(layout: Layout, kinds: Kinds, k: int = 10) -> dict[str, float]:
    """The share of other kinds among the k nearest points of a kind's points, on average: {kind: 0..1}."""
    kinds = np.asarray(kinds, dtype=object)
    codes = np.unique(kinds, return_inverse=True)[1]
    k = min(k, len(layout) - 1)
    if k < 1:
        return {}
    other = (codes[_others_near(layout, k)] != codes[:, None]).mean(axis=1)
    return {kind: float(other[kinds == kind].mean()) for kind in sorted(set(kinds))}


def name_matches(layout: Layout, kinds: Kinds, labels: Sequence[str], k: int = 10) -> dict[str, dict[str, float]]:
    """How often the nearest point of another kind carries a point's name: {"word-image": {"first": .., "of_ten": ..}}.

    Only points whose name the other kind has are counted; case is ignored. Pairs of kinds without any are left out.
    """
    shares = {}
    for other in sorted(set(kinds)):
        rows, met = _names_met(layout, kinds, labels, other, k)
        for kind in sorted(set(kinds) - {other}):
            here = met[np.asarray(kinds, dtype=object)[rows] == kind]
            if len(here):
                shares[f"{kind}-{other}"] = {
                    "first": float(here[:, 0].mean()),
                    "of_ten": float(here.any(axis=1).mean()),
                }
    return dict(sorted(shares.items()))


def lies_at_its_name(
    layout: Layout, kinds: Kinds, labels: Sequence[str], other: str, k: int = 10
) -> Bool[np.ndarray, " n"]:
    """Whether one of the k nearest points of the kind `other` carries a point's name; False for `other` itself."""
    rows, met = _names_met(layout, kinds, labels, other, k)
    found = np.zeros(len(layout), bool)
    found[rows] = met.any(axis=1)
    return found


def _names_met(
    layout: Layout, kinds: Kinds, labels: Sequence[str], other: str, k: int
) -> tuple[Int64[np.ndarray, " m"], Bool[np.ndarray, "m k"]]:
    """The points of other kinds whose name the kind `other` has, and which of its k nearest points carry that name."""
    from sklearn.neighbors import KDTree

    codes = np.unique([label.casefold() for label in labels], return_inverse=True)[1]
    named, there = np.array([bool(label.strip()) for label in labels]), np.asarray(kinds, dtype=object) == other
    rows = np.flatnonzero(there & named)
    asked = np.flatnonzero(~there & named & np.isin(codes, codes[rows])).astype(np.int64)
    if not len(asked):
        return asked, np.zeros((0, 1), bool)
    near = KDTree(layout[rows]).query(layout[asked], min(k, len(rows)), return_distance=False)
    return asked, codes[rows][near] == codes[asked][:, None]


def _nearest(
    found: tuple[np.ndarray, np.ndarray], start: int | None
) -> tuple[Int64[np.ndarray, "m k"], Float32[np.ndarray, "m k"]]:
    """Ids and cosines of a search, without each query row itself (`start`: the first of them)."""
    scores, ids = found
    if start is None:
        return ids.astype(np.int64), scores
    others = _not_self(ids, start)
    return ids[others].reshape(len(ids), -1).astype(np.int64), scores[others].reshape(len(ids), -1)


def _others_near(layout: Layout, k: int) -> Int64[np.ndarray, "n k"]:
    """The k nearest points of every point on the map, without the point itself."""
    from sklearn.neighbors import KDTree

    near = KDTree(layout).query(layout, k + 1, return_distance=False)
    return near[_not_self(near, 0)].reshape(len(near), k)


def _not_self(ids: Int64[np.ndarray, "m k1"], start: int) -> np.ndarray:
    """Where neighbours are not the row itself (row i is `start` + i); of each row, one is left out."""
    own = ids == np.arange(start, start + len(ids))[:, None]
    own[~own.any(axis=1), -1] = True  # copies have displaced the row itself
    return ~(own & (np.cumsum(own, axis=1) == 1))
