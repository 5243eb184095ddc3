"""Labels of a Store, put to the test on its own pictures: the planted writer of a concept passes, others do not."""

import shutil

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import atlas
from atlas.errors import Refused
from atlas.store.store import Store
from decompose.confirmation import RECEIPT_COLUMNS, confirm_labels
from decompose.responses import Responses
from tests.fakes import call, fake_store
from tests.towers import CONCEPT, FAR, noise

IMAGES = 24


@pytest.fixture(scope="module")
def store(tower, writer, tmp_path_factory):
    place = tmp_path_factory.mktemp("confirmation")
    (place / "noise").mkdir()
    for i, pixels in enumerate(noise(tower, IMAGES)):
        Image.fromarray(pixels).save(place / "noise" / f"{i:02d}.png")
    return atlas.collect(f"folder:{place / 'noise'}", tower, place / "out")


def labels(*rows: tuple[int, str]) -> pa.Table:
    return pa.table({"neuron": [n for n, _ in rows], "label": [label for _, label in rows]})


@pytest.fixture(scope="module")
def others(tower, writer, store):
    alive = np.flatnonzero(np.asarray(store.array("mean", "image"), np.float32).std(0) > 0)
    return [int(i) for i in alive if i != writer][:3]


@pytest.fixture
def far(monkeypatch):
    """Maps of noise hardly vary before training: neurons are raised further than by three deviations."""
    from decompose import confirmation

    receipt = confirmation.receipt
    monkeypatch.setattr(confirmation, "receipt", lambda *args, **kw: receipt(*args, **kw, amount=FAR))


@pytest.mark.usefixtures("far")
def test_the_label_that_is_true_is_confirmed_and_false_ones_are_not(tower, store, writer, others):
    given = labels((others[0], CONCEPT), (others[1], "none"), (others[2], "ship"), (writer, CONCEPT), (writer, "ship"))
    found = confirm_labels(store, tower, given, images=IMAGES, chosen_by=4)
    assert found.schema.equals(RECEIPT_COLUMNS)
    rows = found.to_pylist()
    pairs = [(others[0], CONCEPT), (others[2], "ship"), (writer, CONCEPT), (writer, "ship")]
    expected = [(*pair, act) for pair in pairs for act in ("raise", "ablate")]
    assert [(row["neuron"], row["concept"], row["act"]) for row in rows] == expected
    confirmed = [(row["neuron"], row["concept"]) for row in rows if row["act"] == "raise" and row["confirmed"]]
    assert [pair for pair in confirmed if pair[1] == CONCEPT] == [(writer, CONCEPT)]  # of "ship" all write a little
    (true,) = (row for row in rows if (row["neuron"], row["concept"], row["act"]) == (writer, CONCEPT, "raise"))
    assert true["low"] < true["effect"] < true["high"]
    assert abs(true["control"]) < true["effect"] / 5


def test_images_that_a_label_was_chosen_by_do_not_count(tower, store, writer, monkeypatch):
    seen = {}

    def spy(tower, images, texts, directions, templates, **options):
        seen.update(options, images=images)
        return []

    monkeypatch.setattr("decompose.confirmation.receipt", spy)
    with pytest.raises(ValueError, match="shorter"):
        confirm_labels(store, tower, labels((writer, CONCEPT)), images=IMAGES, chosen_by=4)
    own = set(Responses.of(store, "image").strongest(4)[0][writer].tolist())
    assert {i for i, counts in enumerate(seen["held"][:, 0]) if not counts} == own  # all images tried, in order
    with pytest.raises(ValueError, match="shorter"):
        confirm_labels(store, tower, labels((writer, CONCEPT)), images=IMAGES - 4, chosen_by=4)
    assert seen["held"].all()  # those left are tried first
    assert len(seen["images"]) == IMAGES - 4


def test_no_rendering_of_a_thing_that_a_label_was_chosen_by_counts(tower, store, writer, tmp_path, monkeypatch):
    twice = Store.open(shutil.copytree(store.path, tmp_path / "twice"))
    call(twice, [f"thing {i // 2}" for i in range(IMAGES)], ["one", "other"] * (IMAGES // 2))
    seen = {}
    monkeypatch.setattr("decompose.confirmation.receipt", lambda *_, **options: seen.update(options) or [])
    with pytest.raises(ValueError, match="shorter"):
        confirm_labels(twice, tower, labels((writer, CONCEPT)), images=IMAGES, chosen_by=4)
    both = seen["held"][:, 0].reshape(-1, 2)
    assert (both[:, 0] == both[:, 1]).all()
    assert (~both).sum() == 8


def test_no_labels_give_no_rows_and_another_model_s_store_is_refused(tower, store, tmp_path):
    found = confirm_labels(store, tower, labels((0, "none")))
    assert found.schema.equals(RECEIPT_COLUMNS)
    assert len(found) == 0
    with pytest.raises(Refused, match="was made by fake"):
        confirm_labels(fake_store(tmp_path / "s", derived=False), tower, labels((0, "cat")))
