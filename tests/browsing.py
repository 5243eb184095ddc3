"""A site opened from disk in a real browser: visits that notice what they should not, and the acts that tests share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atlas.pages import tiles

PLACE = "(row => { const p = atlas.page; return p.scatter.place(p.points.row.indexOf(row)); })(%d)"
# Two frames after a change all that it asked for is drawn: a frame is drawn by what was asked for in the one before.
DRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"


class Visit:
    """One page, with what it asked for beyond the site and what it complained of."""

    def __init__(self, page: Any, site: Path):
        self.page, self.site = page, site
        self.strays: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda request: self.strays.append(request.url) if self.is_stray(request.url) else None)
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def is_stray(self, url: str) -> bool:
        return not url.startswith((self.site.as_uri(), "data:", "blob:", "about:"))

    def open(self, path: str, ready: bool = True) -> Any:
        self.page.goto("about:blank")
        self.page.goto(f"{self.site.as_uri()}/{path}")
        if ready:
            self.page.wait_for_selector("body[data-ready]", state="attached")
        return self.page


def visiting(browser: Any, site: Path) -> Iterator[Visit]:
    """A visit of a site that asks for nothing beyond it, complains of nothing, and is harmed by no caption."""
    page = browser.new_page(viewport={"width": 1200, "height": 800}, accept_downloads=True)
    visit = Visit(page, site)
    yield visit
    harmed = page.evaluate("window.harmed")
    page.close()
    assert (visit.strays, visit.errors, harmed) == ([], [], None)


def lasso(page: Any, left: int, top: int, right: int, bottom: int) -> int:
    """Draw around a rectangle of the screen; how many points the page says that it selected."""
    page.get_by_role("button", name="Lasso").click()
    page.mouse.move(left, top)
    page.mouse.down()
    for corner in ((right, top), (right, bottom), (left, bottom), (left, top)):
        page.mouse.move(*corner, steps=5)
    page.mouse.up()
    return int(page.locator("#selected").inner_text().split()[0])


def shown_hash(page: Any) -> str:
    """The address, once all that it should say is written into it."""
    page.evaluate("atlas.page.written()")
    return page.evaluate("location.hash")


def cut_small(monkeypatch: pytest.MonkeyPatch, **sizes: int) -> None:
    """Make tiles of few points."""
    for name, value in sizes.items():
        monkeypatch.setattr(tiles, name, value)


def given_points(n: int) -> dict[str, Any]:
    """What `write_points` takes: six islands of points with captions, groups, neighbours and names."""
    rng = np.random.default_rng(0)
    island = rng.integers(0, 6, n)
    xy = (8 * rng.normal(size=(6, 2))[island] + rng.normal(size=(n, 2))).astype(np.float32)
    near = (np.arange(n)[:, None] + np.arange(1, 9)) % n
    captions = [f"point {i} of island {c} </script>" for i, c in enumerate(island)]
    names = [[f"island {c}" for c in island]]
    return {"xy": xy, "captions": captions, "groups": [f"g{c}" for c in island], "near": near, "labels": names}
