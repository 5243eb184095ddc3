"""Every option of every command, in both command lines, with values that are wrong: one line each, and no traceback."""

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

import atlas
from atlas import cli
from atlas.console import Option
from decompose import cli as decompose_cli

PROGRAMS = {
    "atlas": (cli.main, cli.ATLAS_COMMANDS),
    "decompose": (decompose_cli.main, decompose_cli.DECOMPOSE_COMMANDS),
}
NO_NUMBERS = ("", " ", "nan", "inf", "-inf", "1e999", "1e308", "x", "²", "١", "9" * 400, "0x10", "1_000", "-1")
TEXTS = ("", " ", "\x1b[31m", "\u202ezyx", "a" * 5000, "{}{}", "../../etc/passwd", "\udce9", "☃", "-", "{", "?=", "\0")
PATHS = (
    "",
    "\0",
    "x" * 300,
    "/dev/null",
    "/dev/full",
    "/proc/nowhere/at/all",
    ".",
    "/",
    "\udce9",
    "FILE",
    "FILE/below",
)


class Asked(NamedTuple):
    """One option of one command."""

    program: str
    command: str
    option: Option

    def __str__(self) -> str:
        return f"{self.program} {self.command} {self.option.names[0]}"


def every_option() -> Iterator[Asked]:
    for program, (_, commands) in PROGRAMS.items():
        for command in commands:
            for each in command.__dict__["options"]:
                for one in each.settings.get("options", (each,)):
                    yield Asked(program, command.__name__.removesuffix("_command"), one)


def needed(asked: Asked, values: dict[str, str]) -> list[str]:
    """The words of the command with valid values for all arguments that it needs, but the one asked."""
    words = [asked.command]
    for each in dict(PROGRAMS)[asked.program][1]:
        if each.__name__.removesuffix("_command") == asked.command:
            for one in each.__dict__["options"]:
                if not one.names:  # one of a group is needed
                    inside = one.settings["options"]
                    if asked.option.names not in [other.names for other in inside]:
                        words += [inside[0].names[0], "cat"]
                elif not one.names[0].startswith("-") and one is not asked.option:
                    words.append(values[one.names[0]])
                elif one.settings.get("required") and one is not asked.option:
                    words += [one.names[0], values["file"]]
    return words


def values_for(option: Option) -> Sequence[str]:
    kind = option.settings.get("type")
    if option.settings.get("choices"):
        return ("", "x", "\udce9")
    name = getattr(kind, "__qualname__", "")
    if option.names[0] in ("--images", "--drawings") and "path_name" in name:
        return [path for path in PATHS if path != "/"]  # to read every picture of the machine is no mistake, and long
    return PATHS if "path_name" in name else TEXTS if "some_text" in name or kind is str else NO_NUMBERS


def outcome(asked: Asked, words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    """The exit code and the lines on stderr."""
    try:
        code = PROGRAMS[asked.program][0](words)
    except SystemExit as ended:
        code = int(ended.code or 0)
    return code, capsys.readouterr().err.strip().splitlines()


def with_value(asked: Asked, value: str, values: dict[str, str]) -> list[str]:
    words = needed(asked, values)
    if asked.option.names[0].startswith("-"):
        return [*words, f"{asked.option.names[0]}={value}" if asked.option.names[0].startswith("--") else "-k" + value]
    flags = [word for word in words[1:] if word.startswith("-")]
    if flags:
        return [*words, "--", value]
    positional = [one.names[0] for one in positionals(asked)]
    place = 1 + positional.index(asked.option.names[0])
    return [*words[:place], "--", value, *words[place:]]


def positionals(asked: Asked) -> list[Option]:
    command = next(c for c in PROGRAMS[asked.program][1] if c.__name__.removesuffix("_command") == asked.command)
    return [one for one in command.__dict__["options"] if one.names and not one.names[0].startswith("-")]


VALUES = {
    "out": "STORE", "store": "STORE", "other": "STORE", "source": "words:emotions?fonts=open-sans&sizes=32",
    "text": "cat", "concept": "cat", "neuron": "1", "file": "EXPORT", "model": "mini", "word": "cat", "name": "cat",
    "study": "goh2021",
}  # fmt: skip


def test_every_number_is_checked_before_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(atlas.Clip, "__init__", None)  # nothing may begin
    values = VALUES | {"out": "nowhere", "store": "nowhere", "other": "nowhere"}
    asked = [each for each in every_option() if values_for(each.option) is NO_NUMBERS and takes_value(each.option)]
    assert len(asked) > 40
    for each in asked:
        for value in NO_NUMBERS:
            with pytest.raises(argparse.ArgumentTypeError):
                each.option.settings["type"](value)
        code, lines = outcome(each, with_value(each, "nan", values), capsys)
        assert (code, len(lines)) == (2, 1), (str(each), code, lines)
    assert list(tmp_path.iterdir()) == []


def takes_value(option: Option) -> bool:
    return "action" not in option.settings


@pytest.mark.parametrize("words", [["map", "S", "--min-dist", "50"], ["near", "S", "--row", "0", "-k", "0"]])
def test_numbers_beyond_their_limits(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(words)
    assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, clip: atlas.Clip) -> Path:
    """A folder with a small Store, pictures and a text file."""
    place = tmp_path_factory.mktemp("misuse")
    (place / "photos" / "red").mkdir(parents=True)
    for i in range(12):
        noise = np.random.default_rng(i).integers(0, 256, (30, 30, 3), np.uint8)
        Image.fromarray(noise).save(place / "photos" / "red" / f"{i}.png")
    sources = [str(place / "photos"), "words:emotions?fonts=open-sans&sizes=32", "texts:emotions"]
    atlas.collect(sources, clip, place / "STORE")
    (place / "FILE").write_text("text\n")
    return place


@pytest.fixture(scope="module")
def derived(small: Path, clip: atlas.Clip) -> Iterator[Path]:
    """The same folder, everything derived; models are loaded once only."""
    from functools import cache

    from atlas.analysis import derivation
    from atlas.model import weights

    derivation.derive(atlas.Store.open(small / "STORE"), clip)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "load_model", cache(weights.load_model))
        yield small


