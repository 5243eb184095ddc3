"""A search is answered from what is kept of a Store's model, as the model itself answers it, and without loading it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import atlas
import atlas.model.clip
from atlas.analysis import parts
from atlas.analysis.derivation import relate_neurons, relate_texts, summarise_neurons
from atlas.model import kept_texts
from atlas.store.files import write_json
from atlas.store.store import Store
from decompose.cli import main


@pytest.fixture(scope="module")
def place(mini: atlas.Clip, drawings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = [str(drawings / "drawings"), "texts:emotions"]
    store = atlas.collect(sources, mini, tmp_path_factory.mktemp("kept") / "store")
    summarise_neurons(store)
    relate_neurons(store, mini)
    relate_texts(store, mini)
    return store.path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kept_texts.CACHE_VARIABLE, str(tmp_path / "cache"))


def search(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[list[dict], str]:
    capsys.readouterr()
    assert main(["search", *words, "--json"]) == 0
    out, err = capsys.readouterr()
    return json.loads(out), err


@pytest.fixture
def without_the_model(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """From here on a model that is loaded fails."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(atlas.model.clip.weights, "load_model", fail)
    return monkeypatch


@pytest.mark.slow
def test_the_second_answer_is_the_first_and_needs_no_model(
    place: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    question = ["a happy face", "--store", str(place), "-k", "20"]
    ways: list[list[str]] = [[], ["--by", "basis"], ["--by", "response"], ["--templates", "an icon of {}"]]
    first = [search(capsys, *question, *way)[0] for way in ways]
    request.getfixturevalue("without_the_model")
    again = [search(capsys, *question, *way)[0] for way in ways]
    for before, after in zip(first, again, strict=True):
        assert [(row["neuron"], row.pop("label")) for row in after] == [
            (row["neuron"], row.pop("label")) for row in before
        ]
        assert after == [pytest.approx(row, rel=1e-4, abs=1e-6) for row in before]


def test_what_was_not_asked_before_is_asked_of_the_model(
    place: Path, capsys: pytest.CaptureFixture[str], without_the_model: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AssertionError, match="the model was loaded"):
        main(["search", "a sad face", "--store", str(place)])


@pytest.mark.slow
def test_a_text_that_the_model_cannot_read_is_named_each_time(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        _, said = search(capsys, "zzyzx", "--store", str(place))
        assert "mini has learned no part of 'zzyzx'" in said


def test_a_basis_that_does_not_say_how_texts_were_read_is_passed_over(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], without_the_model: pytest.MonkeyPatch
) -> None:
    shutil.copytree(place, tmp_path / "earlier")
    made = tmp_path / "earlier" / parts.BASIS.name / "made.json"
    recipe = json.loads(made.read_text("utf-8"))
    del recipe["recipe"]["text_tower"]
    write_json(made, recipe)
    assert Store.open(tmp_path / "earlier").current(parts.BASIS)
    with pytest.raises(AssertionError, match="the model was loaded"):
        main(["search", "happy", "--store", str(tmp_path / "earlier")])


@pytest.mark.slow
def test_pytorch_is_not_imported(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search(capsys, "dog", "--store", str(place))
    script = (
        "import sys; from decompose.cli import main; main(sys.argv[1:]); "
        "print([m for m in ('torch', 'open_clip') if m in sys.modules])"
    )
    words = ["search", "dog", "--store", str(place)]
    said = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "[]"
