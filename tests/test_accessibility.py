"""axe-core on every kind of page, wide and narrow, light and dark: nothing that it calls serious; skips without axe."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atlas.pages import write_points
from atlas.store.store import Store
from tests.browsing import cut_small, given_points
from tests.fakes import part

axe_core = pytest.importorskip("axe_playwright_python.sync_playwright")

HERE = Path(__file__).parent.parent
TEMPLATES = [*(HERE / "atlas/pages").glob("*.html"), *(HERE / "decompose/pages").glob("*.html")]
SELECT = "atlas.page.selection.take([[-20000,-20000],[20000,-20000],[20000,20000]])"
SEARCH = "atlas.page.finder.set('drawn', 'caption')"
NEURONS = "atlas.page.finder.set('a')"
GIVEN = "atlas.page.finder.set('island', 'caption')"
PAGES = {  # what is opened there first
    "index.html": None,
    "map.html": None,
    "map.html#p=5&neuron=3": f"Promise.all([{SELECT}, {SEARCH}])",
    "neurons.html": None,
    "neurons.html#p=3&c=evidence": f"Promise.all([{SELECT}, {NEURONS}])",
    "neurons/0003.html": "document.querySelectorAll('.band')[5].click()",
    "activations.html": "document.querySelector('.grid button').click()",
    "about.html": None,
    "emotions.html": None,
}


def faults(browser: Any, site: Path, pages: dict[str, str | None], width: int, scheme: str) -> dict[Any, list[str]]:
    """What axe calls serious, by page and rule."""
    axe, found = axe_core.Axe(), {}
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    for path, first in pages.items():
        page.goto("about:blank")
        page.goto(f"{site.as_uri()}/{path}")
        if not path.startswith(("index", "about", "emotions")):
            page.wait_for_selector("body[data-ready]", state="attached")
        if first:
            page.evaluate(first)
        for fault in axe.run(page).response["violations"]:
            if fault["impact"] in ("moderate", "serious", "critical"):
                found[path, fault["id"]] = [node["html"][:200] for node in fault["nodes"]]
    page.close()
    return found


def test_what_scrolls_can_be_reached_by_keyboard_and_has_a_name() -> None:
    found = [tag for path in TEMPLATES for tag in re.findall(r'<div class="scroll"[^>]*>', path.read_text("utf-8"))]
    assert len(found) >= 8
    assert not [tag for tag in found if 'tabindex="0"' not in tag or "aria-label" not in tag]


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 400)])
def test_axe_finds_nothing_serious(told_store: Store, browser: Any, scheme: str, width: int) -> None:
    assert faults(browser, told_store.derived(part("site")), PAGES, width, scheme) == {}


@pytest.mark.slow
@pytest.mark.parametrize(("tiled", "width"), [(False, 1200), (True, 400)])
def test_axe_finds_nothing_serious_on_given_places(
    tmp_path: Path, browser: Any, monkeypatch: pytest.MonkeyPatch, tiled: bool, width: int
) -> None:
    if tiled:
        cut_small(monkeypatch, UNTILED_POINTS=1000, TILE_POINTS=100, OVERVIEW_POINTS=400)
    kept = np.linspace(0, 1, 3000).astype(np.float32)
    given = given_points(3000) | {"preservation": kept}
    index = write_points(tmp_path / "given" / "map.html", **given, single_file=not tiled)
    site = index.parent if tiled else tmp_path / "given"
    pages = {index.name: None, f"{index.name}#p=5&c=kept": f"Promise.all([{SELECT}, {GIVEN}])"}
    for scheme in ("light", "dark"):
        assert faults(browser, site, pages, width, scheme) == {}
