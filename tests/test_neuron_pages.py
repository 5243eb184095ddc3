"""The neuron atlas, the cards and added pages, opened from disk in a real browser."""

import ast
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from atlas.errors import Refused
from atlas.formatting import json_number
from atlas.pages import write_site
from atlas.pages.evidence import rebin_counts, shared_facts
from atlas.pages.fragments import check_fragment, with_heading
from atlas.pages.frame import StoreFrame
from atlas.pages.neurons import MEANING_OF_LABELS, Neurons
from atlas.pages.rows import PageRows, Peak
from atlas.store.store import Store
from tests.browsing import Visit
from tests.fakes import HOSTILE, fake_store, part, write_array

NEURONS = 70  # more than a shard of evidence holds
LABEL = HOSTILE[1]
UNBROKEN = "cells => cells.length > 0 && cells.every((cell) => getComputedStyle(cell).overflowWrap === 'normal')"


@pytest.fixture
def store(told_store: Store) -> Store:
    return told_store


@pytest.mark.slow
def test_cards_weigh_little(store: Store) -> None:
    cards = [path.stat().st_size for path in (store.derived(part("site")) / "neurons").glob("*.html")]
    assert len(cards) == NEURONS
    assert max(cards) < 3584  # the poster, and its evidence in a line
    assert len(list((store.derived(part("site")) / "data").glob("cards-*.js"))) == 2


def test_a_card_shows_everything_that_is_known(visit: Visit, store: Store) -> None:
    page = visit.open("neurons/0003.html")
    assert page.title().startswith(f"Neuron 3: {LABEL}")
    assert page.locator(".lead").inner_text() == LABEL
    assert page.locator(".three .t").count() == 3
    assert page.locator(".poster dt").all_inner_texts() == ["Responds to", "Reads", "Writes"]
    ticks = page.locator(".ticks li").all_inner_texts()
    assert len(ticks) == 3
    assert ticks[2].startswith("✓ raising it")
    assert page.locator("details.part[open]").count() == 0
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details.part:not([open])").count() == 0
    assert page.locator(".claims").inner_text() == f"{LABEL} p 4e-4, q 0.010 · words"
    top = pq.read_table(store.derived(part("neurons/stats")) / "image.parquet").to_pylist()[3]
    tiles = page.locator("#top li")
    assert tiles.count() == len({store.rows["label"][row].as_py() for row in top["top"]})
    assert tiles.first.inner_text().split() == ["1.", f"{(top['top_value'][0] - top['mean']) / top['std']:+.1f}", "std"]
    assert tiles.first.locator("a").get_attribute("href") == f"../map.html#{top['top'][0]}"
    words = pq.read_table(store.derived(part("neurons/stats")) / "word.parquet").to_pylist()[3]
    strongest = store.rows["label"][words["top"][0]].as_py()
    assert page.locator("#words li").first.inner_text().startswith(strongest)
    assert page.locator(".near a").count() == 12
    assert page.locator("td.strip a").count() == 4
    assert "atlas.Neuron(atlas.Store.open" in page.locator("pre").inner_text()
    assert "0" * 64 in page.locator(".neuron .facts").inner_text()
    facets = page.get_by_role("region", name="Facets")
    assert facets.locator("tbody tr").nth(1).inner_text().split("\t")[:4] == [LABEL, "0.010", "0.020", "9"]
    assert "separate clusters" in page.locator("details", has=facets).inner_text()
    table = page.get_by_role("region", name="Receipts")
    assert table.locator("tbody tr").nth(0).inner_text().split("\t") == [
        LABEL, "raised", "+0.210 (+0.150 to +0.270)", "−0.0100", "2e-4", "yes",
    ]  # fmt: skip
    assert table.locator("tbody tr").nth(1).inner_text().split("\t")[:2] == ["rain", "silenced"]
    assert page.locator(".absent li").count() == 0
    assert page.locator(".scroll :is(th, td, td bdi)").evaluate_all(UNBROKEN)


