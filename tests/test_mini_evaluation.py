"""The embedded model's evaluation: intervals, stickers, matched neurons, the card and README's table."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import binomtest

from atlas.mini import card, confusions, emergence, evaluate, intervals, packages
from atlas.model.clip import Clip

pytest.importorskip("wordfreq")


def test_the_card_and_readme_say_what_was_measured() -> None:
    training, evidence = (
        json.loads((card._HERE / f"{name}.json").read_text("utf-8")) for name in ("training", "evidence")
    )
    assert (card._HERE / "CARD.md").read_text("utf-8") == card.render(training, evidence)
    readme = card.README.read_text("utf-8")
    assert card.BEGIN in readme
    assert readme == card.placed(card.in_brief(evidence), readme)


def test_an_interval_is_over_things_and_not_over_samples() -> None:
    hits, word = np.repeat([1, 0, 0, 1, 0], 10), np.repeat(np.arange(5), 10)
    alike, apart = intervals.share(hits, word), intervals.share(hits)
    assert (alike["share"], alike["n"], alike["things"]) == (0.4, 50, 5)
    wilson = binomtest(20, 50).proportion_ci(method="wilson")
    assert (apart["low"], apart["high"]) == pytest.approx((wilson.low, wilson.high), abs=0.01)
    assert alike["high"] - alike["low"] > 2.5 * (apart["high"] - apart["low"])
    none = intervals.share(np.zeros(500), np.repeat(np.arange(50), 10))  # fifty words unread, not five hundred
    assert none["low"] == 0
    assert none["high"] == pytest.approx(binomtest(0, 50).proportion_ci(method="wilson").high, abs=0.01)
    assert intervals.share(np.ones(50), word)["high"] == 1
    even = intervals.share(np.tile([1, 0], 25), word)  # every word half: no wider than of independent samples
    assert even["low"] == pytest.approx(0.5 - (even["high"] - 0.5))
    assert 0.3 < even["low"] < 0.4


def test_an_interval_of_few_things_holds_the_truth_nineteen_times_of_twenty() -> None:
    rng, word = np.random.default_rng(0), np.repeat(np.arange(6), 10)
    hits = [(rng.random((6, 10)) < rng.beta(3, 4.5, (6, 1))).ravel() for _ in range(1000)]
    held = np.mean([f["low"] <= 0.4 <= f["high"] for f in (intervals.share(each, word) for each in hits)])
    assert 0.94 < held < 0.985  # .92 without Student's t, .97 with it


def test_evidence_lies_beside_the_weights_and_lacking_fonts_are_told_first(tmp_path, monkeypatch, capsys) -> None:
    measured: list[str] = []
    named = {"naming_figures": "naming", "multimodal_figures": "neurons"}
    named |= {"feeling_figures": "feelings", "region_figures": "regions"}
    named |= {"attack_figures": "attack", "stroop_figures": "stroop"}
    functions = ("naming_figures", "reading", "multimodal_figures", "feeling_figures", "region_figures")
    for function in (*functions, "attack_figures", "stroop_figures", "speed"):
        part = named.get(function, function)
        stub = lambda clip, part=part: measured.append(part) or {"top1": intervals.share([1, 0])}  # noqa: E731
        monkeypatch.setattr(evaluate, function, stub)
    monkeypatch.setattr(evaluate, "count", lambda clip: {"neurons": 3})
    monkeypatch.setattr(evaluate, "matched", lambda clip, other: {"median correlation": 0.5})
    weights = tmp_path / "mini.safetensors"
    weights.write_bytes((evaluate._HERE / "mini.safetensors").read_bytes())
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)  # what is measured with two; tests go on as they were
    monkeypatch.setattr(sys, "argv", ["evaluate", "--weights", str(weights)])
    monkeypatch.setattr(packages, "HELD_OUT_FONTS", ("open-sans",))
    monkeypatch.setattr(evaluate, "SEEN_FONTS", ("no-such-family",))
    assert evaluate.main() == 1
    assert "pip install fontpkg-no-such-family" in capsys.readouterr().err
    assert not measured
    monkeypatch.setattr(evaluate, "SEEN_FONTS", ("pt-serif",))
    assert evaluate.main() == 0
    assert list(json.loads((tmp_path / "evidence.json").read_text("utf-8"))) == measured
    other = ["--earlier", str(weights), "--second", str(weights)]
    monkeypatch.setattr(sys, "argv", ["evaluate", "--weights", str(weights), *other])
    assert evaluate.main() == 0
    figures = json.loads((tmp_path / "evidence.json").read_text("utf-8"))
    assert figures["neurons"]["earlier"] == {"mini": {"neurons": 3}}
    assert figures["second seed"] == {"median correlation": 0.5}
    monkeypatch.setattr(sys, "argv", ["evaluate", "--weights", str(weights), "--out", str(tmp_path / "none/x.json")])
    assert evaluate.main() == 1
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.parametrize("kind", confusions.STICKERS)
def test_a_sticker_changes_some_of_the_drawing_and_shows_the_text(kind: str) -> None:
    drawing = Image.new("RGB", (144, 144), (90, 160, 230))
    pages = [np.asarray(confusions.STICKERS[kind](drawing, text), int) for text in ("cat", "dog")]
    assert pages[0].shape == (96, 96, 3)
    blue = np.abs(pages[0] - (90, 160, 230)).max(2) < 10
    assert 0.3 < blue.mean() < 0.95
    assert (pages[0] != pages[1]).any()
    assert (pages[0] < 60).all(2).sum() > 20  # dark letters
    assert (pages[0].min(2) > 150).sum() > 5  # and light ones, or light ground


def test_nonsense_has_no_vowel() -> None:
    letters = confusions._nonsense(400, np.random.default_rng(0))
    assert len(letters) == 400
    assert not set("aeiouy") & set(letters)


def test_neurons_of_two_models_are_matched_by_what_they_respond_to(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, order = np.random.default_rng(0), np.random.default_rng(1).permutation(20)
    rows, which = rng.random((60, 20)), np.repeat(np.arange(30), 2)
    model, permuted, other = (object.__new__(Clip) for _ in range(3))
    responses = {id(model): rows, id(permuted): rows[:, order], id(other): rng.random((60, 20))}
    monkeypatch.setattr(emergence, "_concepts", lambda: [str(c) for c in range(30)])
    monkeypatch.setattr(emergence, "_responses", lambda clip, *_: [(responses[id(clip)], which)] * 2)
    same, apart = emergence.matched(model, permuted), emergence.matched(model, other)
    assert same["median correlation"] == pytest.approx(1)
    assert same["neurons above all by chance"] == 20
    assert apart["median correlation"] < 0.7
    assert apart["neurons above all by chance"] < 10


def test_the_card_tells_what_only_the_first_weights_saw() -> None:
    start = {"steps": 100, "seconds": 3600, "licences": {"open": "MIT", "closed": "none"}}
    said = card._start({"start": start, "licences": {"open": "MIT"}})
    assert "100 steps, 1.0 hours" in said
    assert "closed (none)" in said
    assert "open (MIT)" not in said
    assert card._start({}) == ""
