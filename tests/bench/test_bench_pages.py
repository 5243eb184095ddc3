"""Pages of many synthetic points: `pytest tests/bench/test_bench_pages.py -s` (not in the default run).

Bytes, seconds until a first hover is answered (headless Chromium, software rendering), and the script time of a wheel
turn. A million points: seconds and memory of the build too, in a process of its own. Beside datamapplot's offline page
(skips unless it is installed and `dmp_offline_cache` was run) and embedding-atlas' export (skips unless the command is
on the path): both pages in one run, as ratios.
"""

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from atlas.pages import write_points

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DEMO = Path("outputs/demo/site")  # where `atlas demo` puts it


def synthetic(n: int, islands: int = 60, seed: int = 0) -> dict[str, Any]:
    """Places in islands, captions of 45 letters from 2,000 words, names at two levels, 8 neighbours in the island."""
    rng = np.random.default_rng(seed)
    island = np.sort(rng.integers(0, islands, n))
    xy = (40 * rng.normal(size=(islands, 2))[island] + 3 * rng.normal(size=(n, 2))).astype(np.float32)
    letters = rng.integers(97, 123, (2000, 8)).astype(np.uint8)
    words = [bytes(row[: 2 + i % 7]).decode() for i, row in enumerate(letters)]
    chosen = rng.zipf(1.2, (n, 12)) % 2000
    captions = [" ".join([words[w] for w in row])[:45] for row in chosen.tolist()]
    first = np.searchsorted(island, np.arange(islands))
    size = np.maximum(np.diff([*first, n]), 1)
    near = first[island][:, None] + rng.integers(0, 2**31, (n, 8)) % size[island][:, None]
    names = [[f"continent {i % 12}" for i in island.tolist()], [f"island {i}" for i in island.tolist()]]
    return {"xy": xy, "captions": captions, "labels": names, "near": near.astype(np.uint32)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


def first_hover(browser: Any, index: Path) -> tuple[float, Any]:
    """Seconds from asking for the page until the tooltip of a point stands there, and the page."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    began = time.perf_counter()
    page.goto(index.as_uri(), wait_until="commit")
    page.wait_for_function("window.Bokeh && document.body?.dataset.ready !== undefined", timeout=60_000, polling=50)
    x, y = page.evaluate("atlas.page.scatter.place(atlas.page.order[0])")
    page.mouse.move(x, y)
    page.wait_for_function("(tip => !tip.hidden && !tip.innerText.startsWith('…'))(document.getElementById('tip'))")
    return time.perf_counter() - began, page


def wheel_scripts(page: Any, turns: int = 15) -> float:
    """Median milliseconds of script that a turn of the wheel costs, all frames it leads to included."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")

    def spent() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return 1000 * next(metric["value"] for metric in metrics if metric["name"] == "ScriptDuration")

    page.mouse.move(500, 400)
    found = []
    for turn in range(turns):
        before = spent()
        page.mouse.wheel(0, -120 if turn % 2 else 120)
        page.wait_for_timeout(700)  # no event tells the last frame of a turn: all of them fall into this pause
        found.append(spent() - before)
    return statistics.median(found)


