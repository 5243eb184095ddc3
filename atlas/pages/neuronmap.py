"""The neuron atlas: the map with neurons for points, coloured and filtered by their traits, and the table of all."""

from typing import Any

import numpy as np
import pyarrow.parquet as pq

from atlas.analysis import parts
from atlas.formatting import display_text
from atlas.pages.columns import Column, quantised, smallest, steps
from atlas.pages.enrichment import name_regions
from atlas.pages.frame import Frame
from atlas.pages.labels import Label
from atlas.pages.neurons import Neurons
from atlas.pages.picture import still
from atlas.pages.scatter import PALETTE, RAMP, draw_scatter
from atlas.pages.traits import Trait, neuron_traits

COVER = 4  # images by which a neuron is shown
WORDS = 6  # that it answers to most
NEAR = 8  # neighbours shown of a neuron
FIGURES = ("mean", "std", "skew", "max", "monosemanticity")  # of the table


def write_neurons(frame: Frame, neurons: Neurons) -> None:
    """Write neurons.html, with the table, and where there is a layout the map's data: neurons, traits and regions."""
    layout, data = frame.derived(parts.NEURON_MAP, "points.parquet"), covers(neurons)
    context: dict[str, Any] = {"item": None, "traits": [], "regions": [], "settings": frame.settings}
    if neurons.near:
        data["near"] = np.array([row["by_response"][:NEAR] for row in neurons.near], smallest(len(neurons)))
    if layout is not None:
        points = pq.read_table(layout).sort_by("neuron")
        xy = np.stack([points["x"].to_numpy(), points["y"].to_numpy()], 1)
        places, found = quantised(xy), neuron_traits(neurons)
        data |= {"x": places[:, 0], "y": places[:, 1]}
        named = name_regions(xy, [neurons.terms(i) for i in range(len(neurons))])
        frame.write_data("traits", trait_columns(found))
        frame.write_data("regions", region_columns(places, named))
        hues = np.array(found[0].hues, np.uint8)[found[0].codes] if found else np.zeros(len(places), np.uint8)
        (frame.folder / "assets" / "neurons.webp").write_bytes(still(places, hues, (*PALETTE, *RAMP)))
        described = [trait.described for trait in found]
        context |= {
            "item": draw_scatter(f"Neurons: those that lie near each other answer to the same {neurons.kind}s"),
            "traits": described,
            "regions": [
                (display_text(label.text), label.count, *places[label.point].tolist()) for label in largest(named)
            ],
            "settings": frame.settings | {"steps": steps(xy), "traits": described},
        }
    frame.write_data("neurons", data)
    table = [entry(neurons, i) for i in range(len(neurons))]
    context |= {"table": table, "kind": neurons.kind, "claimed": neurons.claims is not None}
    frame.render("neurons.html", "neurons.html", palette=PALETTE, ramp=RAMP, **context)


def covers(neurons: Neurons) -> dict[str, Column]:
    """Labels, words, and the pictures by which neurons are shown: row, sheet, cell and position of each, (u, COVER)."""
    top = np.array([table["top"][:COVER] for table in neurons.stats[neurons.kind]], np.int64)
    at = [[neurons.position(row, i) for row in rows.tolist()] for i, rows in enumerate(top)]
    sheet, cell = (place[top] for place in neurons.rows.places)
    words = [", ".join(neurons.named("word", i, WORDS)) if "word" in neurons.stats else "" for i in range(len(neurons))]
    return {
        "label": [neurons.label(i) for i in range(len(neurons))],
        "words": words,
        "top": top.astype(np.uint32),
        "at": np.array([[-1 if m is None else m for m in row] for row in at], np.int32),
        "sheet": sheet.astype(np.int16),
        "cell": cell.astype(np.uint16),
    }


def trait_columns(found: list[Trait]) -> dict[str, Column]:
    """The columns of data/traits.js: of every trait the codes of neurons, and as NAME.values its figures."""
    columns: dict[str, Column] = {trait.name: trait.codes for trait in found}
    return columns | {f"{trait.name}.values": trait.values for trait in found if trait.values is not None}


def region_columns(places: np.ndarray, labels: list[Label]) -> dict[str, Column]:
    """The columns of data/regions.js: where each name stands, its level, for how many, and for which neurons.

    `of` (u, levels): the name that a neuron carries at each level, counted from 1; 0 where it carries none.
    """
    at = places[[label.point for label in labels]]
    of = np.zeros((len(places), max((label.level for label in labels), default=0) + 1), np.uint16)
    for k, label in enumerate(labels):
        of[label.members, label.level] = k + 1
    return {
        "x": at[:, 0],
        "y": at[:, 1],
        "level": np.array([label.level for label in labels], np.uint8),
        "count": np.array([label.count for label in labels], np.uint32),
        "of": of,
        "text": [display_text(label.text) for label in labels],
    }


def largest(labels: list[Label]) -> list[Label]:
    """Regions to list: of every name the one that most neurons carry."""
    found: dict[str, Label] = {}
    for label in labels:
        found.setdefault(label.text, label)
    return list(found.values())


def entry(neurons: Neurons, neuron: int) -> dict[str, Any]:
    """A line of the table."""
    stat, claim = neurons.stats[neurons.kind][neuron], neurons.claim(neuron)
    figures = {name: stat[name] for name in FIGURES}
    picture = neurons.rows.picture(neurons.cover(neuron))
    p = claim["p"] if claim else None
    return {"neuron": neuron, "label": neurons.label(neuron), "p": p, "figures": figures, "picture": picture}
