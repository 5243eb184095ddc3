"""What the tables say about every neuron, and the neuron atlas page with its table."""

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from atlas.errors import Refused
from atlas.pages.columns import Column, quantised, smallest
from atlas.pages.frame import Frame
from atlas.pages.rows import Picture, Rows, plain
from atlas.pages.scatter import PALETTE, RAMP, scatter

LABEL, COVER = 3, 4  # words in a label; images by which a neuron is shown
NEAR = 6  # neighbours shown of a neuron
NONE = "none"  # the label of a neuron for which nothing is significant
STATISTICS = {
    "monosemanticity": "Monosemanticity",
    "skew": "Skew",
    "mean": "Mean",
    "std": "Standard deviation",
    "max": "Largest activation",
}

Table = list[dict[str, Any]]
Grouped = dict[int, Table]


@dataclass
class Neurons:
    """Statistics by kind, neighbours, texts, labels of every neuron: a dictionary a neuron; None where not made."""

    frame: Frame
    rows: Rows
    stats: dict[str, Table]
    near: Table | None = None
    texts: Table | None = None
    claims: Grouped | None = None
    facets: Grouped | None = None
    receipts: Grouped | None = None

    @classmethod
    def read(cls, frame: Frame, rows: Rows) -> "Neurons | None":
        """Everything that was derived about neurons; None where there are no statistics."""
        stats = {kind: _table(frame, "neurons/stats", f"{kind}.parquet") for kind in ("image", "word")}
        found = {kind: table for kind, table in stats.items() if table}
        near = _table(frame, "neurons/neighbours", "neighbours.parquet")
        texts = _table(frame, "neurons/texts", "texts.parquet")
        more = (_grouped(frame, f"neurons/{name}") for name in ("labels", "facets", "receipts"))
        return cls(frame, rows, found, near, texts, *more) if found else None

    def __post_init__(self) -> None:
        self._maps: dict[int, np.ndarray] = {}  # opened memory maps: cards of all neurons ask the same shards

    def __len__(self) -> int:
        return len(next(iter(self.stats.values())))

    @property
    def kind(self) -> str:
        """The kind of rows by which neurons are shown: images where there are any."""
        return "image" if "image" in self.stats else "word"

    @cached_property
    def words(self) -> frozenset[int]:
        """The rows that are words."""
        return frozenset(self.frame.store.positions("word").tolist())

    def cover(self, neuron: int) -> int:
        """The row by which a neuron is shown: what it answers to most."""
        return self.stats[self.kind][neuron]["top"][0]

    def claim(self, neuron: int) -> dict[str, Any] | None:
        """The neuron's first significant label: label, evidence, p, q. None where there is none, or no labels."""
        rows = (self.claims or {}).get(neuron, ())
        return next((row for row in rows if row["label"] not in (None, "", NONE)), None)

    def label(self, neuron: int) -> str:
        """The significant labels; without them the strongest words, or the names of the strongest images.

        Where images have no names of their own, the texts nearest to what the neuron writes.
        """
        return self.labels[neuron]

    @cached_property
    def labels(self) -> list[str]:
        """The label of every neuron."""
        return [self._label(neuron) for neuron in range(len(self))]

    def _label(self, neuron: int) -> str:
        if self.claim(neuron):
            found = [plain(row["label"]) for row in (self.claims or {})[neuron]]
            return ", ".join(dict.fromkeys(name for name in found if name not in ("", NONE)))
        if "word" not in self.stats and self.texts and not self.rows.telling:
            return ", ".join(self.texts[neuron]["texts"][:LABEL])
        return ", ".join(self.named("word" if "word" in self.stats else "image", neuron, LABEL))

    def named(self, kind: str, neuron: int, k: int, tail: str = "top") -> list[str]:
        """Distinct names of the k strongest (or weakest) rows."""
        rows = self.stats[kind][neuron][tail]
        return list(dict.fromkeys(self.rows.called(row) for row in rows))[:k]

    def pictures(self, kind: str, neuron: int, k: int) -> list[Picture]:
        """The k strongest rows, with their values and the position where each was reached."""
        stat = self.stats[kind][neuron]
        rows, values = stat["top"][:k], stat["top_value"][:k]
        return [self.rows.picture(row, v, self.position(row, neuron)) for row, v in zip(rows, values, strict=True)]

    def position(self, row: int, neuron: int) -> int | None:
        """Where in the layer's map, row by row, an image drives the neuron most; None where there is one position."""
        if self.frame.grid == (1, 1):
            return None
        shard = self.frame.store.shard_of(row)
        if shard.start not in self._maps:
            self._maps[shard.start] = shard.array("argmax")
        return int(self._maps[shard.start][row - shard.start, neuron])


