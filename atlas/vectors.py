"""Rows of vectors: unit norm, cosines, blocks, samples, and mergeable moments.

Vectors are an array (n, d), a memory map of any float type, or any object that can be sliced like one (`Rows`). They
are read in blocks, so they need not fit into memory.
"""

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Int64

from atlas.errors import Refused

BLOCK_ROWS = 4096  # rows read at a time
Unit = Float32[np.ndarray, "m d"]  # rows of unit norm


@runtime_checkable
class Rows(Protocol):
    """An array (n, d), or any object that can be sliced like one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, then of columns."""
        ...

    def __len__(self) -> int: ...
    def __getitem__(self, at: slice, /) -> np.ndarray: ...


# -- unit norm ---------------------------------------------------------------------------------------------------------


def unit_rows(vectors: np.ndarray, name: str = "vectors", rows: Sequence[int] | np.ndarray | None = None) -> Unit:
    """Scale rows (m, d) to unit norm, as float32.

    `name` and `rows` (the row numbers) are used in the error message only. Raises `Refused` for a row that is zero or
    not finite, and names the first one.
    """
    vectors = np.array(vectors, np.float32)  # a copy, scaled in place
    norms = np.sqrt(np.einsum("md,md->m", vectors, vectors))
    bad = np.flatnonzero(~np.isfinite(norms) | (norms == 0))
    if len(bad):
        row, fault = bad[0] if rows is None else rows[bad[0]], "is zero" if norms[bad[0]] == 0 else "is not finite"
        raise Refused(f"{name}: row {row} {fault} and has no direction; leave it out")
    vectors /= norms[:, None]
    return vectors


def scaled_rows(vectors: Float[np.ndarray, "*shape d"]) -> Float[np.ndarray, "*shape d"]:
    """Scale rows to unit norm and keep their precision; rows of zeros stay zero."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)


def cosines(one: Float[np.ndarray, "n d"], other: Float[np.ndarray, "m d"] | None = None) -> Float[np.ndarray, "n m"]:
    """Cosines (n, m) between the rows of two arrays, or between all rows of one; 0 for a row of zeros."""
    own = scaled_rows(one)
    return own @ (own if other is None else scaled_rows(other)).T


# -- blocks and samples ------------------------------------------------------------------------------------------------


def unit_blocks(vectors: Rows, rows: int = BLOCK_ROWS) -> Iterator[tuple[int, Unit]]:
    """Yield the vectors block by block: the position of the block's first row, and its rows at unit norm (float32)."""
    for start in range(0, len(vectors), rows):
        yield start, unit_rows(vectors[start : start + rows], "vectors", range(start, start + rows))
        _drop_pages(vectors)


def sample_rows(vectors: Rows, size: int, seed: int) -> tuple[Int64[np.ndarray, " m"], Unit]:
    """Draw at most `size` rows: their positions in ascending order, and the rows at unit norm."""
    count = min(size, len(vectors))
    ids = np.sort(np.random.default_rng(seed).choice(len(vectors), count, replace=False)).astype(np.int64)
    return ids, take_rows(vectors, ids)


def take_rows(vectors: Rows, ids: Int64[np.ndarray, " m"]) -> Unit:
    """Rows `ids` (ascending) at unit norm, read block by block, so that little of a memory map is resident at once."""
    rows = np.empty((len(ids), vectors.shape[1]), np.float32)
    for start in range(0, len(vectors), BLOCK_ROWS):
        first, last = np.searchsorted(ids, [start, start + BLOCK_ROWS])
        if first < last:
            block = vectors[start : start + BLOCK_ROWS][ids[first:last] - start]
            rows[first:last] = unit_rows(block, "vectors", ids[first:last])
            _drop_pages(vectors)
    return rows


def _drop_pages(vectors: Rows) -> None:
    """Release the pages read so far from read-only memory maps; otherwise they count as this process's memory."""
    for part in getattr(vectors, "parts", (vectors,)):
        if isinstance(part, np.memmap) and part.mode == "r" and isinstance(part.base, mmap.mmap):
            part.base.madvise(mmap.MADV_DONTNEED)


