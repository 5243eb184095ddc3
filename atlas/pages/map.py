"""The map page: every row as a point, with names of regions, its nearest rows, its neurons, and how honest it is."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Float32, Int, Int16, Integer, UInt8

from atlas.analysis import parts
from atlas.analysis.index import Index
from atlas.analysis.layout import Centred
from atlas.analysis.terms import Terms
from atlas.formatting import display_text
from atlas.pages import picture, tiles
from atlas.pages.columns import Column, encode_levels, quantised, smallest, steps
from atlas.pages.drivers import write_drivers
from atlas.pages.frame import Frame
from atlas.pages.labels import Label, guess_clusters, name_clusters
from atlas.pages.meaning import find_meanings
from atlas.pages.rows import PageRows
from atlas.pages.scatter import HEAT, PALETTE, RAMP, draw_scatter
from atlas.store.store import Store
from atlas.vectors import Rows as Vectors
from atlas.vectors import unit_blocks

NEIGHBOURS, NEURONS = 8, 5  # rows near a row, neurons of a row
TABLE = 40  # regions listed where the map cannot be drawn
TITLE = "Map of images, words and texts: points that lie near each other mean alike to the model"


def write_map(frame: Frame, rows: PageRows) -> None:
    """Write index.html and its data, those of the rows apart; without a layout, the page says how to make one."""
    layout = frame.derived(parts.MAP, "points.parquet")
    if layout is None:
        frame.render("missing.html", "index.html", heading="Map", make=f"atlas map {frame.store.path.name}")
        return
    points = pq.read_table(layout)
    at = points["row"].to_numpy().astype(np.uint32)
    xy = np.stack([points["x"].to_numpy(), points["y"].to_numpy()], 1)
    data: dict[str, Column] = {"row": at}
    if "preservation" in points.column_names:
        data["kept"] = percent(points["preservation"].to_numpy().astype(np.float32))
    near: dict[str, Column] = {"near": nearest_rows(frame)[at].astype(smallest(len(rows)))}
    strongest = strongest_neurons(frame)
    if strongest is not None:
        near["neuron"], near["strength"] = (part[at] for part in strongest)
        write_drivers(frame)
    meaning = find_meanings(frame.store)
    if meaning:
        frame.write_data("meaning", meaning.columns(len(rows)))
    terms = None if rows.names.telling else Terms.read(frame.store)
    labels = name_map_regions(frame.store, rows, at, xy, terms)
    context = {"has_neurons": strongest is not None, "meaning": meaning and meaning.origin}
    context |= {"honesty": honesty(frame), "guessed": terms and len(terms.texts)}
    render_map(frame, xy, data, near, labels, rows.columns(), rows.captions, **context)


def name_map_regions(
    store: Store, rows: PageRows, at: Integer[np.ndarray, " n"], xy: Float32[np.ndarray, "n 2"], terms: Terms | None
) -> list[Label]:
    """Names of the regions of points, each a row: from the rows' labels, or guessed from the terms that are given."""
    kinds = [list(store.counts)[code] for code in rows.kinds[at].tolist()]
    if terms is None:
        return name_clusters(xy, space(store), [rows.labels[row] for row in at], kinds)
    several = kinds if len(store.counts) > 1 else None  # else no region is told from others by its kind
    return guess_clusters(xy, Centred(store.array("embedding"), kinds), terms, several)


