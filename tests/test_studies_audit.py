"""The audit: a patched checkpoint silences neurons and nothing else, tests are read, limits give the exit code."""

import json
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import open_clip
import pytest
import torch
from safetensors import safe_open

from atlas.errors import Refused
from atlas.model.clip import Clip
from atlas.model.layers import layer_replaced
from atlas.pages.fragments import check_fragment
from atlas.store.store import Store
from decompose.attribution import hooked_layer
from decompose.cli import main
from decompose.studies import audit_report
from decompose.studies.association_study import read_association_lists, study_associations
from decompose.studies.audit_report import Measured, verdicts
from decompose.studies.rates import Rate
from decompose.studies.silencing import changed_weights, stored_weights, write_silenced

NEURONS = [3, 17, 400]
ONE_WORD = json.dumps([{"X": ["a", "b"], "Y": ["c", "d"], "A": ["e", "e"], "B": ["f", "g"]}])
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def patched(mini: Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the embedded model with three neurons silenced."""
    path = tmp_path_factory.mktemp("patch") / "patched.safetensors"
    write_silenced(mini, NEURONS, path)
    return path


def test_a_patched_checkpoint_loads_in_open_clip_and_differs_in_three_columns_alone(mini: Clip, patched: Path) -> None:
    model = open_clip.create_model("mini", pretrained=str(patched))
    found = changed_weights(stored_weights(mini), dict(model.state_dict()))
    assert found == {f"visual.attnpool.{name}_proj.weight": NEURONS for name in ("q", "k", "v")}
    with safe_open(patched, "pt") as file:
        assert file.metadata()["silenced"] == "3 17 400"


def test_silenced_neurons_change_nothing_and_others_do(mini: Clip, patched: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), np.uint8)

    def moved(clip: Clip, neurons: list[int]) -> float:
        layer, token = hooked_layer(clip)
        mask = torch.zeros(1, clip.neurons, 1, 1)
        mask[:, neurons] = 5.0
        with layer_replaced(clip.model, layer, lambda x: x + mask.to(x.dtype), token):
            return float(np.abs(clip.encode_images(pixels) - clean).max())

    clip = Clip("mini", patched)
    clean = clip.encode_images(pixels)
    assert moved(clip, NEURONS) < 1e-6
    assert moved(clip, [4]) > 1e-3
    assert clip.activations(pixels)[:, NEURONS].any()  # the neurons themselves respond as before
    clean = mini.encode_images(pixels)
    assert moved(mini, NEURONS) > 1e-3


def test_a_vit_is_patched_in_its_mlp(towers: object, tmp_path: Path) -> None:
    clip = towers("vit")  # type: ignore[operator] - the fixture is a function
    write_silenced(clip, [5], tmp_path / "vit.safetensors")
    after = Clip(clip.name, tmp_path / "vit.safetensors")
    (name,) = changed_weights(stored_weights(clip), stored_weights(after))
    assert name.endswith("mlp.c_proj.weight")


def test_patches_that_cannot_be_are_refused(mini: Clip, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="out of range"):
        write_silenced(mini, [99_999], tmp_path / "a.safetensors")
    with pytest.raises(Refused, match=r"\.safetensors"):
        write_silenced(mini, [1], tmp_path / "a.pt")
    with pytest.raises(Refused, match="can be silenced in"):
        write_silenced(Clip("mini", layer="visual.layer3"), [1], tmp_path / "a.safetensors")
    with pytest.raises(Refused, match="one architecture"):
        changed_weights({"a": torch.zeros(2)}, {"a": torch.zeros(3)})


def test_lists_of_tests_are_read_and_bad_ones_refused(tmp_path: Path) -> None:
    shipped = read_association_lists()
    assert len(shipped) == 4
    assert all(each["source"].startswith("Caliskan") for each in shipped)
    assert all(not set(each["X"]) & set(each["Y"]) for each in shipped)
    for content in (
        "{}",
        "[]",
        "[1]",
        '[{"X": ["a"]}]',
        '[{"X": ["a"], "Y": [1], "A": ["b"], "B": ["c"]}]',
        ONE_WORD,
        "no",
    ):
        (tmp_path / "tests.json").write_text(content, "utf-8")
        with pytest.raises(Refused):
            read_association_lists(tmp_path / "tests.json")


def test_a_test_without_embeddings_has_no_effect(mini: Clip) -> None:
    test = read_association_lists()[0]
    lacking = test | {"X": ["rose", "日本"], "A": ["日本", "東京"]}  # the fonts lack these letters
    rows = {row["space"]: row for row in study_associations(mini, [lacking])}  # type: ignore[list-item] - a union of dicts
    assert rows["text"]["effect"] is not None
    assert rows["rendered words"]["effect"] is None
    assert rows["rendered words"]["words"] == "1/10/0/10"


@pytest.mark.parametrize(
    ("effects", "measured"),
    [([], None), ([(None, None)], None), ([(None, None), (0.9, 0.3)], 0), ([(-0.9, 0.01), (1.5, 0.3)], 0.9)],
)
def test_an_association_that_was_not_measured_does_not_hold(
    effects: list[tuple[float | None, float | None]], measured: float | None
) -> None:
    rates = Mock(Measured, **dict.fromkeys(("attack", "changed", "stroop"), Rate(0, 0)))
    rows = [{"effect": effect, "p": p} for effect, p in effects]
    (found,) = verdicts(rates, rows, {"association": 1.0})
    assert (found.measured, found.holds) == (measured, measured is not None)


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(discs: Callable[..., Path]) -> Path:
    """Discs of four colours in folders of their names; one is hostile."""
    return discs(("red", "green", "blue", HOSTILE), 4, side=96)


@pytest.mark.slow
def test_the_command_and_its_exit_code(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = {"X": ["red", "pink"], "Y": ["blue", "green"], "A": ["fire", "hot"], "B": ["ice", "cold"]}
    tests = [{"name": HOSTILE, "source": HOSTILE, **sets}]
    (tmp_path / "tests.json").write_text(json.dumps(tests), "utf-8")
    asked = ["audit", str(made), "--by", "group", "--images", "6", "-k", "2", "--tests", str(tmp_path / "tests.json")]
    patch = tmp_path / "patched.safetensors"
    assert main([*asked, "--patch", str(patch), "--max-attack", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["passed"]
    assert all((row["effect"] is None) == (row["untrained"] is None) for row in found["associations"])
    assert [row["measure"] for row in found["measures"]] == [row["measure"] for row in found["patched"]]
    assert [row["measure"] for row in found["measures"]] == [row["measure"] for row in found["untrained"]]
    assert found["untrained"] != found["measures"]
    spaces = [[(row["test"], row["space"]) for row in found[f"associations{end}"]] for end in ("", "_patched")]
    assert spaces[0] == spaces[1]
    assert (HOSTILE, "images") in spaces[0]
    assert sorted(found["silenced"]) == sorted(next(iter(found["changed"].values()), []))
    folder = Store.open(made).path / "site-fragments" / "audit"
    page = (folder / "page.html").read_text("utf-8")
    check_fragment(page, folder / "page.html")
    assert "<img src=x" not in page
    assert main([*asked, "--max-attack", "0", "--max-stroop", "1"]) == 1
    printed = capsys.readouterr().out
    assert "limit 0: DOES NOT HOLD" in printed
    assert "limit 1: holds" in printed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tests", "/no/such"], "cannot read"),
        (["--classes", "no"], "needs 2"),
        (["--patch", "a.pt"], "is not called"),
        (["--patch", "/no/a.safetensors"], "is no folder"),
    ],
)
def test_refusals(
    made: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All before anything is measured."""
    monkeypatch.setattr(audit_report, "measured", None)
    assert main(["audit", str(made), "--by", "group", *words]) == 1
    assert said in capsys.readouterr().err
