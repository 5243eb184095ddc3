"""The map coloured by a neuron: which rows, which colours, what the legend says, and what is read for it."""

import numpy as np
import pytest

from atlas.pages import drivers, write_site
from atlas.pages.scatter import HEAT, PALETTE, RAMP
from atlas.store.store import Store
from tests.browsing import Visit
from tests.fakes import fake_store

NEURONS, KEPT, BLOCK = 16, 30, 5


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = fake_store(tmp_path_factory.mktemp("run") / "demo", neurons=NEURONS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drivers, "MOST_LIT", KEPT)
        patch.setattr(drivers, "NEURONS_A_SCRIPT", BLOCK)
        write_site(store)
    return store


def truth(store: Store, neuron: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows that drive a neuron most, of all kinds, and their activations, strongest first."""
    rows = np.concatenate([store.positions(kind) for kind in ("image", "word")])
    A = np.concatenate([np.asarray(store.array("max", kind)) for kind in ("image", "word")])[:, neuron]
    best = np.argsort(-A.astype(np.float32), kind="stable")[:KEPT]
    return rows[best], A[best].astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("neuron", [0, BLOCK + 2, NEURONS - 1])
def test_the_rows_that_drive_a_neuron_have_the_colours_of_their_activations(
    visit: Visit, store: Store, neuron: int
) -> None:
    page = visit.open(f"map.html#neuron={neuron}")
    rows, values = truth(store, neuron)
    share = (values - values[-1]) / (values[0] - values[-1])
    code = "new Map(atlas.page.lit.map((i) => [atlas.page.points.row[i], atlas.page.points.code[i]]))"
    found = dict(page.evaluate(f"[...{code}]"))
    assert found.keys() == set(rows.tolist())
    hot = np.array([found[row] for row in rows.tolist()]) - len(PALETTE) - len(RAMP)
    assert hot[0] == len(HEAT) - 1
    assert hot[-1] == 0
    assert np.abs(hot - share * (len(HEAT) - 1)).max() < 0.5 + (len(HEAT) - 1) / drivers.ACTIVATION_LEVELS
    lit = set(page.evaluate("atlas.page.lit"))
    others = {code for i, code in enumerate(page.evaluate("Array.from(atlas.page.points.code)")) if i not in lit}
    assert others == {len(PALETTE) - 1}
    # the strongest lie on top, and all of them are shown
    bright = page.evaluate("Array.from(atlas.page.scatter.bright(), (i) => atlas.page.points.row[i])")
    assert (bright[-1], len(bright)) == (rows[0], KEPT)


def test_the_legend_says_what_the_colours_are(visit: Visit, store: Store) -> None:
    page = visit.open("map.html#neuron=3")
    _, values = truth(store, 3)
    said = f"Lit: the {KEPT} images and words that activate it most, of 280."
    assert said in page.inner_text("#neuron")
    assert page.inner_text("#live") == said
    shown = [float(text.replace("−", "-")) for text in page.locator("#neuron .heat small").all_inner_texts()]
    np.testing.assert_allclose(shown, [values[-1], (values[0] + values[-1]) / 2, values[0]], rtol=6e-3)
    assert page.get_by_role("img", name=f"Colours from {shown[0]:g} to {shown[2]:g}".replace("-", "−")).count() == 1
    assert page.locator("#unlit").is_hidden()
    page.keyboard.press("Tab")
    page.get_by_label("Stop showing this neuron").press("Enter")
    assert page.locator("#neuron").is_hidden()
    assert page.evaluate("atlas.page.scatter.bright()") is None


def test_only_the_block_of_a_neuron_is_read_and_the_last_pick_counts(visit: Visit) -> None:
    read: list[str] = []
    visit.page.on("request", lambda request: read.append(request.url.rsplit("/", 1)[1]))
    page = visit.open("map.html")
    assert not [name for name in read if "drivers" in name]  # opening the map waits for none of it
    page.evaluate("Promise.all([2, 7, 8].map(atlas.page.legend.light))")
    assert page.locator("#neuron a.caption").get_attribute("href") == "neurons/0008.html"
    assert sorted(name for name in read if "drivers" in name) == ["drivers-0.js", "drivers-1.js"]
    page.evaluate(f"atlas.page.legend.light({NEURONS})")  # there is no such neuron
    assert page.locator("#neuron").is_hidden()


def test_more_neurons_keep_fewer_rows() -> None:
    assert drivers.drivers_per_neuron(1024) == drivers.MOST_LIT
    assert drivers.LEAST_DRIVERS < drivers.drivers_per_neuron(4096) < drivers.MOST_LIT
    assert drivers.drivers_per_neuron(100_000) == drivers.LEAST_DRIVERS
    assert drivers.drivers_bytes(4096) < 1.1 * drivers.DRIVERS_ROOM
