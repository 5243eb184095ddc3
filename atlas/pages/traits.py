"""Traits: what neurons are told apart by on their map, each with the entries of its legend and every neuron's own.

Kinds, such as the evidence of a label, have a hue an entry; what is measured falls into fifths of the neurons, low to
high. Only what the run holds is a trait.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from atlas.formatting import format_number
from atlas.pages.neurons import Neurons
from atlas.pages.scatter import PALETTE, RAMP

GREY, APART = len(PALETTE) - 1, 6  # hues where nothing is known: a ramp has the grey itself in its middle
HUES = GREY  # kinds that have a hue of their own
UNKNOWN, OTHERS, UNNAMED = "not known", "others", "no label"
CHANCES = (0.0001, 0.001, 0.01, 0.05)  # between which p-values are told apart
EVIDENCE = (
    "What makes a neuron's first label significant: the images or words that drive it, their captions, or its basis "
    "row, which is what it adds to the embedding."
)
MEASURED = {  # columns of the statistics, how they are called, and what they say
    "monosemanticity": ("Monosemanticity", "How alike the {kind}s are that drive a neuron: the mean cosine of pairs."),
    "max": ("Largest activation", "The most that any {kind} drives a neuron to."),
    "mean": ("Mean", "Mean activation over all {kind}s."),
    "std": ("Spread", "Standard deviation of the activation over all {kind}s."),
    "skew": ("Skew", "High where a neuron is silent but for a few {kind}s."),
}


@dataclass(frozen=True)
class Trait:
    """One trait of all neurons: `entries` of its legend, `codes` of neurons into them, and the figures, if measured.

    The last entry is that of neurons of which nothing is known where `known` is less than there are entries; `graded`
    entries are in order, and have hues of the ramp.
    """

    name: str
    title: str
    said: str
    entries: list[str]
    codes: UInt8[np.ndarray, " u"]
    known: int
    values: Float32[np.ndarray, " u"] | None = None
    graded: bool = False

    @property
    def hues(self) -> list[int]:
        """The colour of every entry, as a code into PALETTE and RAMP, which follows it."""
        steps = max(1, self.known - 1)
        ramp = [len(PALETTE) + round(k * (len(RAMP) - 1) / steps) for k in range(self.known)]
        known, rest = (ramp, APART) if self.graded else (list(range(self.known)), GREY)
        return known + [rest] * (len(self.entries) - self.known)

    @property
    def described(self) -> dict[str, object]:
        """What the page's legend says of it."""
        return {part: getattr(self, part) for part in ("name", "title", "said", "entries", "hues")}


def neuron_traits(neurons: Neurons) -> list[Trait]:
    """The traits that this run holds and in which its neurons differ."""
    found = [*_kinds(neurons), *_counts(neurons), *_measures(neurons)]
    return [trait for trait in found if len(trait.entries) > 1]


def _kinds(neurons: Neurons) -> Iterator[Trait]:
    if len(neurons.stats) > 1:
        kinds = list(neurons.stats)
        most = np.array([[row["max"] for row in neurons.stats[kind]] for kind in kinds]).argmax(axis=0)
        said = "Whether an image or a word drives a neuron most."
        yield kind_trait("strongest", "Strongest item", said, [kinds[code] for code in most])
    if neurons.claims is not None:
        claims = [neurons.claim(i) for i in range(len(neurons))]
        named = [str(claim["evidence"] or "not said") if claim else UNNAMED for claim in claims]
        yield kind_trait("evidence", "Evidence of its label", EVIDENCE, named, UNNAMED)
    if neurons.receipts is not None:
        said = "Whether raising the neuron raised what its labels name, in a real forward pass."
        tested = [_tested(neurons, i) for i in range(len(neurons))]
        order = ["all labels confirmed", "some confirmed", "none confirmed"]
        yield kind_trait("receipts", "Receipts", said, tested, "not tested", order)


def _tested(neurons: Neurons, neuron: int) -> str:
    rows = [row for row in (neurons.receipts or {}).get(neuron, ()) if row.get("act", "raise") == "raise"]
    confirmed = sum(bool(row.get("confirmed")) for row in rows)
    if not rows:
        return "not tested"
    return "none confirmed" if not confirmed else "some confirmed" if confirmed < len(rows) else "all labels confirmed"


def _counts(neurons: Neurons) -> Iterator[Trait]:
    if neurons.claims is not None:
        said = "How many labels of a neuron are significant."
        yield count_trait(
            "labels", "Number of labels", said, [len(neurons.significant(i)) for i in range(len(neurons))]
        )
    if neurons.facets is not None:
        said = "Into how many groups a neuron's strongest images fall; none where too few can be told apart."
        yield count_trait("facets", "Facets", said, [len(neurons.facets.get(i, ())) for i in range(len(neurons))])


