"""NMF components of a Store: planted groups of neurons come back, with the rows that they fire on."""

import shutil
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from atlas.analysis.naming import RowNames
from atlas.errors import Refused
from atlas.store.store import Store
from decompose.components import choose_components, factor_activations, telling_names
from decompose.pages import components_page, write_fragment
from decompose.pages.components import component_colours, components_map
from decompose.renderings import tell_things
from tests.fakes import fake_store, part


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
    names = np.array(store.table(["label"])["label"].to_pylist())
    for one in found:
        assert one.called == tuple(dict.fromkeys(names[list(one.rows)].tolist()))[:12]
    assert len(directions) == 2


def test_a_component_shows_renderings_of_one_thing_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    tones = ("light", "medium-light", "medium", "medium-dark", "dark")
    things = tell_things([f"person {i // 5} {tones[i % 5]} skin tone" for i in range(150)], [""] * 150)
    monkeypatch.setattr("decompose.components.things_of", lambda *_: things)
    image = {row: i for i, row in enumerate(store.positions("image").tolist())}
    for one in factor_activations(store, 2)[1]:
        assert len(one.rows) == len({image[row] // 5 for row in one.rows}) == 16


def test_a_component_is_named_by_three_different_things() -> None:
    called = ("kiss person", "couple with heart person", "couple with heart", "kiss", "ring", "bouquet")
    assert telling_names(called) == ["kiss person", "couple with heart person", "ring"]
    assert telling_names(("cat", "cats", "cat face")) == ["cat", "cats"]


def test_the_name_of_a_folder_names_no_component(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Store.table

    def table(self: Store, columns: Sequence[str], kind: str | None = None) -> pa.Table:
        found = real(self, columns, kind).to_pydict()
        if "label" in found and kind is None:
            found["label"] = ["photos"] * 150 + found["label"][150:]
        return pa.table(found)

    monkeypatch.setattr(Store, "table", table)
    names = RowNames(store)
    for one in factor_activations(store, 2)[1]:
        assert one.called == tuple(dict.fromkeys(names[row] for row in one.rows))[:12]
        assert "photos" not in one.called


@pytest.fixture
def signed(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The same of a layer that no ReLU closes: every second neuron is low where it was high."""
    real = Store.array
    sign = np.where(np.arange(16) % 2, -1, 1).astype(np.float16)

    def array(self: Store, name: str, kind: str | None = None, layer: str | None = None) -> Any:
        return real(self, name, kind, layer) * sign if name == "mean" else real(self, name, kind, layer)

    monkeypatch.setattr(Store, "array", array)
    store.request["model"]["layers"][0]["rectified"] = False
    return store


def test_a_layer_of_both_signs_is_factored_by_sign(signed: Store) -> None:
    directions, found = factor_activations(signed, 2)
    assert [one.share for one in found] == pytest.approx([100 / 150, 50 / 150])
    assert [{neuron for neuron, _ in one.neurons[:4]} for one in found] == [{0, 1, 2, 3}, {4, 5, 6, 7}]
    assert all((weight < 0) == neuron % 2 for one in found for neuron, weight in one.neurons[:4])
    active = directions.activations(np.asarray(signed.array("mean", "image"), np.float32))
    assert active[:100, 0].min() > 5 * active[100:, 0].max()
    assert "negative weight" in components_page(signed, found)


def test_the_number_of_components_is_chosen(signed: Store) -> None:
    assert choose_components(signed, (2, 4)).n_components == 2
    with pytest.raises(Refused, match="too few to choose by"):
        choose_components(signed, (64,))


def test_the_page_shows_components_and_leads_to_cards(store: Store) -> None:
    _, found = factor_activations(store, 2)
    page = components_page(store, found)
    write_fragment(store, "components", "Components", "decompose nmf {store} -k 2", page)
    assert page.count("<section") == 2
    assert 'href="neurons/0000.html"' in page
    assert f"0. <bdi>{', '.join(found[0].called[:3])}</bdi>" in page
    assert (store.derived(part("site-fragments/components")) / "page.html").read_text("utf-8") == page


def test_every_image_is_of_one_component_and_has_its_colour_on_the_map(store: Store) -> None:
    _, found = factor_activations(store, 2)
    assert sorted(np.concatenate([one.own for one in found]).tolist()) == store.positions("image").tolist()
    if store.has(part("layout/map")):
        shutil.rmtree(store.path / "layout/map")
    assert components_map(store, found) is None
    x = np.zeros(len(store))
    x[found[0].own], x[found[1].own] = np.linspace(0, 1, len(found[0].own)), np.linspace(2, 3, len(found[1].own))
    x[store.positions("word")] = 1.5
    x[store.positions("text")[0]] = 1e6  # far off: left out, so that it shrinks nothing
    with store.deriving(part("layout/map"), {}) as folder:
        pq.write_table(pa.table({"row": np.arange(len(store)), "x": x, "y": np.tile([0.0, 3.0], len(store))[: len(x)]}),
                       folder / "points.parquet")  # fmt: skip
    png = components_map(store, found)
    assert png is not None
    pixels = np.asarray(Image.open(BytesIO(png)).convert("RGBA"))
    wanted = [tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in component_colours(2)]
    seen = [np.flatnonzero((pixels[..., :3] == colour).all(2).any(0)) for colour in wanted]
    assert seen[0].max() < seen[1].min()
    assert seen[1].max() - seen[0].min() > pixels.shape[1] / 2


def test_there_are_colours_for_any_number_of_components() -> None:
    assert len(set(component_colours(20))) == 20
    assert len(component_colours(45)) == 45


def test_what_cannot_be_factored_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="ask for 1 to 16"):
        factor_activations(store, 17)
    with pytest.raises(Refused, match="holds no images"):
        factor_activations(fake_store(tmp_path / "other", images=0), 2)