@pytest.mark.slow
def test_a_card_says_what_was_not_made_and_how_to_make_it(tmp_path: Path, browser: Any) -> None:
    store = fake_store(tmp_path / "demo", texts=0, neurons=2)
    page = browser.new_page()
    Visit(page, write_site(store).parent).open("neurons/0001.html")
    said = page.locator(".absent li").all_text_contents()
    label = f"decompose label {store.path}"  # runs as it stands, wherever the Store lies
    assert f"No receipts (does raising the neuron raise its label?): {label} makes them." in said
    assert f"No texts: atlas collect texts {store.path} makes them." in said
    page.close()


def test_commands_of_a_card_run_from_a_shell_wherever_the_store_lies(tmp_path: Path) -> None:
    store = fake_store(tmp_path / 'it\'s "mine" $HOME', images=40, texts=0, neurons=2)
    frame = StoreFrame(store, tmp_path, [], {})
    found = Neurons.read(frame, PageRows(store))
    assert found is not None
    rebuild, python, figure = (line.replace("{}", "1") for line in shared_facts(frame, found)["commands"])
    place = str(store.path)
    assert place in shlex.split(rebuild)
    assert shlex.split(figure) == ["atlas", "figure", place, "1", "--to", "neuron.pdf"]
    program = shlex.split(python)
    assert program[:2] == ["python", "-c"]
    literals = [node.value for node in ast.walk(ast.parse(program[2])) if isinstance(node, ast.Constant)]
    assert place in literals


def test_heat_is_where_an_activation_is_largest_and_as_far_as_it_lies_above_the_mean_of_the_others(
    tmp_path: Path,
) -> None:
    store = fake_store(tmp_path / "demo", images=4, words=0, texts=0, neurons=4, derived=False)
    shard = store.shard_of(0)
    largest = {"argmax": [5, 15, 3, 2], "max": [8, 8, 0, 8], "mean": [8 / 16, (8 + 15 * 4) / 16, 0, 8]}
    for name, values in largest.items():
        write_array(store, shard, name, np.tile(values, (4, 1)).astype(np.uint16 if name == "argmax" else np.float16))
    found = Neurons(StoreFrame(store, tmp_path, [], {}), PageRows(store), {})
    assert [found.peak(0, neuron) for neuron in range(4)] == [Peak(5, 100), Peak(15, 50), None, None]
    store.request["model"]["layers"][0]["grid"] = [1, 1]  # a CLS token
    found = Neurons(StoreFrame(store, tmp_path, [], {}), PageRows(store), {})
    assert found.peak(0, 0) is None


def test_a_picture_on_a_card_is_in_colour_where_it_activates_the_neuron(visit: Visit, store: Store) -> None:
    page = visit.open("neurons/0003.html")
    told = page.locator("#top + .note").inner_text()
    assert "one of 4 × 4 positions" in told
    tile = page.locator("#top .m").first
    opacity = "(tile) => Number(getComputedStyle(tile, '::after').opacity)"
    heat = tile.evaluate("(tile) => Number(tile.style.getPropertyValue('--h'))")
    assert tile.evaluate(opacity) == pytest.approx(heat / 100)
    assert heat > 0
    position = tile.evaluate("(tile) => Number(tile.style.getPropertyValue('--m'))")
    mask = tile.evaluate("(tile) => getComputedStyle(tile, '::after').maskImage")
    assert f"at {25 * (position % 4) + 12.5:g}% {25 * (position // 4) + 12.5:g}%" in mask
    tile.hover()
    assert tile.evaluate(opacity) == 0


