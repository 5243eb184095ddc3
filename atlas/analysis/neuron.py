"""`Neuron`: the images, words, histogram, neighbours and label of one neuron; shown as a card in Jupyter."""

from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from atlas import reprs
from atlas.analysis import parts
from atlas.analysis.naming import NONE, NameSource, NeuronNames
from atlas.errors import Refused
from atlas.formatting import Record, display_text, format_p
from atlas.store.store import Store


class Neuron:
    """Neuron `number` of a Store with statistics (`atlas stats`).

    Raises `Refused` if the Store has no such neuron, or no statistics.

    >>> import atlas, tempfile
    >>> from PIL import Image
    >>> from atlas.analysis.derivation import summarise_neurons
    >>> folder = tempfile.TemporaryDirectory()
    >>> for name in ("red", "green", "blue"):
    ...     Image.new("RGB", (32, 32), name).save(f"{folder.name}/{name}.png")
    >>> store = atlas.collect(folder.name, atlas.Clip("mini", device="cpu"), f"{folder.name}/out")
    >>> _ = summarise_neurons(store)
    >>> neuron = Neuron(store, 12)
    >>> len(neuron.images(2)), neuron.label, neuron.label_source
    (2, 'neuron 12', 'number')
    >>> folder.cleanup()
    """

    def __init__(self, store: Store, number: int):
        self.store, self.number = store, number
        store.derived(parts.STATS)  # raises `Refused` if there are no statistics
        count = store.request["model"]["layers"][0]["neurons"]
        if not 0 <= number < count:
            raise Refused(f"neuron {number} is out of range: {store.path} has neurons 0 to {count - 1}")

    @cached_property
    def stats(self) -> dict[str, Record]:
        """Its statistics over images and over words, of the kinds that the Store holds."""
        folder = self.store.derived(parts.STATS)
        files = {kind: folder / f"{kind}.parquet" for kind in ("image", "word")}
        return {kind: _row(file, self.number) for kind, file in files.items() if file.exists()}

    def __repr__(self) -> str:
        return f"Neuron({self.number} of {self.store.layer}: {self.label})"

    @cached_property
    def labels(self) -> list[Record]:
        """Significant labels with evidence, p and q; empty if labels were not made (`decompose label`)."""
        if not self.store.has(parts.LABELS):
            return []
        files = sorted(self.store.derived(parts.LABELS).glob("*.parquet"))
        rows = [row for file in files for row in _rows(file, self.number)]
        return [row for row in rows if row["label"] not in (None, "", NONE)]

    @property
    def label(self) -> str:
        """Name of the neuron, by the rule of `atlas.analysis.naming`."""
        return str(NeuronNames.read(self.store)[self.number])

    @property
    def label_source(self) -> NameSource:
        """The source of `label`: label, word, image, text or number (see `atlas.analysis.naming`)."""
        return NeuronNames.read(self.store)[self.number].source

    def images(self, k: int = 12, tail: str = "top") -> list[Record]:
        """The k images that activate it most (or least, with tail="bottom"): row, value, id, caption, label, group."""
        return self._rows("image", k, tail)

    def words(self, k: int = 12, tail: str = "top") -> list[str]:
        """The k rendered words that activate it most (or least), averaged over fonts and sizes."""
        return [row["label"] for row in self._rows("word", k, tail)]

    def _rows(self, kind: str, k: int, tail: str) -> list[Record]:
        if tail not in ("top", "bottom"):
            raise Refused(f"tail={tail!r}: tails are top and bottom")
        if kind not in self.stats:
            raise Refused(f"{self.store.path} holds no {kind}s")
        rows, values = self.stats[kind][tail][:k], self.stats[kind][f"{tail}_value"][:k]
        table = self.store.rows.select(["id", "caption", "label", "group"]).take(rows).to_pylist()
        return [{"row": r, "value": v, **entry} for r, v, entry in zip(rows, values, table, strict=True)]

    def histogram(self, kind: str = "image") -> tuple[np.ndarray, np.ndarray]:
        """Histogram of its activations: counts (bins,) and edges (bins + 1,)."""
        return np.array(self.stats[kind]["counts"]), np.array(self.stats[kind]["edges"])

    @cached_property
    def neighbours(self) -> dict[str, list[int]]:
        """Similar neurons, most similar first: by_basis (cosine of basis rows) and by_response (correlation)."""
        row = _row(self.store.derived(parts.NEIGHBOURS) / "neighbours.parquet", self.number)
        return {name: row[name] for name in ("by_basis", "by_response")}

    @cached_property
    def texts(self) -> list[str]:
        """The texts of the Store nearest to its basis row."""
        return _row(self.store.derived(parts.TEXTS) / "texts.parquet", self.number)["texts"]

    def _repr_html_(self) -> str:
        about = f"of {self.store.layer} · {display_text(self.label)}"
        labels = [f"{display_text(row['label'])} (p {format_p(row['p'])})" for row in self.labels]
        pieces = [reprs.heading(f"Neuron {self.number}", about), reprs.labelled_line("Labels", labels)]
        if "image" in self.stats:
            rows = self.images(reprs.SHOWN_IN_JUPYTER)
            names = [f"{display_text(row['caption'] or row['label'])}: {row['value']:.3g}" for row in rows]
            pieces.append(reprs.thumbnail_strip((self.store.thumb(row["row"]) for row in rows), names))
        if "word" in self.stats:
            pieces.append(
                reprs.labelled_line("Words", [display_text(word) for word in self.words(reprs.SHOWN_IN_JUPYTER)])
            )
        pieces.append(reprs.histogram_svg(self.stats))
        if self.store.has(parts.NEIGHBOURS):
            near = self.neighbours["by_response"][: reprs.SHOWN_IN_JUPYTER]
            pieces.append(reprs.labelled_line("Similar neurons", [str(number) for number in near]))
        return reprs.notebook_html(pieces)


def _rows(path: Path, number: int) -> list[Record]:
    return pq.read_table(path, filters=[("neuron", "==", number)]).to_pylist()


def _row(path: Path, number: int) -> Record:
    return _rows(path, number)[0]
