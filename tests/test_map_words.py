"""Words on the map: drawn as words among pictures, small, each once; pictures keep their share of the ink."""

from base64 import b64encode
from typing import Any

import pytest

from atlas.pages import write_site
from atlas.pages.map import joined_sentence
from tests.browsing import DRAWN, Visit
from tests.fakes import fake_store

OVER = "atlas.page.scatter.over()"
WORDS = (
    f"{OVER}.words.map(({{i, text, box}}) => ({{i, text, box, kind: atlas.page.rows.kind[atlas.page.points.row[i]]}}))"
)


def written(page: Any) -> list[dict[str, Any]]:
    page.wait_for_function(f"{OVER}.words.length > 3")
    page.evaluate(DRAWN)
    return page.evaluate(WORDS)


def overlap(a: list[float], b: list[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def test_words_are_written_among_pictures_each_once_and_over_nothing(visit: Visit) -> None:
    page = visit.open("map.html")
    for span in (65_000, 20_000):
        page.evaluate(f"atlas.page.scatter.look(0, 0, {span})")
        words, over = written(page), page.evaluate(OVER)
        assert {word["kind"] for word in words} <= {1, 2}  # rendered words and texts
        assert len({word["text"].casefold() for word in words}) == len(words)
        half = over["side"] / 2
        squares = [[x - half, y - half, x + half, y + half] for _, x, y in over["drawn"]]
        names = [name["box"] for name in over["named"]]
        boxes = [word["box"] for word in words]
        for at, box in enumerate(boxes):
            assert not any(overlap(box, other) for other in [*boxes[:at], *squares, *names])
        kinds = page.evaluate(f"{OVER}.drawn.map(([i]) => atlas.page.rows.kind[atlas.page.points.row[i]])")
        assert set(kinds) <= {0}


def test_a_word_opens_its_card_and_goes_with_its_kind(visit: Visit) -> None:
    page = visit.open("map.html")
    word = written(page)[0]
    box = page.locator(".plot").bounding_box()
    left, top, right, bottom = word["box"]
    page.mouse.click(box["x"] + (left + right) / 2, box["y"] + (top + bottom) / 2)
    page.wait_for_selector("#card:not([hidden])")
    assert page.locator("#card .caption").first.inner_text() == word["text"]
    for kind in ("word", "text"):
        page.locator(".entry", has_text=kind).click()
    page.evaluate(DRAWN)
    assert page.evaluate(f"{OVER}.words.filter(({{i}}) => i !== {word['i']})") == []


# Pixels that only pictures colour, and those that only words and texts colour, as shares of the plot.
INK = """async ([url, blank]) => {
  const read = async (from) => {
    const image = await createImageBitmap(await (await fetch(from)).blob());
    const canvas = new OffscreenCanvas(image.width, image.height), pen = canvas.getContext("2d");
    pen.drawImage(image, 0, 0);
    return pen.getImageData(0, 0, image.width, image.height).data;
  };
  const [a, b] = [await read(url), await read(blank)];
  let inked = 0;
  for (let k = 0; k < a.length; k += 4)
    inked += Math.abs(a[k] - b[k]) + Math.abs(a[k + 1] - b[k + 1]) + Math.abs(a[k + 2] - b[k + 2]) > 24;
  return inked / (a.length / 4); }"""


def shot(page: Any) -> str:
    page.evaluate(DRAWN)
    return f"data:image/png;base64,{b64encode(page.locator('.plot').screenshot()).decode()}"


@pytest.mark.slow
def test_few_pictures_among_many_words_have_a_third_of_the_ink(tmp_path: Any, browser: Any) -> None:
    site = write_site(fake_store(tmp_path / "few", images=60, words=900, texts=300)).parent
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    Visit(page, site).open("map.html")
    page.add_style_tag(content=".stage button, .tools { display: none !important }")
    entries = {kind: page.locator(".entry", has_text=kind) for kind in ("image", "word", "text")}
    for entry in entries.values():
        entry.click()
    blank = shot(page)
    entries["image"].click()
    page.wait_for_function(f"{OVER}.drawn.length > 20")
    pictures = page.evaluate(INK, [shot(page), blank])
    for kind in ("word", "text"):
        entries[kind].click()
    everything = page.evaluate(INK, [shot(page), blank])
    page.close()
    assert pictures > 0.02
    assert pictures / everything > 1 / 3


def test_the_sentence_has_the_figures_of_the_layout() -> None:
    recipe = {
        "name_matches": {"word-image": {"first": 0.381, "of_ten": 0.649}},
        "mixing": {"image": 0.2, "word": 0.604},
    }
    assert joined_sentence(recipe) == (
        "Of the words that name a picture here, 38% have such a picture as their nearest, and 65% among their ten "
        "nearest pictures; of the ten points nearest to a word, 6 are of another kind."
    )
    assert joined_sentence({"mixing": {"word": 0.5}}) is None
    assert joined_sentence({}) is None


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [{"words": 0, "texts": 0}])
def test_pictures_alone_have_no_words(tmp_path: Any, browser: Any, kinds: dict[str, int]) -> None:
    site = write_site(fake_store(tmp_path / "alone", images=20, **kinds)).parent
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    Visit(page, site).open("map.html")
    page.wait_for_function(f"{OVER}.drawn.length > 5")
    assert page.evaluate(f"{OVER}.words") == []
    page.close()
