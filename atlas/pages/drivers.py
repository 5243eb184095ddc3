"""What the map is coloured by when a neuron is picked: the rows that drive it most, BLOCK neurons a script."""

from collections.abc import Iterator

import numpy as np

from atlas.analysis.stats import strongest_rows
from atlas.console import track
from atlas.pages.columns import smallest
from atlas.pages.frame import Frame
from atlas.store.store import Store

BLOCK = 64  # neurons in a script: what picking one reads
MOST, LEAST = 400, 24  # rows of a neuron, where there are few neurons and where there are many
PAIR = 1.8  # bytes that a row of a neuron takes in a script
ROOM = 750_000  # bytes that all of them may take, as far as LEAST allows
LEVELS = 32  # steps of an activation, between the weakest and the strongest row kept: more than the colours have


def depth(neurons: int) -> int:
    """How many rows of each neuron are kept: all together take about as much room, however many neurons there are."""
    return int(np.clip(ROOM / PAIR / max(neurons, 1), LEAST, MOST))


def weight(neurons: int) -> int:
    """Bytes that the scripts take, about."""
    return round(neurons * depth(neurons) * PAIR)


def write_drivers(frame: Frame) -> None:
    """Write data/drivers-0.js and so on, in one pass over the rows that drive neurons at all: images and words.

    Columns: `gap` (m, k), the first row and how far it is from each to the next; `level` (m, k), of its activation
    between `least` and `most` (m,).
    """
    kinds = [kind for kind in frame.store.counts if kind != "text"]
    neurons = frame.store.request["model"]["layers"][0]["neurons"]
    rows, values = strongest_rows(_activations(frame.store, kinds), depth(neurons))
    order = np.argsort(rows, axis=1)
    gaps = np.diff(np.take_along_axis(rows, order, 1), axis=1, prepend=0)
    least, most = values[:, -1:], values[:, :1]
    share = np.take_along_axis((values - least) / np.where(most > least, most - least, 1), order, 1)
    columns = {
        "gap": gaps.astype(smallest(int(gaps.max()) + 1)),
        "level": np.round(share * (LEVELS - 1)).astype(np.uint8),
    }
    columns |= {"least": least[:, 0].astype(np.float32), "most": most[:, 0].astype(np.float32)}
    for block, start in enumerate(range(0, neurons, BLOCK)):
        frame.write_data(f"drivers-{block}", {name: part[start : start + BLOCK] for name, part in columns.items()})
    count = sum(frame.store.counts[kind] for kind in kinds)
    frame.settings["drivers"] = {"neurons": neurons, "block": BLOCK, "levels": LEVELS, "rows": count, "kinds": kinds}


def _activations(store: Store, kinds: list[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    shards = [shard for kind in kinds for shard in store.of_kind(kind)]
    for shard in track(shards, len(shards), "drivers of neurons"):
        yield shard.positions, shard.array("max")
