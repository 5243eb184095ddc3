"""The page of the activation atlas: cells of patches with similar activations, each shown by a drawing or a patch."""

from collections.abc import Sequence
from io import BytesIO
from math import ceil, sqrt

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Int32
from PIL import Image

from atlas.analysis import parts
from atlas.formatting import Record, display_text
from atlas.pages.columns import Column, encode_levels
from atlas.pages.frame import CELLS_PAGE, PATCH_ZOOM, Page, StoreFrame
from atlas.pages.rows import PageRows
from atlas.pages.thumbnails import SHEET_COLUMNS

CELL_MEMBERS, ICON_QUALITY = 12, 80  # patches listed of a cell; of the sheet of icons


def write_cells(frame: StoreFrame, rows: PageRows) -> Page | None:
    """Write data/cells.js; returns the page activations.html, or None where no activation atlas was made."""
    table = frame.derived.file(parts.CELLS, "cells.parquet")
    if table is None:
        return None
    cells = pq.read_table(table).to_pylist()
    patches = _patches(frame)
    members = np.full((len(cells), CELL_MEMBERS), -1, np.int32)
    for i, cell in enumerate(cells):
        members[i, : len(cell["members"][:CELL_MEMBERS])] = cell["members"][:CELL_MEMBERS]
    corners = np.stack([_corner(patches[members, axis], frame.facts.grid[axis]) for axis in (0, 1)], -1)
    codes, labels = encode_levels([display_text(cell["label"]) for cell in cells])
    data: dict[str, Column] = {"member": members, "label": codes, "labels": labels, **_named(rows, members.ravel())}
    data["corner"] = np.round(corners.reshape(len(cells), -1) * 100).astype(np.uint8)  # hundredths of a thumbnail
    data["count"] = np.array([cell["count"] for cell in cells], np.uint32)
    data["score"] = np.array([cell["score"] or 0.0 for cell in cells], np.float32)
    frame.write_data("cells", data)
    shown = [_cell(cell, rows, corners[i, 0]) for i, cell in enumerate(cells)]
    extent = {"columns": _extent(cells, "column"), "rows": _extent(cells, "row")}
    return Page(
        "activations.html", CELLS_PAGE, {"cells": shown, "extent": extent, "icons": _icon_columns(frame, len(cells))}
    )


def _icon_columns(frame: StoreFrame, cells: int) -> int | None:
    """Write the icons of all cells as one square sheet, assets/icons.webp; returns its columns, None without icons."""
    table = frame.derived.file(parts.CELL_ICONS, "icons.parquet")
    if table is None:
        return None
    columns, sheet = ceil(sqrt(cells)), None
    for row in pq.read_table(table, columns=["cell", "image"]).to_pylist():
        icon = Image.open(BytesIO(row["image"]))
        sheet = sheet or Image.new("RGB", (columns * icon.width, columns * icon.height), "white")
        sheet.paste(icon, (row["cell"] % columns * icon.width, row["cell"] // columns * icon.height))
    if sheet:
        sheet.save(frame.folder / "assets" / "icons.webp", quality=ICON_QUALITY)
    return columns if sheet else None


def _named(rows: PageRows, members: Int32[np.ndarray, " m"]) -> dict[str, Column]:
    """Sheet, cell and name of every member, which is all that the page needs; -1, 0 and "" where there is none."""
    there = members >= 0
    sheet, cell = (np.where(there, place[members], none) for place, none in zip(rows.places, (-1, 0), strict=True))
    name, names = encode_levels([rows.name(row) if row >= 0 else "" for row in members.tolist()])
    return {"sheet": sheet.astype(np.int16), "cell": cell.astype(np.uint16), "name": name, "names": names}


def _patches(frame: StoreFrame) -> np.ndarray:
    """(n, 2): row and column of every row's random position."""
    table = frame.store.table(["patch_row", "patch_col"])
    return np.stack([table["patch_row"].to_numpy(), table["patch_col"].to_numpy()], 1)


def _corner(position: np.ndarray, size: int) -> np.ndarray:
    """Where the patch around a position begins, as a share of the thumbnail; it is moved inside at the edges."""
    return np.clip((position + 0.5) / size - 0.5 / PATCH_ZOOM, 0, 1 - 1 / PATCH_ZOOM)


def _extent(cells: Sequence[Record], axis: str) -> int:
    return max((cell[axis] for cell in cells), default=0) + 1


def _cell(cell: Record, rows: PageRows, corner: np.ndarray) -> Record:
    picture = rows.picture(cell["members"][0])
    return {
        "column": cell["column"],
        "row": cell["row"],
        "size": float(np.clip(cell.get("size") or 1.0, 0.25, 1.0)),
        "label": display_text(cell["label"]),
        "count": cell["count"],
        "sheet": picture.sheet,
        "x": picture.cell % SHEET_COLUMNS + float(corner[1]),
        "y": picture.cell // SHEET_COLUMNS + float(corner[0]),
    }
