"""The map's address, and what acts on it: a reopened link, a pasted one, what stands out, where the focus goes."""

from pathlib import Path
from typing import Any

import pytest

from atlas.pages import write_site
from tests.browsing import DRAWN, Visit, shown_hash
from tests.fakes import fake_store

SELECTION = "sel=-20000,-20000;20000,-20000;20000,20000"
EVERYTHING = f"q=pizza&neuron=3&p=7&hide=kind.1&{SELECTION}&v=1000,2000,30000"


def go(page: Any, address: str) -> None:
    """Paste an address into the open tab, and wait until it was read."""
    page.evaluate(
        """(address) => new Promise((done) => {
          const read = () => (location.hash === address ? atlas.page.address.read() : null); // unless it was put back
          addEventListener("hashchange", () => done(read()), { once: true });
          location.hash = address; })""",
        address,
    )


def test_a_reopened_link_keeps_its_view(visit: Visit) -> None:
    page = visit.open("map.html#v=1000,2000,30000&q=pizza")
    page.evaluate(DRAWN)  # by then what was seen is known
    assert page.evaluate("location.hash") == "#v=1000,2000,30000&q=pizza"
    assert shown_hash(page) == "#v=1000,2000,30000&q=pizza"
    assert shown_hash(visit.open("map.html#q=pizza")) == "#q=pizza"


def test_all_that_a_link_names_comes_back_and_what_it_does_not_goes(visit: Visit) -> None:
    page = visit.open("map.html#q=pizza")
    whole = page.evaluate("atlas.page.scatter.seen()")
    go(page, f"#{EVERYTHING}")
    assert set(shown_hash(page)[1:].split("&")) >= set(EVERYTHING.split("&"))
    assert page.locator("#card, #neuron, #selection").evaluate_all("all => all.map((e) => e.hidden)") == [False] * 3
    assert page.evaluate("atlas.page.shown().length") == 220
    go(page, "#c=group")
    assert shown_hash(page) == "#c=group"
    assert page.locator("#card, #neuron, #selection").evaluate_all("all => all.map((e) => e.hidden)") == [True] * 3
    assert page.locator("#query").input_value() == ""
    assert page.evaluate("[atlas.page.lit, atlas.page.scatter.bright()]") == [None, None]
    assert page.evaluate("atlas.page.shown().length") == 300
    assert page.evaluate("atlas.page.scatter.seen()") == pytest.approx(whole)


def test_the_skip_link_changes_nothing(visit: Visit) -> None:
    page = visit.open(f"map.html#{EVERYTHING}")
    before = shown_hash(page)
    go(page, "#main")
    assert shown_hash(page) == before
    assert page.locator("#query").input_value() == "pizza"


def test_the_latest_act_stands_out(visit: Visit) -> None:
    page = visit.open("map.html")
    bright = "[...atlas.page.scatter.bright()].sort((a, b) => a - b)"
    page.get_by_placeholder("Search captions").fill("pizza")
    page.wait_for_function("atlas.page.finder.hits()?.length")
    found = page.evaluate(bright)
    assert page.locator("#leading").inner_text() == ""
    page.evaluate("atlas.page.legend.light(3)")
    driven = page.evaluate(bright)
    assert driven == sorted(page.evaluate("atlas.page.lit"))
    assert driven != found
    assert page.locator("#leading").inner_text() == "On the map what activates the neuron stands out: it came last."
    assert "lit=neuron" in shown_hash(page)
    again = visit.open(f"map.html{shown_hash(page)}")
    assert again.evaluate(bright) == driven
    page.evaluate("atlas.page.selection.take([[-20000,-20000],[20000,-20000],[20000,20000]])")
    assert page.evaluate(bright) == page.evaluate("atlas.page.selection.chosen()")
    page.get_by_placeholder("Search captions").fill("no such caption")
    page.wait_for_function("document.getElementById('found').textContent.startsWith('0 found')")
    assert page.evaluate(bright) == []
    page.evaluate("atlas.page.legend.light(3)")
    assert page.evaluate(bright) == driven


