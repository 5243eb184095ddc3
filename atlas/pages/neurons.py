"""What the tables say about every neuron."""

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from atlas.analysis import parts
from atlas.analysis.naming import NONE, PARTS_OF_NAME, NeuronNames
from atlas.errors import Refused
from atlas.formatting import display_text
from atlas.pages.frame import Frame
from atlas.pages.rows import PageRows, Thumbnail
from atlas.store.store import Part

_Table = list[dict[str, Any]]
Grouped = dict[int, _Table]


@dataclass
class Neurons:
    """Statistics by kind, neighbours, texts, labels of every neuron: a dictionary a neuron; None where not made."""

    frame: Frame
    rows: PageRows
    stats: dict[str, _Table]
    near: _Table | None = None
    texts: _Table | None = None
    claims: Grouped | None = None
    facets: Grouped | None = None
    receipts: Grouped | None = None
    drawings: Grouped | None = None

    @classmethod
    def read(cls, frame: Frame, rows: PageRows) -> "Neurons | None":
        """Everything that was derived about neurons; None where there are no statistics."""
        stats = {kind: _table(frame, parts.STATS, f"{kind}.parquet") for kind in ("image", "word")}
        found = {kind: table for kind, table in stats.items() if table}
        near = _table(frame, parts.NEIGHBOURS, "neighbours.parquet")
        texts = _table(frame, parts.TEXTS, "texts.parquet")
        more = (_grouped(frame, part) for part in (parts.LABELS, parts.FACETS, parts.RECEIPTS, parts.DRAWINGS))
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
        found = [display_text(row["label"]) for row in (self.claims or {}).get(neuron, ())]
        return list(dict.fromkeys(name for name in found if name not in ("", NONE)))

    def terms(self, neuron: int) -> list[str]:
        """What regions of the neuron atlas may be named by: significant labels; before those are made, the name.

        To a name of rendered words those of the strongest images are added.
        """
        if self.claims is not None:
            return self.significant(neuron)
        images = self.named("image", neuron, PARTS_OF_NAME) if "image" in self.stats and self.rows.names.telling else []
        return list(dict.fromkeys([*images, *self.names[neuron].parts]))

    def label(self, neuron: int) -> str:
        """What the neuron is called, by the rule of `analysis.naming`."""
        return str(self.names[neuron])

    @cached_property
    def names(self) -> NeuronNames:
        """The names of all neurons."""
        return NeuronNames.read(self.frame.store, self.rows.names)

    def named(self, kind: str, neuron: int, k: int, tail: str = "top") -> list[str]:
        """Distinct names of the k strongest (or weakest) rows."""
        rows = self.stats[kind][neuron][tail]
        return list(dict.fromkeys(self.rows.names[row] for row in rows))[:k]

    def pictures(self, kind: str, neuron: int, k: int) -> list[Thumbnail]:
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


def _table(frame: Frame, part: Part, file: str) -> _Table | None:
    path = frame.derived(part, file)
    return sorted(pq.read_table(path).to_pylist(), key=lambda row: row["neuron"]) if path else None


def _grouped(frame: Frame, part: Part) -> Grouped | None:
    """Rows of a derived table by neuron, in their order; None where the table was not made."""
    if not frame.store.has(part):
        return None
    found: Grouped = defaultdict(list)
    for file in sorted(frame.store.derived(part).glob("*.parquet")):
        table = pq.read_table(file)
        if "neuron" not in table.column_names:
            raise Refused(f"{file} has no column neuron; it has {', '.join(table.column_names)}")
        for row in table.to_pylist():
            found[row.pop("neuron")].append(row)
    return dict(found)
