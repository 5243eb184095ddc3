"""Names of neurons: one rule for the command line, `Neuron`, the pages and all tables of `decompose`.

A neuron is named by the first of these sources that the Store has for it:

    label    its significant labels (`decompose label`)
    word     the rendered words that activate it most, averaged over fonts and sizes
    image    the names of the images that activate it most, if labels tell images apart (names of folders do not)
    text     the texts nearest to its basis row
    number   "neuron 12"
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from atlas.analysis import parts
from atlas.formatting import display_text
from atlas.store.store import Store

NONE = "none"  # the label of a neuron for which nothing is significant
PARTS_OF_NAME = 3  # words, images or texts in a name
_TELLING = 10  # with fewer distinct labels, labels are taken for names of folders

NameSource = Literal["label", "word", "image", "text", "number"]


class Name(NamedTuple):
    """The name of a neuron: its parts, best first, and their source."""

    parts: tuple[str, ...]
    source: NameSource

    def __str__(self) -> str:
        return ", ".join(self.parts)


class RowNames:
    """Names of a Store's rows: the label; if all rows have the same label, the caption or file name."""

    def __init__(self, store: Store):
        table = store.table(["id", "caption", "label"])
        self.labels = [display_text(label) for label in table["label"].to_pylist()]
        captions = map(display_text, table["caption"].to_pylist())
        self.alike = len(set(self.labels)) == 1
        files = (display_text(id.rsplit("/", 1)[-1]) for id in table["id"].to_pylist())
        spare = list(files) if self.alike else self.labels
        self.captions = [caption or other for caption, other in zip(captions, spare, strict=True)]

    @cached_property
    def telling(self) -> bool:
        """Whether labels describe rows; a few labels for all rows are taken for names of folders."""
        return len(set(self.labels)) >= _TELLING

    def __getitem__(self, row: int) -> str:
        return self.captions[row] if self.alike else self.labels[row] or self.captions[row]


@dataclass(frozen=True)
class NeuronNames:
    """The names of all neurons of a Store; a neuron without any source is named by its number."""

    found: Mapping[int, Name]

    @classmethod
    def read(cls, store: Store, rows: RowNames | None = None) -> "NeuronNames":
        """Read the names from the Store's tables. `rows`: names of its rows, if they were read before."""
        found = _from_texts(store)
        rows = rows or RowNames(store)
        if store.has(parts.STATS):
            if rows.telling:
                found |= _from_rows(store, "image", rows)
            found |= _from_rows(store, "word", rows)
        return cls(found | _from_labels(store))

    def __getitem__(self, neuron: int) -> Name:
        return self.found.get(neuron, Name((f"neuron {neuron}",), "number"))


def _from_labels(store: Store) -> dict[int, Name]:
    if not store.has(parts.LABELS):
        return {}
    files = sorted(store.derived(parts.LABELS).glob("*.parquet"))
    table = pa.concat_tables([pq.read_table(file, columns=["neuron", "label"]) for file in files])
    given: dict[int, dict[str, None]] = {}  # a dictionary, as an ordered set
    for row in table.to_pylist():
        if row["label"] not in (None, "", NONE):
            given.setdefault(row["neuron"], {})[display_text(row["label"])] = None
    return {neuron: Name(tuple(labels), "label") for neuron, labels in given.items()}


def _from_rows(store: Store, kind: NameSource, rows: RowNames) -> dict[int, Name]:
    path = store.derived(parts.STATS) / f"{kind}.parquet"
    if not path.exists():
        return {}
    table = pq.read_table(path, columns=["neuron", "top"])
    pairs = zip(table["neuron"].to_pylist(), np.stack(table["top"].to_numpy()).tolist(), strict=True)
    named = {
        neuron: tuple(dict.fromkeys(filter(None, (rows[row] for row in top))))[:PARTS_OF_NAME] for neuron, top in pairs
    }
    return {neuron: Name(names, kind) for neuron, names in named.items() if names}


def _from_texts(store: Store) -> dict[int, Name]:
    if not store.has(parts.TEXTS):
        return {}
    table = pq.read_table(store.derived(parts.TEXTS) / "texts.parquet", columns=["neuron", "texts"])
    return {
        row["neuron"]: Name(tuple(map(display_text, row["texts"][:PARTS_OF_NAME])), "text")
        for row in table.to_pylist()
        if row["texts"]
    }
