import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from atlas import cli
from atlas.analysis import parts
from atlas.console import command_line
from atlas.errors import Refused
from tests.fakes import fake_store


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["collect", "nowhere/", "OUT"], "nowhere"),
        (["collect", "words:emotions", "OUT", "--model", "RN5O"], "no model is called 'RN5O'"),
        (["collect", "words:emotions", "OUT", "--layer", "visual.layer9"], "no layer 'visual.layer9'"),
        (["collect", "words:klingon", "OUT"], "klingon"),
        (["stats", "OUT"], "holds no Store"),
        (["near", "OUT", "--text", "a"], "holds no Store"),
        (["check", "OUT"], "holds no Store"),
        (["page", "OUT"], "holds no Store"),
    ],
)
def test_a_mistake_gets_one_line(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([str(tmp_path) if a == "OUT" else a for a in arguments]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert says in lines[0]


def test_refused_inputs_are_a_failure_unless_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (30, 30), "red").save(tmp_path / "photos" / "a.png")
    (tmp_path / "photos" / "b.png").write_bytes(b"\x89PNG")
    request = ["collect", str(tmp_path / "photos"), str(tmp_path / "out")]
    assert cli.main(request) == 1
    assert "1 inputs refused" in capsys.readouterr().err
    assert cli.main([*request, "--skip-bad"]) == 0


def test_interruption_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_open", interrupted)
    assert cli.main(["page", "x"]) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_layers_are_listed_with_shapes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["layers", "mini"]) == 0
    chosen = [line for line in capsys.readouterr().out.splitlines() if line.endswith("*")]
    assert [line.split()[:4] for line in chosen] == [["visual.layer4", "1024", "3", "3"]]


def test_a_map_of_one_kind_prints_no_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = fake_store(tmp_path / "out", images=3, words=0, texts=0, derived=False)
    with store.deriving(parts.MAP, {"trustworthiness": 0.9, "modality_gap": {"raw": {}, "centred": {}}}):
        pass
    monkeypatch.setattr("atlas.analysis.derivation.draw_maps", lambda *_: [])
    assert cli.main(["map", str(store.path)]) == 0
    said = capsys.readouterr().out
    assert "trustworthiness" in said
    assert "modality_gap" not in said


@pytest.mark.parametrize("package", ["atlas", "decompose"])
def test_help_names_every_command(package: str) -> None:
    done = subprocess.run([sys.executable, "-m", package, "--help"], capture_output=True, text=True, check=True)
    parser = command_line("atlas", "", cli.ATLAS_COMMANDS) if package == "atlas" else None
    for name in parser._subparsers._group_actions[0].choices if parser else ():  # pyright: ignore
        assert f"    {name}" in done.stdout


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "_open", broken)
    with pytest.raises(ZeroDivisionError):
        cli.main(["page", "x"])
    assert not issubclass(ZeroDivisionError, Refused)