# -- moments -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moments:
    """Count, mean, second and third central sums, minimum and maximum of each column: (u,) each, float64.

    The moments of two sets of rows merge into the moments of their union (Chan, Golub and LeVeque 1979). With weights,
    `count` is the sum of the weights.
    """

    count: float | int
    mean: Float[np.ndarray, " u"]
    m2: Float[np.ndarray, " u"]
    m3: Float[np.ndarray, " u"]
    low: Float[np.ndarray, " u"]
    high: Float[np.ndarray, " u"]

    @classmethod
    def of(cls, A: Float[np.ndarray, "n u"], weights: Float[np.ndarray, " n"] | None = None) -> "Moments":
        """Moments of A, which has at least one row. `weights`: a positive weight for each row."""
        wide = A.astype(np.float64)
        low, high = wide.min(0), wide.max(0)
        if weights is not None:
            total = float(weights.sum())
            mean = low + weights @ (wide - low) / total  # exact for a constant column
            centred = wide - mean
            square = centred * centred
            return cls(total, mean, weights @ square, weights @ (square * centred), low, high)
        mean = wide.mean(0)
        centred = wide - mean
        square = centred * centred
        return cls(len(A), mean, square.sum(0), (square * centred).sum(0), low, high)

    def merge(self, other: "Moments") -> "Moments":
        """Moments of the union of both sets of rows."""
        n, a, b = self.count + other.count, self.count, other.count
        delta = other.mean - self.mean
        m2 = self.m2 + other.m2 + delta**2 * (a * b / n)
        m3 = self.m3 + other.m3 + delta**3 * (a * b * (a - b) / n**2) + 3 * delta * (a * other.m2 - b * self.m2) / n
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return Moments(n, self.mean + delta * (b / n), m2, m3, low, high)

    @property
    def std(self) -> Float[np.ndarray, " u"]:
        """Standard deviation with divisor n."""
        return np.sqrt(self.m2 / self.count)

    @property
    def skew(self) -> Float[np.ndarray, " u"]:
        """Fisher-Pearson skewness; 0 for a constant column."""
        spread = np.sqrt(self.m2 / self.count)
        return np.divide(self.m3 / self.count, spread**3, out=np.zeros_like(spread), where=spread > 0)


@dataclass(frozen=True)
class Comoments:
    """Count, means and summed products of deviations of the columns of A (n, u) and B (n, v), float64.

    The comoments of two sets of rows merge into the comoments of their union.
    """

    count: int
    mean_a: Float[np.ndarray, " u"]
    mean_b: Float[np.ndarray, " v"]
    products: Float[np.ndarray, "u v"]
    m2_a: Float[np.ndarray, " u"]
    m2_b: Float[np.ndarray, " v"]

    @classmethod
    def of(cls, A: Float[np.ndarray, "n u"], B: Float[np.ndarray, "n v"] | None = None) -> "Comoments":
        """Comoments of the columns of A and B, or of A with itself if B is None."""
        mean_a, a = _centred(A)
        if B is None:
            products = a.T @ a
            return cls(len(A), mean_a, mean_a, products, np.diag(products), np.diag(products))
        mean_b, b = _centred(B)
        return cls(len(A), mean_a, mean_b, a.T @ b, (a * a).sum(0), (b * b).sum(0))

    def merge(self, other: "Comoments") -> "Comoments":
        """Comoments of the union of both sets of rows."""
        n, share = self.count + other.count, other.count / (self.count + other.count)
        delta_a, delta_b = other.mean_a - self.mean_a, other.mean_b - self.mean_b
        weight = self.count * other.count / n
        return Comoments(
            n,
            self.mean_a + delta_a * share,
            self.mean_b + delta_b * share,
            self.products + other.products + np.outer(delta_a, delta_b) * weight,
            self.m2_a + other.m2_a + delta_a * delta_a * weight,
            self.m2_b + other.m2_b + delta_b * delta_b * weight,
        )

    def correlation(self) -> Float[np.ndarray, "u v"]:
        """Pearson correlations (u, v); 0 for a constant column."""
        scales = [np.divide(1.0, s, out=np.zeros_like(s), where=s > 0) for s in map(np.sqrt, (self.m2_a, self.m2_b))]
        return self.products * scales[0][:, None] * scales[1]


def _centred(A: Float[np.ndarray, "n u"]) -> tuple[Float[np.ndarray, " u"], Float[np.ndarray, "n u"]]:
    wide = A.astype(np.float64)
    mean = wide.mean(0)
    return mean, wide - mean


def column_correlations(one: Float[np.ndarray, "n t"], other: Float[np.ndarray, "n t"]) -> Float[np.ndarray, " t"]:
    """Pearson correlation of each column with the same column of the other array; 0 where one of them is constant."""
    one, other = one - one.mean(0), other - other.mean(0)
    scale = np.sqrt((one**2).sum(0) * (other**2).sum(0))
    return np.divide((one * other).sum(0), scale, out=np.zeros_like(scale), where=scale > 1e-12)
