"""The page that a site opens on: what it is, in a sentence, and six neurons that show it, each with its evidence."""

import numpy as np
import pyarrow.parquet as pq

from atlas.analysis import parts
from atlas.analysis.phrases import word_runs
from atlas.formatting import Record
from atlas.pages.cards import DRAWN_FOLDER
from atlas.pages.examples import Example, choose_examples
from atlas.pages.frame import START_PAGE, Page, StoreFrame, card_file
from atlas.pages.neurons import Neurons

_PICTURES, _WORDS = 5, 3  # shown of each neuron


def write_start(frame: StoreFrame, neurons: Neurons | None) -> Page:
    """The opening page, index.html. A model that cannot tell the pictures apart has no examples."""
    chosen: list[Example] = []
    if neurons and frame.facts.names:
        layout = frame.derived.file(parts.NEURON_MAP, "points.parquet")
        points = pq.read_table(layout).sort_by("neuron") if layout else None
        xy = None if points is None else np.stack([points["x"].to_numpy(), points["y"].to_numpy()], 1)
        chosen = choose_examples(neurons, xy)
    shown = [example_entry(frame, neurons, one) for one in chosen] if neurons else []
    count = len(neurons) if neurons else 0
    return Page("start.html", START_PAGE, {"examples": shown, "count": count, "counts": frame.store.counts})


def example_entry(frame: StoreFrame, neurons: Neurons, one: Example) -> Record:
    """An example as its template shows it: cells of the front sheet, drawing, and sentences."""
    top = neurons.stats["image"][one.neuron]["top"]
    shows = [row for row in top if one.thing in word_runs(neurons.rows.labels[row])]
    words = written_rows(neurons, one.thing)[:_WORDS] if one.word else []
    drawn = (neurons.drawings or {}).get(one.neuron)
    effect = one.switching
    return {
        "neuron": one.neuron,
        "thing": one.thing,
        "evidence": one.sentence(),
        "pictures": [frame.front.add(row) for row in distinct_names(neurons, shows, _PICTURES)],
        "words": [(frame.front.add(row), neurons.rows.captions[row]) for row in words],
        "drawing": f"neurons/{DRAWN_FOLDER}/{card_file(one.neuron).removesuffix('.html')}-0.webp" if drawn else None,
        "switching": effect and switching_sentence(one.thing, *effect),
    }


def written_rows(neurons: Neurons, thing: str) -> list[int]:
    """The rows of a word, one of each font first."""
    rows = [row for row in sorted(neurons.words) if neurons.rows.labels[row].casefold() == thing]
    return distinct_names(neurons, rows, len(rows))


def switching_sentence(thing: str, effect: float, control: float) -> str:
    """What raising a neuron does to the score of a thing, beside matched neurons."""
    times = effect / control if control > 0 else float("inf")
    more = f"{times:.0f} times as much as" if times < 1000 else "and not in"
    verb = "raises" if effect > 0 else "lowers"
    return f"Raising the neuron {verb} the score of “{thing}”, {more} matched neurons."


def distinct_names(neurons: Neurons, rows: list[int], k: int) -> list[int]:
    """The first k rows, those of a new name and style before others."""
    seen: dict[tuple[str, str], int] = {}
    for row in rows:
        seen.setdefault((neurons.rows.labels[row], neurons.rows.groups[row]), row)
    first = list(seen.values())
    return [*first, *(row for row in rows if row not in first)][:k]
