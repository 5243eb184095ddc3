"""Named regions of the map: clusters of points at three scales, each named by its most characteristic terms.

    Y (n, 2) layout;  E (n, e) unit embeddings;  T (t, e) terms;  M (c, e) clusters

A term is a label or a word in a label; its embedding is the mean of the rows that carry it. The candidates for a name
are the terms that occur in the cluster. The score of a term is its cosine with the cluster's mean, less its mean
cosine with the other clusters, weighted by the share of the cluster that carries it.

Where rows have no words of their own, each carries the terms of a given vocabulary that are nearest to it. A name is
drawn amid the rows that carry it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int64
from scipy.sparse import csr_matrix
from sklearn.cluster import HDBSCAN
from sklearn.neighbors import KDTree

from atlas.analysis.phrases import plain_names, term_carriers
from atlas.analysis.terms import Terms
from atlas.vectors import Rows as Vectors
from atlas.vectors import scaled_rows, unit_blocks

CLUSTER_SHARES = (1 / 30, 1 / 100, 1 / 350)  # of all points: the smallest cluster of each level, coarse to fine
CLUSTERED_POINTS = 10_000  # points that are clustered; others join the cluster of the nearest
LEAST_COVER = 0.04  # a candidate is carried by this share of a cluster's rows at least
LOW_COVER = 0.1  # below this share, the name of the kind is preferred to a term
OWN_TERM_SCORE = 0.5  # share of the cluster's best score that a name has at least, by the rows' labels
SECOND_TERM_SCORE = 0.7  # share of the best score that a second term has at least
LONGEST_PAIR = 32  # letters of two terms together
ONE_KIND_SHARE = 0.9  # share of a cluster that must be of a kind to be named by the kind
TERMS_A_ROW = 3  # terms of a vocabulary that a row carries
CENTRE_MEMBERS, CROWDED = 2000, 1.5  # members of a region among which the place of its name is sought, and how crowded


@dataclass(frozen=True, slots=True)
class Region:
    """A named region: its text, the point where the name is drawn, its level (0 is coarse), and its points."""

    text: str
    point: int
    level: int
    members: Int64[np.ndarray, " m"] = field(repr=False, compare=False)

    @property
    def count(self) -> int:
        """How many points the region has."""
        return len(self.members)


@dataclass(frozen=True, slots=True, eq=False)
class RegionTerms:
    """Terms that may name a cluster: texts, directions T, and which rows carry which (n, t).

    `least`: the share of a cluster's best score that its name must have, if other clusters took better terms. `things`:
    the thing that each row is a variant of, where that is known.
    """

    texts: list[str]
    T: Float32[np.ndarray, "t e"]
    carried: csr_matrix
    least: float
    things: Int64[np.ndarray, " n"] | None = None


def regions_by_labels(
    layout: Float[np.ndarray, "n 2"],
    vectors: Vectors,
    labels: Sequence[str],
    kinds: Sequence[str] | None = None,
    seed: int = 0,
) -> list[Region]:
    """Regions of a map at three levels, the largest first, named by the labels of their rows.

    `kinds`: the kind of each row. A cluster in which no term is frequent is named by its kind, if almost all of it is
    of one kind and no other cluster of the level has that name; else it is left out.
    """
    plain = plain_names(labels)
    written = {text for text, kind in zip(plain, kinds, strict=True) if kind != "word"} if kinds is not None else set()
    carried, terms = term_carriers(plain, written or None)  # rendered words need not name things
    if not terms:
        return []
    things = np.unique(np.asarray(plain, dtype=object).astype(str), return_inverse=True)[1]
    named = RegionTerms(terms, term_means(vectors, carried), carried, OWN_TERM_SCORE, things)
    return _named(layout, vectors, [named] * len(CLUSTER_SHARES), kinds, seed)


def regions_by_vocabulary(
    layout: Float[np.ndarray, "n 2"], vectors: Vectors, terms: Terms, kinds: Sequence[str] | None = None, seed: int = 0
) -> list[Region]:
    """Regions of a map whose rows have no words, named by the terms nearest to the rows; coarse ones by general terms.

    `vectors`: unit embeddings after each kind's mean was subtracted, as the terms' mean is from theirs.
    """
    T, texts = terms.centred, terms.texts
    fine, coarse = (
        RegionTerms(texts[:end], T[:end], nearest_terms(vectors, T[:end]), SECOND_TERM_SCORE)
        for end in (len(T), terms.general)
    )
    return _named(layout, vectors, [coarse, *[fine] * (len(CLUSTER_SHARES) - 1)], kinds, seed)


def _named(
    layout: Float[np.ndarray, "n 2"],
    vectors: Vectors,
    levels: Sequence[RegionTerms],
    kinds: Sequence[str] | None,
    seed: int,
) -> list[Region]:
    found = []
    for level, codes in enumerate(cluster_levels(layout, seed)):
        if codes.max(initial=-1) >= 0:
            of = levels[level]
            terms, cover = choose_terms(codes, vectors, of)
            names = [", ".join(of.texts[t] for t in chosen) for chosen in terms]
            if kinds is not None:
                spare = {c for c, chosen in enumerate(terms) if not chosen or cover[c, chosen[0]] < LOW_COVER}
                for c in name_by_kind(names, codes, np.asarray(kinds, dtype=object).astype(str), spare):
                    terms[c] = []
            for c in (c for c, text in enumerate(names) if text):
                rows = np.flatnonzero(codes == c)
                found.append(Region(names[c], central_member(layout, name_carriers(rows, terms[c], of)), level, rows))
    return sorted(found, key=lambda label: -label.count)


def given_regions(layout: Float[np.ndarray, "n 2"], levels: Sequence[Sequence[str]]) -> list[Region]:
    """Regions by the given name of every point: a sequence for each level, coarse first; "" for none."""
    found = []
    for level, names in enumerate(levels):
        distinct, codes = np.unique(np.asarray(names, dtype=object).astype(str), return_inverse=True)
        order = np.argsort(codes, kind="stable")
        for text, members in zip(distinct, np.split(order, np.cumsum(np.bincount(codes))[:-1]), strict=True):
            if text:
                found.append(Region(str(text), central_member(layout, members), level, members))
    return sorted(found, key=lambda label: -label.count)


def cluster_levels(layout: Float[np.ndarray, "n 2"], seed: int = 0) -> list[Int64[np.ndarray, " n"]]:
    """The cluster 0 .. c-1 of every point at each level, -1 for none (the leaves of HDBSCAN)."""
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.permutation(len(layout))[:CLUSTERED_POINTS])
    places = np.asarray(layout[sample], np.float64)
    nearest = np.arange(len(layout))
    if len(sample) < len(layout):
        nearest = KDTree(places).query(layout, 1, return_distance=False)[:, 0]
    found = []
    for share in CLUSTER_SHARES:
        size = max(5, round(share * len(sample)))
        if size > len(sample) // 2:
            continue
        options: dict[str, Any] = {"min_samples": min(10, size), "cluster_selection_method": "leaf", "copy": True}
        made = HDBSCAN(min_cluster_size=size, **options)
        found.append(made.fit_predict(places).astype(np.int64)[nearest])
    return found


def term_means(vectors: Vectors, carried: csr_matrix) -> Float32[np.ndarray, "t e"]:
    """Mean direction of the rows that carry each term."""
    return scaled_rows(_sums(vectors, carried))


def nearest_terms(vectors: Vectors, T: Float32[np.ndarray, "t e"]) -> csr_matrix:
    """Which rows carry which terms (n, t), where each row carries the TERMS_A_ROW nearest to it."""
    k = min(TERMS_A_ROW, len(T))
    best = [np.argpartition(-(block @ T.T), k - 1, axis=1)[:, :k] for _, block in unit_blocks(vectors)]
    codes = np.concatenate(best).ravel()
    ends = np.arange(0, len(codes) + 1, k)
    return csr_matrix((np.ones(len(codes), np.float32), codes, ends), (len(vectors), len(T)))


def choose_terms(
    codes: Int64[np.ndarray, " n"], vectors: Vectors, of: RegionTerms
) -> tuple[list[list[int]], Float32[np.ndarray, "c t"]]:
    """The terms that name every cluster (none where none is frequent), and the share of each cluster with each term.

    Each term names one cluster at most: the one with the highest score.
    """
    members = np.flatnonzero(codes >= 0)
    inside = csr_matrix((np.ones(len(members), np.float32), (members, codes[members])), (len(codes), codes.max() + 1))
    cover, own = term_coverage(inside, of)
    near = scaled_rows(_sums(vectors, inside)) @ of.T.T
    score = np.where(cover >= LEAST_COVER, (near - _others(near)) * np.sqrt(cover * own), 0)
    best = score.max(axis=1, initial=0)
    names: list[list[int]] = [[] for _ in best]
    pairs = np.argwhere(score > 0)
    pairs = pairs[np.argsort(-score[tuple(pairs.T)], kind="stable")]
    taken: set[int] = set()
    for known, least in ((0, of.least), (1, SECOND_TERM_SCORE)):
        for c, t in pairs.tolist():
            chosen = names[c]
            if len(chosen) != known or t in taken or score[c, t] < least * best[c]:
                continue
            if not chosen or adds_meaning(of.texts[t], of.texts[chosen[0]]):
                chosen.append(t)
                taken.add(t)
    return names, cover


def term_coverage(inside: csr_matrix, of: RegionTerms) -> tuple[Float32[np.ndarray, "c t"], Float32[np.ndarray, "c t"]]:
    """The share of each cluster that carries each term, and the share of each term's rows that lie in the cluster.

    Where rows are variants of things, the first is the geometric mean of the share of rows and the share of things, so
    that neither one thing with many variants nor one outlier counts for much.
    """
    carry = csr_matrix(inside.T @ of.carried).toarray()
    cover = carry / np.asarray(inside.sum(axis=0)).reshape(-1, 1)
    if of.things is not None:
        kept = csr_matrix((np.ones(len(of.things), np.float32), (of.things, np.arange(len(of.things)))))
        there = csr_matrix(kept @ inside).minimum(1)  # things in clusters
        carriers = csr_matrix(kept @ of.carried).minimum(1)
        share = csr_matrix(there.T @ carriers).toarray() / np.asarray(there.sum(axis=0)).reshape(-1, 1)
        cover = np.sqrt(cover * share)
    return cover, carry / np.maximum(np.asarray(of.carried.sum(axis=0)), 1)


def adds_meaning(term: str, first: str) -> bool:
    """Whether a second term adds to the first: they share no word, and are short enough together."""
    stems = [{word.rstrip("s") for word in text.split()} for text in (term, first)]
    return not stems[0] & stems[1] and len(term) + len(first) <= LONGEST_PAIR


def name_carriers(rows: Int64[np.ndarray, " m"], chosen: Sequence[int], of: RegionTerms) -> Int64[np.ndarray, " k"]:
    """The rows of a cluster that carry the first of the terms chosen to name it; all where its kind names it."""
    return rows[np.diff(of.carried[rows][:, chosen[:1]].tocsr().indptr) > 0] if chosen else rows


def name_by_kind(names: list[str], codes: Int64[np.ndarray, " n"], kinds: np.ndarray, spare: set[int]) -> list[int]:
    """Name the largest `spare` cluster of each kind by the kind, in place, unless most rows are of that kind.

    Returns the clusters that got such a name.
    """
    found = []
    for kind in np.unique(kinds):
        size, of_kind = (np.bincount(part[part >= 0], minlength=len(names)) for part in (codes, codes[kinds == kind]))
        free = [c for c in spare if of_kind[c] >= ONE_KIND_SHARE * size[c]]
        if free and 2 * np.count_nonzero(kinds == kind) <= len(kinds) and f"{kind}s" not in names:
            found.append(max(free, key=lambda c: (size[c], -c)))
            names[found[-1]] = f"{kind}s"
    return found


def central_member(layout: Float[np.ndarray, "n 2"], members: Int64[np.ndarray, " m"]) -> int:
    """Of the members that lie where most are, the one nearest to the median of all.

    They lie where most are if a quarter of all is within a circle around them of at most CROWDED times the smallest
    radius. Of many members, an even sample is taken.
    """
    some = members[:: -(-len(members) // CENTRE_MEMBERS)]
    places = layout[some].astype(np.float64)
    reach = KDTree(places).query(places, -(-len(some) // 4))[0][:, -1]
    away = np.square(places - np.median(places, axis=0)).sum(axis=1)
    return int(some[np.where(reach <= CROWDED * reach.min(), away, np.inf).argmin()])


def _others(near: Float32[np.ndarray, "c t"]) -> Float32[np.ndarray, "c t"]:
    """The mean cosine of each term with all clusters but one, for each cluster."""
    return (near.sum(axis=0) - near) / max(len(near) - 1, 1)


def _sums(vectors: Vectors, members: csr_matrix) -> Float32[np.ndarray, "c e"]:
    groups: int = members.get_shape()[1]
    total = np.zeros((groups, vectors.shape[1]), np.float32)
    for start, block in unit_blocks(vectors):
        total += members[start : start + len(block)].T @ block
    return total
