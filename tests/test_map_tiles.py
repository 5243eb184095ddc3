"""A map of more points than are read at once: tiles, and a page that asks them for what it shows, in a real browser."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atlas.pages import budget, columns, meaning, tiles, write_points, write_site
from atlas.store.store import Store
from tests.browsing import Visit, cut_small, given_points, shown_hash
from tests.fakes import fake_store, part

NEURONS = 16


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A map of 3,000 points in 256 tiles: more than a page keeps."""
    cut_small(monkeypatch, UNTILED_POINTS=1000, TILE_POINTS=12, OVERVIEW_POINTS=400)
    return write_points(tmp_path / "many", **given_points(3000), single_file=False)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The site of a Store whose 300 rows lie in 64 tiles."""
    cut_small(monkeypatch, UNTILED_POINTS=100, TILE_POINTS=5, OVERVIEW_POINTS=40)
    monkeypatch.setattr(meaning, "ROWS_A_TEXT", 60)
    store = fake_store(tmp_path / "demo", neurons=NEURONS)
    write_site(store)
    return store


@pytest.fixture
def tiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A map of 3,000 points as one of millions is written: 32 tiles, and 400 points to begin with."""
    cut_small(monkeypatch, UNTILED_POINTS=1000, TILE_POINTS=100, OVERVIEW_POINTS=400)
    kept = np.linspace(0, 1, 3000).astype(np.float32)
    return write_points(tmp_path / "tiled", **given_points(3000), preservation=kept, single_file=False)


def test_tiles_hold_every_point_once_and_lie_together() -> None:
    places = np.random.default_rng(0).integers(-32_000, 32_000, (5000, 2)).astype(np.int16)
    cut = tiles.cut_tiles(places, 400)
    assert sorted(np.concatenate(cut).tolist()) == list(range(5000))
    assert {len(part) for part in cut} == {312, 313}
    area = [np.ptp(places[part].astype(int), axis=0).prod() for part in cut]
    assert sum(area) < 64_000**2


def test_a_map_in_tiles_answers_from_the_tile_that_holds_a_point(tiled: Path, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    visit = Visit(page, tiled.parent)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(Path(request.url).stem))
    visit.open("index.html")
    assert sum(name.startswith("tile-") for name in asked) == 1
    assert page.evaluate("atlas.page.shown().length") == 400
    assert page.locator("#still").is_visible()
    assert sorted(page.locator("#legend small").all_inner_texts()) == sorted(
        str(n) for n in np.bincount(np.random.default_rng(0).integers(0, 6, 3000))
    )
    point = page.evaluate("atlas.page.order[7]")
    x, y = page.evaluate(f"atlas.page.scatter.place({point})")
    page.mouse.move(x, y)
    page.wait_for_function("/^point \\d+ of island/.test(document.getElementById('tip').innerText)")
    page.mouse.click(x, y)
    page.wait_for_function("document.querySelectorAll('#card .strip button').length === 8")
    page.wait_for_function(
        "![...document.querySelectorAll('#card .strip button')].some((e) => e.title.startsWith('…'))"
    )
    first = int(page.locator("#card .caption").first.inner_text().split()[1])
    titles = page.locator("#card .strip button").evaluate_all("all => all.map((e) => e.title)")
    assert [int(title.split()[1]) for title in titles] == [(first + step) % 3000 for step in range(1, 9)]
    assert shown_hash(page).startswith(f"#p={first}")
    page.get_by_placeholder("Search captions").fill("point 123")
    page.wait_for_function("document.getElementById('found').textContent.includes('13 found')")
    assert page.locator("#results .caption").first.inner_text().startswith("point 123 of")
    again = visit.open(f"index.html#p={first}")
    assert again.locator("#card .caption").first.inner_text().startswith(f"point {first} of")
    assert (visit.strays, visit.errors) == ([], [])
    page.close()


