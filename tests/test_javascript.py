"""The scripts of the pages: their types agree, lines are short, and what Python hands to them is what they expect."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from atlas.pages.frame import SCRIPT_PARTS, STATIC_FOLDER, STYLE_PARTS
from atlas.pages.settings import Drivers, LegendEntry, Places, Scheme, Settings

LONGEST_LINE = 120
TYPES = STATIC_FOLDER / "types.js"
SCRIPTS = sorted(STATIC_FOLDER.glob("*.js"))
CHECK = [
    "--noEmit",
    "--allowJs",
    "--checkJs",
    "--strict",
    "false",
    "--target",
    "esnext",
    "--lib",
    "esnext,dom,dom.iterable",
    "--types",
]


def test_every_script_and_style_is_part_of_the_site() -> None:
    used = {part for parts in SCRIPT_PARTS.values() for part in parts}
    assert {path.name for path in SCRIPTS} == used | {TYPES.name}
    assert {path.name for path in STATIC_FOLDER.glob("*.css")} == set(STYLE_PARTS)


@pytest.mark.parametrize("path", sorted(STATIC_FOLDER.iterdir()), ids=lambda path: path.name)
def test_lines_are_short_enough_to_read(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    assert not [f"{path.name}:{number}" for number, line in enumerate(lines, 1) if len(line) > LONGEST_LINE]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_ask_to_be_checked(path: Path) -> None:
    assert path.read_text("utf-8").startswith("// @ts-check\n")


def compiler() -> list[str] | None:
    """The command of a TypeScript compiler that is already installed; nothing is downloaded for it."""
    if found := shutil.which("tsc"):
        return [found]
    npx = shutil.which("npx")
    if npx and subprocess.run([npx, "--no-install", "tsc", "--version"], capture_output=True).returncode == 0:
        return [npx, "--no-install", "tsc"]
    return None


def check(files: list[Path]) -> subprocess.CompletedProcess[str]:
    command = compiler()
    if command is None:
        pytest.skip("no TypeScript compiler is installed (npm install -g typescript)")
    return subprocess.run([*command, *CHECK, "", *map(str, files)], capture_output=True, text=True)


def test_types_agree() -> None:
    done = check(SCRIPTS)
    assert done.returncode == 0, done.stdout


def test_the_check_finds_a_wrong_name(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.js"
    wrong.write_text("// @ts-check\natlas.settings().palete;\n", "utf-8")
    done = check([*SCRIPTS, wrong])
    assert done.returncode != 0
    assert "palete" in done.stdout


def described(name: str) -> set[str]:
    """The properties of a typedef in types.js."""
    block = next(part for part in TYPES.read_text("utf-8").split("/**") if f"@typedef {{object}} {name}\n" in part)
    return set(re.findall(r"@property \{.*\} (\w+)", block.split("*/")[0]))


@pytest.mark.parametrize("shape", [Settings, Places, Scheme, Drivers], ids=lambda shape: shape.__name__)
def test_both_languages_name_the_same_fields(shape: type) -> None:
    assert described(shape.__name__) == set(shape.__annotations__)


def test_legend_entries_have_the_same_fields_in_both_languages() -> None:
    found = re.search(r"@property \{\{(.*)\}\[\]\} entries", TYPES.read_text("utf-8"))
    assert found
    assert set(re.findall(r"(\w+):", found[1])) == set(LegendEntry.__annotations__)
