"""Names of neurons: one rule for the command line, `Neuron`, the pages and all tables of `decompose`.

A neuron is named by the first of these sources that the Store has for it:

    label    its significant labels (`decompose label`)
    word     the rendered words that activate it most, averaged over fonts and sizes
    image    the names of the images that activate it most, if labels tell images apart (names of folders do not)
    text     the texts nearest to its basis row, if the model joins the Store's images and texts (`Alignment.sees`)
    number   "neuron 12"

In equations, where a number says nothing, a neuron without another source is named by a word instead: the word whose
embedding is nearest to its basis row (`decompose.equations.name_neurons`).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from atlas.analysis import parts
from atlas.analysis.alignment import Alignment
from atlas.formatting import display_text
from atlas.store.files import sha256
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
    """Names of a Store's rows: the label; if all images have the same label, their captions or file names.

    Only labels of images can be names of folders, so only these are judged (all labels, in a Store without images).
    The caption of an image file without one is its file name, where its label is a folder with other images.
    """

    def __init__(self, store: Store):
        table = store.table(["id", "kind", "caption", "label"])
        self.labels = [display_text(label) for label in table["label"].to_pylist()]
        captions = map(display_text, table["caption"].to_pylist())
        ids = table["id"].to_pylist()
        files = [display_text(id.rsplit("/", 1)[-1]) for id in ids]
        kinds = table["kind"].to_pylist()
        imageless = "image" not in store.counts
        judged = [kind == "image" or imageless for kind in kinds]
        self._distinct = len({label for label, j in zip(self.labels, judged, strict=True) if j})
        self._unnamed = [j and self._distinct == 1 for j in judged]  # rows whose label says nothing
        folders = [id.split("/")[-2:-1] == [label] for id, label in zip(ids, table["label"].to_pylist(), strict=True)]
        sharing = Counter(label for label, inside in zip(self.labels, folders, strict=True) if inside)
        self.filed = [
            bare or (inside and sharing[label] > 1)
            for bare, inside, label in zip(self._unnamed, folders, self.labels, strict=True)
        ]
        spare = [file if filed else label for file, label, filed in zip(files, self.labels, self.filed, strict=True)]
        self.captions = [caption or other for caption, other in zip(captions, spare, strict=True)]

    @property
    def telling(self) -> bool:
        """Whether labels describe images; a few labels for all images are taken for names of folders."""
        return self._distinct >= _TELLING

    def __getitem__(self, row: int) -> str:
        return self.captions[row] if self._unnamed[row] else self.labels[row] or self.captions[row]


@dataclass(frozen=True)
class NeuronNames:
    """The names of all neurons of a Store; a neuron without any source is named by its number."""

    found: Mapping[int, Name]

    @classmethod
    def read(cls, store: Store, rows: RowNames | None = None) -> "NeuronNames":
        """The names of a Store's neurons: read once, and again after a table that they come from was made again.

        `rows`: names of the Store's rows, if they were read before.
        """
        versions = _versions(store)
        held = _READ.get(store)
        if held is None or held[0] != versions:
            held = _READ[store] = versions, cls(_find_names(store, rows))
        return held[1]

    def __getitem__(self, neuron: int) -> Name:
        return self.found.get(neuron, Name((f"neuron {neuron}",), "number"))


_READ: WeakKeyDictionary[Store, tuple[list[str], NeuronNames]] = WeakKeyDictionary()


def _versions(store: Store) -> list[str]:
    """Sha256 of made.json of each part that names come from; "" for a part that is not there."""
    made = [store.path / part.name / "made.json" for part in (parts.STATS, parts.TEXTS, parts.LABELS)]
    return [sha256(path) if path.exists() else "" for path in made]


def _find_names(store: Store, rows: RowNames | None) -> dict[int, Name]:
    found = _from_texts(store)
    if store.has(parts.STATS):
        rows = rows or RowNames(store)
        if rows.telling:
            found |= _from_rows(store, "image", rows)
        found |= _from_rows(store, "word", rows)
    return found | _from_labels(store)


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
    alignment = Alignment.read(store.recipe(parts.TEXTS))
    if alignment and not alignment.sees:
        return {}
    table = pq.read_table(store.derived(parts.TEXTS) / "texts.parquet", columns=["neuron", "texts"])
    return {
        row["neuron"]: Name(tuple(map(display_text, row["texts"][:PARTS_OF_NAME])), "text")
        for row in table.to_pylist()
        if row["texts"]
    }
