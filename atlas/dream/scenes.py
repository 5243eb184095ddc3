"""Drawings of other things of a Store: texts (drawings/texts) and the cells of the activation atlas (layout/icons)."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float, Int
from PIL import Image

from atlas.analysis import parts
from atlas.analysis.activation_atlas import read_cells
from atlas.analysis.cells import first_grid
from atlas.console import Progress
from atlas.dream.gallery import encode_webp
from atlas.dream.objectives import direction_response, direction_responses, each_its_own, text_logit, whiten_directions
from atlas.dream.prior import image_style, store_prior, strongest_images
from atlas.dream.visualisation import DREAM_STEPS, directions_at_once, visualise
from atlas.errors import Refused
from atlas.formatting import Record
from atlas.model.clip import Clip
from atlas.store.store import Store

TEXTS_FILE, ICONS_FILE = "texts.parquet", "icons.parquet"
ICON_SIDE = 64  # pixels of an icon
_COSINE_POWER = 2  # of icons, as published for grids
_TEXT_FLOOR = 1.15  # logit that a text's drawing should reach, relative to the best real image
_MOMENT_ROWS = 20_000  # patches over which the second moment is taken
_FIGURES = {"image": pa.binary(), "reached": pa.float32(), "strongest": pa.float32()}
_OPTIONS = {"steps": pa.int64(), "seed": pa.int64()}
TEXTS_SCHEMA = pa.schema(
    {"text": pa.string(), "repeat": pa.int64(), **_FIGURES, "rows": pa.list_(pa.int64()), **_OPTIONS}
)
ICONS_SCHEMA = pa.schema({"cell": pa.int64(), **_FIGURES, **_OPTIONS})


def draw_texts(
    store: Store, clip: Clip, texts: Sequence[str], repeats: int = 1, steps: int = DREAM_STEPS, seed: int = 0
) -> list[Record]:
    """Make images optimised for the logit of texts, and keep them in drawings/texts beside those made before.

    Returns one row per image: text, repeat, image (WebP), reached (the logit, mean over views), strongest (that of the
    best image of the Store on such views), rows (the images nearest to the text) and the options.
    """
    wanted, style = list(dict.fromkeys(texts)), image_style(store)
    objectives = [text_logit(clip, text) for text in wanted]
    prior, near = None, np.zeros((len(wanted), 0), np.int64)
    if "image" in store.counts:
        near = strongest_images(store, clip.encode_texts(wanted), "embedding")
        prior = store_prior(store, clip, lambda m: each_its_own(objectives, m), near, style, _TEXT_FLOOR)
    found = visualise(clip, objectives, repeats, steps, style=style, prior=prior, seed=seed)
    best = prior.best.tolist() if prior else [None] * len(wanted)
    fresh = [
        {"text": text, "repeat": repeat, "image": encode_webp(image), "reached": float(reached), "strongest": strongest,
         "rows": rows, "steps": steps, "seed": seed}
        for text, drawing, strongest, rows in zip(wanted, found, best, near.tolist(), strict=True)
        for repeat, (image, reached) in enumerate(zip(drawing.images, drawing.reached, strict=True))
    ]  # fmt: skip
    table = [row for row in _kept_texts(store) if row["text"] not in wanted] + fresh
    names = list(dict.fromkeys(row["text"] for row in table))
    part = parts.TEXT_DRAWINGS._replace(command="atlas dream {store}").made_with(text=names)
    with store.deriving(part, {"texts": len(names)}) as folder:
        pq.write_table(pa.Table.from_pylist(table, TEXTS_SCHEMA), folder / TEXTS_FILE)
    return fresh


def _kept_texts(store: Store) -> list[Record]:
    if not store.current(parts.TEXT_DRAWINGS):
        return []
    return pq.read_table(store.derived(parts.TEXT_DRAWINGS) / TEXTS_FILE).to_pylist()


def draw_cells(store: Store, clip: Clip, steps: int = DREAM_STEPS, seed: int = 0) -> list[Record]:
    """Make an icon of every cell of the activation atlas' first grid, kept in layout/icons; a run can be continued.

    The first grid is the finest of at most 20 columns (`cells.first_grid`); a cell is its row in cells.parquet. An icon
    is optimised for the whitened mean direction of its cell, with the prior of the images of its patches.
    Returns one row per cell: cell, image (WebP), reached, strongest and the options. Raises `Refused` without cells.
    """
    folder = store.derived(parts.CELLS)
    found = read_cells(folder)
    grids, cells = (found[name].to_pylist() for name in ("grid", "members"))
    first = first_grid(set(grids))
    D = whiten_directions(np.load(folder / "directions.npy"), patch_moment(store))
    options, style = {"steps": steps, "seed": seed}, image_style(store)
    table = _kept_icons(store, options)
    drawn = {row["cell"] for row in table}
    missing = [cell for cell, grid in enumerate(grids) if grid == first and cell not in drawn]
    size = directions_at_once(clip)
    with Progress(len(missing), "icons", "icons") as progress:
        for some in (missing[i : i + size] for i in range(0, len(missing), size)):
            rows = _members([cells[cell] for cell in some])
            targets = torch.from_numpy(D[some]).to(clip.device)
            prior = store_prior(
                store,
                clip,
                lambda m, t=targets: direction_responses(t.repeat_interleave(m, 0), _COSINE_POWER),
                rows,
                style,
            )
            objectives = [direction_response(D[cell], _COSINE_POWER) for cell in some]
            drawings = visualise(clip, objectives, steps=steps, style=style, prior=prior, seed=seed)
            for cell, drawing, strongest in zip(some, drawings, prior.best.tolist(), strict=True):
                icon = Image.fromarray(drawing.images[0]).resize((ICON_SIDE, ICON_SIDE), Image.Resampling.LANCZOS)
                row = {"cell": cell, "image": encode_webp(np.asarray(icon)), "reached": float(drawing.reached[0])}
                table.append(row | {"strongest": strongest} | options)
            changed = {
                name: value for name, value in options.items() if value != {"steps": DREAM_STEPS, "seed": 0}[name]
            }
            with store.deriving(parts.CELL_ICONS.made_with(**changed), options, of=(parts.CELLS,)) as written:
                pq.write_table(pa.Table.from_pylist(table, ICONS_SCHEMA), written / ICONS_FILE)
            progress.advance(len(some))
    return table


def _kept_icons(store: Store, options: Record) -> list[Record]:
    """The icons that were made before with these options."""
    if not store.current(parts.CELL_ICONS):
        return []
    rows = pq.read_table(store.derived(parts.CELL_ICONS) / ICONS_FILE).to_pylist()
    return [row for row in rows if all(row[name] == value for name, value in options.items())]


def _members(cells: Sequence[Sequence[int]], m: int = 4) -> Int[np.ndarray, "k m"]:
    """m members of each cell, nearest to its mean first; repeated where there are fewer."""
    return np.stack([np.resize(np.asarray(members[:m], np.int64), m) for members in cells])


def patch_moment(store: Store) -> Float[np.ndarray, "u u"]:
    """The second moment of the Store's patches (u, u), after the ReLU if there is one, over a seeded sample."""
    rows = store.array("patch", "image")
    chosen = np.sort(np.random.default_rng(0).permutation(len(rows))[:_MOMENT_ROWS])
    A: np.ndarray = rows[chosen].astype(np.float32)
    A = np.maximum(A, 0) if store.rectified else A
    if not A.any():
        raise Refused(f"{store.path}: no patch activates anything, so cells cannot be drawn")
    return A.T @ A / len(A)
