"""The sparse probe: planted neurons are found, nulls are chance, and the command on a tiny Store."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from atlas.errors import Refused
from atlas.pages.fragments import check_fragment
from atlas.store.store import Store
from decompose.cli import main
from decompose.pages.probe import submatrix
from decompose.studies.classifiers import LabelledRows
from decompose.studies.sparse_probe import both_rates, fewer_rows, fit_sparse_probe

CLASSES, NEURONS = 8, 60
HOSTILE = "<img src=x onerror=alert(1)>"


def planted(seed: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    """Activations, and classes: neuron c rises for class c, neuron 20 for all of the first four."""
    rng, classes = np.random.default_rng(seed), np.repeat(np.arange(CLASSES), each)
    A = rng.normal(size=(len(classes), NEURONS)).astype(np.float32)
    A[np.arange(len(classes)), classes] += 4
    A[classes < 4, 20] += 4
    A[:, 50] = 7  # constant
    return A * np.linspace(0.5, 20, NEURONS, dtype=np.float32), classes


def test_the_probe_names_the_planted_neurons_and_holds() -> None:
    probe = fit_sparse_probe(*planted(0, 30), CLASSES, k=2)
    assert ((probe.weights != 0).sum(1) <= 2).all()
    assert np.abs(probe.weights).argmax(1).tolist() == list(range(CLASSES))
    assert not probe.weights[:, 50].any()
    top1, top5 = both_rates(probe, *planted(1, 30))
    assert (top1.share or 0) > 0.9
    assert (top5.share or 0) >= (top1.share or 0)


def test_the_intercepts_make_the_mean_probability_the_share() -> None:
    A, classes = planted(2, 20)
    probe = fit_sparse_probe(A, classes, CLASSES, k=3)
    mean = (1 / (1 + np.exp(-probe.logits(A)))).mean(0)
    assert mean == pytest.approx(np.full(CLASSES, 1 / CLASSES), abs=1e-6)


@pytest.mark.slow
def test_shuffled_classes_give_chance() -> None:
    rates = []
    for seed in range(10):
        A, classes = planted(seed, 20)
        null = fit_sparse_probe(A, np.random.default_rng(seed).permutation(classes), CLASSES, k=3)
        rates.append(both_rates(null, *planted(100 + seed, 20))[0].share)
    assert np.mean(rates) == pytest.approx(1 / CLASSES, abs=0.04)


def test_a_class_without_an_image_is_refused() -> None:
    A, classes = planted(0, 3)
    with pytest.raises(Refused, match="two classes or more"):
        fit_sparse_probe(A, classes, CLASSES + 1)


def test_fewer_rows_keep_every_class() -> None:
    classes = np.array([0] * 90 + [1] * 6 + [2] * 4)
    rows = LabelledRows(("a", "b", "c"), np.arange(100), classes, np.arange(100, 130), np.arange(30) % 3)
    few = fewer_rows(rows, 12, np.random.default_rng(0))
    assert np.bincount(few.fit_class).tolist() == [4, 4, 4]
    assert (classes[few.fit] == few.fit_class).all()
    assert len(few.held) == 12
    assert ((few.held - 100) % 3 == few.held_class).all()


def test_the_submatrix_takes_the_most_shared_neurons() -> None:
    W = np.zeros((3, 20))
    W[0, 3], W[1, 3], W[2, 9] = 1.0, 2.0, -1.0
    assert submatrix(W) == ([3, 9], [1, 0, 2])


@pytest.fixture(scope="module")
def made(discs: Callable[..., Path]) -> Path:
    """Discs of four colours in folders of their names; one is hostile."""
    return discs(("red", "green", "blue", HOSTILE), 6)


@pytest.mark.slow
def test_the_command(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", str(made), "--by", "group", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["fitted"], found["held"], len(found["classes"])) == (12, 12, 4)
    accuracy = {row["probe"]: row for row in found["accuracy"]}
    assert accuracy["model"]["top1"] > 0.9
    assert set(accuracy) == {"model", "shuffled", "untrained"}
    page = Store.open(made).path / "site-fragments" / "probe" / "page.html"
    check_fragment(page.read_text("utf-8"), page)
    assert "<img src=x" not in page.read_text("utf-8")
    assert main(["probe", str(made), "--by", "group", "--classes", "red", "blue"]) == 0
    assert "2 classes" in page.read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--classes", "no"], "needs 2"),
    ],
)
def test_refusals(made: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", str(made), "--by", "group", *words]) == 1
    assert said in capsys.readouterr().err
