"""The neuron atlas as a map: regions and traits, and every interaction in a real browser."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.sparse import csr_matrix

from atlas.analysis import phrases
from atlas.analysis.grid import snap_to_grid
from atlas.pages import columns, neuronregions, traits, write_site
from atlas.store.store import Store
from tests.browsing import DRAWN, Visit, lasso, shown_hash
from tests.fakes import HOSTILE, WORDS, fake_store, part

ISLANDS, EACH = 6, 30
U = ISLANDS * EACH
ALL = "[[-33000,-33000],[33000,-33000],[33000,33000],[-33000,33000]]"
CORNER = "[[-33000,-33000],[0,-33000],[0,33000],[-33000,33000]]"


def islands(seed: int = 0) -> tuple[np.ndarray, list[list[str]]]:
    """Neurons on six islands; on each half are labelled by its own word, and all by words that lie anywhere."""
    rng = np.random.default_rng(seed)
    on = np.arange(U) % ISLANDS
    centres = 20 * np.array([[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]])
    layout = (centres[on] + rng.normal(size=(U, 2))).astype(np.float32)
    anywhere = rng.integers(6, len(WORDS), U)
    labels = [[WORDS[on[i]]] * (i % 12 < ISLANDS) + [WORDS[anywhere[i]]] for i in range(U)]
    return layout, labels


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = fake_store(tmp_path_factory.mktemp("neurons") / "demo", neurons=U, captions=HOSTILE, label=HOSTILE[0])
    layout, labels = islands()
    labels[3] = [HOSTILE[1]]
    labels[5] = ["none"]
    told = [("images", "words")[i % 2] for i in range(U)]
    rows = [
        {"neuron": i, "label": label, "evidence": told[i], "p": 10.0 ** -(i % 6), "q": 0.01}
        for i in range(U)
        for label in labels[i]
    ]
    receipts = [{"neuron": i, "concept": "a", "act": "raise", "confirmed": i % 3 == 0} for i in range(U // 2)]
    facets = [{"neuron": i, "facet": 0, "label": "a", "polysemanticity": i / U, "rows": [1]} for i in range(0, U, 2)]
    for name, table in (("labels", rows), ("receipts", receipts), ("facets", facets)):
        with store.deriving(part(f"neurons/{name}"), {}) as folder:
            pq.write_table(pa.Table.from_pylist(table), folder / f"{name}.parquet")
    with store.deriving(part("layout/neurons"), {}) as folder:
        points = {"neuron": np.arange(U), "x": layout[:, 0], "y": layout[:, 1]}
        pq.write_table(pa.table(points), folder / "points.parquet")
    write_site(store)
    return store


# -- regions and traits ------------------------------------------------------------------------------------------------


def test_regions_are_named_by_what_their_neurons_carry_more() -> None:
    layout, labels = islands()
    found = neuronregions.name_neuron_regions(layout, labels)
    words = [word for label in found for word in label.text.split(", ")]
    assert set(WORDS[:ISLANDS]) <= set(words)
    assert len(set(words) - set(WORDS[:ISLANDS])) <= 1
    assert {label.level for label in found} == {0, 1, 2}
    for label in found:
        carried = set(label.text.split(", "))
        assert all(carried & set(labels[i]) for i in label.members)
        assert label.point in label.members


def test_an_outline_parts_the_squares_of_a_family_from_all_others() -> None:
    squares = np.array([(x, y) for x in range(4) for y in range(4)], np.float32)
    cluster = np.array([5, 6, 9, 15])  # three squares that meet, and one apart
    sides = neuronregions.outline(squares, cluster)
    own = {tuple(square) for square in squares[cluster].tolist()}
    assert len(sides) == len({tuple(side) for side in sides.tolist()}) == 12
    for x0, y0, x1, y1 in sides.tolist():
        across = (y1 - y0, x1 - x0)
        middle = ((x0 + x1) / 2, (y0 + y1) / 2)
        beside = [tuple(m + sign * abs(a) / 2 for m, a in zip(middle, across, strict=True)) for sign in (-1, 1)]
        assert sum(square in own for square in beside) == 1, "a side has the family on one side of it alone"


def test_where_nothing_holds_no_region_has_a_name() -> None:
    layout, labels = islands()
    rng = np.random.default_rng(1)
    found = [neuronregions.name_neuron_regions(rng.permutation(layout), labels) for _ in range(10)]
    assert sum(map(len, found)) <= 10 * 3 * phrases.FALSE_NAMES / 2  # half of what may be expected, at three levels
    assert neuronregions.name_neuron_regions(layout, [[] for _ in range(U)]) == []
    assert neuronregions.name_neuron_regions(layout[:5], labels[:5]) == []


def test_enrichment_is_the_hypergeometric_tail() -> None:
    carried = csr_matrix(np.array([[1], [1], [0], [0], [1], [0]], np.float32))
    there, p = phrases.term_enrichment(np.array([0, 0, 0, 1, 1, 1]), carried)
    assert there.ravel().tolist() == [2, 1]
    np.testing.assert_allclose(p.ravel(), [10 / 20, 19 / 20])  # of 20 ways to draw three of six


def test_traits_have_an_entry_for_every_neuron() -> None:
    fifths = traits.measure_trait("a", "A", "", [float(i) for i in range(10)])
    assert fifths.entries == ["0.00 to 1.00", "2.00 to 3.00", "4.00 to 5.00", "6.00 to 7.00", "8.00 to 9.00"]
    assert fifths.codes.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    mostly = traits.measure_trait("a", "A", "", [0.0] * 9 + [5.0])
    assert (mostly.entries, mostly.codes.tolist()) == (["0.00", "5.00"], [0] * 9 + [1])
    alike = traits.measure_trait("a", "A", "", [1.0, 1.0, None, float("nan")])
    assert (alike.entries, alike.codes.tolist(), alike.known) == (["1.00", "not known"], [0, 0, 1, 1], 1)
    chances = traits.measure_trait("p", "p", "", [0.5, 0.002, None], (0.001, 0.01), "no label")
    assert (chances.entries, chances.codes.tolist()) == (["0.001 to 0.01", "0.01 and above", "no label"], [1, 0, 2])
    assert chances.hues == [12, 20, traits.UNKNOWN_ON_RAMP]
    counted = traits.count_trait("n", "N", "", [0, 2, 1, 2])
    assert (counted.entries, counted.codes.tolist()) == (["1", "2", "none"], [2, 1, 0, 1])
    many = traits.kind_trait("k", "K", "", [f"k{min(i, 14)}" for i in range(20)] + [""], "")
    assert len(many.entries) == traits.KIND_HUES + 1
    assert many.entries[-2:] == [traits.OTHER_KINDS, ""]
    assert many.hues == list(range(len(traits.PALETTE)))


def test_a_histogram_says_how_often_a_neuron_is_silent() -> None:
    assert traits.silent_share([-1.0, 0.0, 1.0], [3, 1]) == 0.75
    assert traits.silent_share([-1.0, 1.0], [4]) == 0.5
    assert traits.silent_share([0.5, 1.0], [4]) == 0.0


# -- the page ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_legend_colours_and_filters_by_every_trait(visit: Visit) -> None:
    page = visit.open("neurons.html")
    names = page.locator("#colour option").evaluate_all("all => all.map((option) => option.value)")
    expected = {"strongest", "evidence", "receipts", "labels", "monosemanticity", "sparsity", "polysemanticity", "p"}
    assert expected <= set(names)
    for name in names:
        page.get_by_label("Colour by").select_option(name)
        counts = page.locator(".entry small").evaluate_all("all => all.map((one) => Number(one.textContent))")
        assert sum(counts) == U
        assert len(set(page.evaluate("[...atlas.page.points.code]"))) == len(counts)
    page.get_by_label("Colour by").select_option("receipts")
    hidden = page.locator(".entry", has_text="not tested")
    hidden.click()
    assert page.evaluate("atlas.page.shown().length") == U // 2
    assert page.locator(".sheet tbody tr:visible").count() == U // 2
    address = shown_hash(page)
    assert "c=receipts" in address
    assert "hide=receipts." in address
    again = visit.open(f"neurons.html{address}")
    assert again.evaluate("atlas.page.shown().length") == U // 2
    assert again.get_by_label("Colour by").input_value() == "receipts"


def test_search_finds_by_label_word_and_number_and_lights_up(visit: Visit, store: Store) -> None:
    page = visit.open("neurons.html")
    query = page.get_by_placeholder("Find by number or word")
    query.fill("IMG SRC")
    assert page.locator("#results .caption").all_text_contents()[0] == HOSTILE[1]
    assert page.locator(".sheet tbody tr:visible").count() == page.locator("#results li").count()
    query.fill("12")
    assert page.locator("#found").inner_text() == "1 found"
    assert page.evaluate("[...atlas.page.scatter.bright()]") == [12]
    query.fill(WORDS[0])
    hits = page.evaluate("atlas.page.finder.hits()")
    labels = page.evaluate("[...atlas.page.points.row].map((i) => atlas.page.rows.name(i))")
    assert {i for i, label in enumerate(labels) if WORDS[0] in label} <= set(hits)
    assert WORDS[0] in labels[hits[0]]
    assert sorted(page.evaluate("[...atlas.page.scatter.bright()]")) == sorted(hits)
    page.keyboard.press("Enter")
    assert page.locator("#card small").first.inner_text() == f"neuron {hits[0]}"
    query.fill("no such word")
    assert page.locator("#found").inner_text() == "0 found"
    assert page.locator(".sheet tbody tr:visible").count() == 0


def test_lasso_table_and_export_of_neurons(visit: Visit, store: Store) -> None:
    page = visit.open("neurons.html")
    count = lasso(page, 100, 100, 500, 700)
    inside = "(([x, y]) => x > 100 && x < 500 && y > 100 && y < 700)(atlas.page.scatter.place(i))"
    assert 20 < count == pytest.approx(page.evaluate(f"[...atlas.page.shown()].filter((i) => {inside}).length"), abs=3)
    assert page.locator("#selection tbody tr").count() == count
    with page.expect_download() as download:
        page.get_by_role("button", name="Save JSON").click()
    records = json.loads(Path(download.value.path()).read_text("utf-8"))
    assert len(records) == count
    assert {"neuron", "label", "words", "evidence", "receipts", "monosemanticity", "p", "x", "y"} <= set(records[0])
    stats = pq.read_table(store.derived(part("neurons/stats")) / "image.parquet").to_pylist()
    points = pq.read_table(store.derived(part("layout/neurons")) / "points.parquet").to_pandas()
    squares = snap_to_grid(points[["x", "y"]].to_numpy())
    step = columns.place_steps(squares)[2]
    for record in records:
        assert record["std"] == pytest.approx(stats[record["neuron"]]["std"], rel=1e-5)
        assert record["x"] == pytest.approx(squares[record["neuron"], 0], abs=step)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save CSV").click()
    text = Path(download.value.path()).read_text("utf-8")
    assert text.startswith('"neuron","label","words",')
    assert text.count("\n") == count + 1


def test_a_click_shows_a_neuron_and_what_answers_alike(visit: Visit) -> None:
    page = visit.open("neurons.html")
    x, y = page.evaluate("atlas.page.scatter.place(3)")
    page.mouse.move(x, y)
    tip = page.locator("#tip")
    tip.wait_for(state="visible")
    pointed = page.evaluate("atlas.page.scatter.pointed()")
    assert f"neuron {pointed}" in tip.inner_text()
    assert page.evaluate("[...atlas.page.points.row].map((i) => atlas.page.rows.name(i))")[pointed] in tip.inner_text()
    assert tip.locator(".t").count() == 4
    page.mouse.click(x, y)
    card = page.locator("#card")
    assert card.locator("small").first.inner_text() == f"neuron {pointed}"
    assert card.get_by_role("link", name="Open its card").get_attribute("href") == f"neurons/{pointed:04d}.html"
    drives = card.get_by_role("link", name="Show on the map what activates it")
    assert drives.get_attribute("href") == f"map.html#neuron={pointed}"
    card.locator(".strip button").first.click()
    assert card.locator("small").first.inner_text() != f"neuron {pointed}"
    card.get_by_label("Back to the previous point").click()
    assert card.locator("small").first.inner_text() == f"neuron {pointed}"
    card.get_by_role("link", name="Open its card").click()
    page.wait_for_url(f"**/neurons/{pointed:04d}.html")


def test_the_keyboard_walks_neurons(visit: Visit) -> None:
    page = visit.open("neurons.html")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "query"
    page.locator("#map").focus()
    page.keyboard.press("ArrowRight")
    first = page.evaluate("atlas.page.card.state().p")
    page.keyboard.press("ArrowRight")
    second = page.evaluate("atlas.page.card.state().p")
    x = "atlas.page.points.x[%d]"
    assert page.evaluate(x % second) > page.evaluate(x % first)
    assert "Nearest:" in page.locator("#live").inner_text()
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.evaluate("atlas.page.card.state().p") != second
    page.keyboard.press("Escape")
    assert page.locator("#card").is_hidden()


def test_regions_have_names_that_go_with_the_last_of_their_neurons(visit: Visit) -> None:
    page = visit.open("neurons.html")
    page.wait_for_function("atlas.page.scatter.over().named.length")
    named = "atlas.page.scatter.over().named.map((name) => name.text)"
    texts = page.evaluate(named)
    assert len(set(WORDS[:ISLANDS]) & {word for text in texts for word in text.split(", ")}) > 3
    assert len(texts) == len(set(texts)) > 3
    listed = page.locator(".fold tbody tr")
    before = page.evaluate("atlas.page.scatter.seen()[2]")
    listed.first.locator("button").click()
    assert page.evaluate("atlas.page.scatter.seen()[2]") < before
    page.get_by_label("Show everything").click()
    page.get_by_label("Colour by").select_option("labels")
    for entry in page.locator(".entry").all():
        entry.click()
    page.wait_for_function("!atlas.page.scatter.over().named.length")
    page.locator(".entry", has_text="2").first.click()
    page.wait_for_function("atlas.page.scatter.over().named.length")


def test_no_name_is_said_twice_at_a_scale(visit: Visit) -> None:
    page = visit.open("neurons.html")
    named = """[...'sso'].map((letter) => ({ s: 'same', o: 'other' })[letter])"""
    place = "x: [-20000, 20000, 0], y: [0, 0, 10000], level: [0, 1, 1], count: [9, 5, 4]"
    page.evaluate(f"atlas.page.scatter.name({{ {place}, text: {{ length: 3, at: (k) => {named}[k] }} }})")
    page.wait_for_function("atlas.page.scatter.over().named.length === 2")
    assert page.evaluate("atlas.page.scatter.over().named.map(({ k }) => k)") == [0, 2]


def test_the_address_of_the_neuron_atlas_reopens_what_one_saw(visit: Visit) -> None:
    page = visit.open("neurons.html")
    page.get_by_label("Colour by").select_option("std")
    page.get_by_placeholder("Find by number or word").fill(WORDS[1])
    page.evaluate(f"atlas.page.selection.take({CORNER})")
    page.evaluate("atlas.page.pick(7)")
    page.evaluate("atlas.page.scatter.look(1000, 2000, 30000)")
    address = shown_hash(page)
    for piece in (f"q={WORDS[1]}", "p=7", "c=std", "sel=-33000,-33000;", "v=1000,2000,30000"):
        assert piece in address
    count = page.locator("#selected").inner_text()
    again = visit.open(f"neurons.html{address}")
    assert shown_hash(again) == address
    assert again.locator("#selected").inner_text() == count
    assert again.locator("#card small").first.inner_text() == "neuron 7"


@pytest.mark.parametrize("address", ["#12", "#p=12", "#neuron=12"])
def test_a_neuron_has_an_address(visit: Visit, address: str) -> None:
    page = visit.open(f"neurons.html{address}")
    assert page.locator("#card small").first.inner_text() == "neuron 12"
    assert shown_hash(page).endswith("p=12")
    page.evaluate("location.hash = 'neuron=13'")
    page.wait_for_function("document.querySelector('#card small').textContent === 'neuron 13'")


def test_every_neuron_is_seen_in_a_square_of_its_own_and_keeps_its_picture_when_coloured(visit: Visit) -> None:
    page = visit.open("neurons.html")
    n = page.evaluate("atlas.page.n")
    page.wait_for_function(f"atlas.page.scatter.over().drawn.length === {n}")
    over = page.evaluate("atlas.page.scatter.over()")
    for at, (_, x, y) in enumerate(over["drawn"]):
        assert all(max(abs(x - u), abs(y - v)) > over["side"] for _, u, v in over["drawn"][:at])
    sheets = page.evaluate("[...new Set(atlas.page.scatter.over().drawn.map(([i]) => atlas.page.rows.spot(i).sheet))]")
    assert len(sheets) == 1  # one file, however many sheets the site has
    page.get_by_label("Colour by").select_option("std")
    page.evaluate(DRAWN)
    assert page.evaluate("atlas.page.scatter.over().drawn.length") == n


def test_squares_keep_what_lies_together_together() -> None:
    rng = np.random.default_rng(0)
    xy = (rng.standard_normal((2, 2))[np.arange(80) % 2] * 5 + rng.standard_normal((80, 2))).astype(np.float32)
    squares = snap_to_grid(xy)
    assert len(np.unique(squares, axis=0)) == 80
    assert (np.ptp(squares, axis=0) <= (10, 8)).all()  # wider than high, as a window beside a panel is
    near = np.argsort(np.square(squares[:, None] - squares[None]).sum(axis=2), axis=1)[:, 1:5]
    assert (near % 2 == np.arange(80)[:, None] % 2).mean() > 0.8


@pytest.mark.slow
def test_without_a_layout_the_table_is_cut_by_the_box(tmp_path: Path, browser: Any) -> None:
    store = fake_store(tmp_path / "demo", neurons=9, derived=True)
    shutil.rmtree(store.path / "layout" / "neurons")
    page = browser.new_page()
    visit = Visit(page, write_site(Store.open(store.path)).parent)
    visit.open("neurons.html")
    assert "atlas map" in page.locator("article").inner_text()
    page.get_by_placeholder("Find by number or word").fill("4")
    assert page.locator(".sheet tbody tr:visible").count() == 1
    page.keyboard.press("Enter")
    page.wait_for_url("**/neurons/0004.html")
    assert visit.errors == []
    page.close()


@pytest.mark.slow
def test_what_a_run_does_not_hold_is_no_trait(tmp_path: Path, browser: Any) -> None:
    site = write_site(fake_store(tmp_path / "demo", words=0, texts=0, neurons=12)).parent
    page = browser.new_page(viewport={"width": 400, "height": 800})
    visit = Visit(page, site)
    visit.open("neurons.html")
    names = page.locator("#colour option").evaluate_all("all => all.map((option) => option.value)")
    assert set(names) == {"monosemanticity", "max", "mean", "std", "sparsity"}  # skew is the same in all
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert visit.errors == []
    page.close()