def render_map(
    frame: Frame,
    xy: Float32[np.ndarray, "n 2"],
    data: dict[str, Column],
    near: dict[str, Column],
    labels: list[Label],
    rows: dict[str, Column],
    captions: Sequence[str],
    **context: Any,
) -> None:
    """Write the page, the tables of its points, of their rows and of names, and the still picture.

    `data` and `near` go by point, data["row"] being the row of each; `rows` and `captions` go by row.
    """
    places = quantised(xy)
    frame.settings["steps"] = steps(xy)
    if len(places) > tiles.WHOLE:
        tiles.write_tiles(frame, places, data, near, rows, captions)
    else:
        codes, levels = encode_levels(captions)
        frame.write_data("rows", rows)
        frame.write_data("captions", {"caption": codes, "captions": levels})  # apart: the map is drawn before they come
        frame.write_data("map", {"x": places[:, 0], "y": places[:, 1], **data})
        if near:
            frame.write_data("near", near)
    entries = legend_entries(data, rows)
    frame.write_data("labels", label_columns(places, labels, entries))
    hues = first_hues(entries, measured="kept" in data)
    still = picture.still(places, hues, (*PALETTE, *RAMP)[: hues.max(initial=0) + 1])
    (frame.folder / "assets" / "map.webp").write_bytes(still)
    frame.render(
        "map.html",
        "index.html",
        item=draw_scatter(TITLE),
        palette=PALETTE,
        ramp=RAMP,
        heat=HEAT,
        regions=region_entries(places, labels),
        has_near=bool(near),
        **context,
    )


def legend_entries(data: dict[str, Column], rows: dict[str, Column]) -> UInt8[np.ndarray, "3 n"]:
    """Every point's entry in the legend by kind, by style and by neighbours kept: legend.js has the same rules.

    The largest styles come first, and those that the palette has no hue for share its last.
    """
    at, found = np.asarray(data["row"]), []
    for name in ("kind", "group"):
        codes = np.asarray(rows[name])[at]
        counts = np.bincount(codes)
        order = np.flatnonzero(counts) if name == "kind" else np.argsort(-counts, kind="stable")
        rank = np.zeros(len(counts), np.int64)
        rank[order] = np.arange(len(order))
        found.append(np.minimum(rank, len(PALETTE) - 1)[codes])
    found.append(np.digitize(np.asarray(data["kept"]), tiles.FIFTHS[:-1]) if "kept" in data else np.zeros(len(at)))
    return np.stack(found).astype(np.uint8)


def first_hues(entries: UInt8[np.ndarray, "3 n"], measured: bool) -> UInt8[np.ndarray, " n"]:
    """The colours that points have when the page opens, as codes into PALETTE and RAMP.

    They are those of kinds, of styles where there is one kind, else of neighbours kept where that was `measured`.
    """
    for entry in entries[:2]:
        if np.ptp(entry):
            return entry
    ramp = [len(PALETTE) + round(k * (len(RAMP) - 1) / 4) for k in range(5)]
    return np.array([*ramp, len(PALETTE) - 1], np.uint8)[entries[2]] if measured else entries[0]


def label_columns(
    places: Int16[np.ndarray, "n 2"], labels: list[Label], entries: UInt8[np.ndarray, "3 n"]
) -> dict[str, Column]:
    """The columns of data/labels.js: where each name stands, its level, and for how many points.

    `mask`: for each name a bit a combination of legend entries, whether any of its points has it, so that a name goes
    with the last of its points.
    """
    at = places[[label.point for label in labels]]
    kind, style, fifth = entries.astype(np.int64)
    combination = (kind * len(PALETTE) + style) * len(tiles.FIFTHS) + fifth
    there = np.zeros((len(labels), combination.max(initial=0) + 1), bool)
    for one, label in zip(there, labels, strict=True):
        one[combination[label.members]] = True
    return {
        "x": at[:, 0],
        "y": at[:, 1],
        "level": np.array([label.level for label in labels], np.uint8),
        "count": np.array([label.count for label in labels], np.uint32),
        "mask": np.packbits(there, axis=1, bitorder="little"),
        "text": [display_text(label.text) for label in labels],
    }


def region_entries(places: Int16[np.ndarray, "n 2"], labels: list[Label]) -> list[tuple[str, int, int, int]]:
    """The largest regions of the middle level (or of what there is), size and place of each: the map as a table."""
    levels = sorted({label.level for label in labels})
    middle = levels[min(1, len(levels) - 1)] if levels else 0
    chosen = [label for label in labels if label.level == middle][:TABLE]
    return [(display_text(label.text), label.count, *places[label.point].tolist()) for label in chosen]


