"""The page of directions: the labels of each with their evidence, its neurons, and the rows that activate it most.

Neurons have cards; directions differ from set to set, and have portraits on one page.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from atlas.formatting import Record
from atlas.model.directions import Directions
from atlas.pages.fragments import picture_tag
from atlas.pages.neurons import MEANING_OF_LABELS
from atlas.store.store import Store
from decompose.labels import NONE
from decompose.pages.fragment import render_fragment
from decompose.responses import Responses, default_kind

MOST_PORTRAITS = 100  # directions on a page; an autoencoder has thousands
PORTRAIT_NEURONS, PORTRAIT_ROWS = 6, 10
_MEASURED = ("effect", "images", "balance", "p", "confirmed")  # of a receipt


@dataclass(frozen=True)
class Portrait:
    """A direction: labels with q and receipts, the neurons that it raises most, the rows that activate it most."""

    number: int
    name: str
    labels: tuple[Record, ...]  # label, evidence, q; `_MEASURED` of raising it (None: not tested)
    neurons: tuple[tuple[int, float], ...]  # each with what a unit of the direction adds to it
    rows: tuple[int, ...]


def portray(
    store: Store, directions: Directions, labels: pa.Table, receipts: pa.Table | None = None, most: int = MOST_PORTRAITS
) -> list[Portrait]:
    """Portraits of directions, from their labels (`label_neurons`) and receipts (`confirm_labels`).

    Sorted by the q of the first label; those without labels come last. `most`: how many portraits are made at most.
    Raises `Refused` for directions of another layer, and for a Store of texts alone.
    """
    kind = default_kind(store)
    raised = {
        (row["neuron"], row["concept"]): row
        for row in (receipts.to_pylist() if receipts is not None else ())
        if row["act"] == "raise"
    }
    claims: dict[int, list[Record]] = {number: [] for number in range(len(directions))}
    for row in labels.to_pylist():
        if row["label"] != NONE:
            claims[row["neuron"]].append(_claim(row, raised.get((row["neuron"], row["label"]))))
    order = sorted(claims, key=lambda number: (claims[number][0]["q"] if claims[number] else 2, number))[:most]
    answers = Responses.of(store, kind, directions[order])
    top = store.positions(kind)[answers.strongest(min(PORTRAIT_ROWS, len(answers)))[0]]
    return [
        Portrait(number, directions.names[number], tuple(claims[number]), _neurons(directions.write[number]), rows)
        for number, rows in zip(order, map(tuple, top.tolist()), strict=True)
    ]


def directions_page(store: Store, found: Sequence[Portrait], whole: int) -> str:
    """The HTML of the page. `whole`: how many directions there are, of which `found` are portrayed."""
    said, picture = " ".join(MEANING_OF_LABELS), lambda row: picture_tag(store, row)
    return render_fragment("directions.html", portraits=list(found), whole=whole, said=said, picture=picture)


def _claim(label: Record, receipt: Record | None) -> Record:
    measured = {name: receipt.get(name) if receipt else None for name in _MEASURED}
    return {name: label[name] for name in ("label", "evidence", "q")} | measured


def _neurons(write: Sequence[float] | np.ndarray) -> tuple[tuple[int, float], ...]:
    """The neurons with the largest weights, and the weights; none of weight 0."""
    write = np.asarray(write)
    order = np.argsort(-np.abs(write), kind="stable")[:PORTRAIT_NEURONS]
    return tuple((int(i), float(write[i])) for i in order if write[i])
