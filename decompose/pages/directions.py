"""The page of directions: what each is called, what bears that out, what it is made of and what it answers to.

Neurons have cards; directions, which are another set each time, have portraits, on one page.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from atlas.model.directions import Directions
from atlas.pages.fragments import picture_tag
from atlas.store.store import Store
from decompose.labels import NONE
from decompose.pages.fragment import render_fragment
from decompose.responses import Responses, default_kind

MOST_PORTRAITS = 100  # directions on a page; an autoencoder has thousands
PORTRAIT_NEURONS, PORTRAIT_ROWS = 6, 10


@dataclass(frozen=True)
class Portrait:
    """One direction: labels with their q and receipts, the neurons that it raises most, rows it answers to most."""

    number: int
    name: str
    labels: tuple[dict[str, Any], ...]  # label, evidence, q; effect, p, confirmed of raising it (None: not tried)
    neurons: tuple[tuple[int, float], ...]  # with what a unit of the direction adds to each
    rows: tuple[int, ...]


def portray(
    store: Store, directions: Directions, labels: pa.Table, receipts: pa.Table | None = None, most: int = MOST_PORTRAITS
) -> list[Portrait]:
    """The directions of labels that `label_neurons` made, with their receipts (`confirm_labels`).

    Those with a label come first, the surest of them first; beyond `most`, the others are left out. Raises Refused for
    directions of another layer, and for a Store of texts alone.
    """
    kind = default_kind(store)
    raised = {
        (row["neuron"], row["concept"]): row
        for row in (receipts.to_pylist() if receipts is not None else ())
        if row["act"] == "raise"
    }
    claims: dict[int, list[dict[str, Any]]] = {number: [] for number in range(len(directions))}
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
    """A page of directions, of `whole` of which some are portrayed."""
    return render_fragment(
        "directions.html", portraits=list(found), whole=whole, picture=lambda row: picture_tag(store, row)
    )


def _claim(label: dict[str, Any], receipt: dict[str, Any] | None) -> dict[str, Any]:
    measured = {name: receipt[name] if receipt else None for name in ("effect", "p", "confirmed")}
    return {name: label[name] for name in ("label", "evidence", "q")} | measured


def _neurons(write: Sequence[float] | np.ndarray) -> tuple[tuple[int, float], ...]:
    """The neurons of the largest weights, and the weights; none of weight 0."""
    write = np.asarray(write)
    order = np.argsort(-np.abs(write), kind="stable")[:PORTRAIT_NEURONS]
    return tuple((int(i), float(write[i])) for i in order if write[i])
