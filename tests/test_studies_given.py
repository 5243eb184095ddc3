"""Activation given a class: medians by hand, chance where classes are shuffled, the command on a tiny Store."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from atlas.errors import Refused
from atlas.pages.fragments import check_fragment
from atlas.store.store import Store
from decompose.cli import main
from decompose.pages.given_class import axis_ticks, given_page
from decompose.studies.given_class import activation_given

HOSTILE = "<img src=x onerror=alert(1)>"


def test_medians_and_spreads_are_numpys_and_the_largest_comes_first() -> None:
    rng = np.random.default_rng(0)
    a, names = rng.normal(size=300).astype(np.float32), ["one"] * 40 + ["two"] * 40 + ["rest"] * 220
    a[:40] += 3
    a[40:80] -= 2
    rows = activation_given(a, names, ["two", "one", "rest"])
    assert [row["class"] for row in rows] == ["one", "rest", "two"]
    assert rows[0]["median"] == pytest.approx(np.median(a[:40]))
    assert rows[2]["spread"] == pytest.approx(a[40:80].std())
    assert rows[0]["p"] < 0.002
    assert rows[2]["p"] < 0.002
    assert rows[0]["chance_low"] < np.median(a) < rows[0]["chance_high"]
    with pytest.raises(Refused, match="no image is called 'three'"):
        activation_given(a, names, ["three"])


def test_chosen_classes_are_held_out_so_that_noise_stays_at_chance() -> None:
    p = []
    for seed in range(30):
        a = np.random.default_rng(seed).normal(size=800).astype(np.float32)
        rows = activation_given(a, [f"class {i % 100}" for i in range(800)], seed=seed)
        assert len(rows) == 12
        assert all(row["images"] == 4 for row in rows)
        p += [row["p"] for row in rows]
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.035)
    with pytest.raises(Refused, match="no class has"):
        activation_given(a, [str(i) for i in range(800)])


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (-1.2, 2.1, [-1, -0.5, 0, 0.5, 1, 1.5, 2]),
        (0.0, 8.0, list(range(9))),
        (0.0, 0.0, [0]),
        (-30.0, 5.5, [-30, -25, -20, -15, -10, -5, 0, 5]),
    ],
)
def test_ticks_are_round_numbers_between_the_ends(low: float, high: float, ticks: list[int | float]) -> None:
    assert axis_ticks(low, high) == pytest.approx(ticks)


def test_the_longest_names_have_room_and_the_axis_its_numbers() -> None:
    row = {"class": "Multimodal names of 40 letters and more", "images": 9, "median": 1.0, "spread": 0.5}
    page = given_page(
        3, [row | {"chance_low": -0.2, "chance_high": 0.2, "p": 0.01, "untrained": 0.5}], "mini", 90, False
    )
    (end,) = re.findall(r'<text x="(\d+)" y="[^"]*" text-anchor="end">', page)
    assert int(end) >= 28 * 7.5  # letters that are shown, by the width of wide ones at 12 px
    assert ">1.5</text>" in page


@pytest.fixture(scope="module")
def made(discs: Callable[..., Path]) -> Path:
    """Discs of three colours in folders of their names; one is hostile."""
    return discs(("red", "green", HOSTILE), 5)


def test_the_command(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    neuron = int(np.asarray(Store.open(made).array("max", "image"), np.float32).std(0).argmax())
    assert main(["given", str(made), str(neuron), "--by", "group", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["class"] for row in rows} == {"red", "green", HOSTILE}
    assert all(row["untrained"] > 0 for row in rows)
    page = Store.open(made).path / "site-fragments" / "given" / "page.html"
    check_fragment(page.read_text("utf-8"), page)
    assert "<img src=x" not in page.read_text("utf-8")
    assert "random weights" in page.read_text("utf-8")
    assert main(["given", str(made), str(neuron), "--by", "group", "--names", "red"]) == 0
    command = json.loads((page.parent / "made.json").read_text("utf-8"))["command"]
    assert command == f"decompose given {{store}} {neuron} --by group --names red"


@pytest.mark.parametrize(
    ("words", "said"), [(["99999"], "out of range"), (["3", "--names", "nothing"], "no image is called")]
)
def test_refusals(made: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["given", str(made), *words]) == 1
    assert said in capsys.readouterr().err
