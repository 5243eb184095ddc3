"""What the tables say about every neuron, and the neuron atlas page with its table."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from atlas.pages.columns import Column, quantised
from atlas.pages.frame import Frame
from atlas.pages.rows import Picture, Rows
from atlas.pages.scatter import PALETTE, scatter

LABEL, COVER = 3, 4  # words in a label; images by which a neuron is shown


@dataclass
class Neurons:
    """Statistics by kind, neighbours and texts of every neuron: one dictionary a neuron, None where not made."""

    frame: Frame
    rows: Rows
    stats: dict[str, list[dict[str, Any]]]
    near: list[dict[str, Any]] | None
    texts: list[dict[str, Any]] | None

    @classmethod
    def read(cls, frame: Frame, rows: Rows) -> "Neurons | None":
        """Everything that was derived about neurons; None where there are no statistics."""
        stats = {kind: _table(frame, "neurons/stats", f"{kind}.parquet") for kind in ("image", "word")}
        found = {kind: table for kind, table in stats.items() if table}
        near = _table(frame, "neurons/neighbours", "neighbours.parquet")
        texts = _table(frame, "neurons/texts", "texts.parquet")
        return cls(frame, rows, found, near, texts) if found else None

    def __len__(self) -> int:
        return len(next(iter(self.stats.values())))

    def label(self, neuron: int) -> str:
        """The neuron's strongest words, or where there are none the names of its strongest images."""
        kind = "word" if "word" in self.stats else "image"
        named = (self.rows.labels[row] or self.rows.captions[row] for row in self.stats[kind][neuron]["top"])
        return ", ".join(list(dict.fromkeys(named))[:LABEL])

    def pictures(self, kind: str, neuron: int, tail: str, k: int) -> list[Picture]:
        """The strongest or weakest rows, with their values and the position where each was reached."""
        stat = self.stats[kind][neuron]
        rows, values = stat[tail][:k], stat[f"{tail}_value"][:k]
        at = (self.position(row, neuron) for row in rows)
        return [self.rows.picture(*of) for of in zip(rows, values, at, strict=True)]

    def position(self, row: int, neuron: int) -> int | None:
        """Where in the layer's map, row by row, an image drives the neuron most; None where there is one position."""
        if self.frame.grid == (1, 1):
            return None
        shard = self.frame.store.shard_of(row)
        if shard.start not in self._maps:
            self._maps[shard.start] = shard.array("argmax")
        return int(self._maps[shard.start][row - shard.start, neuron])

    def __post_init__(self) -> None:
        self._maps: dict[int, np.ndarray] = {}  # opened memory maps: cards of all neurons ask the same shards


def _table(frame: Frame, name: str, file: str) -> list[dict[str, Any]] | None:
    path = frame.derived(name, file)
    return sorted(pq.read_table(path).to_pylist(), key=lambda row: row["neuron"]) if path else None


def write_neurons(frame: Frame, neurons: Neurons) -> None:
    """Write neurons.html, with the table, and data/neurons.js, with the map where there is a layout."""
    kind = "image" if "image" in neurons.stats else "word"
    cover = [neurons.stats[kind][i]["top"][:COVER] for i in range(len(neurons))]
    at = [[neurons.position(row, i) for row in top] for i, top in enumerate(cover)]
    data: dict[str, Column] = {
        "label": [neurons.label(i) for i in range(len(neurons))],
        "top": np.array(cover, np.uint32),
        "at": np.array([[-1 if m is None else m for m in row] for row in at], np.int32),
    }
    layout = frame.derived("layout/neurons", "points.parquet")
    if layout is not None:
        points = pq.read_table(layout).sort_by("neuron")
        xy = quantised(np.stack([points["x"].to_numpy(), points["y"].to_numpy()], 1))
        data |= {"x": xy[:, 0], "y": xy[:, 1]}
    frame.write_data("neurons", data)
    item = scatter("Neurons: those that lie near each other answer to the same images") if layout else None
    table = [_entry(neurons, kind, i) for i in range(len(neurons))]
    frame.render("neurons.html", "neurons.html", item=item, palette=PALETTE, table=table, kind=kind)


def _entry(neurons: Neurons, kind: str, neuron: int) -> dict[str, Any]:
    stat = neurons.stats[kind][neuron]
    figures = {name: stat[name] for name in ("mean", "std", "skew", "max", "monosemanticity")}
    picture = neurons.rows.picture(stat["top"][0])
    return {"neuron": neuron, "label": neurons.label(neuron), "figures": figures, "picture": picture}
