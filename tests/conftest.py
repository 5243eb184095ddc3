"""What many test modules share: one browser, one embedded model, small towers, Stores with their sites."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # imported by the fixtures: the process that hands out the tests needs none of them
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from atlas.model.clip import Clip
    from atlas.store.store import Store
    from tests.browsing import Visit

for threads in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):  # read at import, which the fixtures do
    os.environ.setdefault(threads, "1")  # workers that share cores have one thread each
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="session", autouse=True)
def _in_haste(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One thread in NumPy too, which was there before; thumbnails packed less tightly than a user's; a cache apart."""
    import torch
    from threadpoolctl import threadpool_limits

    from atlas.pages import thumbnails

    os.environ["MULTIMODAL_ATLAS_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    torch.set_num_threads(1)
    thumbnails.WEBP_METHOD = 0
    with threadpool_limits(1):
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what opens a browser."""
    for item in items:
        if {"browser", "firefox"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("browser")


# -- models ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def mini() -> Clip:
    """The embedded model, for tests that leave it as it is."""
    from atlas.model.clip import Clip

    return Clip("mini")


@pytest.fixture(scope="session")
def clip(mini: Clip) -> Clip:
    """The embedded model; modules that need another have a `clip` of their own."""
    return mini


@pytest.fixture(scope="session")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Clip]:
    """Builds a small tower of any family; a new one at each call, so that a test may change it."""
    from tests.towers import build_tower, register_towers

    register_towers(tmp_path_factory.mktemp("towers"))
    return build_tower


@pytest.fixture(scope="module")
def tower(towers: Callable[..., Clip]) -> Clip:
    """A small ResNet tower of the module's own."""
    return towers("resnet")


@pytest.fixture(scope="module")
def writer(tower: Clip) -> int:
    """A neuron of `tower` that writes CONCEPT."""
    from tests.towers import CONCEPT, plant_writer

    return plant_writer(tower, CONCEPT)


# -- Stores ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Made-up rows with hostile captions, everything derived, and the site; for tests that leave it as it is."""
    from atlas.pages import write_site
    from tests.fakes import HOSTILE, fake_store

    store = fake_store(tmp_path_factory.mktemp("run") / "demo", captions=HOSTILE, label=HOSTILE[0])
    write_site(store)
    return store


@pytest.fixture(scope="session")
def told_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Seventy neurons, of which number 3 has all that can be told of one, and the site with a page added to it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from atlas.pages import write_site
    from atlas.pages.fragments import picture_tag
    from tests.fakes import HOSTILE, fake_store, part

    store = fake_store(tmp_path_factory.mktemp("told") / "demo", neurons=70, captions=HOSTILE, label=HOSTILE[0])
    label = HOSTILE[1]
    labels = [{"neuron": 3, "label": label, "evidence": "words", "p": 0.0004, "q": 0.01}]
    labels += [{"neuron": n, "label": "none", "evidence": "", "p": 0.7, "q": 0.9} for n in range(4, 9)]
    sure = {"label": label, "p": 0.01, "q": 0.02}
    facets = [{"neuron": 3, "facet": f, "size": 9, **sure, "rows": [f, f + 1]} for f in (0, 1)]
    numbers = {"effect": 0.21, "low": 0.15, "high": 0.27, "p": 0.0002, "control": -0.01}
    receipts = [
        {"neuron": 3, "concept": "rain", "act": "ablate", **numbers, "p": 0.4, "confirmed": False},
        {"neuron": 3, "concept": label, "act": "raise", **numbers, "confirmed": True},
    ]
    for name, rows in (("labels", labels), ("facets", facets), ("receipts", receipts)):
        with store.deriving(part(f"neurons/{name}"), {}) as folder:
            pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    with store.deriving(part("site-fragments/emotions"), {"title": f"Emotions {label}"}) as folder:
        link = '<a href="neurons/0003.html">3</a>'
        (folder / "page.html").write_text(f'<article class="text">{link}{picture_tag(store, 5)}</article>')
        (folder / "disc.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    write_site(store)
    return store


def _save_drawings(place: Path, every: int) -> Path:
    """A folder of openly licensed drawings, each in a folder of its name."""
    from atlas.sources.builtin import emoji_source

    for number, item in enumerate(emoji_source("emoji", ("Google",), skin=False)):
        if number % every == 0 and item.load:
            folder = place / item.label.replace("/", " ")
            folder.mkdir(parents=True, exist_ok=True)
            item.load().save(folder / "google.png")
    return place


@pytest.fixture(scope="session")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a hundred drawings and a list of seven words."""
    place = tmp_path_factory.mktemp("drawings")
    _save_drawings(place / "drawings", every=20)
    (place / "words.txt").write_text("happy\nsad\nangry\ndog\ncat\nsun\nmoon\n", "utf-8")
    return place


@pytest.fixture(scope="session")
def discs(mini: Clip, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Collects a Store of discs, one colour a folder; `names` are the folders, each with `count` discs of `side` px."""
    import numpy as np
    from PIL import Image

    import atlas

    def collect(names: Sequence[str], count: int, side: int = 40) -> Path:
        place, rng = tmp_path_factory.mktemp("discs"), np.random.default_rng(5)
        for number, name in enumerate(names):
            (place / "images" / name).mkdir(parents=True)
            hue = 255 * number // len(names)
            disc = np.asarray(Image.new("HSV", (side, side), (hue, 200, 200)).convert("RGB"))
            for i in range(count):
                noisy = np.clip(disc + rng.integers(-20, 20, disc.shape), 0, 255).astype(np.uint8)
                Image.fromarray(noisy).save(place / "images" / name / f"{i}.png")
        return atlas.collect(f"folder:{place / 'images'}", mini, place / "store").path

    return collect


@pytest.fixture(scope="session")
def real_store(mini: Clip, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Drawings, words and texts as the embedded model sees them, everything derived; leave it as it is."""
    import atlas
    from atlas.analysis import derivation

    place = tmp_path_factory.mktemp("real")
    pictures = _save_drawings(place / "drawings", every=9)
    (place / "names.txt").write_text("\n".join(sorted(folder.name for folder in pictures.iterdir())[:60]), "utf-8")
    words = [
        "words:emotions?sizes=32&fonts=open-sans,pt-serif",
        f"words:{place / 'names.txt'}?sizes=32&fonts=open-sans",
    ]
    sources = [str(pictures), *words, "texts:emotions"]
    store = atlas.collect(sources, mini, place / "store")
    derivation.derive(store, mini)
    return store


# -- the browser -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One Chromium a worker; skips without one."""
    if CHROMIUM is None:
        pytest.skip("no chromium is installed")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def visit(store: Store, browser: Any) -> Iterator[Visit]:
    """A visit of the site of the module's `store`."""
    from tests.browsing import visiting
    from tests.fakes import part

    yield from visiting(browser, store.derived(part("site")))
