"""The page of the map: every row as a point, with named regions, nearest rows, strongest neurons, and map quality."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Float32, Int, Int16, Integer, UInt8

from atlas.analysis import parts
from atlas.analysis.balance import lies_at_its_name
from atlas.analysis.index import Index
from atlas.analysis.layout import Centred
from atlas.analysis.terms import Terms
from atlas.formatting import Record, display_text
from atlas.pages import picture, tiles
from atlas.pages.colours import PALETTE, RAMP
from atlas.pages.columns import (
    LOW_STEP,
    SPAN_STEPS,
    STEP_COUNT,
    Column,
    encode_levels,
    place_steps,
    quantised_places,
    smallest_unsigned,
)
from atlas.pages.drivers import write_drivers
from atlas.pages.frame import MAP_PAGE, Frame, Page, StoreFrame
from atlas.pages.front import standing_points
from atlas.pages.legend import MASK_BITS, first_scheme, legend_entries, name_masks, row_schemes
from atlas.pages.meaning import find_meanings
from atlas.pages.provenance import DerivedParts, store_place
from atlas.pages.regions import Region, regions_by_labels, regions_by_vocabulary
from atlas.pages.rows import PageRows
from atlas.pages.scatter import draw_scatter
from atlas.pages.settings import PageSettings, Places, Scheme
from atlas.store.store import Store
from atlas.vectors import Rows as Vectors
from atlas.vectors import unit_blocks

ROW_NEIGHBOURS, ROW_NEURONS = 8, 5  # rows near a row, neurons of a row
FEWEST_STANDING = 300  # with fewer pictures, all are shown from the first view on
REGIONS_LISTED = 40  # regions listed where the map cannot be drawn
MAP_TITLE = "Map of images, words and texts: points that lie near each other have a similar meaning to the model"


def write_map(frame: StoreFrame, rows: PageRows) -> Page:
    """Write the data of the map of rows; returns its page, map.html.

    Without a layout, the page says how to make one.
    """
    points = read_points(frame, rows)
    if points is None:
        return Page(
            "missing.html", MAP_PAGE, {"heading": "Map", "make": f"atlas map {shlex.quote(store_place(frame.store))}"}
        )
    xy, data = points
    at = np.asarray(data["row"])
    centred = is_centred(frame.derived)
    near: dict[str, Column] = {"near": nearest_rows(frame, centred)[at].astype(smallest_unsigned(len(rows)))}
    drivers = None
    strongest = strongest_neurons(frame)
    if strongest is not None:
        near["neuron"], near["strength"] = (part[at] for part in strongest)
        drivers = write_drivers(frame, rows)
    pictured = rows.places[0][at] >= 0 if "image" not in frame.store.counts else rows.kinds[at] == image_code(frame)
    if pictured.sum() > FEWEST_STANDING and len(at) <= tiles.UNTILED_POINTS:
        standing = standing_points(xy, pictured)
        cells = np.array([frame.front.add(int(at[point])) for point in standing], np.uint16)
        frame.write_data("front", {"point": standing.astype(np.uint32), "cell": cells})
    if rows.files:
        frame.write_data("files", {"file": rows.files})
    meaning = find_meanings(frame.store)
    if meaning:
        frame.write_data("meaning", meaning.columns(len(rows)))
    regions, terms = named_regions(frame, rows, at, xy)
    context = {
        "has_neurons": strongest is not None,
        "meaning": meaning and meaning.origin,
        "quality": map_quality(frame.derived, centred),
        "guessed": terms and len(terms.texts),
        "figure": f"atlas figure {shlex.quote(store_place(frame.store))} --view '{{}}' --to view.pdf",
    }
    page = write_points_page(frame, xy, data, near, regions, rows.columns(), rows.captions)
    return replace(page, context={**page.context, **context}, settings={**page.settings, "drivers": drivers})


def read_points(frame: StoreFrame, rows: PageRows) -> tuple[Float32[np.ndarray, "n 2"], dict[str, Column]] | None:
    """Places of the points of the map, and of each its row, the percent of its neighbours that the map kept, and
    whether it is a word that lies at its picture; None where there is no map.
    """
    layout = frame.derived.file(parts.MAP, "points.parquet")
    if layout is None:
        return None
    points = pq.read_table(layout)
    at = points["row"].to_numpy().astype(np.uint32)
    xy = np.stack([points["x"].to_numpy(), points["y"].to_numpy()], 1)
    data: dict[str, Column] = {"row": at}
    if "preservation" in points.column_names:
        data["kept"] = percentages(points["preservation"].to_numpy().astype(np.float32))
    if "image" in frame.store.counts and len(frame.store.counts) > 1:  # such words are drawn before others
        kinds = [list(frame.store.counts)[code] for code in rows.kinds[at].tolist()]
        data["met"] = lies_at_its_name(xy, kinds, [rows.labels[row] for row in at], "image").astype(np.uint8)
    return xy, data


def named_regions(
    frame: StoreFrame, rows: PageRows, at: Integer[np.ndarray, " n"], xy: Float32[np.ndarray, "n 2"]
) -> tuple[list[Region], Terms | None]:
    """The named regions of the map, each with one name, and the built-in terms where these had to name them."""
    terms = None if rows.names.telling or not frame.facts.names else Terms.read(frame.store)
    found = name_map_regions(frame.store, rows, at, xy, terms, is_centred(frame.derived), frame.facts.names)
    return [replace(region, text=region.text.split(", ")[0]) for region in found], terms


def image_code(frame: StoreFrame) -> int:
    """The code of the kind image among the kinds of rows."""
    return list(frame.facts.kinds).index("image")


def name_map_regions(
    store: Store,
    rows: PageRows,
    at: Integer[np.ndarray, " n"],
    xy: Float32[np.ndarray, "n 2"],
    terms: Terms | None,
    centred: bool = True,
    named_by_texts: bool = True,
) -> list[Region]:
    """Named regions of points, each a row: by the rows' labels, or where `terms` are given, by the nearest of these.

    `centred`: whether the mean of each kind was subtracted from the embeddings that the map was drawn from.
    `named_by_texts`: whether labels of words and texts name the images among which they lie.
    """
    kinds = [list(store.counts)[code] for code in rows.kinds[at].tolist()]
    if terms is None:
        labels = [rows.labels[row] for row in at]
        if not named_by_texts:
            spoken = rows.names.telling
            labels = [label if spoken and kind == "image" else "" for label, kind in zip(labels, kinds, strict=True)]
        return regions_by_labels(xy, map_space(store, centred), labels, kinds)
    several = kinds if len(store.counts) > 1 else None  # with one kind, its name tells no region from another
    return regions_by_vocabulary(xy, Centred(store.array("embedding"), kinds), terms, several)


def write_points_page(
    frame: Frame,
    xy: Float32[np.ndarray, "n 2"],
    data: dict[str, Column],
    near: dict[str, Column],
    regions: list[Region],
    rows: dict[str, Column],
    captions: Sequence[str],
) -> Page:
    """Write the tables of points, rows and names, and the still picture; returns the map's page.

    `data` and `near` go by point, and data["row"] is the row of each; `rows` and `captions` go by row.
    """
    places = quantised_places(xy)
    if len(places) > tiles.UNTILED_POINTS:
        tiles.write_tiles(frame, places, data, near, rows, captions)
    else:
        codes, levels = encode_levels(captions)
        frame.write_data("rows", rows)
        frame.write_data("captions", {"caption": codes, "captions": levels})  # apart: the map is drawn before they come
        frame.write_data("map", {"x": places[:, 0], "y": places[:, 1], **data})
        if near:
            frame.write_data("near", near)
    schemes = row_schemes(data, rows, frame.facts.kinds)
    entries, first = legend_entries(schemes, data, rows), first_scheme(schemes)
    frame.write_data("labels", region_columns(places, regions, entries))
    hues = np.array([entry["hue"] for entry in first["entries"]], np.uint8)[entries[first["name"]]]
    still = picture.still_picture(places, hues, (*PALETTE, *RAMP)[: hues.max(initial=0) + 1])
    (frame.folder / "assets" / "map.webp").write_bytes(still)
    settings = map_settings(MAP_TITLE, xy, schemes) | {"mask": MASK_BITS}
    defaults = {"has_neurons": False, "meaning": None, "quality": None, "guessed": None, "figure": None}
    return Page("map.html", MAP_PAGE, {"regions": listed_regions(places, regions), **defaults}, settings)


def map_settings(title: str, xy: Float32[np.ndarray, "n 2"], schemes: list[Scheme], tile: float = 0.0) -> PageSettings:
    """The settings of a page with a map, of rows or of neurons: figure, places, legend. `tile`: see `Places`."""
    places = Places(
        low=LOW_STEP,
        size=STEP_COUNT,
        span=SPAN_STEPS,
        edge=picture.STILL_EDGE,
        origin=place_steps(xy),
        tile=tile,
    )
    settings = PageSettings(figure=draw_scatter(title), places=places, legend=schemes)
    return settings | {"colour": first_scheme(schemes)["name"]} if schemes else settings


def region_columns(
    places: Int16[np.ndarray, "n 2"], regions: list[Region], entries: Mapping[str, UInt8[np.ndarray, " n"]]
) -> dict[str, Column]:
    """The columns of data/labels.js: place, level, number of points and text of each name, and its `mask`."""
    at = places[[region.point for region in regions]]
    return {
        "x": at[:, 0],
        "y": at[:, 1],
        "level": np.array([region.level for region in regions], np.uint8),
        "count": np.array([region.count for region in regions], np.uint32),
        "mask": name_masks(entries, [region.members for region in regions]),
        "text": [display_text(region.text) for region in regions],
    }


def listed_regions(places: Int16[np.ndarray, "n 2"], regions: list[Region]) -> list[tuple[str, int, int, int]]:
    """Text, size and place of the largest regions of the middle level (or of the one there is): the map as a table."""
    levels = sorted({region.level for region in regions})
    middle = levels[min(1, len(levels) - 1)] if levels else 0
    chosen = [region for region in regions if region.level == middle][:REGIONS_LISTED]
    return [(display_text(region.text), region.count, *places[region.point].tolist()) for region in chosen]


def is_centred(derived: DerivedParts) -> bool:
    """Whether the map was drawn after each kind's mean was subtracted (`atlas map --raw` leaves the means in)."""
    return derived.recipe(parts.MAP).get("umap", {}).get("centre", True)


