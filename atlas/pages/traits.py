"""Traits: what neurons can be coloured by on their map, with the entries of the legend and the entry of each neuron.

A trait of classes, such as the evidence of a label, has a hue for each; a measured trait is cut into fifths of the
neurons, low to high. There are traits only for what was derived from the Store.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from atlas.formatting import format_number
from atlas.pages.colours import PALETTE
from atlas.pages.legend import ramp_hues
from atlas.pages.neurons import Neurons
from atlas.pages.settings import LegendEntry, Scheme

UNKNOWN_HUE, UNKNOWN_ON_RAMP = (
    len(PALETTE) - 1,
    6,
)  # hues for "not known": beside a ramp, which has grey in its middle, another one
KIND_HUES = UNKNOWN_HUE  # classes with a hue of their own
NOT_KNOWN, OTHER_KINDS, NO_LABEL = "not known", "others", "no label"
P_EDGES = (0.0001, 0.001, 0.01, 0.05)  # edges of the entries of p-values
EVIDENCE_TEXT = (
    "The evidence for a neuron's first label: the images or words that activate it, their captions, or its basis row, "
    "which is what the neuron adds to the embedding."
)
MEASURED_TRAITS = {  # columns of the statistics: their titles and explanations
    "monosemanticity": (
        "Monosemanticity",
        "How similar the {kind}s are that activate a neuron: the mean cosine of pairs.",
    ),
    "max": ("Largest activation", "The largest activation by any {kind}."),
    "mean": ("Mean", "Mean activation over all {kind}s."),
    "std": ("Spread", "Standard deviation of the activation over all {kind}s."),
    "skew": ("Skew", "High where only a few {kind}s activate a neuron."),
}


@dataclass(frozen=True)
class Trait:
    """A trait of all neurons: the `entries` of its legend, the `codes` of neurons into them, and measured `values`.

    `about`: a sentence below the legend. `known`: how many entries are of known values; a further one is of neurons
    without a value. `graded`: the entries are in order and have hues of the ramp.
    """

    name: str
    title: str
    about: str
    entries: list[str]
    codes: UInt8[np.ndarray, " u"]
    known: int
    values: Float32[np.ndarray, " u"] | None = None
    graded: bool = False

    @property
    def hues(self) -> list[int]:
        """The colour of every entry: a code that counts through PALETTE and then RAMP."""
        known, rest = (
            (ramp_hues(self.known), UNKNOWN_ON_RAMP) if self.graded else (list(range(self.known)), UNKNOWN_HUE)
        )
        return known + [rest] * (len(self.entries) - self.known)

    @property
    def scheme(self) -> Scheme:
        """The trait as the page's settings hold it."""
        counts = np.bincount(self.codes, minlength=len(self.entries)).tolist()
        entries = [
            LegendEntry(name=name, count=count, hue=hue)
            for name, count, hue in zip(self.entries, counts, self.hues, strict=True)
        ]
        return Scheme(name=self.name, title=self.title, about=self.about, entries=entries, of=None)


def neuron_traits(neurons: Neurons) -> list[Trait]:
    """The traits that are known and in which the neurons differ."""
    found = [*_kinds(neurons), *_counts(neurons), *_measures(neurons)]
    return [trait for trait in found if len(trait.entries) > 1]


def _kinds(neurons: Neurons) -> Iterator[Trait]:
    if len(neurons.stats) > 1:
        kinds = list(neurons.stats)
        most = np.array([[row["max"] for row in neurons.stats[kind]] for kind in kinds]).argmax(axis=0)
        about = "Whether an image or a word activates a neuron most."
        yield kind_trait("strongest", "Strongest item", about, [kinds[code] for code in most])
    if neurons.claims is not None:
        claims = [neurons.claim(i) for i in range(len(neurons))]
        named = [str(claim["evidence"] or "not said") if claim else NO_LABEL for claim in claims]
        yield kind_trait("evidence", "Evidence of its label", EVIDENCE_TEXT, named, NO_LABEL)
    if neurons.receipts is not None:
        about = "Whether raising the neuron raised the scores of its labels, in a real forward pass."
        tested = [_tested(neurons, i) for i in range(len(neurons))]
        order = ["all labels confirmed", "some confirmed", "none confirmed"]
        yield kind_trait("receipts", "Receipts", about, tested, "not tested", order)


def _tested(neurons: Neurons, neuron: int) -> str:
    rows = [row for row in (neurons.receipts or {}).get(neuron, ()) if row.get("act", "raise") == "raise"]
    confirmed = sum(bool(row.get("confirmed")) for row in rows)
    if not rows:
        return "not tested"
    return "none confirmed" if not confirmed else "some confirmed" if confirmed < len(rows) else "all labels confirmed"


