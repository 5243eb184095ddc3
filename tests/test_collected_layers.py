"""A Store of two layers: commands read the layer that is named, and keep what they derive of it apart."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

import atlas
import atlas.cli
import decompose
from atlas.store.store import Store
from decompose.cli import main

LOWER = "visual.layer3"  # 512 neurons, where the first layer has 1,024


@pytest.fixture(scope="module")
def both(drawings: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    clip = atlas.Clip("mini", layer=["visual.layer4", LOWER])
    sources = [str(drawings / "drawings"), f"words:{drawings / 'words.txt'}?sizes=32&fonts=open-sans"]
    return atlas.collect(sources, clip, tmp_path_factory.mktemp("layers") / "both")


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> list[dict]:
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_neurons_alike_are_those_of_the_named_layer(both: Store, capsys: pytest.CaptureFixture[str]) -> None:
    question = ["nearest", str(both.path), "7", "-k", "3", "--by", "response", "--layer", LOWER]
    assert main(question) == 1
    program, *words = shlex.split(capsys.readouterr().err.split("make it: ")[1])
    assert program == "atlas"
    assert atlas.cli.main(words) == 0, "the command that is named makes what is missing"
    found = answer(capsys, *question)
    A = np.asarray(both.array("max", "image", layer=LOWER), np.float64)
    with np.errstate(invalid="ignore"):
        correlation = np.corrcoef(A.T)[7]
    correlation[7] = np.nan
    assert [row["neuron"] for row in found] == np.argsort(-np.nan_to_num(correlation, nan=-2))[:3].tolist()


@pytest.mark.slow
def test_a_search_ranks_neurons_of_the_named_layer(both: Store, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "search", "dog", "--store", both.path, "--layer", LOWER, "-k", 512)
    assert len(found) == 512
    assert {row["neuron"] for row in found} == set(range(512))
    first = answer(capsys, "search", "dog", "--store", both.path, "-k", 2000)
    assert len(first) == 1024


def test_components_of_a_layer_have_a_place_of_their_own(both: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nmf", str(both.path), "-k", "3", "--layer", LOWER]) == 0
    assert len(capsys.readouterr().out.splitlines()) >= 4
    made = sorted(path.parent for path in both.path.rglob("made.json"))
    assert [path.relative_to(both.path).as_posix() for path in made if "layers" in path.parts]
    assert all(LOWER in path.as_posix() for path in made if path.name == "components")


def test_a_layer_is_nearest_to_itself_and_not_to_the_other(both: Store, capsys: pytest.CaptureFixture[str]) -> None:
    same = answer(capsys, "universality", both.path, both.path, "--layer", LOWER, "--other-layer", LOWER, "-k", 2000)
    assert same
    assert all(row["neuron"] == row["other"] for row in same)
    other = answer(capsys, "universality", both.path, both.path, "--other-layer", LOWER, "-k", 2000)
    assert max(row["other"] for row in other) < 512 <= max(row["neuron"] for row in other)
    assert decompose.universality(both, both.of_layer(LOWER)).num_rows == len(other)