def map_space(store: Store, centred: bool) -> Vectors:
    """The embeddings that the map was drawn from."""
    vectors = store.array("embedding")
    return Centred(vectors, store.table(["kind"])["kind"].to_pylist()) if centred else vectors


def map_quality(derived: DerivedParts, centred: bool) -> Record:
    """Map quality: preservation, trustworthiness, recall of the index, modality gap; None for what was not measured."""
    recipe = derived.recipe(parts.MAP)
    gap = recipe.get("modality_gap") or {}
    raw, after = (part if isinstance(part, dict) else {} for part in (gap.get("raw"), gap.get("centred")))
    found: Record = {name: recipe.get(name) for name in ("preservation", "trustworthiness")} | {"recall": None}
    found["gaps"] = [("s and ".join(pair.split("-")) + "s", raw[pair], after[pair]) for pair in raw if pair in after]
    found["centred"] = centred
    found["mixing"] = [(f"{kind}s", share) for kind, share in (recipe.get("mixing") or {}).items()]
    found["within"] = [(f"{kind}s", share) for kind, share in (recipe.get("preservation_within") or {}).items()]
    found["joined"] = joined_sentence(recipe)
    made = derived.recipe(parts.EMBEDDINGS).values()
    recalls = [entry["recall_at_10"] for entry in made if isinstance(entry, dict) and "recall_at_10" in entry]
    return found | {"recall": min(recalls, default=None), "recalls": len(recalls)}


