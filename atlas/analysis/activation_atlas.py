"""Makes the activation atlas of a Store (layout/cells): patches laid out, cut into grids, averaged and named."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Float32, Int64

from atlas.analysis import cells, layout, parts
from atlas.analysis.naming import RowNames
from atlas.analysis.phrases import plain_names
from atlas.errors import Refused
from atlas.store.files import save_array
from atlas.store.part import Part
from atlas.store.store import Store

_Texts = tuple[Sequence[str], Float[np.ndarray, "t e"]]  # texts and their embeddings
_CELL_ROWS = 20_000  # most patches; a seeded sample if there are more


def make_cells(store: Store, part: Part, texts: _Texts | None, columns: int | None, minimum: int, seed: int) -> Path:
    """Write `part`: cells.parquet, a cell of a grid each, and directions.npy, their means; returns its folder.

    `texts` name the cells where labels of images do not. The other parameters: see `derivation.lay_out_cells`.
    """
    rows, blank = _shown_patches(store, seed)
    A: np.ndarray = store.array("patch", "image")[np.searchsorted(store.positions("image"), rows)].astype(np.float32)
    if store.rectified:
        A = np.maximum(A, 0)
    alive = A.any(1)  # a position without any activation has no direction
    A, rows = A[alive], rows[alive]
    places = layout.project(A, n_neighbors=layout.CELL_NEIGHBORS, min_dist=layout.CELL_MIN_DIST, seed=seed)
    labels = _labels(store, rows)
    things = np.unique(labels, return_inverse=True)[1].astype(np.int64) if labels else np.arange(len(rows))
    minimum = min(minimum, max(1, len(np.unique(things))))
    grids = [columns] if columns else cells.grid_columns(len(A))
    made = {grid: _grid(places, A, grid, minimum, things) for grid in grids}
    found = {grid: of for grid, of in made.items() if of is not None}
    if not found:
        what = f"no square of {grids[0]} x {grids[0]} holds {minimum} things of {len(A)} patches"
        raise Refused(f"{what}; ask for fewer columns: --columns")
    tables = []
    for grid, of in found.items():
        told, scores = cells.name_cells(of.of, labels, things) if labels else _named_by_texts(store, of, texts)
        table = {"grid": np.full(len(of), grid)}
        table |= {name: getattr(of, name) for name in ("column", "row", "x", "y", "count", "size")}
        members = [rows[cell].tolist() for cell in of.members]
        tables.append(pa.table(table | {"label": told, "score": scores, "members": members}))
    recipe = {"grids": list(found), "minimum": minimum, "patches": len(A), "blank": blank, "seed": seed}
    recipe["named_by"] = "members" if labels else "texts"
    parents = [name for name in (parts.BASIS, parts.TERMS) if store.has(name)]
    with store.deriving(part, recipe, of=parents) as folder:
        pq.write_table(pa.concat_tables(tables), folder / "cells.parquet")
        save_array(folder / "directions.npy", np.concatenate([of.direction for of in found.values()]))
    return store.derived(parts.CELLS)


def read_cells(folder: Path) -> pa.Table:
    """The table of cells in layout/cells, each with its grid; an atlas of one grid may not name it."""
    table = pq.read_table(folder / "cells.parquet")
    if "grid" not in table.column_names:
        columns = max([1, *(column + 1 for column in table["column"].to_pylist())])
        table = table.append_column("grid", pa.array([columns] * len(table), pa.int64()))
    return table


def _shown_patches(store: Store, seed: int) -> tuple[Int64[np.ndarray, " n"], int]:
    """A seeded sample of the images whose patch is not blank, in order, and how many were blank.

    Images without a thumbnail are kept, and where all are blank, all.
    """
    positions = store.positions("image")
    rows = positions[np.sort(np.random.default_rng(seed).permutation(len(positions))[:_CELL_ROWS])]
    table = store.table(["patch_row", "patch_col"])
    grid = store.request["model"]["layers"][0]["grid"]
    corners = [
        cells.patch_corner(table[column].to_numpy()[rows], size)
        for column, size in zip(table.column_names, grid, strict=True)
    ]
    share = 1.0 if list(grid) == [1, 1] else 1 / cells.PATCH_ZOOM
    thumbs = zip(map(store.thumb, rows.tolist()), *corners, strict=True)
    blank = np.array([bool(thumb) and cells.is_blank(thumb, top, left, share) for thumb, top, left in thumbs])
    return (rows, 0) if blank.all() else (rows[~blank], int(blank.sum()))


def _labels(store: Store, rows: Int64[np.ndarray, " n"]) -> list[str]:
    """What the image of each row shows, without what only varies it; empty where labels do not tell."""
    names = RowNames(store)
    return plain_names([names[row] for row in rows.tolist()]) if names.telling else []


def _grid(
    places: Float32[np.ndarray, "n 2"],
    A: Float32[np.ndarray, "n u"],
    columns: int,
    minimum: int,
    things: Int64[np.ndarray, " n"],
) -> cells.Cells | None:
    """The cells of a grid; None where no square has enough things."""
    try:
        return cells.average_cells(places, A, columns, minimum, things=things)
    except Refused:
        return None


def _named_by_texts(
    store: Store, found: cells.Cells, texts: _Texts | None
) -> tuple[list[str], Float32[np.ndarray, " c"]]:
    """The text to which each cell's mean direction is attributed most; "" without basis or texts."""
    if texts is None or not texts[0]:
        return [""] * len(found), np.full(len(found), np.nan, np.float32)
    W = np.load(store.derived(parts.BASIS) / "basis.npy")
    return cells.label_cells(found, W, texts[1], texts[0])
