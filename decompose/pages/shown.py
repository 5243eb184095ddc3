"""The picture that a neuron is shown by in a sum, and what stands below the picture.

A name may come from other evidence than the neuron's strongest picture shows. Then name and picture would contradict
each other, so a name stands only below a picture that it is true of.
"""

from collections.abc import Callable
from typing import NamedTuple

import pyarrow.parquet as pq

from atlas.analysis import parts
from atlas.analysis.naming import RowNames
from atlas.store.store import Store
from decompose.enrichment import concepts_in
from decompose.equations import Term
from decompose.renderings import without_tone


class Shown(NamedTuple):
    """The row whose thumbnail shows a neuron (None: there is none), and the caption below the thumbnail."""

    row: int | None
    caption: str


def shown_rows(store: Store) -> Callable[[Term], Shown]:
    """What shows the neuron of a term: the strongest of its images, else of its words, that carries the term's label.

    Where none does, that is the row that activates the neuron most, and the caption is the neuron's number.
    """
    kinds = [kind for kind in ("image", "word") if kind in store.counts and store.current(parts.STATS)]
    tops = {kind: _strongest(store, kind) for kind in kinds}
    names = RowNames(store)

    def shown(term: Term) -> Shown:
        label = term.label.casefold()
        rows = [row for top in tops.values() for row in top[term.neuron]]
        if not rows:
            return Shown(None, term.label)
        carrier = next((row for row in rows if _carries(names[row], label)), None)
        return Shown(rows[0], f"neuron {term.neuron}") if carrier is None else Shown(carrier, term.label)

    return shown


def _carries(name: str, label: str) -> bool:
    return label == name.casefold() or label in concepts_in(without_tone(name))


def _strongest(store: Store, kind: str) -> dict[int, list[int]]:
    """The rows of a kind that activate each neuron most, strongest first."""
    table = pq.read_table(store.derived(parts.STATS) / f"{kind}.parquet", columns=["neuron", "top"])
    return dict(zip(table["neuron"].to_pylist(), table["top"].to_pylist(), strict=True))
