"""The activation atlas: cells of patches that the layer sees alike, each shown by its nearest patch."""

from typing import Any

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Int32

from atlas.analysis import parts
from atlas.formatting import display_text
from atlas.pages.columns import Column, encode_levels
from atlas.pages.frame import Frame
from atlas.pages.rows import PageRows
from atlas.pages.thumbnails import COLUMNS

MEMBERS, ZOOM = 12, 2  # patches listed of a cell; how much of a thumbnail a patch shows (a half, each way)


def write_cells(frame: Frame, rows: PageRows) -> None:
    """Write activations.html and data/cells.js."""
    cells = pq.read_table(frame.store.derived(parts.CELLS) / "cells.parquet").to_pylist()
    patches = _patches(frame)
    members = np.full((len(cells), MEMBERS), -1, np.int32)
    for i, cell in enumerate(cells):
        members[i, : len(cell["members"][:MEMBERS])] = cell["members"][:MEMBERS]
    corners = np.stack([_corner(patches[members, axis], frame.grid[axis]) for axis in (0, 1)], -1)
    codes, labels = encode_levels([display_text(cell["label"]) for cell in cells])
    data: dict[str, Column] = {"member": members, "label": codes, "labels": labels, **_named(rows, members.ravel())}
    data["corner"] = np.round(corners.reshape(len(cells), -1) * 100).astype(np.uint8)  # hundredths of a thumbnail
    data["count"] = np.array([cell["count"] for cell in cells], np.uint32)
    data["score"] = np.array([cell["score"] or 0.0 for cell in cells], np.float32)
    frame.write_data("cells", data)
    shown = [_cell(cell, rows, corners[i, 0]) for i, cell in enumerate(cells)]
    extent = {"columns": _extent(cells, "column"), "rows": _extent(cells, "row")}
    frame.render("activations.html", "activations.html", cells=shown, extent=extent, zoom=ZOOM)


def _named(rows: PageRows, members: Int32[np.ndarray, " m"]) -> dict[str, Column]:
    """Sheet, cell and name of every member: all that the page needs of the rows. -1, 0 and "" where there is none."""
    there = members >= 0
    sheet, cell = (np.where(there, place[members], none) for place, none in zip(rows.places, (-1, 0), strict=True))
    name, names = encode_levels([rows.name(row) if row >= 0 else "" for row in members.tolist()])
    return {"sheet": sheet.astype(np.int16), "cell": cell.astype(np.uint16), "name": name, "names": names}


def _patches(frame: Frame) -> np.ndarray:
    """(n, 2): row and column of every row's random position."""
    table = frame.store.table(["patch_row", "patch_col"])
    return np.stack([table["patch_row"].to_numpy(), table["patch_col"].to_numpy()], 1)


def _corner(position: np.ndarray, size: int) -> np.ndarray:
    """Where, as a share of the thumbnail, a window 1 / ZOOM wide about a position begins; kept inside."""
    return np.clip((position + 0.5) / size - 0.5 / ZOOM, 0, 1 - 1 / ZOOM)


def _extent(cells: list[dict[str, Any]], axis: str) -> int:
    return max((cell[axis] for cell in cells), default=0) + 1


def _cell(cell: dict[str, Any], rows: PageRows, corner: np.ndarray) -> dict[str, Any]:
    picture = rows.picture(cell["members"][0])
    return {
        "column": cell["column"],
        "row": cell["row"],
        "size": float(np.clip(cell.get("size") or 1.0, 0.25, 1.0)),
        "label": display_text(cell["label"]),
        "count": cell["count"],
        "sheet": picture.sheet,
        "x": picture.cell % COLUMNS + float(corner[1]),
        "y": picture.cell // COLUMNS + float(corner[0]),
    }
