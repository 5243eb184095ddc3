"""The page of the activation atlas: cells of patches with similar activations, each shown by a drawing or a patch."""

import shlex
from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from math import ceil, sqrt

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Int32
from PIL import Image

from atlas.analysis import parts
from atlas.analysis.activation_atlas import read_cells
from atlas.analysis.cells import first_grid, patch_corner
from atlas.formatting import Record, display_text
from atlas.pages.columns import Column, encode_levels
from atlas.pages.frame import CELLS_PAGE, Page, StoreFrame
from atlas.pages.provenance import DerivedParts, store_place
from atlas.pages.rows import PageRows
from atlas.pages.thumbnails import SHEET_COLUMNS
from atlas.store.store import Store

CELL_MEMBERS, ICON_QUALITY = 12, 80  # patches listed of a cell; of the sheet of icons


def write_cells(frame: StoreFrame, rows: PageRows) -> Page | None:
    """Write data/cells.js; returns the page activations.html, or None where no activation atlas was made.

    The page holds the tiles of the first grid; its script makes those of the others when they are asked for.
    """
    folder = frame.derived.folder(parts.CELLS)
    if folder is None:
        return None
    cells = read_cells(folder).to_pylist()
    patches, named = _patches(frame), named_by_members(frame.derived)
    members = np.full((len(cells), CELL_MEMBERS), -1, np.int32)
    for i, cell in enumerate(cells):
        members[i, : len(cell["members"][:CELL_MEMBERS])] = cell["members"][:CELL_MEMBERS]
    corners = np.stack([patch_corner(patches[members, axis], frame.facts.grid[axis]) for axis in (0, 1)], -1)
    codes, labels = encode_levels([display_text(cell["label"]) for cell in cells])
    data: dict[str, Column] = {"member": members, "label": codes, "labels": labels, **_named(rows, members.ravel())}
    data["corner"] = np.round(corners.reshape(len(cells), -1) * 100).astype(np.uint8)  # hundredths of a thumbnail
    for name, kind in (("grid", np.uint16), ("column", np.uint16), ("row", np.uint16), ("count", np.uint32)):
        data[name] = np.array([cell[name] for cell in cells], kind)
    data["size"] = np.array([_size(cell) for cell in cells], np.float32)
    frame.write_data("cells", data)
    grids = sorted({cell["grid"] for cell in cells})
    first = first_grid(grids)
    shown = [_cell(i, cell, rows, corners[i, 0]) for i, cell in enumerate(cells) if cell["grid"] == first]
    context: dict[str, object] = {
        "cells": shown,
        "columns": first,
        "grids": grids,
        "named": named,
        "grid": frame.facts.grid,
    }
    context |= {"layers": layer_commands(frame.store), "contents": cell_contents(shown)}
    return Page("activations.html", CELLS_PAGE, {**context, "icons": _icon_columns(frame, shown)})


def named_by_members(derived: DerivedParts) -> bool:
    """Whether cells are named by what their members share, not by the text nearest to their mean."""
    return derived.recipe(parts.CELLS).get("named_by") == "members"


def _icon_columns(frame: StoreFrame, shown: Sequence[Record]) -> int | None:
    """Write the icons of the cells as one square sheet, assets/icons.webp; returns its columns, None without icons."""
    table = frame.derived.file(parts.CELL_ICONS, "icons.parquet")
    if table is None:
        return None
    columns, sheet = ceil(sqrt(len(shown))), None
    at = {cell["number"]: place for place, cell in enumerate(shown)}
    for row in pq.read_table(table, columns=["cell", "image"]).to_pylist():
        if row["cell"] in at:
            icon, place = Image.open(BytesIO(row["image"])), at[row["cell"]]
            sheet = sheet or Image.new("RGB", (columns * icon.width, columns * icon.height), "white")
            sheet.paste(icon, (place % columns * icon.width, place // columns * icon.height))
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


def _size(cell: Record) -> float:
    return float(np.clip(cell.get("size") or 1.0, 0.25, 1.0))


def _cell(number: int, cell: Record, rows: PageRows, corner: np.ndarray) -> Record:
    picture = rows.picture(cell["members"][0])
    return {
        "number": number,
        "column": cell["column"],
        "row": cell["row"],
        "size": _size(cell),
        "label": display_text(cell["label"]),
        "count": cell["count"],
        "sheet": picture.sheet,
        "x": picture.cell % SHEET_COLUMNS + float(corner[1]),
        "y": picture.cell // SHEET_COLUMNS + float(corner[0]),
    }


def layer_commands(store: Store) -> tuple[str, str]:
    """The command that lists the layers of a Store's model, and the one that makes an atlas of another layer."""
    model, place = store.request["model"], store_place(store)
    words = [model["name"], "--pretrained", model["pretrained"]] if model.get("pretrained") else [model["name"]]
    again = ["atlas", "build", *store.request["sources"], f"{place}-layer", "--model", *words, "--layer"]
    return shlex.join(["atlas", "layers", *words]), f"{shlex.join(again)} LAYER"


def cell_contents(cells: Sequence[Record]) -> list[tuple[str, int]]:
    """The names of cells with how many things the cells of each have, the largest first."""
    found: Counter[str] = Counter()
    for cell in cells:
        found[cell["label"]] += cell["count"]
    return [(name, count) for name, count in found.most_common() if name]
