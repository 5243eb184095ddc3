"""The activation atlas in a real browser: finer grids, moves, names at rest, the address."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from atlas.pages import write_site
from tests.browsing import Visit, visiting
from tests.fakes import HOSTILE, fake_store, part

pytestmark = [pytest.mark.slow, pytest.mark.browser]
SHOWN = "[...document.querySelectorAll('.layer')].filter((one) => !one.hidden).map((one) => one.children.length)"
NAMES = "[...document.querySelectorAll('.names span')].map((one) => one.textContent)"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grids of 10 and 40 columns, all squares full; those of the left half have a name, the first a hostile one."""
    store = fake_store(tmp_path_factory.mktemp("cells") / "demo", images=40, words=0, texts=0, neurons=4)
    cells = [
        {"grid": n, "column": column, "row": row, "x": 0.5, "y": 0.5, "count": 5 + column, "size": 1.0,
         "label": (HOSTILE[0] if column + row == 0 else f"left {row}") if column < n // 2 else "", "score": 0.5,
         "members": [(column + row) % 40, column]} for n in (10, 40) for row, column in product(range(n), range(n))
    ]  # fmt: skip
    with store.deriving(part("layout/cells"), {"named_by": "members"}) as folder:
        pq.write_table(pa.Table.from_pylist(cells), folder / "cells.parquet")
    return write_site(store).parent


@pytest.fixture
def visit(site: Path, browser: Any) -> Iterator[Visit]:
    yield from visiting(browser, site)


def written(page: Any, what: str) -> None:
    page.wait_for_function(f"location.hash.includes({what!r})")


def test_zooming_in_shows_a_finer_grid_and_the_address_keeps_it(visit: Visit) -> None:
    page = visit.open("activations.html")
    assert page.evaluate(SHOWN) == [100]
    box = page.locator(".stage").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    under = "([x, y]) => document.elementFromPoint(x, y).getAttribute('aria-label')"
    share = """(x) => { const { left, width } = document.querySelector(".grid").getBoundingClientRect();
      return (x - left) / width; }"""
    pointed = page.evaluate(share, x - 100)
    for _ in range(6):
        page.mouse.move(x - 100, y)
        page.mouse.wheel(0, -200)
    page.wait_for_function(f"{SHOWN}[0] === 1600")
    assert page.evaluate(share, x - 100) == pytest.approx(pointed, abs=0.002), "what is under the pointer stays there"
    written(page, "v=")
    seen = page.evaluate(under, [x, y])
    again = visit.open(f"activations.html{page.evaluate('location.hash')}")
    assert again.evaluate(SHOWN) == [1600]
    assert again.evaluate(under, [x, y]) == seen
    for _ in range(9):
        again.get_by_label("Zoom out").click()
    assert again.evaluate(SHOWN) == [100]


def test_a_move_opens_nothing_and_a_click_a_card_that_the_address_names(visit: Visit) -> None:
    page = visit.open("activations.html")
    box = page.locator(".stage").bounding_box()
    x, y = box["x"] + box["width"] / 2 + 9, box["y"] + box["height"] / 2 + 9
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 30, steps=4)
    page.mouse.up()
    assert page.locator("#card").is_hidden()
    written(page, "v=")
    page.mouse.click(x + 60, y + 30)
    name = page.locator("#card h2").inner_text()
    written(page, "cell=55")
    again = visit.open(f"activations.html{page.evaluate('location.hash')}")
    assert again.locator("#card h2").inner_text() == name
    assert "and others" in name, "a cell without a name is called by what it shows"


def test_names_at_rest_are_said_once_and_lie_in_view(visit: Visit) -> None:
    page = visit.open("activations.html")
    shown = page.evaluate(NAMES)
    assert 5 <= len(shown) == len(set(shown))
    box = page.locator(".stage").bounding_box()
    for span in page.locator(".names span").all():
        at = span.bounding_box()
        assert box["x"] <= at["x"]
        assert at["x"] + at["width"] <= box["x"] + box["width"]
    page.locator(".grid button").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#card h2").text_content() == " ".join(HOSTILE[0].split())
    page.locator(".stage").focus()
    page.keyboard.press("ArrowRight")
    written(page, "v=0.")


def test_two_fingers_zoom(visit: Visit) -> None:
    page = visit.open("activations.html")
    before = page.evaluate("document.querySelector('.grid').clientWidth")
    page.evaluate(
        """() => {
          const stage = document.querySelector(".stage"), box = stage.getBoundingClientRect();
          const send = (type, id, x) => stage.dispatchEvent(new PointerEvent(type, { pointerId: id, bubbles: true,
            clientX: box.left + x, clientY: box.top + 200, pointerType: "touch", isPrimary: id === 1 }));
          stage.setPointerCapture = () => {};
          send("pointerdown", 1, 200); send("pointerdown", 2, 300);
          send("pointermove", 2, 400); send("pointermove", 1, 150);
          send("pointerup", 1, 150); send("pointerup", 2, 400);
        }"""
    )
    assert page.evaluate("document.querySelector('.grid').clientWidth") == pytest.approx(2.5 * before, rel=0.02)
