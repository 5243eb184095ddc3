"""The site, opened from disk in a real browser: it answers, stays off the network, and no caption acts."""

import json
import re
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from atlas.errors import Refused
from atlas.pages import columns, thumbnails, write_site
from atlas.pages.cells import write_cells
from atlas.pages.frame import StoreFrame
from atlas.pages.provenance import DerivedParts, store_provenance
from atlas.pages.rows import PageRows
from atlas.pages.site import about_page
from atlas.sources.word_images import render_word
from atlas.store.store import Store
from tests.browsing import PLACE, Visit
from tests.fakes import HOSTILE, fake_store, part

NEURONS = 16


def test_the_map_answers_and_keeps_what_is_clicked(visit: Visit) -> None:
    page = visit.open("map.html#5")
    x, y = page.evaluate(PLACE % 5)
    page.mouse.move(x, y)
    tip = page.locator("#tip")
    tip.wait_for(state="visible")
    assert page.locator(".tip").count() == 1
    assert "image · Goog" in tip.inner_text()
    assert tip.locator(".t").count() == 1
    page.get_by_label("Close card").click()
    page.mouse.click(x, y)
    card = page.locator("#card")
    assert card.locator(".strip .t").count() == 8
    assert re.search(r"neurons/00\d\d\.html", card.locator("a.line").first.get_attribute("href"))
    card.locator(".strip .t").first.click()
    assert page.evaluate("location.hash") != "#5"


def test_search_and_legend(visit: Visit) -> None:
    page = visit.open("map.html")
    page.get_by_placeholder("Search captions").fill("DRAWING pizza")
    assert page.locator("#found").inner_text().startswith(f"{page.locator('#results li').count()} found")
    assert all("pizza" in text for text in page.locator("#results .caption").all_inner_texts())
    page.get_by_placeholder("Search captions").fill("no such caption")
    assert page.locator("#found").inner_text() == "0 found in captions, and the model does not know the words."
    points = "atlas.page.shown().length"
    assert page.evaluate(points) == 300
    page.locator(".entry", has_text="image").click()
    assert page.evaluate(points) == 100
    page.get_by_role("button", name="Style").click()
    assert page.locator(".entry", has_text="Twtr").count() == 1


def test_hostile_captions_are_inert_and_whole(visit: Visit) -> None:
    page = visit.open("map.html")
    for row, caption in HOSTILE.items():
        page.evaluate(f"atlas.page.pick(atlas.page.points.row.indexOf({row}))")
        assert page.locator("#card .caption").first.inner_text() == " ".join(caption.split())
        assert "null" not in page.locator("#card").inner_text()
    page.get_by_placeholder("Search captions").fill("onerror")
    assert page.locator("#results .caption").first.text_content() == HOSTILE[1]
    for path in ("neurons.html", "activations.html"):
        visit.open(path)
    assert HOSTILE[0].encode() not in b"".join(path.read_bytes() for path in visit.site.rglob("*.html"))


def test_neurons_and_activations(visit: Visit) -> None:
    page = visit.open("neurons.html")
    assert page.locator("tbody tr").count() == NEURONS
    page.get_by_role("button", name="Monosemanticity").click()
    assert page.locator("tbody th").first.inner_text().strip() == str(NEURONS - 1)
    page.get_by_placeholder("Find by number or word").fill("12")
    assert page.locator("tbody tr:visible").count() == 1
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Open its card").click()
    page.wait_for_url("**/neurons/0012.html")
    page = visit.open("activations.html")
    page.locator(".grid button").first.click()
    assert 1 < page.locator("#card .strip a").count() <= 12


def test_dark_and_narrow(visit: Visit) -> None:
    page = visit.open("map.html")
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.get_by_label("Switch between light and dark").click()
    assert page.evaluate(paper) != light
    page.set_viewport_size({"width": 400, "height": 800})
    for path in ("map.html", "neurons.html", "activations.html", "neurons/0003.html", "about.html"):
        visit.open(path, ready=False)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400, path


