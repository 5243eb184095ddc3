"""Mergeable statistics of neurons, computed in two passes over chunks of rows.

A (n, u) are activations of n rows on u neurons, E (n, e) unit embeddings of the rows, rows (n,) their positions in the
Store. Each statistic is made `of` a chunk and combined by `merge`. For any split into chunks, rows and counts are
identical and moments agree to 1e-9.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt64

from atlas.vectors import Comoments, Moments, scaled_rows

_BINS, _BUCKETS, PER_BUCKET, TOP_ROWS = 64, 10, 16, 24


@dataclass(frozen=True)
class ActivationChunk:
    """Some rows: positions, activations, unit embeddings, and 64-bit hashes of ids, which serve as random numbers."""

    rows: Int[np.ndarray, " n"]
    A: Float[np.ndarray, "n u"]
    E: Float[np.ndarray, "n e"]
    hashes: UInt64[np.ndarray, " n"]


_EMPTY = np.iinfo(np.int64).min  # key of an empty place


def _key(values: Float[np.ndarray, "n u"], rows: Int[np.ndarray, " n"]) -> Int[np.ndarray, "n u"]:
    """Value and row packed into one int64, so that one comparison orders by value and then by the smaller row."""
    bits = (values.astype(np.float32) + 0.0).view(np.int32)  # + 0.0: -0 and 0 are equal
    ordered = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))  # IEEE floats, as integers of the same order
    return (ordered.astype(np.int64) << 32) | (0xFFFFFFFF - rows)[:, None]


def _largest(keys: Int[np.ndarray, "n u"], k: int) -> Int[np.ndarray, "k u"]:
    if len(keys) > k:
        keys = np.partition(keys, len(keys) - k, axis=0)[-k:]
    return np.sort(keys, axis=0)[::-1]


@dataclass(frozen=True)
class Extremes:
    """The k largest and k smallest activations of each neuron with their rows; ties by the earlier row."""

    largest: Int[np.ndarray, "k u"]
    smallest: Int[np.ndarray, "k u"]
    k: int

    @classmethod
    def of(cls, A: Float[np.ndarray, "n u"], rows: Int[np.ndarray, " n"], k: int = TOP_ROWS) -> "Extremes":
        """Extremes of one chunk; fewer than k if the chunk has fewer rows."""
        return cls(_largest(_key(A, rows), k), _largest(_key(-A, rows), k), k)

    def merge(self, other: "Extremes") -> "Extremes":
        """Extremes of the union of both."""
        largest = _largest(np.concatenate([self.largest, other.largest]), self.k)
        return Extremes(largest, _largest(np.concatenate([self.smallest, other.smallest]), self.k), self.k)

    @staticmethod
    def _decode(keys: Int[np.ndarray, "k u"]) -> tuple[np.ndarray, np.ndarray]:
        ordered = (keys >> 32).astype(np.int32)
        bits = ordered ^ ((ordered >> 31) & np.int32(0x7FFFFFFF))
        return (0xFFFFFFFF - (keys & 0xFFFFFFFF)).T, bits.view(np.float32).T

    @property
    def top(self) -> tuple[Int[np.ndarray, "u k"], Float[np.ndarray, "u k"]]:
        """Rows and values of the largest, largest first."""
        return self._decode(self.largest)

    @property
    def bottom(self) -> tuple[Int[np.ndarray, "u k"], Float[np.ndarray, "u k"]]:
        """Rows and values of the smallest, smallest first."""
        rows, values = self._decode(self.smallest)
        return rows, -values


def strongest_rows(
    chunks: Iterable[tuple[Int[np.ndarray, " _"], Float[np.ndarray, "_ u"]]], k: int
) -> tuple[Int[np.ndarray, "u k"], Float[np.ndarray, "u k"]]:
    """The k rows that activate each neuron most, with their activations; largest first, ties by the earlier row.

    `chunks`: pairs of rows and activations. There are fewer than k results if there are fewer rows.
    """
    best = reduce(
        lambda held, part: _largest(np.concatenate([held, part]), k), (_largest(_key(A, rows), k) for rows, A in chunks)
    )
    return Extremes._decode(best)


@dataclass(frozen=True)
class Monosemanticity:
    """Sums for the monosemanticity score MS = sum_{i<j} a_i a_j cos(e_i, e_j) / sum_{i<j} a_i a_j.

    a is scaled to [0, 1] per neuron. With unit e, twice the numerator is ||sum a e||^2 - sum a^2 and twice the
    denominator (sum a)^2 - sum a^2, so the pairs need not be visited. The scale cancels, and the shift by the minimum
    can be applied to the sums. Source: Pach et al. 2025, "Sparse Autoencoders Learn Monosemantic Features in
    Vision-Language Models".
    """

    count: int
    a: Float[np.ndarray, " u"]
    aa: Float[np.ndarray, " u"]
    ae: Float[np.ndarray, "u e"]
    e: Float[np.ndarray, " e"]

    @classmethod
    def of(cls, A: Float[np.ndarray, "n u"], E: Float[np.ndarray, "n e"]) -> "Monosemanticity":
        """Sums of one chunk."""
        wide, unit = A.astype(np.float64), scaled_rows(E.astype(np.float64))
        return cls(len(A), wide.sum(0), (wide**2).sum(0), wide.T @ unit, unit.sum(0))

    def merge(self, other: "Monosemanticity") -> "Monosemanticity":
        """Sums of the union of both."""
        pairs = [(getattr(self, f), getattr(other, f)) for f in ("count", "a", "aa", "ae", "e")]
        return Monosemanticity(*(one + another for one, another in pairs))

    def score(self, low: Float[np.ndarray, " u"]) -> Float[np.ndarray, " u"]:
        """MS of each neuron; `low`: its least activation. NaN for a constant neuron."""
        a = self.a - self.count * low
        aa = self.aa - 2 * low * self.a + self.count * low**2
        ae = self.ae - low[:, None] * self.e
        numerator, denominator = (ae**2).sum(1) - aa, a**2 - aa
        alive = denominator > 1e-9 * np.maximum(a**2, 1e-300)
        return np.divide(numerator, denominator, out=np.full_like(a, np.nan), where=alive)


@dataclass(frozen=True)
class Histogram:
    """Counts (u, bins) of activations, in equal bins between each neuron's least and largest activation."""

    counts: Int[np.ndarray, "u bins"]

    @classmethod
    def of(cls, A: Float[np.ndarray, "n u"], low: np.ndarray, high: np.ndarray, bins: int = _BINS) -> "Histogram":
        """Histogram of one chunk; `low` and `high` (u,) come from the first pass."""
        u = A.shape[1]
        flat = bin_numbers(A, low, high, bins) + bins * np.arange(u)
        return cls(np.bincount(flat.ravel(), minlength=u * bins).reshape(u, bins))

    def merge(self, other: "Histogram") -> "Histogram":
        """Counts of the union of both."""
        return Histogram(self.counts + other.counts)