def first_tip(browser: Any, index: Path, tip: str) -> tuple[float, float]:
    """Seconds until the first hover is answered, the mouse wandering over the middle; and those of script in them."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    began = time.perf_counter()
    page.goto(index.as_uri(), wait_until="commit")
    shown = f"(e => Boolean(e) && e.offsetHeight > 0 && e.innerText.trim().length > 1)(document.querySelector('{tip}'))"
    for turn in range(4000):
        page.mouse.move(420 + 13 * (turn % 23), 380 + 11 * (turn // 23 % 19))
        if page.evaluate(shown):
            break
    took = time.perf_counter() - began
    metrics = {metric["name"]: metric["value"] for metric in session.send("Performance.getMetrics")["metrics"]}
    page.close()
    assert turn < 3999
    return took, metrics["TaskDuration"]


@pytest.mark.filterwarnings("ignore")  # the peer's
def test_against_datamapplot(tmp_path: Path, browser: Any) -> None:
    peer = pytest.importorskip("datamapplot")
    data = synthetic(100_000)
    try:
        options = {"hover_text": data["captions"], "enable_search": True, "font_family": "sans-serif"}
        plot = peer.create_interactive_plot(data["xy"], *data["labels"], **options, offline_mode=True)
    except FileNotFoundError:
        pytest.skip("dmp_offline_cache was not run")
    theirs, ours = tmp_path / "theirs.html", write_points(tmp_path / "ours.html", **{**data, "near": None})
    plot.save(str(theirs))
    runs = [(first_tip(browser, ours, "#tip"), first_tip(browser, theirs, ".deck-tooltip")) for _ in range(3)]
    wall, script, their_wall, their_script = np.median(np.reshape(runs, (3, 4)), axis=0)
    size = ours.stat().st_size / theirs.stat().st_size
    print(f"\n100,000 points, ours to datamapplot's: bytes {size:.2f}, first hover {wall / their_wall:.2f} ", end="")
    print(f"({wall:.1f} to {their_wall:.1f} s), main thread {script / their_script:.2f}")
    assert wall <= their_wall


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and says nothing."""

    def log_message(self, *_: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        pass


def test_against_embedding_atlas(tmp_path: Path, browser: Any) -> None:
    """Its map needs a GPU to draw; but no hover can be answered before it says that all points are there."""
    command = shutil.which("embedding-atlas") or pytest.skip("embedding-atlas is not on the path")
    data = synthetic(100_000)
    ours = write_points(tmp_path / "ours.html", **{**data, "near": None})
    points = {"x": data["xy"][:, 0], "y": data["xy"][:, 1], "caption": data["captions"]}
    pq.write_table(pa.table(points), tmp_path / "points.parquet")
    columns = ["--x", "x", "--y", "y", "--text", "caption", "--disable-projection"]
    exported = ["--export-application", str(tmp_path / "theirs")]
    subprocess.run([command, str(tmp_path / "points.parquet"), *columns, *exported], check=True, capture_output=True)
    serve = partial(Quiet, directory=str(tmp_path / "theirs"))  # from file:// it does not open
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        runs = []
        for _ in range(3):
            seconds, page = first_hover(browser, ours)
            page.close()
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            began = time.perf_counter()
            page.goto(f"http://127.0.0.1:{server.server_port}/index.html", wait_until="commit")
            page.wait_for_function("document.body?.innerText.includes('100,000 / 100,000')", timeout=60_000, polling=50)
            runs.append((seconds, time.perf_counter() - began))
            page.close()
        server.shutdown()
    own, theirs = np.median(runs, axis=0)
    size = sum(path.stat().st_size for path in (tmp_path / "theirs").rglob("*") if path.is_file())
    print(
        f"\n100,000 points, ours to embedding-atlas': bytes {ours.stat().st_size / size:.3f}, first hover answered ",
        end="",
    )
    print(f"against its points all read {own / theirs:.2f} ({own:.1f} to {theirs:.1f} s)")
    assert own <= theirs


@pytest.mark.parametrize(("near", "limit"), [(False, 4.7), (True, 8.0)])
def test_100_000_points_inline(near: bool, limit: float, tmp_path: Path, browser: Any) -> None:
    data = synthetic(100_000)
    began = time.perf_counter()
    index = write_points(tmp_path / "map.html", **(data if near else {**data, "near": None}))
    built, size = time.perf_counter() - began, index.stat().st_size / 1e6
    times = []
    for _ in range(3):
        seconds, page = first_hover(browser, index)
        times.append(seconds)
        page.close()
    print(f"\n100,000 points{', 8 neighbours' * near}: {size:.2f} MB, built in {built:.1f} s, ", end="")
    print(f"first hover after {statistics.median(times):.2f} s")
    assert size <= limit
    assert statistics.median(times) <= 2.5


@pytest.mark.skipif(not DEMO.exists(), reason="the demo is not there; make it: atlas demo")
def test_the_demo(browser: Any) -> None:
    size, times = sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) / 1e6, []
    for _ in range(3):
        seconds, page = first_hover(browser, DEMO.resolve() / "map.html")
        times.append(seconds)
    wheel = wheel_scripts(page)
    print(
        f"\nthe demo: {size:.1f} MB, first hover after {statistics.median(times):.2f} s, wheel {wheel:.0f} ms of script"
    )
    assert size <= 25
    assert statistics.median(times) <= 2.5


BUILD = """
import resource, sys, time
from pathlib import Path
from atlas.pages import write_points
from tests.bench.test_bench_pages import synthetic
data = synthetic(1_000_000)
began = time.perf_counter()
write_points(Path(sys.argv[1]), **data, max_mb=150)
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def test_a_million_points(tmp_path: Path, browser: Any) -> None:
    folder = tmp_path / "million"
    out = subprocess.run([sys.executable, "-c", BUILD, str(folder)], check=True, stdout=subprocess.PIPE, text=True)
    built, memory = map(float, out.stdout.split())
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    seconds, page = first_hover(browser, folder / "index.html")
    wheel = wheel_scripts(page)
    print(f"\n1,000,000 points: {size:.1f} MB, built in {built:.0f} s with {memory:.2f} GB, ", end="")
    print(f"first hover after {seconds:.1f} s, wheel {wheel:.0f} ms of script")
    assert built <= 180
    assert memory < 4
    assert seconds <= 10
    assert wheel < 150
