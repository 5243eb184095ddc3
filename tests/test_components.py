"""NMF components of a Store: planted groups of neurons come back, with the rows that they fire on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atlas.errors import Refused
from atlas.store import Store
from decompose import report
from decompose.components import factor_activations
from tests.fakes import fake_store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Images 0 to 99 fire neurons 0 to 3, the others 4 to 7; of the words, the first twenty fire 0 to 3."""
    made = fake_store(tmp_path / "store", images=150, words=40)
    A = np.random.default_rng(0).random((150, 16)).astype(np.float16) * 0.05
    A[:100, :4] += 1
    A[100:, 4:8] += 1
    words = np.full((40, 16), 0.01, np.float16)
    words[:20, :4] += 1
    words[20:, 4:8] += 1
    real = Store.array

    def array(self: Store, name: str, kind: str | None = None, layer: str | None = None) -> Any:
        return {"image": A, "word": words}[kind] if name == "mean" and kind else real(self, name, kind, layer)

    monkeypatch.setattr(Store, "array", array)
    return made


def test_planted_groups_come_back_with_their_images_and_words(store: Store) -> None:
    directions, found = factor_activations(store, 2)
    assert [one.share for one in found] == pytest.approx([100 / 150, 50 / 150])
    assert [{neuron for neuron, _ in one.neurons[:4]} for one in found] == [{0, 1, 2, 3}, {4, 5, 6, 7}]
    images = store.positions("image")
    assert set(found[0].rows) <= set(images[:100].tolist())
    assert set(found[1].rows) <= set(images[100:].tolist())
    labels = store.table(["label"], "word")["label"].to_pylist()
    assert set(found[0].words) <= set(labels[:20])
    assert len(directions) == 2


def test_the_page_shows_components_and_leads_to_cards(store: Store) -> None:
    _, found = factor_activations(store, 2)
    page = report.components(store, found)
    report.write(store, "components", "Components", {"k": 2}, page)
    assert page.count("<section") == 2
    assert 'href="neurons/0000.html"' in page
    assert (store.derived("site-fragments/components") / "page.html").read_text("utf-8") == page


def test_what_cannot_be_factored_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="ask for 1 to 16"):
        factor_activations(store, 17)
    with pytest.raises(Refused, match="holds no images"):
        factor_activations(fake_store(tmp_path / "other", images=0), 2)
