"""What the tables say about every neuron."""

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from atlas.errors import Refused
from atlas.pages.frame import Frame
from atlas.pages.rows import Picture, Rows, plain

LABEL = 3  # words in a label
NONE = "none"  # the label of a neuron for which nothing is significant

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
    drawings: Grouped | None = None

    @classmethod
    def read(cls, frame: Frame, rows: Rows) -> "Neurons | None":
        """Everything that was derived about neurons; None where there are no statistics."""
        stats = {kind: _table(frame, "neurons/stats", f"{kind}.parquet") for kind in ("image", "word")}
        found = {kind: table for kind, table in stats.items() if table}
        near = _table(frame, "neurons/neighbours", "neighbours.parquet")
        texts = _table(frame, "neurons/texts", "texts.parquet")
        more = (_grouped(frame, f"neurons/{name}") for name in ("labels", "facets", "receipts", "drawings"))
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

    def significant(self, neuron: int) -> list[str]:
        """The distinct labels of a neuron that are significant."""
        found = [plain(row["label"]) for row in (self.claims or {}).get(neuron, ())]
        return list(dict.fromkeys(name for name in found if name not in ("", NONE)))

    def terms(self, neuron: int) -> list[str]:
        """What a neuron is called: its significant labels; where none were made, its strongest words and images.

        Where images have no names of their own, the texts nearest to what it writes.
        """
        if self.claims is not None:
            return self.significant(neuron)
        if written := self._written(neuron):
            return written
        return list(dict.fromkeys(name for kind in self.stats for name in self.named(kind, neuron, LABEL)))

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
            return ", ".join(self.significant(neuron))
        if written := self._written(neuron):
            return ", ".join(written)
        return ", ".join(self.named("word" if "word" in self.stats else "image", neuron, LABEL))

    def _written(self, neuron: int) -> list[str]:
        """The texts nearest to a neuron's basis row, where pictures have no names of their own."""
        if "word" in self.stats or not self.texts or self.rows.telling:
            return []
        return self.texts[neuron]["texts"][:LABEL]

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
