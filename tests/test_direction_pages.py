"""Portraits of directions: the surest first, with their own receipts, neurons and rows; and the page of them."""

import numpy as np
import pyarrow as pa
import pytest

from atlas.errors import Refused
from atlas.formatting import format_signed
from atlas.model.directions import Directions
from atlas.pages.neurons import MEANING_OF_LABELS
from decompose.pages.directions import directions_page, portray
from tests.fakes import fake_store

U, FIRST = 16, 1


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return fake_store(tmp_path_factory.mktemp("portraits"), images=40, words=8, neurons=U)


@pytest.fixture(scope="module")
def directions():
    read = np.eye(4, U, k=FIRST, dtype=np.float32)  # direction i is read from neuron FIRST + i alone
    write = read.copy()
    write[2, :3] = -2, 0.5, 0
    return Directions(read, write, tuple(f"<i>latent</i> {i}" for i in range(4)), np.zeros(4))


@pytest.fixture(scope="module")
def labels():
    rows = [(0, "none", 0.9), (1, "<b>cat</b>", 0.02), (1, "dog", 0.03), (2, "sun", 1e-7), (3, "none", 1.0)]
    return pa.Table.from_pylist(
        [{"neuron": n, "label": label, "evidence": "basis", "p": q / 2, "q": q} for n, label, q in rows]
    )


@pytest.fixture(scope="module")
def receipts():
    rows = [(1, "dog", "raise", 0.5, True), (1, "dog", "ablate", -0.9, False), (2, "dog", "raise", 0.7, False)]
    return pa.Table.from_pylist(
        [
            {"neuron": n, "concept": c, "act": a, "effect": e, "p": 0.01, "confirmed": yes}
            | {"images": 17, "balance": 0.83}
            for n, c, a, e, yes in rows
        ]
    )


def test_the_surest_come_first_and_each_has_its_own(store, directions, labels, receipts):
    found = portray(store, directions, labels, receipts)
    assert [one.number for one in found] == [2, 1, 0, 3]
    assert [[row["label"] for row in one.labels] for one in found] == [["sun"], ["<b>cat</b>", "dog"], [], []]
    assert found[0].labels[0]["effect"] is None  # its receipt is of another concept
    assert found[1].labels[1] == {"label": "dog", "evidence": "basis", "q": 0.03, "effect": 0.5, "p": 0.01,
                                  "confirmed": True, "images": 17, "balance": 0.83}  # fmt: skip
    assert found[0].neurons == ((0, -2.0), (FIRST + 2, 1.0), (1, 0.5))
    mean = np.asarray(store.array("mean", "image")[:], np.float32)
    for one in found:
        best = store.positions("image")[mean[:, FIRST + one.number].argmax()]
        assert one.rows[0] == best
    assert [one.number for one in portray(store, directions, labels, receipts, most=2)] == [2, 1]


def test_the_page_shows_them_and_escapes_what_they_are_called(store, directions, labels, receipts):
    page = directions_page(store, portray(store, directions, labels, receipts, most=3), len(directions))
    assert "<b>cat" not in page
    assert "<i>latent" not in page
    assert "&lt;b&gt;cat&lt;/b&gt;" in page
    assert "+0.5000" in page
    assert page.count('<td class="n">17</td><td class="n">0.83</td>') == 1  # images and balance of the one receipt
    assert "not tested" in page
    assert "no significant label" in page
    assert "4 directions of the layer, of which the 3 with the smallest q are shown" in page
    assert 'href="neurons/' in page
    assert all(sentence in page for sentence in MEANING_OF_LABELS)


def test_directions_of_another_layer_are_refused(store, directions, labels):
    narrow = Directions(directions.read[:, :9], directions.write[:, :9], directions.names, directions.bias)
    with pytest.raises(Refused, match="of 9 neurons"):
        portray(store, narrow, labels)


def test_a_number_that_rounds_to_zero_has_no_sign() -> None:
    assert [format_signed(value, 2) for value in (0.456, -0.456, 0.001, -0.001, 0.0)] == [
        "+0.46",
        "−0.46",
        *["0.00"] * 3,
    ]