def test_every_card_exists_and_every_link_resolves(store: Store) -> None:
    site = store.derived(part("site"))
    assert len(list((site / "neurons").glob("*.html"))) == NEURONS
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        links = re.findall(r"""(?:href|src)=(?:"([^"]*)"|([^\s>"]+))""", text)
        for link in (quoted or plain for quoted, plain in links):
            assert link.startswith(("data:", "#")) or (page.parent / link.partition("#")[0]).exists(), (page, link)
    card = (site / "neurons" / "0003.html").read_text("utf-8")
    assert card.count('class="t s') >= 12
    assert "--m:" in card
    assert len(card) < 3_200


@pytest.mark.parametrize("named", [True, False])
def test_pages_say_the_same_of_cells_and_which_layer_would_do(tmp_path: Path, named: bool) -> None:
    store = fake_store(tmp_path / "run", images=30, words=0, texts=0, neurons=4)
    cells = pq.read_table(store.derived(part("layout/cells")) / "cells.parquet")
    with store.deriving(part("layout/cells"), {"named_by": "members"} if named else {}) as folder:
        pq.write_table(cells, folder / "cells.parquet")
    frame = StoreFrame(store, tmp_path, [], {})
    for page in (write_cells(frame, PageRows(store)), about_page(frame, None)):
        assert page
        frame.render(page)
    about, activations = ((tmp_path / name).read_text("utf-8") for name in ("about.html", "activations.html"))
    assert ("more of its members share" in about, "nearest to the embedding of that mean" in about) == (
        named,
        not named,
    )
    assert ("more of its things share" in activations) == named
    assert f"<code>atlas layers {store.request['model']['name']}</code>" in activations
    assert "--layer LAYER</code>" in activations


def test_drawings_of_neurons_alone_are_read_from_their_cards(tmp_path: Path) -> None:
    store = fake_store(tmp_path / "run", images=30, words=0, texts=0, neurons=4)
    drawn = {"neuron": 1, "theme": "", "image": b"", "reached": 2.0, "strongest": 1.0, "kept": None, "seen": None}
    with store.deriving(part("neurons/drawings"), {}) as folder:
        pq.write_table(pa.Table.from_pylist([drawn]), folder / "drawings.parquet")
    site = write_site(store).parent
    assert ">Drawings</a>" not in (site / "index.html").read_text("utf-8")
    assert "1 drawing of neurons: 1 of 1 exceeds the best" in (site / "drawings.html").read_text("utf-8")
    assert 'href="../drawings.html"' in (site / "neurons" / "0001.html").read_text("utf-8")


def test_two_measures_of_words_and_drawings_say_what_each_is_of(tmp_path: Path) -> None:
    store = fake_store(tmp_path / "run", images=30, words=8, texts=0, neurons=4)
    derived = DerivedParts(store)
    derived.recipe = lambda part: {"word_meets_drawing": {"raw": 0.28, "centred": float("nan")}}  # type: ignore[method-assign]
    said = store_provenance(store, derived)["Words meet drawings"]
    assert said.startswith("28% raw: how often, in the model's space, ")


def test_nothing_derived_still_makes_a_site(tmp_path: Path) -> None:
    store = fake_store(tmp_path / "bare", images=3, words=0, texts=0, derived=False)
    index = write_site(store)
    assert "atlas map" in index.with_name("map.html").read_text("utf-8")
    assert not (index.parent / "neurons.html").exists()


def test_words_alone_make_neurons_and_cards(tmp_path: Path) -> None:
    store = fake_store(tmp_path / "words", images=0, words=24, texts=0, neurons=4)
    site = write_site(store).parent
    assert "by the word that activates it most" in (site / "neurons.html").read_text("utf-8")
    assert not (site / "activations.html").exists()
    assert "Words that activate it most" in (site / "neurons" / "0003.html").read_text("utf-8")


