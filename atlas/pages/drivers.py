"""The rows that activate each neuron most, which colour the map when a neuron is picked; NEURONS_A_SCRIPT a script."""

from collections.abc import Iterator

import numpy as np

from atlas.analysis.stats import strongest_rows
from atlas.console import track
from atlas.pages.columns import smallest_unsigned
from atlas.pages.frame import MOST_LIT, StoreFrame
from atlas.pages.rows import PageRows
from atlas.pages.settings import Drivers
from atlas.store.store import Store

NEURONS_A_SCRIPT = 64  # picking a neuron reads one script
LEAST_DRIVERS = 24  # rows a neuron where there are many neurons; MOST_LIT where there are few
STRIP_ROWS = 24  # of them, shown beside the map: each thing once
NO_ROW = 65535  # fills up a strip
DRIVER_BYTES = 1.8  # bytes that a row of a neuron takes in a script
DRIVERS_ROOM = 750_000  # bytes that all of them may take, as far as LEAST_DRIVERS allows
ACTIVATION_LEVELS = 32  # steps of an activation between the weakest and the strongest row of a neuron


def drivers_per_neuron(neurons: int) -> int:
    """How many rows of each neuron are stored, so that all take about the same room for any number of neurons."""
    return int(np.clip(DRIVERS_ROOM / DRIVER_BYTES / max(neurons, 1), LEAST_DRIVERS, MOST_LIT))


def drivers_bytes(neurons: int) -> int:
    """The bytes that the scripts take, about."""
    return round(neurons * drivers_per_neuron(neurons) * DRIVER_BYTES)


def write_drivers(frame: StoreFrame, page_rows: PageRows) -> Drivers:
    """Write data/drivers-0.js and so on in one pass over images and words; returns what the page must know of them.

    Columns of m neurons and k rows: `gap` (m, k), the first row and the differences between successive rows; `level`
    (m, k), the activation as a step between `least` and `most` (m,); `strip` (m, STRIP_ROWS), the strongest without
    repeats, as places among the k rows.
    """
    kinds = [kind for kind in frame.store.counts if kind != "text"]
    neurons = frame.store.request["model"]["layers"][0]["neurons"]
    rows, values = strongest_rows(_activations(frame.store, kinds), drivers_per_neuron(neurons))
    order = np.argsort(rows, axis=1)
    gaps = np.diff(np.take_along_axis(rows, order, 1), axis=1, prepend=0)
    least, most = values[:, -1:], values[:, :1]
    share = np.take_along_axis((values - least) / np.where(most > least, most - least, 1), order, 1)
    place = np.argsort(order, axis=1)  # where the strongest row, the next and so on stand among the sorted ones
    strip = np.full((neurons, STRIP_ROWS), NO_ROW, np.uint16)
    for neuron, own in enumerate(rows):
        chosen = page_rows.distinct(own, STRIP_ROWS)
        strip[neuron, : len(chosen)] = place[neuron, chosen]
    columns = {
        "strip": strip,
        "gap": gaps.astype(smallest_unsigned(int(gaps.max()) + 1)),
        "level": np.round(share * (ACTIVATION_LEVELS - 1)).astype(np.uint8),
    }
    columns |= {"least": least[:, 0].astype(np.float32), "most": most[:, 0].astype(np.float32)}
    for block, start in enumerate(range(0, neurons, NEURONS_A_SCRIPT)):
        frame.write_data(
            f"drivers-{block}", {name: part[start : start + NEURONS_A_SCRIPT] for name, part in columns.items()}
        )
    count = sum(frame.store.counts[kind] for kind in kinds)
    return Drivers(neurons=neurons, block=NEURONS_A_SCRIPT, levels=ACTIVATION_LEVELS, rows=count, kinds=kinds)


def _activations(store: Store, kinds: list[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    shards = [shard for kind in kinds for shard in store.of_kind(kind)]
    for shard in track(shards, len(shards), "rows that activate neurons"):
        yield shard.positions, shard.array("max")