def is_centred(store: Store) -> bool:
    """Whether the map was drawn with each kind's mean taken off: `atlas map --raw` leaves it on."""
    return store.recipe(parts.MAP).get("umap", {}).get("centre", True)


def space(store: Store) -> Vectors:
    """The embeddings as the map was drawn from them."""
    vectors = store.array("embedding")
    return Centred(vectors, store.table(["kind"])["kind"].to_pylist()) if is_centred(store) else vectors


def honesty(frame: Frame) -> dict[str, Any]:
    """What was measured of the map and the index: preservation, trustworthiness, recall, the modality gap."""
    recipe = frame.store.recipe(parts.MAP)
    gap = recipe.get("modality_gap") or {}
    raw, after = (part if isinstance(part, dict) else {} for part in (gap.get("raw"), gap.get("centred")))
    found: dict[str, Any] = {name: recipe.get(name) for name in ("preservation", "trustworthiness")} | {"recall": None}
    found["gaps"] = [("s and ".join(pair.split("-")) + "s", raw[pair], after[pair]) for pair in raw if pair in after]
    found["centred"] = is_centred(frame.store)
    if frame.store.has(parts.EMBEDDINGS):
        made = frame.store.recipe(parts.EMBEDDINGS).values()
        recalls = [entry["recall_at_10"] for entry in made if isinstance(entry, dict) and "recall_at_10" in entry]
        found |= {"recall": min(recalls, default=None), "recalls": len(recalls)}
    return found


def percent(share: Float32[np.ndarray, " n"]) -> UInt8[np.ndarray, " n"]:
    """Shares in 0 .. 1 as 0 .. 100; 255 where there is none."""
    known = np.nan_to_num(share, nan=2.55)
    return np.round(known * 100).astype(np.uint8)


def nearest_rows(frame: Frame) -> Integer[np.ndarray, "n k"]:
    """For every row its nearest rows of any kind, in the space that the map was drawn from.

    Taken from near.npy (n, k) beside the layout where that is kept, else from FAISS.
    """
    kept = frame.derived(parts.MAP, "near.npy")
    if kept is not None:
        return np.load(kept, allow_pickle=False)[:, :NEIGHBOURS]
    vectors = space(frame.store)
    index, found = Index.build(vectors), []
    for start, block in unit_blocks(vectors):
        ids = index.search(block, NEIGHBOURS + 1)[1]
        own = ids == np.arange(start, start + len(ids))[:, None]
        found.append(np.take_along_axis(ids, np.argsort(own, axis=1, kind="stable"), 1)[:, :-1])  # itself goes last
    return np.concatenate(found)


def strongest_neurons(frame: Frame) -> tuple[Int[np.ndarray, "n k"], UInt8[np.ndarray, "n k"]] | None:
    """For every row the neurons furthest above their mean, and by how many tenths of a standard deviation.

    Texts, which have no activations, get -1. None where there are no statistics.
    """
    store = frame.store
    neurons = np.full((len(store), NEURONS), -1, np.int16)
    strength = np.zeros((len(store), NEURONS), np.uint8)
    found = False
    for kind in store.counts:
        path = frame.derived(parts.STATS, f"{kind}.parquet")
        if path is None:
            continue
        moments: Any = pq.read_table(path, columns=["mean", "std"])
        mean, std = (moments[name].to_numpy().astype(np.float32) for name in ("mean", "std"))
        for shard in store.of_kind(kind):
            z = (shard.array("max").astype(np.float32) - mean) / np.where(std > 0, std, np.inf)
            k = min(NEURONS, z.shape[1])
            best = np.argpartition(-z, k - 1, axis=1)[:, :k]
            best = np.take_along_axis(best, np.argsort(-np.take_along_axis(z, best, 1), axis=1, kind="stable"), 1)
            neurons[shard.positions, :k] = best
            strength[shard.positions, :k] = np.clip(10 * np.take_along_axis(z, best, 1), 0, 255)
        found = True
    return (neurons, strength) if found else None