@pytest.mark.slow
def test_the_budget_steps_down_or_refuses_in_one_line(tmp_path: Path) -> None:
    store = fake_store(tmp_path / "demo")
    write_site(store)
    largest = store.recipe(part("site"))["thumbnail"]
    files = [path for path in store.derived(part("site")).rglob("*") if path.is_file()]
    whole = sum(path.stat().st_size for path in files) / 1e6
    write_site(store, max_mb=whole - 0.03)
    assert store.recipe(part("site"))["thumbnail"] < largest
    assert sum(path.stat().st_size for path in store.derived(part("site")).rglob("*") if path.is_file()) <= whole * 1e6
    with pytest.raises(Refused, match=r"^a site of .* MB at least, above 0.5 MB; raise --max-mb$"):
        write_site(store, max_mb=0.5)
    assert (store.derived(part("site")) / "map.html").exists()


@pytest.mark.slow
def test_sheets_of_words_are_whole_where_that_is_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "WEBP_METHOD", 5)
    thumbs = [webp(render_word(word, "open-sans", 40)) for word in ("dotted", "drum", "duck", "earth") * 16]
    noise = [webp(Image.fromarray(np.random.default_rng(i).integers(0, 256, (56, 56, 3), np.uint8))) for i in range(8)]
    size = thumbnails.ThumbnailSize(56, 75)
    page, lossy = (
        Image.open(BytesIO(thumbnails.thumbnail_sheet(thumbs, size, words))).convert("RGB") for words in (True, False)
    )
    assert set(np.unique(np.asarray(page))) <= {17 * shade for shade in range(16)}
    assert np.abs(np.asarray(page, int) - np.asarray(lossy, int)).mean() < 2
    assert len(thumbnails.thumbnail_sheet(thumbs, size, True)) < len(thumbnails.thumbnail_sheet(thumbs, size))
    assert thumbnails.thumbnail_sheet(noise, size, True) == thumbnails.thumbnail_sheet(noise, size)


def webp(image: Image.Image) -> bytes:
    out = BytesIO()
    image.convert("RGB").save(out, "WebP", lossless=True)
    return out.getvalue()


def test_a_card_names_what_it_shows(visit: Visit, store: Store) -> None:
    page, rows = visit.open("neurons/0003.html#word=5"), PageRows(store)
    told = "all => all.map((a) => [a.title, Number(a.hash.slice(1)), a.className, a.style.getPropertyValue('--n')])"
    images, words = (page.locator(which).evaluate_all(told) for which in ("#top a", "#band a"))
    assert len(images) == 24
    assert words
    for title, row, classes, cell in images + words:
        assert title == (rows.labels[row] if [title, row, classes, cell] in words else rows.name(row))
        assert (f"s{rows.places[0][row]}", int(cell)) == (classes.split()[1], rows.places[1][row])


def test_columns_round_trip() -> None:
    import gzip
    from base64 import b64decode

    script = columns.column_script("t<", {"x": np.arange(5, dtype=np.int16), "s": ["a", "", "שלום"]})
    assert script.startswith('atlas.data("t\\u003c",')
    described = json.loads(script[script.index(",") + 1 : script.rindex(',"')])
    data = gzip.decompress(b64decode(script[script.rindex(',"') + 2 : -4]))
    assert np.frombuffer(data, np.int16, 5, described["x"]["at"]).tolist() == [0, 1, 2, 3, 4]
    offsets = np.frombuffer(data, np.uint32, 4, described["s"]["at"])
    blob = data[described["s"]["bytes"] :]
    assert [blob[a:b].decode() for a, b in pairwise(offsets)] == ["a", "", "שלום"]
    assert json.loads(columns.safe_json({"<\u2028&": 1})) == {"<\u2028&": 1}
    assert not set(columns.safe_json("</script>&\u2028")) & set("<>&\u2028")