def _counts(neurons: Neurons) -> Iterator[Trait]:
    if neurons.claims is not None:
        about = "How many significant labels a neuron has."
        yield count_trait(
            "labels", "Number of labels", about, [len(neurons.significant(i)) for i in range(len(neurons))]
        )
    if neurons.facets is not None:
        about = "How many clusters a neuron's strongest images form; none where there are too few of them."
        yield count_trait("facets", "Facets", about, [len(neurons.facets.get(i, ())) for i in range(len(neurons))])


def _measures(neurons: Neurons) -> Iterator[Trait]:
    table = neurons.stats[neurons.kind]
    for name, (title, about) in MEASURED_TRAITS.items():
        yield measure_trait(name, title, about.format(kind=neurons.kind), [row[name] for row in table])
    about = f"The share of {neurons.kind}s on which a neuron is not above 0."
    yield measure_trait("sparsity", "Sparsity", about, [silent_share(row["edges"], row["counts"]) for row in table])
    if neurons.facets is not None:
        of = [[row.get("polysemanticity") for row in neurons.facets.get(i, ())] for i in range(len(neurons))]
        about = "How far apart the clusters of a neuron's strongest images lie."
        yield measure_trait("polysemanticity", "Polysemanticity", about, [row[0] if row else None for row in of])
    if neurons.claims is not None:
        claims = [neurons.claim(i) for i in range(len(neurons))]
        about = "How often chance alone gives evidence as strong as that of a neuron's first label."
        p = [claim["p"] if claim else None for claim in claims]
        yield measure_trait("p", "p of its label", about, p, P_EDGES, NO_LABEL)


def silent_share(edges: Sequence[float], counts: Sequence[int]) -> float:
    """The share of a histogram that is not above 0; a bin around 0 is split."""
    cut = np.interp(0.0, edges, np.concatenate([[0], np.cumsum(counts)]))
    return float(cut / max(1, np.sum(counts)))


def kind_trait(
    name: str, title: str, about: str, named: Sequence[str], rest: str = "", order: Sequence[str] = ()
) -> Trait:
    """A trait of classes, in a given order or the largest first; `rest` is the class of neurons without a value.

    Classes beyond the hues of the palette are joined as "others".
    """
    counts = Counter(entry for entry in named if entry != rest)
    entries = [entry for entry in order if counts[entry]] or [entry for entry, _ in counts.most_common()]
    if len(entries) > KIND_HUES:
        entries = [*entries[: KIND_HUES - 1], OTHER_KINDS]
        named = [entry if entry in entries or entry == rest else OTHER_KINDS for entry in named]
    known = len(entries)
    entries += [rest] if rest in named else []
    codes = np.array([entries.index(entry) for entry in named], np.uint8)
    return Trait(name, title, about, entries, codes, known)


def count_trait(name: str, title: str, about: str, numbers: Sequence[int]) -> Trait:
    """A trait of counts: an entry a number, low to high; 0 comes last."""
    some = sorted(set(numbers) - {0})
    order = {number: code for code, number in enumerate([*some, 0])}
    entries = [f"{number}" for number in some] + (["none"] if 0 in numbers else [])
    codes = np.array([order[number] for number in numbers], np.uint8)
    return Trait(name, title, about, entries, codes, len(some), np.array(numbers, np.float32), graded=True)


def measure_trait(
    name: str,
    title: str,
    about: str,
    figures: Sequence[float | None],
    edges: Sequence[float] = (),
    rest: str = NOT_KNOWN,
) -> Trait:
    """A measured trait, low to high: between given edges, or in fifths of the neurons, named by their values."""
    values = np.array([np.nan if figure is None else figure for figure in figures], np.float32)
    known = np.isfinite(values)
    cuts = np.asarray(edges) if len(edges) else fifth_edges(values[known])
    band = np.searchsorted(cuts, values[known].astype(np.float64), side="right" if len(edges) else "left")
    levels, of_known = np.unique(band, return_inverse=True)
    codes = np.full(len(values), len(levels), np.uint8)
    codes[known] = of_known
    spans = [values[codes == code] for code in range(len(levels))]
    entries = [
        band_text(edges, level) if len(edges) else value_range(of)
        for level, of in zip(levels.tolist(), spans, strict=True)
    ]
    entries += [] if known.all() else [rest]
    return Trait(name, title, about, entries, codes, len(levels), values, graded=True)


def fifth_edges(values: Float32[np.ndarray, " n"]) -> Float64[np.ndarray, " c"]:
    """The values that cut others into fifths, as far as they differ."""
    return np.unique(np.quantile(values, np.arange(1, 5) / 5)) if len(values) else np.zeros(0)


def value_range(values: Float32[np.ndarray, " n"]) -> str:
    """The smallest and the largest of some values, in words."""
    low, high = format_number(float(values.min())), format_number(float(values.max()))
    return low if low == high else f"{low} to {high}"


def band_text(edges: Sequence[float], band: int) -> str:
    """A band between edges in words."""
    if band == 0:
        return f"below {edges[0]:g}"
    return f"{edges[-1]:g} and above" if band == len(edges) else f"{edges[band - 1]:g} to {edges[band]:g}"
