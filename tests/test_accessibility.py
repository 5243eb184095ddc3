"""axe-core on every kind of page, light and dark: nothing that it calls serious. Skips where axe is not installed."""

from typing import Any

import pytest

from atlas.store import Store
from tests.test_neuron_pages import store
from tests.test_pages import browser

__all__ = ["browser", "store"]  # fixtures
axe_core = pytest.importorskip("axe_playwright_python.sync_playwright")

SELECT = "atlas.page.selection.take([[-20000,-20000],[20000,-20000],[20000,20000]])"
SEARCH = "atlas.page.finder.set('drawn', 'caption')"
PAGES = {  # what is opened there first
    "index.html": None,
    "index.html#p=5&neuron=3": f"Promise.all([{SELECT}, {SEARCH}])",
    "neurons.html#neuron=3": None,
    "neurons/0003.html": "document.querySelectorAll('.band')[5].click()",
    "activations.html": "document.querySelector('.grid button').click()",
    "about.html": None,
    "emotions.html": None,
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(store: Store, browser: Any, scheme: str) -> None:
    axe, found = axe_core.Axe(), {}
    page = browser.new_page(viewport={"width": 1200, "height": 800}, color_scheme=scheme)
    for path, first in PAGES.items():
        page.goto("about:blank")
        page.goto(f"{store.derived('site').as_uri()}/{path}")
        if not path.startswith(("about", "emotions")):
            page.wait_for_selector("body[data-ready]", state="attached")
        if first:
            page.evaluate(first)
        for fault in axe.run(page).response["violations"]:
            if fault["impact"] in ("serious", "critical"):
                found[path, fault["id"]] = [node["html"][:200] for node in fault["nodes"]]
    page.close()
    assert found == {}
