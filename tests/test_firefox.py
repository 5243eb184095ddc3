"""The site in Firefox, over WebDriver BiDi: it opens from disk, answers and complains of nothing; skips without one."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from atlas.store.store import Store
from tests.fakes import part

pytestmark = pytest.mark.slow
FIREFOX = shutil.which("firefox") or shutil.which("firefox-esr")
client = pytest.importorskip("websockets.sync.client")


class Firefox:
    """One tab: commands are sent and answered in turn; what pages log as errors is kept."""

    def __init__(self, socket: Any):
        self.socket, self.sent, self.errors = socket, 0, []
        self.call("session.new", capabilities={})
        self.call("session.subscribe", events=["log.entryAdded"])
        self.tab = self.call("browsingContext.getTree")["contexts"][0]["context"]
        self.call("browsingContext.setViewport", context=self.tab, viewport={"width": 1200, "height": 800})

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self.sent += 1
        self.socket.send(json.dumps({"id": self.sent, "method": method, "params": params}))
        while True:
            answer = json.loads(self.socket.recv(timeout=120))
            if answer.get("method") == "log.entryAdded" and answer["params"]["level"] == "error":
                self.errors.append(answer["params"]["text"])
            if answer.get("id") == self.sent:
                assert answer["type"] == "success", answer
                return answer["result"]

    def evaluate(self, script: str) -> Any:
        """The value of an expression, awaited, by way of JSON."""
        text = f"(async () => JSON.stringify(await ({script})))()"
        target = {"context": self.tab}
        found = self.call("script.evaluate", expression=text, target=target, awaitPromise=True)
        assert found["type"] == "success", found
        return json.loads(found["result"].get("value", "null"))

    def open(self, url: str) -> None:
        self.call("browsingContext.navigate", context=self.tab, url="about:blank", wait="complete")
        self.call("browsingContext.navigate", context=self.tab, url=url, wait="complete")
        self.until("document.body.dataset.ready !== undefined")

    def until(self, condition: str) -> None:
        """Wait for a condition, checked once a frame, for a minute at most."""
        loop = f"for (const end = Date.now() + 60000; Date.now() < end; await new Promise(requestAnimationFrame)) if ({condition}) return true; return false;"  # noqa: E501
        assert self.evaluate(f"(async () => {{ {loop} }})()"), condition

    def point(self, x: float, y: float, click: bool = False) -> None:
        moves = [{"type": "pointerMove", "x": round(x), "y": round(y), "duration": 0}]
        press = [{"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}] if click else []
        mouse = {"type": "pointer", "id": "mouse", "actions": moves + press}
        self.call("input.performActions", context=self.tab, actions=[mouse])


@pytest.fixture(scope="module")
def firefox() -> Iterator[Firefox]:
    if FIREFOX is None:
        pytest.skip("no Firefox is installed")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [FIREFOX, "--headless", "--no-remote", "--remote-debugging-port", "0", "--profile", profile]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        try:
            said = next(line for line in process.stderr or () if "WebDriver BiDi listening on" in line)
            with client.connect(f"{said.split()[-1]}/session", max_size=None) as socket:
                yield Firefox(socket)
        finally:
            process.terminate()
            process.communicate(timeout=30)


def test_the_map_answers(firefox: Firefox, store: Store) -> None:
    firefox.open(f"{(store.derived(part('site')) / 'map.html').as_uri()}#v=0,0,65000")
    x, y = firefox.evaluate("atlas.page.scatter.place(atlas.page.pointOf[5])")
    firefox.point(x, y)
    firefox.until("!document.getElementById('tip').hidden")
    firefox.point(x, y, click=True)
    firefox.until("document.querySelectorAll('#card .strip .t').length === 8")
    assert firefox.evaluate("location.hash.includes('p=')")
    firefox.evaluate("atlas.page.finder.set('cat', 'meaning')")
    assert firefox.evaluate("document.querySelectorAll('#results li').length") > 10
    firefox.until("atlas.page.scatter.over().drawn.length > 5")  # pictures on the map
    assert firefox.errors == []


@pytest.mark.parametrize("page", ["neurons.html#neuron=3", "neurons/0003.html", "activations.html"])
def test_other_pages_open(firefox: Firefox, store: Store, page: str) -> None:
    firefox.open(f"{store.derived(part('site')).as_uri()}/{page}")
    assert firefox.evaluate("document.querySelectorAll('main .t').length") > 5
    assert firefox.errors == []


@pytest.mark.parametrize("way", ["webgl", "raster"])
def test_points_are_drawn(firefox: Firefox, store: Store, way: str) -> None:
    firefox.open(f"{(store.derived(part('site')) / 'map.html').as_uri()}?draw={way}")
    assert firefox.evaluate("document.querySelectorAll('canvas.ink').length") == (way == "raster")
    assert firefox.evaluate("atlas.page.shown().length") == 300
    assert firefox.errors == []