def _table(frame: Frame, name: str, file: str) -> Table | None:
    path = frame.derived(name, file)
    return sorted(pq.read_table(path).to_pylist(), key=lambda row: row["neuron"]) if path else None


def _grouped(frame: Frame, name: str) -> Grouped | None:
    """Rows of a derived table by neuron, in their order; None where the table was not made."""
    if not frame.store.has(name):
        return None
    found: Grouped = defaultdict(list)
    for file in sorted(frame.store.derived(name).glob("*.parquet")):
        table = pq.read_table(file)
        if "neuron" not in table.column_names:
            raise Refused(f"{file} has no column neuron; it has {', '.join(table.column_names)}")
        for row in table.to_pylist():
            found[row.pop("neuron")].append(row)
    return dict(found)


def write_neurons(frame: Frame, neurons: Neurons) -> None:
    """Write neurons.html, with the table, and data/neurons.js, with the map where there is a layout."""
    layout = frame.derived("layout/neurons", "points.parquet")
    data = {**_covers(neurons), **_statistics(neurons)}
    if neurons.near:
        data["near"] = np.array([row["by_response"][:NEAR] for row in neurons.near], smallest(len(neurons)))
    if layout is not None:
        points = pq.read_table(layout).sort_by("neuron")
        xy = quantised(np.stack([points["x"].to_numpy(), points["y"].to_numpy()], 1))
        data |= {"x": xy[:, 0], "y": xy[:, 1]}
    frame.write_data("neurons", data)
    item = scatter(f"Neurons: those that lie near each other answer to the same {neurons.kind}s") if layout else None
    table = [_entry(neurons, i) for i in range(len(neurons))]
    shown = {name: title for name, title in STATISTICS.items() if name in data}
    context = {"table": table, "kind": neurons.kind, "statistics": shown, "claimed": neurons.claims is not None}
    frame.render("neurons.html", "neurons.html", item=item, palette=PALETTE, ramp=RAMP, **context)


def _covers(neurons: Neurons) -> dict[str, Column]:
    """Labels, words, and the pictures by which neurons are shown: row, sheet, cell and position of each, (u, COVER)."""
    top = np.array([table["top"][:COVER] for table in neurons.stats[neurons.kind]], np.int64)
    at = [[neurons.position(row, i) for row in rows.tolist()] for i, rows in enumerate(top)]
    sheet, cell = (place[top] for place in neurons.rows.places)
    words = [", ".join(neurons.named("word", i, 6)) if "word" in neurons.stats else "" for i in range(len(neurons))]
    return {
        "label": [neurons.label(i) for i in range(len(neurons))],
        "words": words,
        "top": top.astype(np.uint32),
        "at": np.array([[-1 if m is None else m for m in row] for row in at], np.int32),
        "sheet": sheet.astype(np.int16),
        "cell": cell.astype(np.uint16),
    }


def _statistics(neurons: Neurons) -> dict[str, Column]:
    """One float32 column a statistic; NaN for a neuron of which it is not known."""
    table = neurons.stats[neurons.kind]
    found: dict[str, Column] = {name: np.array([row[name] for row in table], np.float32) for name in STATISTICS}
    if neurons.claims is not None:
        claims = [neurons.claim(i) for i in range(len(neurons))]
        found["p"] = np.array([claim["p"] if claim else np.nan for claim in claims], np.float32)
    return found


def _entry(neurons: Neurons, neuron: int) -> dict[str, Any]:
    stat, claim = neurons.stats[neurons.kind][neuron], neurons.claim(neuron)
    figures = {name: stat[name] for name in STATISTICS}
    picture = neurons.rows.picture(neurons.cover(neuron))
    p = claim["p"] if claim else None
    return {"neuron": neuron, "label": neurons.label(neuron), "p": p, "figures": figures, "picture": picture}
