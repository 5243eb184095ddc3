"""The opening page: examples chosen by evidence, each with the way to its place; pictures from the map's first view."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from atlas.analysis.naming import Name
from atlas.analysis.phrases import runs_of_labels
from atlas.pages import front, write_site
from atlas.pages import map as map_page
from atlas.pages.evidence import evidence_card
from atlas.pages.examples import Example, choose_examples
from atlas.pages.frame import StoreFrame
from atlas.pages.front import FrontSheet, standing_points
from atlas.pages.neurons import Neurons
from atlas.pages.poster import Tick, poster_name, poster_ticks, poster_verdict
from atlas.pages.rows import PageRows
from atlas.pages.start import switching_sentence
from atlas.store.store import Store
from tests.browsing import DRAWN, Visit
from tests.fakes import fake_store, part

THING = "sea horse"


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Neurons:
    """Neuron 2 responds to a thing drawn, written and told; neuron 5 is named by words alone."""
    store = fake_store(tmp_path / "run", images=120, words=40, texts=20)
    frame = StoreFrame(store, tmp_path, [], {})
    rows = PageRows(store)
    neurons = Neurons.read(frame, rows)
    assert neurons
    words = store.positions("word").tolist()
    for k, row in enumerate(neurons.stats["image"][2]["top"][:6]):
        rows.labels[row] = f"{THING} {'dark' if k % 2 else 'light'}"
    for neuron in (2, 5):
        rows.labels[words[neuron]] = THING
        neurons.stats["word"][neuron]["top"][0] = words[neuron]
    assert neurons.texts
    neurons.texts[2]["texts"][1] = f"a {THING}"
    return neurons


def test_a_neuron_is_chosen_for_what_it_responds_to_drawn_written_and_told(planted: Neurons) -> None:
    chosen = {example.neuron: example for example in choose_examples(planted)}
    example = chosen[2]
    assert (example.thing, example.drawn, example.pictures, example.word, example.text) == (THING, 6, 6, 1, 2)
    assert example.sentence() == (
        "6 of its strongest pictures show it, of 6 that could; it is its strongest word; it is the second of the texts "
        "nearest to what it writes."
    )
    assert 5 not in chosen  # no picture shows it


def test_a_card_checks_a_name_by_pictures_words_and_switching(planted: Neurons) -> None:
    planted.__dict__["names"] = {n: Name((THING,), "label") for n in (2, 5)} | {4: Name(("no such thing",), "label")}
    effect = {"concept": THING, "act": "raise", "effect": 0.3, "control": 0.0}
    planted.receipts = {2: [effect | {"confirmed": True}], 5: [effect | {"confirmed": False}]}
    found = {n: [tick.holds for tick in poster_ticks(planted, n)] for n in (2, 4, 5)}
    assert found == {2: [True, True, True], 4: [None, False, None], 5: [False, True, False]}
    assert poster_ticks(planted, 2)[0].text == f"6 of its strongest pictures show “{THING}”, of 6 that could"
    planted.__dict__["names"] = {2: Name(("neuron 2",), "number")}
    assert poster_ticks(planted, 2) == []


@pytest.mark.parametrize(
    ("shown", "could", "holds"),
    [
        (0, 0, None),
        (1, 1, True),
        (1, 7, False),
        (2, 7, True),
        (1, 8, False),
        (2, 8, True),
        (5, 24, False),
        (6, 24, True),
    ],
)
def test_a_quarter_of_the_pictures_that_could_show_a_thing_is_asked(
    planted: Neurons, monkeypatch: pytest.MonkeyPatch, shown: int, could: int, holds: bool | None
) -> None:
    monkeypatch.setattr("atlas.pages.poster.pictures_of", lambda *_: (shown, could))
    assert poster_ticks(planted, 2)[0].holds is holds


@pytest.mark.parametrize(
    ("checks", "said"),
    [
        ((True, True, True), "All 3 checks speak for this name"),
        ((True, True, False), "2 of 3 checks speak for this name"),
        ((False, True, False), "1 of 3 checks speaks for this name: doubt it"),
        ((None, True, None), "1 of 1 check speaks for this name: doubt it"),
        ((None, False, False), "None of 2 checks speaks for this name: doubt it"),
        ((None, None, None), ""),
    ],
)
def test_the_checks_of_a_name_have_one_verdict(checks: tuple[bool | None, ...], said: str) -> None:
    assert poster_verdict([Tick(holds, "") for holds in checks]) == said


def test_a_name_that_pictures_and_words_do_not_give_is_a_guess(planted: Neurons) -> None:
    planted.claims = {
        n: [{"label": THING, "responds_to": said, "writes": THING}] for n, said in ((2, THING), (5, None))
    }
    planted.__dict__["names"] = {n: Name((THING,), "label") for n in (2, 5)}
    assert [poster_name(planted, n) for n in (2, 5)] == [THING, f"perhaps {THING}"]


def test_a_card_shows_each_thing_once_and_says_its_rank(planted: Neurons) -> None:
    rows, top = planted.rows, planted.stats["image"][4]["top"]
    for at, row in enumerate(top):
        rows.labels[row] = "owl" if at < 5 else f"thing {'abcdefghijklmnopqrstuvwxyz'[at]}"
    rows.__dict__.pop("things", None)
    shown = evidence_card(planted, 4)["kinds"]["image"]["top"]
    assert [entry[3] for entry in shown] == [1, *range(6, len(top) + 1)]
    assert [entry[0] for entry in shown] == [top[0], *top[5:]]
    assert [picture.row for picture in planted.pictures("image", 4, 2)] == [top[0], top[5]]


def test_styles_tones_and_aliases_of_one_thing_are_one(planted: Neurons) -> None:
    rows = planted.rows
    for row, label in enumerate(("Kite", "kite (toy)", "owl", "kite")):
        rows.labels[row] = label
    rows.__dict__.pop("things", None)
    assert rows.distinct([2, 0, 1, 3], 9) == [0, 1]
    assert rows.distinct([2, 0, 1, 3], 1) == [0]


def test_switching_counts_only_where_it_was_confirmed(planted: Neurons) -> None:
    row = {"concept": THING, "act": "raise", "effect": 0.02, "control": 0.002, "confirmed": False}
    planted.receipts = {2: [row]}
    before = choose_examples(planted)[0]
    row["confirmed"] = True
    after = choose_examples(planted)[0]
    assert before.neuron == after.neuron == 2
    assert (before.switching, after.switching) == (None, (0.02, 0.002))
    assert after.evidence == before.evidence + 1
    assert "10 times as much as matched neurons" in switching_sentence(THING, 0.02, 0.002)
    assert "not in matched neurons" in switching_sentence(THING, 0.02, -0.001)


def test_examples_of_one_thing_are_shown_once() -> None:
    assert runs_of_labels(["sea horse dark", "sea horse", "horse"])["sea horse"] == 2
    assert Example(0, "a", 3, 6, 2, 0, None).evidence == 1


def test_pictures_that_stand_for_others_lie_in_the_middle_of_them() -> None:
    rng = np.random.default_rng(0)
    islands = np.array([[0, 0], [10, 0], [10, 10]]).repeat(200, axis=0)
    xy = (islands + 0.2 * rng.standard_normal((600, 2))).astype(np.float32)
    pictured = np.arange(600) % 2 == 0
    found = standing_points(xy, pictured)
    assert pictured[found].all()
    assert len(set(found.tolist())) == len(found) <= front.STANDING
    assert {point // 200 for point in found[:12].tolist()} == {0, 1, 2}
    assert len(standing_points(xy, np.zeros(600, bool))) == 0


def test_the_sheet_holds_each_row_once(store: Store, tmp_path: Path) -> None:
    sheet = FrontSheet(store)
    assert [sheet.add(row) for row in (5, 7, 5)] == [0, 1, 0]
    sheet.write(tmp_path)
    assert (tmp_path / front.FRONT_SHEET).read_bytes()[:4] == b"RIFF"


def test_the_site_opens_on_examples_that_lead_to_their_places(tmp_path: Path, browser: Any) -> None:
    store = fake_store(tmp_path / "run", images=60, words=30, texts=20)
    word = pq.read_table(store.derived(part("neurons/stats")) / "word.parquet")
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    visit = Visit(page, write_site(store).parent)
    visit.open("index.html", ready=False)
    assert page.locator("h1").inner_text() == "What the neurons of a CLIP model respond to"
    assert f"{len(word)} neurons" in page.locator(".lead").inner_text()
    page.get_by_role("link", name="Open the map").click()
    page.wait_for_selector("body[data-ready]", state="attached")
    visit.open("index.html#p=3", ready=False)  # an address of the map, from before it had a page of its own
    page.wait_for_selector("body[data-ready]", state="attached")
    assert "map.html#" in page.url
    assert "p=3" in page.url
    assert (visit.strays, visit.errors) == ([], [])
    page.close()


@pytest.mark.slow
def test_some_pictures_stand_for_all_from_the_first_view(
    tmp_path: Path, browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(map_page, "FEWEST_STANDING", 50)
    site = write_site(fake_store(tmp_path / "run", images=200, words=30, texts=10)).parent
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    visit = Visit(page, site)
    visit.open("map.html")
    page.evaluate("Object.defineProperty(atlas.page, 'room', { value: () => 5 })")
    page.evaluate("atlas.page.scatter.repaint()")
    page.evaluate(DRAWN)
    page.wait_for_function("atlas.page.scatter.over().drawn.length > 10")
    drawn = page.evaluate("atlas.page.scatter.over().drawn")
    side = page.evaluate("atlas.page.scatter.over().side")
    place = "(i => { const { view } = atlas.page.scatter; return [view().toX(x(i)), view().toY(y(i))]; })(%d)"
    place = place.replace("x(i)", "atlas.page.points.x[i]").replace("y(i)", "atlas.page.points.y[i]")
    for at, (i, x, y, _cell) in enumerate(drawn):
        assert all(abs(x - u) >= side or abs(y - v) >= side for _, u, v, _ in drawn[:at])
        own = page.evaluate(place % i)  # it stands beside its place, not far from it
        assert max(abs(x - own[0]), abs(y - own[1])) < 1.5 * side
    page.locator(".entry", has_text="image").click()
    page.wait_for_function("!atlas.page.scatter.over().drawn.length")
    page.evaluate("atlas.page.scatter.look(60000, 60000, 500)")
    page.wait_for_selector(".nothing:not([hidden])")
    assert page.locator(".minimap").is_visible()
    page.locator(".nothing button").click()
    page.wait_for_selector(".nothing", state="hidden")
    assert (visit.strays, visit.errors) == ([], [])
    page.close()