@dataclass(frozen=True)
class Reservoir:
    """At most k rows from each bucket between a neuron's least and largest activation: (u, buckets, k).

    These are the stimuli of the conditional-probability plots (Goh et al. 2021, appendix). The hash of a row's id
    decides which rows stay in a full bucket, so the result does not depend on the order of the rows.
    """

    keys: Int[np.ndarray, "u buckets k"]

    @classmethod
    def of(
        cls, chunk: ActivationChunk, low: np.ndarray, high: np.ndarray, buckets: int = _BUCKETS, k: int = PER_BUCKET
    ) -> "Reservoir":
        """Reservoir of one chunk; `low` and `high` (u,) come from the first pass."""
        bucket = bin_numbers(chunk.A, low, high, buckets)
        key = ((chunk.hashes >> np.uint64(33)).astype(np.int64) << 32) | chunk.rows  # 31 random bits, then the row
        kept = [_largest(np.where(bucket == b, -key[:, None], _EMPTY), k) for b in range(buckets)]
        return cls(_padded(np.stack(kept).transpose(2, 0, 1), k))

    def merge(self, other: "Reservoir") -> "Reservoir":
        """Reservoir of the union of both."""
        k = self.keys.shape[2]
        return Reservoir(np.sort(np.concatenate([self.keys, other.keys], 2), axis=2)[:, :, : -k - 1 : -1])

    @property
    def rows(self) -> list[list[list[int]]]:
        """Rows by neuron and bucket, least activation first; at most k per bucket."""
        return [
            [[int(-key & 0xFFFFFFFF) for key in bucket if key != _EMPTY] for bucket in neuron] for neuron in self.keys
        ]