@pytest.mark.parametrize("name", ["map.html", "neurons.html"])
def test_back_and_forward_walk_through_picks_and_selections(visit: Visit, name: str) -> None:
    page = visit.open(name)
    picked, seen = "atlas.page.card.state().p", "atlas.page.scatter.seen()"
    page.evaluate("atlas.page.pick(3)")
    page.evaluate("atlas.page.scatter.look(0, 0, 30000)")  # a view is kept with the step that it belongs to
    assert "v=0,0,30000" in shown_hash(page)
    page.evaluate("atlas.page.pick(5, true)")
    flown = page.evaluate(seen)
    page.evaluate(
        f"atlas.page.selection.take({[[int(c) for c in each.split(',')] for each in SELECTION[4:].split(';')]})"
    )
    assert SELECTION in shown_hash(page)
    assert page.get_by_label("Back to the previous point").is_visible()

    def walk(way: str) -> None:
        page.evaluate(f"new Promise((done) => {{ addEventListener('hashchange', done, {{ once: true }}); {way}; }})")
        page.evaluate("atlas.page.address.read()")

    walk("history.back()")
    assert (page.evaluate(picked), page.locator("#selection").is_hidden()) == (5, True)
    walk("history.back()")
    assert page.evaluate(picked) == 3
    assert page.evaluate(seen) == pytest.approx([0, 0, 30000])
    assert page.get_by_label("Back to the previous point").count() == 0
    walk("history.back()")
    assert (page.evaluate(picked), page.locator("#card").is_hidden()) == (None, True)
    for expected in (3, 5):
        walk("history.forward()")
        assert page.evaluate(picked) == expected
    assert page.evaluate(seen) == pytest.approx(flown, abs=1)
    walk("history.forward()")
    assert page.evaluate("atlas.page.selection.chosen().length") > 0


def test_panning_typing_and_a_key_held_down_are_no_steps_of_the_history(visit: Visit) -> None:
    page = visit.open("map.html")
    page.evaluate("atlas.page.pick(3)")
    steps = page.evaluate("history.length")
    page.evaluate("atlas.page.scatter.look(100, 0, 20000)")
    assert "v=100,0,20000" in shown_hash(page)
    page.get_by_placeholder("Search captions").fill("pizza")
    page.wait_for_function("atlas.page.finder.hits()?.length")
    assert "q=pizza" in shown_hash(page)
    page.evaluate("atlas.page.card.pick(5, false, true)")
    assert page.evaluate("[atlas.page.card.state().p, history.length]") == [5, steps]
    page.evaluate("atlas.page.card.pick(6)")
    assert page.evaluate("history.length") == steps + 1


def test_hidden_entries_of_the_legend_are_kept(visit: Visit) -> None:
    page = visit.open("map.html")
    page.locator(".entry", has_text="image").click()
    page.get_by_role("button", name="Style").click()
    page.locator(".entry", has_text="roboto-slab").click()
    shown = page.evaluate("[...atlas.page.shown()]")
    address = shown_hash(page)
    assert "hide=kind.0,group." in address
    again = visit.open(f"map.html{address}")
    assert again.evaluate("[...atlas.page.shown()]") == shown
    assert again.locator(".entry[aria-pressed=false]").inner_text().startswith("roboto-slab")


def test_what_closes_hands_on_the_focus(visit: Visit) -> None:
    page = visit.open("map.html")
    focus = "document.activeElement.id || document.activeElement.className"
    page.get_by_placeholder("Search captions").fill("pizza")
    page.wait_for_selector("#results li")
    page.locator("#results button").first.focus()
    page.keyboard.press("Enter")
    page.get_by_label("Close card").focus()
    page.keyboard.press("Enter")
    assert page.locator("#card").is_hidden()
    assert page.evaluate(focus) == "line"  # the result that had opened it
    page.evaluate("document.activeElement.blur(); atlas.page.pick(3)")
    page.get_by_label("Close card").focus()
    page.keyboard.press("Escape")
    assert page.evaluate(focus) == "map"
    page.evaluate("atlas.page.legend.light(3)")
    page.get_by_label("Stop showing this neuron").click()
    assert page.evaluate(focus) == "map"
    page.evaluate("atlas.page.selection.take([[-20000,-20000],[20000,-20000],[20000,20000]])")
    page.get_by_label("Clear the selection").click()
    assert page.evaluate(focus) == "map"


def test_escape_closes_the_card_of_a_cell(visit: Visit) -> None:
    page = visit.open("activations.html")
    tile = page.locator(".grid button").nth(3)
    tile.click()
    page.locator("#card a").first.focus()
    page.keyboard.press("Escape")
    assert page.locator("#card").is_hidden()
    assert page.locator(".grid [aria-pressed=true]").count() == 0
    assert tile.evaluate("tile => tile === document.activeElement")


@pytest.mark.slow
def test_a_neuron_put_away_leaves_the_colours_that_there_were_at_first(tmp_path: Path, browser: Any) -> None:
    site = write_site(fake_store(tmp_path / "images", words=0, texts=0)).parent
    page = browser.new_page()
    Visit(page, site).open("map.html")
    codes = page.evaluate("[...atlas.page.points.code]")
    assert len(set(codes)) == 2  # its two styles
    page.evaluate("atlas.page.legend.light(3)")
    page.get_by_label("Stop showing this neuron").click()
    assert page.get_by_role("button", name="Style").get_attribute("aria-pressed") == "true"
    assert page.evaluate("[...atlas.page.points.code]") == codes
    page.close()
