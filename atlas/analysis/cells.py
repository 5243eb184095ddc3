"""Cells of the activation atlas (Carter et al. 2019): a layout of patches is cut into squares, averaged and labelled.

A (n, u) activations, one position an image;  Y (n, 2) layout;  M (c, u) mean directions of c cells
W (u, e) basis;  T (t, e) text embeddings
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from math import isqrt

import numpy as np
from jaxtyping import Float, Float32, Int, Int64
from PIL import Image

from atlas.analysis.phrases import FALSE_NAMES, FEWEST_NAMED, term_carriers, term_enrichment
from atlas.errors import Refused
from atlas.vectors import BLOCK_ROWS, Rows, scaled_rows

PATCH_ZOOM = 2  # a patch is shown by the half of a thumbnail, each way
_EVEN, _LEAST_CONTENT = 16, 0.1  # levels of 255 within which colours are one; the share of a patch that must differ
GRIDS = (160, 80, 40, 20, 10, 5)  # columns of the grids, of which up to four are made (Carter et al. 2019: 20 to 160)
_MOST_GRIDS, _FEW_GRIDS, _FIRST_COLUMNS = 4, 3, 20
_PATCHES_A_SQUARE, _FEW_PATCHES = 10, 5  # of the finest grid on average, at least; where there are few patches
_COVER = 0.25  # the share of a cell's things that has its name, at least


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
    of: Int64[np.ndarray, " n"]  # the cell of each row; -1 where its square has too few

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


def patch_corner(position: Int[np.ndarray, "*n"], size: int) -> Float[np.ndarray, "*n"]:
    """Where the patch around a position, of `size`, begins, as a share of the picture; moved inside at the edges.

    Where there is one position alone, as of a class token, the patch is the whole picture.
    """
    if size == 1:
        return np.zeros(np.shape(position))
    return np.clip((position + 0.5) / size - 0.5 / PATCH_ZOOM, 0, 1 - 1 / PATCH_ZOOM)


def is_blank(thumb: bytes, top: float, left: float, share: float = 1 / PATCH_ZOOM) -> bool:
    """Whether the patch that begins there is nearly all of one colour; all are shares of the thumbnail's sides."""
    with Image.open(BytesIO(thumb)) as picture:
        width, height = picture.size
        x, y = round(left * width), round(top * height)
        pixels = np.asarray(picture.convert("RGB"), np.int16)
    patch = pixels[y : y + max(1, round(share * height)), x : x + max(1, round(share * width))]
    away = np.abs(patch - np.median(patch, axis=(0, 1))).max(axis=2)
    return bool((away > _EVEN).mean() < _LEAST_CONTENT)