@pytest.mark.slow
@pytest.mark.parametrize("asked", [each for each in every_option() if takes_value(each.option)], ids=str)
def test_every_wrong_value_ends_in_one_line(
    asked: Asked, derived: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = derived
    monkeypatch.chdir(small)
    before = content(small)
    values = values_for(asked.option)
    if asked.command == "words" and values is TEXTS:
        values = TEXTS[::4]  # each that it takes is a study of thousands of rendered words
    for value in values:
        code, lines = outcome(asked, with_value(asked, value, VALUES), capsys)
        assert code in (0, 1, 2), (value, code)
        if code:
            assert lines, value
            assert not [line for line in lines if "Traceback" in line], (value, lines)
            assert any(line.startswith(asked.program) for line in lines), (value, lines)
    assert before.items() <= content(small).items(), "a file was changed"
    assert not list(small.glob("*.partial"))


def content(folder: Path) -> dict[str, bytes]:
    """The shards, listings and the user's own files: what no command may change."""
    files = [*folder.glob("FILE"), *folder.rglob("photos/**/*.png"), *folder.glob("STORE/shards/**/*.*")]
    return {str(path): path.read_bytes() for path in files if path.is_file()}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["collect", "SOURCE", "FILE"], "cannot make the folder"),
        (["collect", "SOURCE", "FILE/below"], "cannot make the folder"),
        (["dream", "STORE", "0-999999999"], "out of range"),
        (["dream", "STORE", "1", "--theme", ""], "--theme is empty"),
        (["export", "STORE", "."], "no export of a Store"),
        (["export", "STORE", "/dev/null"], "no export of a Store"),
        (["export", "STORE", "FILE"], "no export of a Store"),
        (["export", "STORE", "STORE/store.json"], "inside the Store"),
        (["export", "STORE", "nowhere/a.parquet"], "make the folder first"),
        (["stats", "STORE", "--device", "meta"], "no device 'meta'"),
    ],
)
def test_a_request_that_is_wrong_in_itself(
    words: list[str], says: str, small: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small)
    words = [VALUES["source"] if word == "SOURCE" else word for word in words]
    assert cli.main(words) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert says in lines[0]
    assert (small / "FILE").read_text() == "text\n"


def test_an_export_replaces_an_export(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, file = str(small / "STORE"), str(small / "a.parquet")
    assert [cli.main(["export", store, file]) for _ in range(2)] == [0, 0]
    assert not list(small.glob(".*partial"))


def test_a_name_that_is_no_unicode_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["check", os.fsdecode(b"out\xe9")])
    assert "no valid UTF-8" in capsys.readouterr().err


def test_what_acts_on_a_terminal_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    from atlas.console import print_table, run_command

    def show_command() -> int:
        """Show."""
        print_table([{"name": "\x1b[31mred\x07 \u202ezyx\x9b"}])
        return 0

    run_command(command_line_of(show_command), ["show"])
    assert capsys.readouterr().out.splitlines()[1] == r"\u001b[31mred\u0007 \u202ezyx\u009b"


def command_line_of(command: Callable[..., int]) -> argparse.ArgumentParser:
    from atlas.console import command_line

    return command_line("show", "", [command])
