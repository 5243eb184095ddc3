"""Everything that was derived about the neurons of a Store, as the pages show it."""

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import pyarrow.parquet as pq

from atlas.analysis import parts
from atlas.analysis.naming import NONE, PARTS_OF_NAME, NeuronNames
from atlas.errors import Refused
from atlas.formatting import Record, display_text
from atlas.pages.frame import StoreFrame
from atlas.pages.rows import PageRows, Peak, Thumbnail
from atlas.store.store import Part

MEANING_OF_LABELS = (  # for readers to whom these words are new
    "p is how often chance alone gives evidence as strong: at p 0.01, one meaningless neuron in a hundred has it.",
    "q is the share of labels that are false if all with evidence as strong are kept; labels have q of 0.05 at most, "
    "unless another rate was asked for.",
    "Confirmed means that the neuron was raised while the model looked at images that the label was not chosen by: "
    "the label’s score rose, by more than when like neurons were raised.",
)
_Table = list[Record]
Grouped = dict[int, _Table]


@dataclass
class Neurons:
    """The tables about neurons: statistics of each kind, neighbours, texts, labels, and so on; None where not made."""

    frame: StoreFrame
    rows: PageRows
    stats: dict[str, _Table]
    near: _Table | None = None
    texts: _Table | None = None
    claims: Grouped | None = None
    facets: Grouped | None = None
    receipts: Grouped | None = None
    drawings: Grouped | None = None

    @classmethod
    def read(cls, frame: StoreFrame, rows: PageRows) -> "Neurons | None":
        """Read the tables; None where there are no statistics."""
        stats = {kind: _table(frame, parts.STATS, f"{kind}.parquet") for kind in ("image", "word")}
        found = {kind: table for kind, table in stats.items() if table}
        near = _table(frame, parts.NEIGHBOURS, "neighbours.parquet")
        texts = _table(frame, parts.TEXTS, "texts.parquet")
        more = (_grouped(frame, part) for part in (parts.LABELS, parts.FACETS, parts.RECEIPTS, parts.DRAWINGS))
        return cls(frame, rows, found, near, texts, *more) if found else None

    def __post_init__(self) -> None:
        self._maps: dict[tuple[str, int], np.ndarray] = {}  # open memory maps: all cards read the same shards

    def __len__(self) -> int:
        return len(next(iter(self.stats.values())))

    @property
    def kind(self) -> str:
        """The kind of rows that neurons are shown by: image where there are images, else word."""
        return "image" if "image" in self.stats else "word"

    @cached_property
    def words(self) -> frozenset[int]:
        """The rows that are words."""
        return frozenset(self.frame.store.positions("word").tolist())

    def cover(self, neuron: int) -> int:
        """The row that a neuron is shown by: the one that activates it most."""
        return self.stats[self.kind][neuron]["top"][0]

    def claim(self, neuron: int) -> Record | None:
        """The neuron's first significant label: label, evidence, p, q. None where there is none, or no labels."""
        rows = (self.claims or {}).get(neuron, ())
        return next((row for row in rows if row["label"] not in (None, "", NONE)), None)

    def significant(self, neuron: int) -> list[str]:
        """The distinct significant labels of a neuron."""
        found = [display_text(row["label"]) for row in (self.claims or {}).get(neuron, ())]
        return list(dict.fromkeys(name for name in found if name not in ("", NONE)))

    def terms(self, neuron: int) -> list[str]:
        """The terms that may name the region of a neuron: its significant labels, or where none were made, its name.

        To a name of rendered words, the names of the strongest images are added.
        """
        if self.claims is not None:
            return self.significant(neuron)
        images = self.named("image", neuron, PARTS_OF_NAME) if "image" in self.stats and self.rows.names.telling else []
        return list(dict.fromkeys([*images, *self.names[neuron].parts]))

    def label(self, neuron: int) -> str:
        """The name of a neuron, by the rule of `atlas.analysis.naming`."""
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
        """The k strongest rows, each thing once, with their activations and the positions of these."""
        stat = self.stats[kind][neuron]
        rows, values = stat["top"], stat["top_value"]
        return [
            self.rows.picture(rows[at], values[at], self.peak(rows[at], neuron)) for at in self.rows.distinct(rows, k)
        ]

    def peak(self, row: int, neuron: int) -> Peak | None:
        """Where in a picture the activation is largest; None where the layer has one position, or nothing stands out.

        A Store keeps the largest activation, its position and the mean over positions, and not the others one by one.
        """
        positions = prod(self.frame.facts.grid)
        if positions == 1:
            return None
        largest, mean = (float(self._value(name, row, neuron)) for name in ("max", "mean"))
        if largest <= 0:
            return None
        others = (positions * mean - largest) / (positions - 1)
        heat = round(100 * min(1.0, 1 - others / largest))
        return Peak(int(self._value("argmax", row, neuron)), heat) if heat > 0 else None

    def _value(self, name: str, row: int, neuron: int) -> np.generic:
        shard = self.frame.store.shard_of(row)
        if (name, shard.start) not in self._maps:
            self._maps[name, shard.start] = shard.array(name)
        return self._maps[name, shard.start][row - shard.start, neuron]


def _table(frame: StoreFrame, part: Part, file: str) -> _Table | None:
    path = frame.derived.file(part, file)
    return sorted(pq.read_table(path).to_pylist(), key=lambda row: row["neuron"]) if path else None


def _grouped(frame: StoreFrame, part: Part) -> Grouped | None:
    """Rows of a derived table by neuron, in their order; None where the table was not made."""
    folder = frame.derived.folder(part)
    if folder is None:
        return None
    found: Grouped = defaultdict(list)
    for file in sorted(folder.glob("*.parquet")):
        table = pq.read_table(file)
        if "neuron" not in table.column_names:
            raise Refused(f"{file} has no column neuron; it has {', '.join(table.column_names)}")
        for row in table.to_pylist():
            found[row.pop("neuron")].append(row)
    return dict(found)