def test_bands_open_and_the_address_keeps_them(visit: Visit, store: Store) -> None:
    page = visit.open("neurons/0003.html")
    stat = pq.read_table(store.derived(part("neurons/stats")) / "image.parquet").to_pylist()[3]
    band = next(i for i in reversed(range(10)) if 0 < len(stat["reservoir"][i]) < 16)
    assert page.locator(".band").count() == 10
    page.get_by_text("From weakest to strongest").click()
    page.locator(".band").nth(band).click()
    count = len(stat["reservoir"][band])
    assert f" {count} of 200 images" in page.locator("#band").inner_text()
    assert page.locator("#band .t").count() == min(count, 6)
    assert page.evaluate("location.hash") == f"#image={band + 1}"
    page.get_by_role("button", name="words").click()
    assert page.locator("#band").is_hidden()
    assert "over 80 words" in page.locator(".bars").get_attribute("aria-label")
    page = visit.open(f"neurons/0003.html#image={band + 1}")
    assert page.locator(".band[aria-pressed=true]").count() == 1
    assert f" {count} of 200 images" in page.locator("#band").inner_text()


def test_arrows_walk_the_cards(visit: Visit) -> None:
    page = visit.open("neurons/0063.html")
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**/neurons/0064.html")
    page.wait_for_selector("body[data-ready]", state="attached")  # the first of the next shard
    assert page.locator("#top li").count() == 24
    page.keyboard.press("ArrowLeft")
    page.wait_for_url("**/neurons/0063.html")
    page = visit.open("neurons/0000.html")
    page.keyboard.press("ArrowLeft")
    assert page.url.endswith("0000.html")


def test_a_card_without_scripts_is_still_a_card(store: Store, browser: Any) -> None:
    page = browser.new_page(java_script_enabled=False)
    page.goto(f"{store.derived(part('site')).as_uri()}/neurons/0005.html")
    assert page.locator("#top .t").count() == 12
    assert page.locator("#words li").count() == 12
    assert page.locator("#near a").count() == 5
    assert "No label is significant" in page.locator("article").inner_text()
    page.close()


def test_without_javascript_the_neuron_atlas_is_a_picture_and_a_table(store: Store, browser: Any) -> None:
    page = browser.new_page(java_script_enabled=False)
    page.goto(f"{store.derived(part('site')).as_uri()}/neurons.html")
    assert page.locator("#still").evaluate("image => image.naturalWidth") == 900
    assert page.locator("tbody th a").first.is_visible()
    assert page.locator("noscript .entry").all_inner_texts()[0].split("\n")[0] in ("image", "word")
    for dead in (".tools", ".zoom", ".search", ".by"):
        assert page.locator(dead).first.is_hidden()
    page.close()


def test_a_newcomer_reads_what_p_q_and_confirmed_mean(store: Store) -> None:
    site = store.derived(part("site"))
    for page in ("neurons.html", "about.html"):  # every card leads to both
        said = " ".join((site / page).read_text("utf-8").split())
        assert all(sentence in said for sentence in MEANING_OF_LABELS), page
    assert [sentence.split()[0] for sentence in MEANING_OF_LABELS] == ["p", "q", "Confirmed"]


def test_the_page_that_is_open_stands_in_a_narrow_bar(visit: Visit) -> None:
    visit.page.set_viewport_size({"width": 280, "height": 600})
    page = visit.open("about.html", ready=False)
    nav, here = (page.locator(path).bounding_box() for path in (".bar nav", ".bar [aria-current]"))
    assert nav["x"] <= here["x"]
    assert here["x"] + here["width"] <= nav["x"] + nav["width"]


def test_a_fragment_is_headed_within_its_measure() -> None:
    assert with_heading('<style>a{}</style><article class="a>b"><p>x', "A & b") == (
        '<style>a{}</style><article class="a>b"><h1>A &amp; b</h1><p>x'
    )
    assert with_heading("<p>x", "T") == "<h1>T</h1><p>x"


def test_a_fragment_is_a_page_of_the_site(visit: Visit, store: Store) -> None:
    page = visit.open("emotions.html", ready=False)
    assert page.locator("nav [aria-current]").inner_text() == f"Emotions {LABEL}"
    heading = page.locator("article h1")
    assert heading.inner_text() == f"Emotions {LABEL}"
    assert heading.bounding_box()["height"] > 20
    assert (store.derived(part("site")) / "assets" / "emotions" / "disc.svg").exists()
    assert page.locator("article .t").get_attribute("href") == "map.html#5"
    page.locator("article a").first.click()
    page.wait_for_url("**/neurons/0003.html")