def _padded(keys: Int[np.ndarray, "u b m"], k: int) -> Int[np.ndarray, "u b k"]:
    return np.pad(keys, ((0, 0), (0, 0), (0, k - keys.shape[2])), constant_values=_EMPTY)


def bin_numbers(A: Float[np.ndarray, "n u"], low: np.ndarray, high: np.ndarray, bins: int) -> Int[np.ndarray, "n u"]:
    """Number of the bin of each activation, for `bins` equal bins between `low` and `high` (u,), both included."""
    width = np.where(high > low, high - low, 1.0)
    return np.clip(((A - low) / width * bins).astype(np.int64), 0, bins - 1)


@dataclass(frozen=True)
class Summary:
    """All statistics of all neurons over one kind of rows."""

    moments: Moments
    extremes: Extremes
    histogram: Histogram
    reservoir: Reservoir
    monosemanticity: Float[np.ndarray, " u"]
    covariance: Comoments

    @property
    def edges(self) -> Float[np.ndarray, "u bins1"]:
        """Edges of the histograms' bins."""
        steps = np.linspace(0, 1, self.histogram.counts.shape[1] + 1)
        return self.moments.low[:, None] + steps * (self.moments.high - self.moments.low)[:, None]


def summarise_activations(chunks: Callable[[], Iterable[ActivationChunk]], top: int = TOP_ROWS) -> Summary:
    """Compute all statistics in two passes over `chunks()`; histograms and reservoirs need the range of the first."""
    first = merge_statistics(
        (Moments.of(c.A), Extremes.of(c.A, c.rows, top), Monosemanticity.of(c.A, c.E), Comoments.of(c.A))
        for c in chunks()
    )
    moments, extremes, pairs, covariance = first
    low, high = moments.low, moments.high
    histogram, reservoir = merge_statistics(
        (Histogram.of(c.A, low, high), Reservoir.of(c, low, high)) for c in chunks()
    )
    return Summary(moments, extremes, histogram, reservoir, pairs.score(low), covariance)


def merge_statistics(parts: Iterable[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Merge tuples of statistics one after the other; only two tuples are in memory at a time."""
    return reduce(lambda one, other: tuple(a.merge(b) for a, b in zip(one, other, strict=True)), parts)


def average_runs(chunks: Iterable[tuple[ActivationChunk, list[str]]]) -> Iterator[ActivationChunk]:
    """Average consecutive rows with the same label, such as one word in several fonts and sizes (Goh et al. 2021).

    Takes pairs (chunk, labels). Yields chunks with one row per label: the means of A and E, and the row and hash of the
    first of the averaged rows.
    """
    # Label, number and sum of the last rows: their run may continue in the next chunk.
    held: tuple[str, int, ActivationChunk] | None = None
    for chunk, labels in chunks:
        starts = [i for i in range(len(labels)) if i == 0 or labels[i] != labels[i - 1]]
        lengths = np.diff([*starts, len(labels)])
        A = np.add.reduceat(chunk.A.astype(np.float64), starts)
        E = np.add.reduceat(chunk.E.astype(np.float64), starts)
        rows, hashes = chunk.rows[starts], chunk.hashes[starts]
        if held and held[0] == labels[0]:
            A[0] += held[2].A[0]
            E[0] += held[2].E[0]
            lengths[0] += held[1]
            rows[0], hashes[0] = held[2].rows[0], held[2].hashes[0]
        elif held:
            yield _means(held[2], np.array([held[1]]))
        if len(starts) > 1:
            yield _means(ActivationChunk(rows[:-1], A[:-1], E[:-1], hashes[:-1]), lengths[:-1])
        held = labels[-1], int(lengths[-1]), ActivationChunk(rows[-1:], A[-1:], E[-1:], hashes[-1:])
    if held:
        yield _means(held[2], np.array([held[1]]))


def _means(sums: ActivationChunk, lengths: np.ndarray) -> ActivationChunk:
    A, E = (a / lengths[:, None] for a in (sums.A, sums.E))
    return ActivationChunk(sums.rows, A.astype(np.float32), E.astype(np.float32), sums.hashes)
