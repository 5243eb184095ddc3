"""The page of neurons: their map, coloured and filtered by traits, and the table of all neurons."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Float32

from atlas.analysis import parts
from atlas.analysis.grid import snap_to_grid
from atlas.formatting import Record, display_text
from atlas.pages.colours import PALETTE, RAMP
from atlas.pages.columns import Column, place_steps, quantised_places, smallest_unsigned
from atlas.pages.frame import NEURONS_PAGE, Page, StoreFrame
from atlas.pages.front import COVERS_SHEET, FRONT_CELLS
from atlas.pages.map import map_settings
from atlas.pages.neuronregions import name_neuron_regions, outline
from atlas.pages.neurons import MEANING_OF_LABELS, Neurons
from atlas.pages.picture import still_picture
from atlas.pages.regions import Region
from atlas.pages.settings import PageSettings
from atlas.pages.traits import Trait, neuron_traits

SNAPPED = 4096  # up to so many neurons have a square of a grid each, so that every one is seen
COVER_PICTURES = 4  # pictures that a neuron is shown by
COVER_WORDS = 6  # the strongest words of a neuron
COVER_THINGS = 8  # things that its strongest pictures show
COVER_NEIGHBOURS = 8  # neighbours shown of a neuron
TABLE_FIGURES = ("mean", "std", "skew", "max", "monosemanticity")  # columns of the table


def write_neurons(frame: StoreFrame, neurons: Neurons) -> Page:
    """Write the data of neurons, and where they have a layout, of their map; returns the page neurons.html."""
    layout, data = frame.derived.file(parts.NEURON_MAP, "points.parquet"), cover_columns(neurons)
    if neurons.near:
        responses = [row["by_response"][:COVER_NEIGHBOURS] for row in neurons.near]
        data["near"] = np.array(responses, smallest_unsigned(len(neurons)))
    settings, regions = PageSettings(), []
    if layout is not None:
        points = pq.read_table(layout).sort_by("neuron")
        xy = np.stack([points["x"].to_numpy(), points["y"].to_numpy()], 1)
        drawn = snap_to_grid(xy) if len(xy) <= SNAPPED else xy
        places = quantised_places(drawn)
        data |= {"x": places[:, 0], "y": places[:, 1]}
        regions, settings = _write_neuron_map(frame, neurons, xy, drawn)
    frame.write_data("neurons", data)
    table = [table_entry(neurons, i) for i in range(len(neurons))]
    said = "" if neurons.claims is None else " ".join(MEANING_OF_LABELS)
    context = {"table": table, "kind": neurons.kind, "said": said, "regions": regions}
    return Page("neurons.html", NEURONS_PAGE, context, settings)


def _write_neuron_map(
    frame: StoreFrame, neurons: Neurons, xy: Float32[np.ndarray, "u 2"], drawn: Float32[np.ndarray, "u 2"]
) -> tuple[list[tuple[str, int, int, int]], PageSettings]:
    """Write traits, regions and the still picture; returns the regions to list, and the map's settings.

    Regions are found on the layout, `xy`, and named where their neurons are `drawn`.
    """
    traits, places = neuron_traits(neurons), quantised_places(drawn)
    regions = name_neuron_regions(xy, [neurons.terms(i) for i in range(len(neurons))])
    frame.write_data("traits", trait_columns(traits))
    frame.write_data("regions", neuron_region_columns(places, regions))
    frame.write_data("outlines", outline_columns(drawn, regions if len(drawn) <= SNAPPED else []))
    hues = np.array(traits[0].hues, np.uint8)[traits[0].codes] if traits else np.zeros(len(places), np.uint8)
    (frame.folder / "assets" / "neurons.webp").write_bytes(still_picture(places, hues, (*PALETTE, *RAMP)))
    title = f"Neurons: those that lie near each other have similar responses to {neurons.kind}s"
    listed = [
        (display_text(region.text), region.count, *places[region.point].tolist()) for region in largest_regions(regions)
    ]
    tile = 1 / place_steps(drawn)[2] if len(drawn) <= SNAPPED else 0.0
    return listed, map_settings(title, drawn, [trait.scheme for trait in traits], tile)


def cover_columns(neurons: Neurons) -> dict[str, Column]:
    """Labels and words of neurons, and row, sheet and cell of the pictures that they are shown by (u, k)."""
    top = np.array([table["top"][:COVER_PICTURES] for table in neurons.stats[neurons.kind]], np.int64)
    sheet, cell = (place[top] for place in neurons.rows.places)
    for i, row in enumerate(top[:, 0].tolist() if len(top) <= FRONT_CELLS else []):
        sheet[i, 0], cell[i, 0] = covers_number(neurons), neurons.frame.covers.add(row)
    words = [
        ", ".join(neurons.named("word", i, COVER_WORDS)) if "word" in neurons.stats else "" for i in range(len(neurons))
    ]
    return {
        "label": [neurons.label(i) for i in range(len(neurons))],
        "words": words,
        "shows": [shown_things(neurons, i) for i in range(len(neurons))],
        "top": top.astype(np.uint32),
        "sheet": sheet.astype(np.int16),
        "cell": cell.astype(np.uint16),
    }


def shown_things(neurons: Neurons, neuron: int) -> str:
    """What the strongest pictures of a neuron show, each thing once: the search finds the neuron by these names."""
    if neurons.kind != "image" or not neurons.rows.names.telling:
        return ""
    top = neurons.stats["image"][neuron]["top"]
    return ", ".join(neurons.rows.names[top[at]] for at in neurons.rows.distinct(top, COVER_THINGS))


def covers_number(neurons: Neurons) -> int:
    """The number of the sheet with the pictures that neurons are shown by."""
    return list(neurons.frame.facts.sheets).index(COVERS_SHEET)


def trait_columns(found: list[Trait]) -> dict[str, Column]:
    """The columns of data/traits.js: the codes of neurons in every trait, and measured values as NAME.values."""
    columns: dict[str, Column] = {trait.name: trait.codes for trait in found}
    return columns | {f"{trait.name}.values": trait.values for trait in found if trait.values is not None}


def neuron_region_columns(places: np.ndarray, regions: list[Region]) -> dict[str, Column]:
    """The columns of data/regions.js: place, level, number of neurons and text of each name, and whose name it is.

    `of` (u, levels): the number of each neuron's name at each level, counted from 1; 0 where it has none.
    """
    at = places[[region.point for region in regions]]
    of = np.zeros((len(places), max((region.level for region in regions), default=0) + 1), np.uint16)
    for k, region in enumerate(regions):
        of[region.members, region.level] = k + 1
    return {
        "x": at[:, 0],
        "y": at[:, 1],
        "level": np.array([region.level for region in regions], np.uint8),
        "count": np.array([region.count for region in regions], np.uint32),
        "of": of,
        "text": [display_text(region.text) for region in regions],
    }


def outline_columns(drawn: Float32[np.ndarray, "u 2"], regions: list[Region]) -> dict[str, Column]:
    """The columns of data/outlines.js: the sides that bound the members of each region on the grid, in steps."""
    x, y, step = place_steps(drawn)
    found = [outline(drawn, region.members) for region in regions]
    sides = np.concatenate([np.zeros((0, 4), np.float32), *found])
    return {
        "sides": np.round((sides - np.array([x, y, x, y])) / step).astype(np.float32),  # int16 ends at the last square
        "region": np.repeat(np.arange(len(found)), [len(each) for each in found]).astype(np.uint16),
    }


def largest_regions(regions: list[Region]) -> list[Region]:
    """The regions to list: the largest one of every name."""
    found: dict[str, Region] = {}
    for region in regions:
        found.setdefault(region.text, region)
    return list(found.values())


def table_entry(neurons: Neurons, neuron: int) -> Record:
    """A row of the table of neurons."""
    stat, claim = neurons.stats[neurons.kind][neuron], neurons.claim(neuron)
    figures = {name: stat[name] for name in TABLE_FIGURES}
    picture = neurons.rows.picture(neurons.cover(neuron))
    if len(neurons) <= FRONT_CELLS:
        picture = replace(picture, sheet=covers_number(neurons), cell=neurons.frame.covers.add(neurons.cover(neuron)))
    p = claim["p"] if claim else None
    return {"neuron": neuron, "label": neurons.label(neuron), "p": p, "figures": figures, "picture": picture}