@pytest.mark.parametrize(
    "body",
    [
        "<p><script>1</script>",
        "<img src=a.png ONERROR=x>",
        '<a href="java\nscript:x">',
        "<img src=https://example.org/a.png>",
        "<img src=//example.org/a.png>",
        "<style>@import 'https://example.org/a.css'</style>",
        '<p style="background:url(http://example.org)">',
        "<iframe src=a.html>",
        '<svg><image href="https://example.org/a.png"/></svg>',
        '<svg><use xlink:href="//example.org/a.svg#b"/></svg>',
        '<svg><set attributeName="href" to="https://example.org/a.png"/></svg>',
        '<svg><rect fill="url(https://example.org/a.svg#b)"/></svg>',
        '<img srcset="a.png 1x, https://example.org/a.png 2x">',
        "<img src='\x01https:example.org/a.png'>",
        '<a href="a.html" ping="a https:example.org">',
        """<p style="background:image-set('https:example.org' 1x)">""",
    ],
)
def test_a_fragment_that_could_act_is_refused(body: str) -> None:
    with pytest.raises(Refused, match=r"^page.html, line 2, .*; a fragment is text, tables and pictures alone$"):
        check_fragment(f"<p>fine</p>\n{body}", Path("page.html"))


def test_a_fragment_may_hold_text_tables_and_pictures() -> None:
    body = (
        '<style>.a{background:url(assets/e/a.png)}</style><a href="https://example.org">a</a><img src="assets/a.png">'
    )
    body += (
        '<svg viewBox="0 0 9 9"><path d="M0,0 9,9" fill="url(#a)"/></svg><p title="a: b" aria-label="c: d" data-e="f:">'
    )
    check_fragment(
        body + '<img src="data:image/png;base64,AA"><p style="--hue:#abc">javascript: onclick</p>', Path("page.html")
    )


@pytest.mark.parametrize("name", ["index", "neurons", "Bad Name", "a/b"])
def test_a_fragment_cannot_take_the_sites_own_pages(tmp_path: Path, name: str) -> None:
    store = fake_store(tmp_path / "demo", images=3, words=0, texts=0, derived=False)
    with store.deriving(part(f"site-fragments/{name}"), {}) as folder:
        (folder / "page.html").write_text("<p>")
    with pytest.raises(Refused, match="a fragment's name is"):
        write_site(store)


def test_bins_are_gathered_into_bands() -> None:
    counts = np.arange(64)
    assert rebin_counts(counts, 10).sum() == pytest.approx(counts.sum())
    np.testing.assert_allclose(rebin_counts(np.ones(64), 10), 6.4)
    assert json_number(float("nan")) is None
    assert json_number(0.123456) == 0.1235


@pytest.mark.slow
def test_several_added_pages_are_grouped_as_studies(tmp_path: Path) -> None:
    store = fake_store(tmp_path / "demo", images=20, words=8, texts=4)
    for name, title in (("words", "Words"), ("regions", "Regions <b>")):
        with store.deriving(part(f"site-fragments/{name}"), {"title": title}) as folder:
            body = f'<article class="text"><p class="lead">What <i>{name}</i> say.</p></article>'
            (folder / "page.html").write_text(body)
    write_site(store)
    site = store.derived(part("site"))
    index, page = ((site / f"{name}.html").read_text("utf-8") for name in ("studies", "regions"))
    assert "What words say." in index
    assert '<a href="regions.html">Regions &lt;b&gt;</a>' in index
    bar = page[page.index('<nav aria-label="Pages">') : page.index("</header>")]
    assert bar.count("Studies") == 1
    assert 'href="studies.html" aria-current="true"' in bar
    assert "Words" not in bar
    row = page[page.index('<nav class="studies"') :]
    assert '<a href="regions.html" aria-current="page">' in row
    assert '<a href="words.html">Words</a>' in row