def grid_columns(n: int) -> list[int]:
    """Columns of the grids for n patches, coarse to fine: up to four, or three where the coarsest would be 5 x 5.

    With less than 250 patches, one grid of 5 patches a square.
    """
    finest = next((columns for columns in GRIDS if n >= _PATCHES_A_SQUARE * columns**2), None)
    if finest is None:
        return [max(1, isqrt(n // _FEW_PATCHES))]
    found = [columns for columns in GRIDS if columns <= finest][:_MOST_GRIDS]
    if len(found) > _FEW_GRIDS and found[-1] == GRIDS[-1]:
        found.pop()
    return found[::-1]


def first_grid(grids: Collection[int]) -> int:
    """The grid that is seen first, and for which icons are drawn: the finest of at most 20 columns, else the coarsest.

    >>> first_grid([10, 20, 40]), first_grid([80])
    (20, 80)
    """
    return max((grid for grid in grids if grid <= _FIRST_COLUMNS), default=min(grids))


def average_cells(
    layout: Float[np.ndarray, "n 2"],
    A: Rows,
    columns: int = 20,
    minimum: int = 5,
    members: int = 24,
    things: Int64[np.ndarray, " n"] | None = None,
) -> Cells:
    """Cut a layout (n, 2) of A (n, u) into `columns` x `columns` squares; a cell has `minimum` things or more.

    `things`: a number of what each row shows, because variants of one thing count once (in squares, and as members);
    by default each row is a thing. The side of a cell's picture is min(1, sqrt(count / mean count)) over all squares.
    `members`: most rows listed per cell, by cosine with its mean. A may be a memory map; it is read in blocks. Raises
    `Refused` for empty input, for different lengths, and if no square has enough things.
    """
    if len(layout) != len(A):
        raise Refused(f"the layout has {len(layout)} points for {len(A)} activations; give one each")
    if columns < 1 or minimum < 1:
        raise Refused(f"a grid needs 1 column and a minimum of 1 or more, got {columns} and {minimum}")
    at = np.minimum((fit_to_square(layout) * columns).astype(np.int64), columns - 1)
    square = (columns - 1 - at[:, 1]) * columns + at[:, 0]
    things = np.arange(len(A)) if things is None else things
    once = np.unique(np.stack([square, things], 1), axis=0)[:, 0]
    counts = np.bincount(once, minlength=columns**2)
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
        size=np.minimum(1, np.sqrt(count * columns**2 / len(once))).astype(np.float32),
        direction=direction,
        members=[_first_of_each(rows, things, members) for rows in _nearest_members(A, cell, direction)],
        of=cell,
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


def name_cells(
    of: Int64[np.ndarray, " n"], labels: Sequence[str], things: Int64[np.ndarray, " n"]
) -> tuple[list[str], Float32[np.ndarray, " c"]]:
    """Name each cell by the term that is most its own among the labels of its rows; returns names, and their cover.

    `of`: the cell of each row, -1 for none. A thing counts once in a cell. The p-value of a term is hypergeometric: the
    probability that as many of the cell's things have it by chance. A term is a name if three of the cell's things and
    a quarter of them have it (the cover), and if its p-value is so small that chance would name half a cell of the
    grid. A cell without such a term has the name "" and the cover 0.
    """
    pairs, first = np.unique(np.stack([of, things], 1)[of >= 0], axis=0, return_index=True)
    rows = np.flatnonzero(of >= 0)[first]
    carried, terms = term_carriers([labels[int(row)] for row in rows])
    size = np.bincount(pairs[:, 0])
    names, cover = [""] * len(size), np.zeros(len(size), np.float32)
    if not terms:
        return names, cover
    there, p = term_enrichment(pairs[:, 0], carried)
    share = there / size[:, None]
    p = np.where((p * p.size < FALSE_NAMES) & (there >= FEWEST_NAMED) & (share >= _COVER), p, np.inf)
    for cell, term in enumerate(p.argmin(axis=1).tolist()):
        if np.isfinite(p[cell, term]):
            names[cell], cover[cell] = terms[term], share[cell, term]
    return names, cover


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


def _nearest_members(A: Rows, cell: Int64[np.ndarray, " n"], direction: Float32[np.ndarray, "c u"]) -> list[np.ndarray]:
    """The rows of each cell with the highest cosine to its direction, ties by row."""
    cosine = np.zeros(len(cell))
    for start, block in _blocks(A):
        mean = direction[cell[start : start + len(block)]]
        norms = np.linalg.norm(block, axis=1) * np.linalg.norm(mean, axis=1)
        cosine[start : start + len(block)] = np.einsum("mu,mu->m", block, mean) / np.maximum(norms, 1e-12)
    order = np.lexsort((np.arange(len(cell)), -cosine, cell))
    ends = np.searchsorted(cell[order], np.arange(len(direction) + 1))
    return [order[first:last] for first, last in pairwise(ends)]


def _first_of_each(rows: Int64[np.ndarray, " m"], things: Int64[np.ndarray, " n"], most: int) -> np.ndarray:
    """The first row of each thing, at most so many."""
    first = np.sort(np.unique(things[rows], return_index=True)[1])
    return rows[first[:most]]
