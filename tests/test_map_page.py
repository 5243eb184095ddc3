"""The map in a real browser, and what it is made of: names, meanings, honesty, the budget, one file, many scripts."""

import json
import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from atlas.analysis.layout import Centred
from atlas.errors import Refused
from atlas.pages import budget, columns, frame, meaning, picture, regions, write_points, write_site
from atlas.pages import map as map_page
from atlas.store.store import Store
from tests.browsing import DRAWN, Visit, given_points, lasso, shown_hash
from tests.fakes import fake_store, part

NEURONS = 16


# -- names -------------------------------------------------------------------------------------------------------------


def planted(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Five islands; on each a word of its own, among rows that carry a word that lies everywhere."""
    rng = np.random.default_rng(seed)
    island = np.arange(5 * n) % 5
    centres, axes = 40 * np.array([[0, 0], [1, 0], [0, 1], [1, 1], [2, 0]]), rng.normal(size=(5, 16))
    layout = (centres[island] + rng.normal(size=(5 * n, 2))).astype(np.float32)
    vectors = axes[island] + 0.3 * rng.normal(size=(5 * n, 16))
    words = np.array(["cat", "ship", "moon", "pizza", "train"])[island]
    named = [f"{word} thing" if i % 3 else "thing" for i, word in enumerate(words)]
    return layout, (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), named


def test_regions_are_named_by_what_is_most_their_own() -> None:
    layout, vectors, named = planted()
    found = regions.regions_by_labels(layout, vectors, named)
    coarse = [label for label in found if label.level == 0]
    assert len(coarse) == 5
    for label in coarse:
        island = np.array(["cat", "ship", "moon", "pizza", "train"])[label.point % 5]
        assert label.text.split(", ")[0].startswith(island)
        assert label.count > 300


def test_a_name_is_drawn_amid_the_points_that_carry_it() -> None:
    layout, vectors, named = planted()
    aside = layout[:, 0] - 40 * np.round(layout[:, 0] / 40) > 0.7  # the right quarter of each island
    named = [name if name == "thing" or beside else "thing" for name, beside in zip(named, aside, strict=True)]
    coarse = [label for label in regions.regions_by_labels(layout, vectors, named) if label.level == 0]
    assert len(coarse) == 5
    for label in coarse:
        near = np.square(layout - layout[label.point]).sum(axis=1).argsort()[:20]
        assert np.mean([label.text.split(", ")[0] in named[row] for row in near]) > 0.3  # none around the median of all


def test_the_middle_of_points_in_two_places_is_in_the_fuller_one() -> None:
    rng = np.random.default_rng(0)
    layout = (rng.normal(size=(100, 2)) + np.outer(np.arange(100) >= 60, [9, 0])).astype(np.float32)
    assert regions.central_member(layout, np.arange(100)) < 60
    assert regions.central_member(layout, np.arange(60, 100)) >= 60
    assert regions.central_member(layout, np.array([7])) == 7


def test_names_do_not_repeat_and_come_from_what_lies_there() -> None:
    layout, vectors, named = planted()
    found = regions.regions_by_labels(layout, vectors, named)
    for level in range(3):
        terms = [term for label in found if label.level == level for term in label.text.split(", ")]
        assert len(terms) == len(set(terms))
        assert "thing" not in terms  # it lies everywhere
    assert regions.regions_by_labels(layout, vectors, [""] * len(layout)) == []


def test_given_names_stand_on_one_of_their_own_points() -> None:
    layout, _, named = planted()
    names = [name.split()[0] if name != "thing" else "" for name in named]
    found = regions.given_regions(layout, [names])
    assert sorted(label.text for label in found) == ["cat", "moon", "pizza", "ship", "train"]
    assert all(names[label.point] == label.text for label in found)
    assert sum(label.count for label in found) == sum(bool(name) for name in names)


def test_meaning_finds_rows_with_the_label_and_leaves_out_texts(store: Store) -> None:
    found = meaning.find_meanings(store)
    assert found is not None
    assert found.kind == "text"
    assert found.rows.shape == (len(found.texts), 2 * meaning.ROWS_A_TEXT)
    labels_of = store.table(["label"])["label"].to_pylist()
    kinds = store.table(["kind"])["kind"].to_pylist()
    cat = found.texts.index("cat")
    assert labels_of[found.rows[cat, meaning.ROWS_A_TEXT]] == "cat"  # the nearest rendered word
    assert {kinds[row] for row in found.rows.ravel()} == {"image", "word"}


# -- the page ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_names_on_the_map_never_overlap_at_any_scale(visit: Visit) -> None:
    page = visit.open("map.html")
    page.wait_for_function("atlas.page.scatter.over().named.length")
    seen = 0
    for span in (65_000, 40_000, 20_000, 10_000):
        page.evaluate(f"atlas.page.scatter.look(0, 0, {span})")
        page.evaluate(DRAWN)
        boxes = [entry["box"] for entry in page.evaluate("atlas.page.scatter.over().named")]
        seen += len(boxes)
        for i, a in enumerate(boxes):
            assert not any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for b in boxes[:i])
    assert seen


@pytest.mark.slow
def test_no_picture_lies_under_a_name_and_those_that_would_stand_beside_it(tmp_path: Path, browser: Any) -> None:
    site = write_site(fake_store(tmp_path / "many", images=600, words=0, texts=0, neurons=4)).parent
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    Visit(page, site).open("map.html")
    page.evaluate("atlas.page.room = () => 100; atlas.page.scatter.repaint()")  # some stand for the others
    page.evaluate(DRAWN)
    x, y = page.evaluate("['x', 'y'].map((axis) => atlas.page.points[axis][atlas.page.order[0]])")
    named = f"{{ x: [{x}], y: [{y}], level: [0], count: [9], text: {{ length: 1, at: () => 'a name' }} }}"
    before = page.evaluate("atlas.page.scatter.over().drawn.length")
    page.evaluate(f"atlas.page.scatter.name({named})")
    page.evaluate(DRAWN)
    over = page.evaluate("atlas.page.scatter.over()")
    page.close()
    (left, top, right, bottom), half = over["named"][0]["box"], over["side"] / 2
    across = [y for _, x, y, _ in over["drawn"] if left < x + half and x - half < right]
    assert not [y for y in across if top < y + half and y - half < bottom]
    assert min(abs(y - (top + bottom) / 2) for y in across) == pytest.approx((bottom - top) / 2 + half)
    assert len(over["drawn"]) > 0.9 * before


def test_a_part_of_what_is_so_called_is_not_called_so_again(tmp_path: Path, browser: Any) -> None:
    xy = np.array([[x, y] for x in range(5) for y in (0, 2, 4)] * 20, np.float32)
    coarse = ["pets, farm" if 0 < x < 4 else "" for x in xy[:, 0]]
    fine = [{0: "wild", 4: "wild, small"}.get(x, "" if x == 2 else f"pets, {x:.0f}") for x in xy[:, 0].tolist()]
    index = write_points(tmp_path / "map.html", xy, [""] * len(xy), labels=[coarse, fine])
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    Visit(page, tmp_path).open(index.name)
    page.evaluate("atlas.page.scatter.zoom(0.9)")
    page.wait_for_function("atlas.page.scatter.over().named.length > 1")
    named = [entry["text"] for entry in page.evaluate("atlas.page.scatter.over().named")]
    page.close()
    assert "pets, farm" in named
    assert not {"pets, 1", "pets, 3"} & set(named)
    assert {"wild", "wild, small"} & set(named)


@pytest.mark.slow
def test_a_few_pictures_stand_whole_in_the_first_view(tmp_path: Path, browser: Any) -> None:
    site = write_site(fake_store(tmp_path / "few", images=6, words=0, texts=0, neurons=NEURONS)).parent
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    Visit(page, site).open("map.html")
    page.wait_for_function("atlas.page.scatter.over().drawn.length > 1")
    over, view = page.evaluate("atlas.page.scatter.over()"), page.evaluate("atlas.page.scatter.view()")
    page.close()
    half = over["side"] / 2
    assert half > 24
    assert all(half <= x <= view["w"] - half and half <= y <= view["h"] - half for _, x, y in over["drawn"])


def test_a_name_goes_with_the_last_of_its_points(tmp_path: Path, browser: Any) -> None:
    kept = np.where(np.arange(2000) % 2, 1.0, 0.1).astype(np.float32)
    index = write_points(tmp_path / "map.html", **given_points(2000), preservation=kept)
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    Visit(page, tmp_path).open(index.name)
    names = f"(page.repaint(), {DRAWN}.then(() => page.over().named.map((n) => n.text)))"
    names = f"(page => {names})(atlas.page.scatter)"
    page.wait_for_function("atlas.page.scatter.over().named.length > 3")
    all_names = page.evaluate(names)
    gone = all_names[0]
    entry = page.locator(".entry", has_text=gone.replace("island ", "g"))
    entry.click()
    assert set(page.evaluate(names)) == set(all_names) - {gone}
    entry.click()
    page.get_by_role("button", name="Trust").click()
    page.locator(".entry", has_text="0 to 19 %").click()
    assert set(page.evaluate(names)) == set(all_names)  # half of each remains
    page.locator(".entry", has_text="80 to 100 %").click()
    assert page.evaluate(names) == []
    page.close()


def test_thumbnails_stand_for_the_points_under_them(visit: Visit) -> None:
    page = visit.open("map.html")
    page.wait_for_function("atlas.page.scatter.over().drawn.length > 20")
    off = page.evaluate(
        """atlas.page.scatter.over().drawn.map(([i, x, y]) => {
          const box = atlas.page.scatter.plot.getBoundingClientRect(), [px, py] = atlas.page.scatter.place(i);
          return Math.hypot(px - box.left - x, py - box.top - y); })"""
    )
    assert max(off) < 0.5
    page.locator(".entry", has_text="image").click()
    page.wait_for_function("!atlas.page.scatter.over().drawn.length")
    assert page.evaluate("atlas.page.scatter.over().words.length")


def test_search_by_meaning_works_offline_and_says_what_it_took(visit: Visit) -> None:
    page = visit.open("map.html")
    page.get_by_role("button", name="Meaning").click()
    page.get_by_placeholder("Search by meaning").fill("cat")
    page.wait_for_function("document.getElementById('found').textContent.includes('“cat”')")
    assert page.locator("#results li").count() > 10
    cosines = [float(text) for text in page.locator("#results small").all_inner_texts()]
    assert cosines == sorted(cosines, reverse=True)
    assert 0.3 < cosines[0] <= 1
    page.get_by_placeholder("Search by meaning").fill("qqqq")
    page.wait_for_function("document.getElementById('found').textContent.startsWith('No such word')")
    assert page.locator("#results li").count() == 0


def test_a_search_respects_the_legend_and_says_when_it_answers_another_question(visit: Visit) -> None:
    page = visit.open("map.html")
    page.get_by_role("button", name="Meaning").click()
    page.get_by_placeholder("Search by meaning").fill("ca")
    page.wait_for_function("document.getElementById('found').textContent.includes('answers another question')")
    offered = page.locator("#phrases option").evaluate_all("all => all.map((option) => option.value)")
    assert offered
    assert all(text.casefold().startswith("ca") or " ca" in text.casefold() for text in offered)
    page.get_by_placeholder("Search by meaning").fill("big cat")  # the model knows but one of the words
    page.wait_for_function("document.getElementById('found').textContent.includes('“big cat” is not among')")
    page.locator(".entry", has_text="image").click()
    page.get_by_placeholder("Search by meaning").fill("cat")
    page.wait_for_function("document.getElementById('found').textContent.includes('hidden by the legend')")
    assert "another question" not in page.locator("#found").inner_text()
    kinds = page.evaluate("atlas.page.finder.hits().map((i) => atlas.page.rows.kind[atlas.page.points.row[i]])")
    assert kinds
    assert 0 not in kinds


def test_a_link_to_a_view_is_copied_without_a_pick_and_the_command_of_its_figure_follows_it(visit: Visit) -> None:
    page = visit.open("map.html")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate("atlas.page.scatter.look(100, -200, 9000)")
    page.get_by_label("Copy a link to this view").first.click()
    page.wait_for_function("document.getElementById('live').textContent === 'Link copied'")
    link = page.evaluate("navigator.clipboard.readText()")
    page.get_by_text("This view as a figure").click()
    assert link.partition("#")[2] == page.evaluate("location.hash.slice(1)")
    assert page.locator("#figure").inner_text().count(f"'{page.evaluate('location.hash')}'") == 1
    assert page.locator("#figure").evaluate("(code) => code.getBoundingClientRect().bottom <= innerHeight")


def test_a_search_says_when_what_it_found_lies_out_of_view(visit: Visit) -> None:
    page = visit.open("map.html")
    box, found = page.get_by_placeholder("Search captions"), page.locator("#found")
    box.fill("pizza")
    page.wait_for_function("document.querySelectorAll('#results li').length > 0")
    assert "none in view" not in found.inner_text()
    page.evaluate("atlas.page.scatter.look(-60000, -60000, 4000)")
    box.fill("pizz")
    page.wait_for_function("document.getElementById('found').textContent.includes('none in view: Enter')")
    box.press("Enter")
    page.wait_for_function("!document.getElementById('card').hidden")
    box.fill("pizza")
    page.wait_for_function("!document.getElementById('found').textContent.includes('none in view')")


def test_a_neuron_lights_up_what_drives_it(visit: Visit, store: Store) -> None:
    page = visit.open("map.html#neuron=3")
    chip = page.locator("#neuron")
    assert chip.locator("a").first.get_attribute("href") == "neurons/0003.html"
    assert chip.locator("a").last.get_attribute("href") == "neurons.html#p=3"
    strip = chip.locator(".strip button").evaluate_all("all => all.map((one) => one.title.split(' · ')[0])")
    assert 4 < len(strip) <= 24
    assert len({name.casefold() for name in strip}) == len(strip)
    assert chip.locator("bdi").inner_text()
    rows = np.concatenate([store.positions(kind) for kind in ("image", "word")])
    A = np.concatenate([np.asarray(store.array("max", kind)) for kind in ("image", "word")])[:, 3].astype(np.float32)
    lit = page.evaluate("atlas.page.lit.map((i) => atlas.page.points.row[i])")
    assert lit[0] == rows[A.argmax()]
    assert set(lit) == set(rows)  # there are fewer than are kept
    assert "neuron=3" in shown_hash(page)
    page.get_by_label("Stop showing this neuron").click()
    assert chip.is_hidden()
    assert page.evaluate("atlas.page.lit") is None


def test_one_box_finds_neurons_by_what_their_pictures_show_and_regions(visit: Visit) -> None:
    page = visit.open("map.html")
    neuron = 3
    thing = page.evaluate(f"atlas.page.names.shows.at({neuron})").split(", ")[0]
    page.locator("#query").fill(thing)
    found = page.locator("#beside li")
    page.wait_for_function("document.querySelector('#beside button')")
    expected = page.evaluate(f"atlas.neuronFinder(atlas.page.names)({json.dumps(thing.split())})")
    assert neuron in expected
    assert f"Neuron {expected[0]} " in found.first.inner_text()
    found.first.locator("button").click()
    page.wait_for_selector("#neuron:not([hidden])")
    assert page.evaluate("atlas.page.legend.state().neuron") == expected[0]
    page.locator("#query").fill(page.evaluate("atlas.page.regions().then((names) => names.text.at(0))").split(", ")[0])
    page.wait_for_selector("#beside button:has-text('Region')")


def test_a_neuron_beside_the_map_has_a_strip_without_repeats_and_a_slider(visit: Visit) -> None:
    page = visit.open("map.html#neuron=2")
    strip, slider = page.locator("#neuron .strip button"), page.locator("#neuron .slider input")
    names = [text.split(" · ")[0] for text in strip.evaluate_all("of => of.map(b => b.title)")]
    assert 1 < len(names) == len(set(names)) <= 24
    slider.fill("1")
    page.wait_for_selector("#neuron .slider small:has-text('Tenth 1 of 10')")
    card = json.loads(page.evaluate("atlas.table('cards-000').then((table) => table.card.at(2))"))
    rows = [row for stat in card["kinds"].values() for row in stat["bands"][0]["rows"]]
    assert strip.count() == len(rows)
    slider.fill("11")
    page.wait_for_selector("#neuron .slider small:has-text('each once')")
    assert strip.count() == len(names)
    assert page.locator("#neuron .among i").is_visible()


def test_a_selection_says_what_sets_it_apart(visit: Visit) -> None:
    page = visit.open("map.html")
    near = "(k => [...atlas.page.points.x.keys()].sort((a, b) => atlas.page.points.x[a] - atlas.page.points.x[b])[k])"
    left, right = (page.evaluate(f"atlas.page.points.x[{near}({k})]") for k in (0, 20))
    page.evaluate(
        f"atlas.page.selection.take([[{left}, -33000], [{right}, -33000], [{right}, 33000], [{left}, 33000]])"
    )
    page.wait_for_selector(".apart h3")
    chosen = page.evaluate("atlas.page.selection.chosen().map((i) => atlas.page.rows.name(atlas.page.points.row[i]))")
    for line in page.locator(".apart ul").first.locator("li").all():
        word, told = line.locator("bdi").inner_text(), line.locator("small").inner_text()
        held = sum(word in name.lower().split() for name in chosen)
        if "Words" in page.locator(".apart small").first.inner_text():
            assert told.startswith(f"{held} of {len(chosen)}, by chance")
            assert held > 2 * int(told.split()[-1])
    assert page.locator("#selection .strip.many button").count() > 0


def test_lasso_table_and_export(visit: Visit) -> None:
    page = visit.open("map.html")
    count = lasso(page, 300, 120, 820, 600)
    inside = page.evaluate(
        """[...atlas.page.shown()].filter((i) => {
          const [x, y] = atlas.page.scatter.place(i);
          return x > 300 && x < 820 && y > 120 && y < 600; }).length"""
    )
    assert 20 < count == pytest.approx(inside, abs=3)  # corners are rounded, and 48 of them kept
    assert page.locator("#selection tbody tr").count() == min(count, 200)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save JSON").click()
    records = json.loads(Path(download.value.path()).read_text("utf-8"))
    assert len(records) == count
    assert set(records[0]) == {"row", "kind", "style", "caption", "x", "y", "kept"}
    with page.expect_download() as download:
        page.get_by_role("button", name="Save CSV").click()
    assert Path(download.value.path()).read_text("utf-8").count("\n") == count + 1
    assert page.evaluate("atlas.page.selection.csv([{ caption: '=HYPERLINK(1)' }])").endswith('"\'=HYPERLINK(1)"\r\n')


def test_the_address_reopens_what_one_saw(visit: Visit) -> None:
    page = visit.open("map.html")
    page.get_by_role("button", name="Trust").click()
    page.get_by_placeholder("Search captions").fill("pizza")
    page.wait_for_function("document.getElementById('found').textContent.includes('found')")
    page.evaluate("atlas.page.selection.take([[-20000,-20000],[20000,-20000],[20000,20000]])")
    page.evaluate("atlas.page.pick(atlas.page.pointOf[7])")
    page.evaluate("atlas.page.scatter.look(1000, 2000, 30000)")
    page.get_by_label("Switch between light and dark").click()
    address = shown_hash(page)
    for piece in ("q=pizza", "p=7", "c=kept", "sel=-20000,-20000;", "theme=dark", "v=1000,2000,30000"):
        assert piece in address
    again = visit.open(f"map.html{address}")
    assert again.locator("#query").input_value() == "pizza"
    assert again.get_by_role("button", name="Trust").get_attribute("aria-pressed") == "true"
    assert again.evaluate("atlas.page.scatter.seen().map(Math.round)") == [1000, 2000, 30000]
    assert again.locator("#card .caption").first.is_visible()
    again.wait_for_selector("#selected")
    assert again.evaluate("document.documentElement.dataset.theme") == "dark"
    again.evaluate("localStorage.clear()")


def test_the_keyboard_walks_points_neighbours_and_results(visit: Visit) -> None:
    page = visit.open("map.html")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "query"
    page.keyboard.type("pizza")
    page.wait_for_selector("#results li")
    for _ in range(1 + page.locator("#beside button").count()):  # past the neurons and regions
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert "pizza" in page.locator("#card .caption").first.inner_text()
    assert "Nearest:" in page.locator("#live").inner_text()
    first = page.evaluate("atlas.page.card.state().p")
    page.locator("#map").focus()
    page.keyboard.press("ArrowRight")
    second = page.evaluate("atlas.page.card.state().p")
    assert second != first
    x = "atlas.page.points.x[atlas.page.pointOf[%d]]"
    assert page.evaluate(x % second) > page.evaluate(x % first)
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    at = "[...document.querySelectorAll('#card .strip button')].indexOf(document.activeElement)"
    assert page.evaluate(at) == 1
    wanted = page.evaluate("document.activeElement.title")
    page.keyboard.press("Enter")
    assert page.evaluate(at) == 0  # on the strip of what was gone to: it walks on
    assert wanted.startswith(page.locator("#card .caption").first.inner_text())
    page.keyboard.press("Escape")
    assert page.locator("#card").is_hidden()


def test_exported_places_are_those_of_the_layout(visit: Visit, store: Store) -> None:
    page = visit.open("map.html")
    page.evaluate("atlas.page.selection.take([[-33000,-33000],[33000,-33000],[33000,33000],[-33000,33000]])")
    records = page.evaluate("atlas.page.selection.records()")
    points = pq.read_table(store.derived(part("layout/map")) / "points.parquet").to_pandas().set_index("row")
    found = np.array([[record["x"], record["y"]] for record in records])
    wanted = points.loc[[record["row"] for record in records], ["x", "y"]].to_numpy()
    assert np.abs(found - wanted).max() <= columns.place_steps(points[["x", "y"]].to_numpy())[2]
    assert len(str(records[0]["x"])) < 12


@pytest.mark.slow
@pytest.mark.parametrize("counts", [(200, 80, 20), (60, 0, 0), (0, 0, 60)])
def test_the_still_picture_has_the_colours_that_points_have_at_first(
    counts: tuple[int, int, int], tmp_path: Path, browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[np.ndarray] = []
    still = picture.still_picture
    monkeypatch.setattr(
        picture, "still_picture", lambda at, codes, palette: drawn.append(codes) or still(at, codes, palette)
    )
    images, words, texts = counts
    site = write_site(fake_store(tmp_path / "demo", images=images, words=words, texts=texts)).parent
    page = browser.new_page()
    Visit(page, site).open("map.html")
    codes = page.evaluate("[...atlas.page.points.code]")
    assert drawn[0].tolist() == codes
    assert len(set(codes)) > 1
    page.close()


@pytest.mark.slow
def test_a_row_without_a_caption_is_called_by_its_label(tmp_path: Path, browser: Any) -> None:
    store = fake_store(tmp_path / "demo", captions={5: "", 6: "  "})
    site = write_site(store).parent
    label = store.rows["label"][5].as_py()
    page = browser.new_page()
    Visit(page, site).open("map.html#5")
    assert page.locator("#card .caption").first.inner_text() == label
    page.evaluate(f"atlas.page.finder.set({label!r}, 'caption')")
    assert page.evaluate("atlas.page.finder.hits().includes(atlas.page.pointOf[5])")
    assert label in page.locator("#results .caption").all_inner_texts()
    page.close()


@pytest.mark.slow
@pytest.mark.parametrize("centre", [True, False])
def test_pages_say_how_the_map_was_drawn(tmp_path: Path, centre: bool) -> None:
    store = fake_store(tmp_path / "demo", centre=centre)
    site = write_site(store).parent
    html, about = ((site / name).read_text("utf-8") for name in ("map.html", "about.html"))
    assert html.count("<dt>0.800 → 0.100</dt><dd>the modality gap between images and words") == 1
    assert html.count("the distance of their mean embeddings") == 1
    assert ("and what remains after each kind’s mean is subtracted, as on this map" in html) == centre
    assert ("as on this map, and what would remain if each kind’s mean were subtracted" in html) == (not centre)
    assert ("Each kind was centred first" in about) == centre
    assert ("Kinds were not centred" in about) == (not centre)
    assert isinstance(map_page.map_space(store, map_page.is_centred(map_page.DerivedParts(store))), Centred) == centre
    assert "recall of the index that <code>atlas near</code> searches" in html


def test_several_words_say_what_their_figure_is(visit: Visit) -> None:
    page = visit.open("map.html")
    page.evaluate("atlas.page.finder.set('cat sun', 'meaning')")
    assert "mean cosines (0 for a word that does not list the row)" in page.locator("#found").inner_text()
    page.evaluate("atlas.page.finder.set('cat', 'meaning')")
    assert page.locator("#found").inner_text().endswith("by the model; with cosines.")


def test_everything_has_a_name(visit: Visit) -> None:
    page = visit.open("map.html#5")
    page.evaluate("atlas.page.selection.take([[-20000,-20000],[20000,-20000],[20000,20000]])")
    nameless = page.evaluate(
        """[...document.querySelectorAll('button,a,input,select,[role=region],[role=group]')].filter((e) =>
          !(e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.title || e.labels?.length
            || e.textContent.trim()) && e.offsetParent).map((e) => e.outerHTML)"""
    )
    assert nameless == []
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))


def test_few_points_are_discs_in_the_still_picture() -> None:
    for count, pixels in ((1, 49), (picture.FEW_POINTS, 5)):
        places, codes = np.zeros((count, 2), np.int16), np.zeros(count, np.uint8)
        assert np.count_nonzero(picture.point_density(places, codes, 1)) == pixels
    corner = np.full((1, 2), 32_767, np.int16)
    assert np.count_nonzero(picture.point_density(corner, np.zeros(1, np.uint8), 1)) > 9  # and whole


def test_without_javascript_there_is_a_picture_and_a_table(store: Store, browser: Any) -> None:
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto((store.derived(part("site")) / "map.html").as_uri())
    assert page.locator("#still").evaluate("image => image.naturalWidth") == 900
    assert "still picture" in page.locator("main").inner_text()
    entries = page.locator("noscript .entry").all_inner_texts()
    assert [entry.split("\n") for entry in entries] == [[kind, f"{n:,}"] for kind, n in store.counts.items()]
    html = (store.derived(part("site")) / "map.html").read_text("utf-8")
    assert html.count("data-region=") > 3
    assert "trustworthiness" in html
    page.context.close()


def test_a_printed_map_has_plates_of_names_its_sentence_and_its_colours(visit: Visit) -> None:
    page = visit.open("map.html")
    page.emulate_media(media="print")
    ground = page.locator(".stage").evaluate("stage => getComputedStyle(stage).backgroundColor")
    assert ground == page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgba(0, 0, 0, 0)"
    assert page.locator(".by button:visible").all_inner_texts() == ["Kind"]
    page.emulate_media(media="screen")


INK = """async (address) => { // how much of a picture has a colour
  const picture = await createImageBitmap(await (await fetch(address)).blob()), { width, height } = picture;
  const pen = new OffscreenCanvas(width, height).getContext("2d");
  pen.drawImage(picture, 0, 0);
  const { data } = pen.getImageData(0, 0, width, height);
  let coloured = 0;
  for (let i = 0; i < data.length; i += 4) {
    const [red, green, blue] = data.subarray(i, i + 3);
    coloured += Math.max(red, green, blue) - Math.min(red, green, blue) > 60;
  }
  return coloured / (width * height);
}"""


def coverage(page: Any) -> float:
    """How much of the plot has a colour, once its picture stands still."""
    shots = [b"", page.locator(".plot").screenshot()]
    while shots[-1] != shots[-2]:
        assert len(shots) < 100, "the picture never stands still"
        page.evaluate(DRAWN)
        shots.append(page.locator(".plot").screenshot())
    return page.evaluate(INK, f"data:image/png;base64,{b64encode(shots[-1]).decode()}")


@pytest.mark.slow
def test_points_are_drawn_with_a_gpu_and_without_alike(visit: Visit) -> None:
    covered = {}
    for way in ("webgl", "raster"):
        page = visit.open(f"map.html?draw={way}")
        assert (page.locator("canvas.ink").count() == 0) == (way == "webgl")
        page.evaluate("document.querySelector('.overlay:not(.ink)').remove()")  # pictures and names
        covered[way] = coverage(page)
        page.locator(".entry", has_text="image").click()
        assert coverage(page) < 0.7 * covered[way]
    assert covered["webgl"] > 0.01
    assert covered["raster"] == pytest.approx(covered["webgl"], rel=0.25)


# -- sizes -------------------------------------------------------------------------------------------------------------


def test_one_file_holds_the_map_and_answers(store: Store, browser: Any, capsys: pytest.CaptureFixture) -> None:
    site = {path: path.read_bytes() for path in store.derived(part("site")).rglob("*.*")}
    index = write_site(store, single_file=True)
    assert index == store.path / "single" / "map.html"
    assert "thumbnails" in capsys.readouterr().err
    assert [path.name for path in index.parent.iterdir() if path.name != "made.json"] == ["map.html"]
    assert {path: path.read_bytes() for path in store.derived(part("site")).rglob("*.*")} == site  # as it was
    page = browser.new_page()
    visit = Visit(page, index.parent)
    visit.open("map.html#5")
    page.wait_for_function("atlas.page.scatter.over().drawn.length > 5")
    assert page.locator("#card .line").first.evaluate("e => e.tagName") == "DIV"  # a neuron, but there are no cards
    page.get_by_role("button", name="Meaning").click()
    page.get_by_placeholder("Search by meaning").fill("cat")
    page.wait_for_selector("#results li")
    page.get_by_role("link", name="Multimodal Atlas").click()  # of whatever name, the file is all there is
    page.wait_for_function("document.getElementById('query').value === ''")
    assert page.evaluate("location.pathname").endswith("single/map.html")
    assert set(re.findall(r'href="(?!data:)([^"#]+)', index.read_text("utf-8").partition("<script")[0])) == set()
    assert (visit.strays, visit.errors, page.evaluate("window.harmed")) == ([], [], None)
    page.close()


def test_given_places_become_one_file(tmp_path: Path, browser: Any, capsys: pytest.CaptureFixture) -> None:
    index = write_points(tmp_path / "six.html", **given_points(2000), title="Six <islands>")
    assert index == tmp_path / "six.html"
    plan = capsys.readouterr().err
    assert "2,000 points in one file" in plan
    assert re.search(r"in all\s+[\d.]+ MB", plan)
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    visit = Visit(page, tmp_path)
    visit.open("six.html#p=7")
    assert page.locator("#card .caption").first.inner_text().endswith("</script>")
    assert page.locator("#card .strip button").count() == 8
    page.get_by_label("Show everything").click()
    page.wait_for_function("atlas.page.scatter.over().named.length > 2")
    assert (visit.strays, visit.errors) == ([], [])
    page.close()


@pytest.mark.parametrize("single", [False, True])
def test_many_points_come_in_several_scripts(
    tmp_path: Path, browser: Any, monkeypatch: pytest.MonkeyPatch, single: bool
) -> None:
    monkeypatch.setattr(frame, "ROWS_A_SCRIPT", 150)
    index = write_points(tmp_path / "many", **given_points(2000), single_file=single)
    assert single or len(list((index.parent / "data").glob("near*.js"))) == 14
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    visit = Visit(page, index.parent)
    visit.open("index.html#p=1999")
    assert page.locator("#card .caption").first.inner_text().startswith("point 1999 of island")
    titles = page.locator("#card .strip button").evaluate_all("all => all.map((e) => e.title)")
    assert [int(title.split()[1]) for title in titles] == list(range(8))
    assert page.evaluate("atlas.page.points.x.length") == 2000
    assert (visit.strays, visit.errors) == ([], [])
    page.close()


def test_given_places_that_do_not_match_are_refused(tmp_path: Path) -> None:
    good = given_points(50)
    with pytest.raises(Refused, match=r"^50 places have 49 captions; give one a place$"):
        write_points(tmp_path / "x.html", **{**good, "captions": good["captions"][1:]})
    with pytest.raises(Refused, match=r"^near holds -1 to \d+; positions are 0 to 49$"):
        write_points(tmp_path / "x.html", **{**good, "near": good["near"] - 1})
    with pytest.raises(Refused, match="finite"):
        write_points(tmp_path / "x.html", **{**good, "xy": np.full((50, 2), np.nan)})
    with pytest.raises(Refused, match=r"above 0.1 MB; raise --max-mb$"):
        write_points(tmp_path / "x.html", **good, max_mb=0.1)
    assert not list(tmp_path.iterdir())


def test_the_plan_is_near_what_is_written(store: Store) -> None:
    rows = store.table(["caption"])["caption"].to_pylist()
    planned = budget.plan_site(rows, 25, cards=NEURONS)
    assert planned.lines()[0] == f"plan: {len(store)} points in a folder, at most 25 MB"
    site = sum(path.stat().st_size for path in store.derived(part("site")).rglob("*") if path.is_file())
    sheets = sum(path.stat().st_size for path in store.derived(part("site")).rglob("0*.webp"))
    assert 0.7 < planned.total / (site - sheets) < 1.3


def test_pieces_cut_each_column_by_its_own_length() -> None:
    whole: dict[str, columns.Column] = {"x": np.arange(10), "levels": ["a", "b"], "none": []}
    cut = list(columns.cut_columns(whole, 3))
    assert np.concatenate([piece["x"] for piece in cut]).tolist() == list(range(10))
    assert [level for piece in cut for level in piece["levels"]] == ["a", "b"]
