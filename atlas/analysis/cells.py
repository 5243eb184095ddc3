"""Cells of the activation atlas (Carter et al. 2019): a layout of patches is cut into squares, averaged and labelled.

A (n, u) activations, one position an image;  Y (n, 2) layout;  M (c, u) mean directions of c cells
W (u, e) basis;  T (t, e) text embeddings
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Float32, Int64

from atlas.errors import Refused
from atlas.vectors import BLOCK_ROWS, Rows, scaled_rows


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """The squares with enough patches, from the top left, row by row; every array has one entry per cell.

    `row` 0 is the top of the page, where y is largest. x and y (0..1, y upwards) are the centre of a cell.
    """

    column: Int64[np.ndarray, " c"]
    row: Int64[np.ndarray, " c"]
    x: Float32[np.ndarray, " c"]
    y: Float32[np.ndarray, " c"]
    count: Int64[np.ndarray, " c"]
    size: Float32[np.ndarray, " c"]  # side of the cell's picture, as a fraction of the square's side
    direction: Float32[np.ndarray, "c u"]  # mean activation
    members: list[np.ndarray]  # rows of a cell (int64), nearest to its mean direction first

    def __len__(self) -> int:
        return len(self.count)


def fit_to_square(
    layout: Float[np.ndarray, "n 2"], percentiles: tuple[float, float] = (1, 99), margin: float = 0.1
) -> Float32[np.ndarray, "n 2"]:
    """Scale a layout to 0..1 after clipping outliers to the percentiles plus a margin (a fraction of their span).

    An axis without extent becomes 0.5. Raises `Refused` for a layout that is empty or not finite.
    """
    if not len(layout) or not np.isfinite(layout).all():
        raise Refused(f"a grid needs a finite layout of 1 point or more, got {len(layout)} points")
    low, high = np.percentile(layout.astype(np.float64), percentiles, axis=0)
    room = margin * (high - low)
    drawn_in = np.clip(layout, low - room, high + room)
    least = drawn_in.min(axis=0)
    extent = drawn_in.max(axis=0) - least
    return np.where(extent > 0, (drawn_in - least) / np.where(extent > 0, extent, 1), 0.5).astype(np.float32)


def average_cells(
    layout: Float[np.ndarray, "n 2"], A: Rows, columns: int = 20, minimum: int = 5, members: int = 24
) -> Cells:
    """Cut a layout (n, 2) of A (n, u) into `columns` x `columns` squares; a cell has `minimum` rows or more.

    The side of a cell's picture is min(1, sqrt(count / mean count)) with a mean count of n / columns^2. `members`:
    most rows listed per cell, by cosine with its mean. A may be a memory map; it is read in blocks. Raises `Refused`
    for empty input, for different lengths, and if no square has enough rows.
    """
    if len(layout) != len(A):
        raise Refused(f"the layout has {len(layout)} points for {len(A)} activations; give one each")
    if columns < 1 or minimum < 1:
        raise Refused(f"a grid needs 1 column and a minimum of 1 or more, got {columns} and {minimum}")
    at = np.minimum((fit_to_square(layout) * columns).astype(np.int64), columns - 1)
    square = (columns - 1 - at[:, 1]) * columns + at[:, 0]
    counts = np.bincount(square, minlength=columns**2)
    kept = np.flatnonzero(counts >= minimum)
    if not len(kept):
        raise Refused(f"no square of {columns} x {columns} holds {minimum} of {len(A)} patches; ask for fewer columns")
    number = np.full(columns**2, -1)
    number[kept] = np.arange(len(kept))
    cell, count = number[square], counts[kept]
    row, column = np.divmod(kept, columns)
    direction = _means(A, cell, count)
    return Cells(
        column=column,
        row=row,
        x=((column + 0.5) / columns).astype(np.float32),
        y=(1 - (row + 0.5) / columns).astype(np.float32),
        count=count,
        size=np.minimum(1, np.sqrt(count * columns**2 / len(A))).astype(np.float32),
        direction=direction,
        members=_nearest_members(A, cell, direction, members),
    )


def label_cells(
    found: Cells, W: Float[np.ndarray, "u e"], T: Float[np.ndarray, "t e"], texts: Sequence[str]
) -> tuple[list[str], Float32[np.ndarray, " c"]]:
    """Label each cell with the text to which its mean direction is attributed most; returns texts and scores.

    Attribution is unit(M) W Tᵀ with centred texts, standardised over the cells, so that a text near every cell does
    not label them all. The score is in standard deviations over the cells; for a single cell it is the attribution.
    """
    if not len(texts) or len(texts) != len(T):
        raise Refused(f"cells need 1 text or more, each with its embedding; got {len(texts)} texts and {len(T)}")
    attribution = scaled_rows(found.direction) @ W @ (T - T.mean(axis=0) if len(T) > 1 else T).T
    if len(found) > 1:
        attribution = attribution - attribution.mean(axis=0)
        attribution /= np.maximum(attribution.std(axis=0), 1e-12)
    best = attribution.argmax(axis=1)
    return [texts[int(i)] for i in best], attribution.max(axis=1).astype(np.float32)


def _blocks(A: Rows) -> Iterator[tuple[int, Float32[np.ndarray, "m u"]]]:
    for start in range(0, len(A), BLOCK_ROWS):
        yield start, np.asarray(A[start : start + BLOCK_ROWS], np.float32)


def _means(A: Rows, cell: Int64[np.ndarray, " n"], count: Int64[np.ndarray, " c"]) -> Float32[np.ndarray, "c u"]:
    """Mean activation of each cell, summed in float64; rows of cell -1 belong to no cell."""
    sums = np.zeros((len(count), A.shape[1]))
    for start, block in _blocks(A):
        here = cell[start : start + len(block)]
        order = np.argsort(here, kind="stable")
        numbers, first = np.unique(here[order], return_index=True)
        sums_here = np.add.reduceat(block[order].astype(np.float64), first, axis=0)
        sums[numbers[numbers >= 0]] += sums_here[numbers >= 0]
    return (sums / count[:, None]).astype(np.float32)


def _nearest_members(
    A: Rows, cell: Int64[np.ndarray, " n"], direction: Float32[np.ndarray, "c u"], most: int
) -> list[np.ndarray]:
    """The rows of each cell with the highest cosine to its direction, ties by row."""
    cosine = np.zeros(len(cell))
    for start, block in _blocks(A):
        mean = direction[cell[start : start + len(block)]]
        norms = np.linalg.norm(block, axis=1) * np.linalg.norm(mean, axis=1)
        cosine[start : start + len(block)] = np.einsum("mu,mu->m", block, mean) / np.maximum(norms, 1e-12)
    order = np.lexsort((np.arange(len(cell)), -cosine, cell))
    ends = np.searchsorted(cell[order], np.arange(len(direction) + 1))
    return [order[first:last][:most] for first, last in pairwise(ends)]