def _measures(neurons: Neurons) -> Iterator[Trait]:
    table = neurons.stats[neurons.kind]
    for name, (title, said) in MEASURED.items():
        yield measure_trait(name, title, said.format(kind=neurons.kind), [row[name] for row in table])
    said = f"On what share of the {neurons.kind}s a neuron is silent: not above 0."
    yield measure_trait("sparsity", "Sparsity", said, [silent(row["edges"], row["counts"]) for row in table])
    if neurons.facets is not None:
        of = [[row.get("polysemanticity") for row in neurons.facets.get(i, ())] for i in range(len(neurons))]
        said = "How far apart the groups lie into which a neuron's strongest images fall."
        yield measure_trait("polysemanticity", "Polysemanticity", said, [row[0] if row else None for row in of])
    if neurons.claims is not None:
        claims = [neurons.claim(i) for i in range(len(neurons))]
        said = "How often chance alone gives evidence as strong as that of a neuron's first label."
        p = [claim["p"] if claim else None for claim in claims]
        yield measure_trait("p", "p of its label", said, p, CHANCES, UNNAMED)


def silent(edges: Sequence[float], counts: Sequence[int]) -> float:
    """The share of a histogram that is not above 0, its bins being cut where they hold it."""
    cut = np.interp(0.0, edges, np.concatenate([[0], np.cumsum(counts)]))
    return float(cut / max(1, np.sum(counts)))


def kind_trait(
    name: str, title: str, said: str, named: Sequence[str], rest: str = "", order: Sequence[str] = ()
) -> Trait:
    """A trait of kinds, in a given order or the largest first; `rest` is that of neurons of which nothing is known.

    Kinds for which there are no more hues are "others".
    """
    counts = Counter(entry for entry in named if entry != rest)
    entries = [entry for entry in order if counts[entry]] or [entry for entry, _ in counts.most_common()]
    if len(entries) > HUES:
        entries = [*entries[: HUES - 1], OTHERS]
        named = [entry if entry in entries or entry == rest else OTHERS for entry in named]
    known = len(entries)
    entries += [rest] if rest in named else []
    codes = np.array([entries.index(entry) for entry in named], np.uint8)
    return Trait(name, title, said, entries, codes, known)


def count_trait(name: str, title: str, said: str, numbers: Sequence[int]) -> Trait:
    """A trait that is counted: an entry a number, few to many; none at all comes last."""
    some = sorted(set(numbers) - {0})
    order = {number: code for code, number in enumerate([*some, 0])}
    entries = [f"{number}" for number in some] + (["none"] if 0 in numbers else [])
    codes = np.array([order[number] for number in numbers], np.uint8)
    return Trait(name, title, said, entries, codes, len(some), np.array(numbers, np.float32), graded=True)


def measure_trait(
    name: str, title: str, said: str, figures: Sequence[float | None], edges: Sequence[float] = (), rest: str = UNKNOWN
) -> Trait:
    """A trait that is measured, low to high: between given edges, or fifths of the neurons by what they span."""
    values = np.array([np.nan if figure is None else figure for figure in figures], np.float32)
    known = np.isfinite(values)
    cuts = np.asarray(edges) if len(edges) else fifths(values[known])
    band = np.searchsorted(cuts, values[known].astype(np.float64), side="right" if len(edges) else "left")
    levels, of_known = np.unique(band, return_inverse=True)
    codes = np.full(len(values), len(levels), np.uint8)
    codes[known] = of_known
    spans = [values[codes == code] for code in range(len(levels))]
    entries = [
        band_text(edges, level) if len(edges) else span(of) for level, of in zip(levels.tolist(), spans, strict=True)
    ]
    entries += [] if known.all() else [rest]
    return Trait(name, title, said, entries, codes, len(levels), values, graded=True)


def fifths(values: Float32[np.ndarray, " n"]) -> Float64[np.ndarray, " c"]:
    """What cuts values into fifths, as far as they differ."""
    return np.unique(np.quantile(values, np.arange(1, 5) / 5)) if len(values) else np.zeros(0)


def span(values: Float32[np.ndarray, " n"]) -> str:
    """The least and the largest of some values."""
    low, high = format_number(float(values.min())), format_number(float(values.max()))
    return low if low == high else f"{low} to {high}"


def band_text(edges: Sequence[float], band: int) -> str:
    """A band between edges in words."""
    if band == 0:
        return f"below {edges[0]:g}"
    return f"{edges[-1]:g} and above" if band == len(edges) else f"{edges[band - 1]:g} to {edges[band]:g}"
