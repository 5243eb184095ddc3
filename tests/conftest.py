"""What many test modules share: one browser, one embedded model, small towers, Stores with their sites."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported: one thread a worker

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import atlas
from atlas.analysis import derivation
from atlas.model.clip import Clip
from atlas.pages import write_site
from atlas.pages.fragments import picture_tag
from atlas.sources.builtin import emoji_source
from atlas.store.store import Store
from tests.browsing import Visit, visiting
from tests.fakes import HOSTILE, fake_store, part
from tests.towers import CONCEPT, build_tower, plant_writer, register_towers

torch.set_num_threads(1)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what opens a browser."""
    for item in items:
        if {"browser", "firefox"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("browser")


# -- models ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def mini() -> Clip:
    """The embedded model, for tests that leave it as it is."""
    return Clip("mini")


@pytest.fixture(scope="session")
def clip(mini: Clip) -> Clip:
    """The embedded model; modules that need another have a `clip` of their own."""
    return mini


@pytest.fixture(scope="session")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Clip]:
    """Builds a small tower of any family; a new one at each call, so that a test may change it."""
    register_towers(tmp_path_factory.mktemp("towers"))
    return build_tower


@pytest.fixture(scope="module")
def tower(towers: Callable[..., Clip]) -> Clip:
    """A small ResNet tower of the module's own."""
    return towers("resnet")


@pytest.fixture(scope="module")
def writer(tower: Clip) -> int:
    """A neuron of `tower` that writes CONCEPT."""
    return plant_writer(tower, CONCEPT)


# -- Stores ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Made-up rows with hostile captions, everything derived, and the site; for tests that leave it as it is."""
    store = fake_store(tmp_path_factory.mktemp("run") / "demo", captions=HOSTILE, label=HOSTILE[0])
    write_site(store)
    return store


@pytest.fixture(scope="session")
def told_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Seventy neurons, of which number 3 has all that can be told of one, and the site with a page added to it."""
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


@pytest.fixture(scope="session")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a hundred openly licensed drawings, each in a folder of its name, and a list of seven words."""
    place = tmp_path_factory.mktemp("drawings")
    for number, item in enumerate(emoji_source("emoji", ("Google",), skin=False)):
        if number % 20 == 0 and item.load:
            folder = place / "drawings" / item.label.replace("/", " ")
            folder.mkdir(parents=True, exist_ok=True)
            item.load().save(folder / "google.png")
    (place / "words.txt").write_text("happy\nsad\nangry\ndog\ncat\nsun\nmoon\n", "utf-8")
    return place


@pytest.fixture(scope="session")
def real_store(mini: Clip, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Drawings, words and texts as the embedded model sees them, everything derived; leave it as it is."""
    sources = ["emoji?vendors=Google&skin=no", "words:emotions?sizes=32", "texts:emotions"]
    store = atlas.collect(sources, mini, tmp_path_factory.mktemp("real") / "store")
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
    yield from visiting(browser, store.derived(part("site")))