def joined_sentence(recipe: Record) -> str | None:
    """How far the map joins pictures and words, in one sentence; None where that was not measured."""
    names = (recipe.get("name_matches") or {}).get("word-image")
    others = (recipe.get("mixing") or {}).get("word")
    if not names or others is None:
        return None
    return (
        f"Of the words that name a picture here, {names['first']:.0%} have such a picture as their nearest, and "
        f"{names['of_ten']:.0%} among their ten nearest pictures; of the ten points nearest to a word, "
        f"{10 * others:.0f} are of another kind."
    )


def percentages(share: Float32[np.ndarray, " n"]) -> UInt8[np.ndarray, " n"]:
    """Shares of 0 to 1 as percent, 0 to 100; 255 for NaN."""
    known = np.nan_to_num(share, nan=2.55)
    return np.round(known * 100).astype(np.uint8)


def nearest_rows(frame: StoreFrame, centred: bool) -> Integer[np.ndarray, "n k"]:
    """The nearest rows of every row, of any kind, in the space that the map was drawn from.

    They come from varied.npy (n, k) beside the layout where that is there (each thing once, of all kinds), else from
    near.npy, else from FAISS.
    """
    kept = frame.derived.file(parts.MAP, "varied.npy") or frame.derived.file(parts.MAP, "near.npy")
    if kept is not None:
        return np.load(kept, allow_pickle=False)[:, :ROW_NEIGHBOURS]
    vectors = map_space(frame.store, centred)
    index, found = Index.build(vectors), []
    for start, block in unit_blocks(vectors):
        ids = index.search(block, ROW_NEIGHBOURS + 1)[1]
        own = ids == np.arange(start, start + len(ids))[:, None]
        found.append(
            np.take_along_axis(ids, np.argsort(own, axis=1, kind="stable"), 1)[:, :-1]
        )  # the row itself goes last
    return np.concatenate(found)


def strongest_neurons(frame: StoreFrame) -> tuple[Int[np.ndarray, "n k"], UInt8[np.ndarray, "n k"]] | None:
    """The neurons furthest above their mean on every row, and by how many tenths of a standard deviation.

    Texts have no activations and get -1. None where there are no statistics.
    """
    store = frame.store
    neurons = np.full((len(store), ROW_NEURONS), -1, np.int16)
    strength = np.zeros((len(store), ROW_NEURONS), np.uint8)
    found = False
    for kind in store.counts:
        path = frame.derived.file(parts.STATS, f"{kind}.parquet")
        if path is None:
            continue
        moments = pq.read_table(path, columns=["mean", "std"])
        mean, std = (moments[name].to_numpy().astype(np.float32) for name in ("mean", "std"))
        for shard in store.of_kind(kind):
            z = (shard.array("max").astype(np.float32) - mean) / np.where(std > 0, std, np.inf)
            k = min(ROW_NEURONS, z.shape[1])
            best = np.argpartition(-z, k - 1, axis=1)[:, :k]
            best = np.take_along_axis(best, np.argsort(-np.take_along_axis(z, best, 1), axis=1, kind="stable"), 1)
            neurons[shard.positions, :k] = best
            strength[shard.positions, :k] = np.clip(10 * np.take_along_axis(z, best, 1), 0, 255)
        found = True
    return (neurons, strength) if found else None