@pytest.mark.slow
def test_a_map_in_tiles_draws_all_points_of_a_close_view(tiled: Path, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    visit = Visit(page, tiled.parent)
    visit.open("index.html")
    x, y = page.evaluate("[atlas.page.points.x[atlas.page.order[0]], atlas.page.points.y[atlas.page.order[0]]]")
    page.evaluate(f"atlas.page.scatter.look({x}, {y}, 3000)")
    page.wait_for_function("atlas.page.shown().length !== 400")
    seen = page.evaluate(
        """(({ x0, x1, y0, y1 }, { x, y }) => [...atlas.page.shown()].filter((i) =>
          x[i] > x0 && x[i] < x1 && y[i] > y0 && y[i] < y1).length)(atlas.page.scatter.view(), atlas.page.points)"""
    )
    view = page.evaluate("(({ x0, x1, y0, y1 }) => [x0, x1, y0, y1])(atlas.page.scatter.view())")
    at = columns.quantised_places(given_points(3000)["xy"]).astype(int)
    assert seen == ((at[:, 0] > view[0]) & (at[:, 0] < view[1]) & (at[:, 1] > view[2]) & (at[:, 1] < view[3])).sum()
    page.evaluate("atlas.page.selection.take([[-33000,-33000],[33000,-33000],[33000,33000],[-33000,33000]])")
    records = page.evaluate("atlas.page.selection.records()")
    assert sorted(record["row"] for record in records) == list(range(3000))
    assert all(record["caption"].startswith(f"point {record['row']} of") for record in records)
    assert (visit.strays, visit.errors) == ([], [])
    page.close()


def places(n: int) -> np.ndarray:
    return columns.quantised_places(given_points(n)["xy"]).astype(int)


@pytest.mark.slow
def test_a_link_flies_to_a_point_that_was_not_drawn_yet(many: Path, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    visit = Visit(page, many.parent)
    visit.open("index.html")
    page.evaluate("atlas.page.located()")
    drawn = set(page.evaluate("[...atlas.page.order]"))
    first = next(i for i in range(3000) if i not in drawn and not page.evaluate(f"atlas.page.placed({i})"))
    row = page.evaluate(f"atlas.page.pointOf.indexOf({first})")
    visit.open(f"index.html#p={row}")
    x, y, _ = page.evaluate("atlas.page.scatter.seen()")
    assert (round(x), round(y)) == tuple(places(3000)[row])
    page.evaluate("atlas.page.finder.set('nothing', 'caption')")  # reads all tiles: that of the card goes
    assert page.evaluate(f"atlas.page.known(atlas.page.pointOf[{row}])") is False
    assert f"p={row}" in shown_hash(page).split("&")
    assert page.evaluate("atlas.page.card.cited()").startswith(f"“point {row} of island")
    assert f"row {row})" in page.evaluate("atlas.page.card.cited()")
    assert (visit.strays, visit.errors) == ([], [])
    page.close()


@pytest.mark.slow
def test_a_search_lists_the_best_with_their_captions(many: Path, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    visit = Visit(page, many.parent)
    visit.open("index.html")
    page.evaluate("atlas.page.finder.set('island 1', 'caption')")
    listed = page.locator("#results .caption").all_inner_texts()
    captions = [text for text in given_points(3000)["captions"] if text.split()[4] == "1" or text.split()[1] == "1"]
    assert len(listed) == 60
    assert sorted(map(len, listed)) == [len(text) for text in listed]  # the shortest first
    assert set(listed) <= set(captions)
    assert [len(text) for text in listed] == sorted(map(len, captions))[:60]
    page.evaluate("atlas.page.finder.set('point', 'caption')")
    listed = page.locator("#results .caption").all_inner_texts()
    at = page.evaluate("atlas.page.finder.hits().slice(0, 60).filter((i) => !atlas.page.known(i)).length")
    assert at > 0  # in more tiles than are kept
    assert [len(text) for text in listed] == sorted(map(len, given_points(3000)["captions"]))[:60]
    assert (visit.strays, visit.errors) == ([], [])
    page.close()


def test_a_selection_takes_what_is_not_drawn_too(many: Path, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    visit = Visit(page, many.parent)
    at = places(3000)
    inside = np.flatnonzero((at[:, 0] > -9000) & (at[:, 0] < 9000) & (at[:, 1] > -9000) & (at[:, 1] < 9000))
    visit.open("index.html#sel=-9000,-9000;9000,-9000;9000,9000;-9000,9000")
    assert page.locator("#selected").inner_text() == f"{len(inside)} selected"
    records = page.evaluate("atlas.page.selection.records()")
    assert sorted(record["row"] for record in records) == inside.tolist()
    assert all(record["caption"].startswith(f"point {record['row']} of") for record in records)
    assert len(page.evaluate("[...atlas.page.scatter.bright()]")) == len(inside)
    assert not any(text.startswith("…") for text in page.locator("#selection .caption").all_inner_texts())
    assert (visit.strays, visit.errors) == ([], [])
    page.close()


@pytest.mark.slow
def test_what_a_meaning_or_a_neuron_lights_stands_in_its_place(site: Store, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    visit = Visit(page, site.derived(part("site")))
    visit.open("map.html")
    places = page.evaluate(  # of every tile, by another way than the page's own
        """(async () => {
          const found = [], count = (await atlas.table('overview')).ends.length - 1;
          for (let t = 0; t < count; t++) {
            const { x, y } = await atlas.table(`tile-${t}`);
            x.forEach((_, k) => found.push([x[k], y[k]]));
            atlas.forget(`tile-${t}`);
          }
          return found; })()"""
    )
    lit = "[...atlas.page.scatter.bright()].map((i) => [i, [atlas.page.points.x[i], atlas.page.points.y[i]]])"
    page.evaluate("atlas.page.legend.light(3)")
    page.wait_for_function(  # tiles of the view may still come: then all that they hold stands out
        """(() => {
          const { lit, placed, scatter } = atlas.page, there = lit.filter(placed).length;
          const said = there < lit.length ? `${there} of them are drawn; zoom in for the rest.` : "";
          const bright = scatter.bright().length === there, shown = document.getElementById("unlit").innerText;
          return there >= 48 && bright && shown === said;
        })()"""
    )
    assert page.evaluate("atlas.page.lit.length") == len(site.positions("image")) + len(site.positions("word"))
    assert [place for _, place in page.evaluate(lit)] == [places[i] for i, _ in page.evaluate(lit)]
    page.evaluate("atlas.page.finder.set('cat sun', 'meaning')")
    assert page.evaluate("atlas.page.finder.hits().length") > 60
    assert [place for _, place in page.evaluate(lit)] == [places[i] for i, _ in page.evaluate(lit)]
    page.wait_for_function("atlas.page.scatter.bright().length === atlas.page.finder.hits().length")
    assert [place for _, place in page.evaluate(lit)] == [places[i] for i, _ in page.evaluate(lit)]
    assert (visit.strays, visit.errors) == ([], [])
    page.close()


@pytest.mark.slow
def test_rows_are_written_once_and_the_plan_counts_them(site: Store, browser: Any) -> None:
    folder = site.derived(part("site"))
    assert not [
        path.name for path in (folder / "data").glob("*.js") if path.stem in ("rows", "captions", "map", "near")
    ]
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".webp")
    planned = budget.plan_site(site.table(["caption"])["caption"].to_pylist(), 25, cards=NEURONS)
    assert 0.7 < planned.total / size < 1.3
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    visit = Visit(page, folder)
    visit.open("activations.html")
    page.locator(".grid button").first.click()
    title = page.locator("#card .strip a").first
    row = int(title.get_attribute("href").partition("#")[2])
    label, group = (site.rows[name][row].as_py() for name in ("label", "group"))
    assert title.get_attribute("title") == f"{label} · {group}"
    assert page.locator("#card .strip a").first.evaluate("e => getComputedStyle(e).backgroundImage").startswith("url(")
    assert (visit.strays, visit.errors) == ([], [])
    page.close()
