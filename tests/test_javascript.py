"""The scripts of the pages: their types agree, lines are short, and what Python hands to them is what they expect."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from atlas.pages.frame import SCRIPT_PARTS, STATIC_FOLDER, STYLE_PARTS
from atlas.pages.settings import CardFiles, Drivers, LegendEntry, Places, Scheme, Settings
from decompose.pages.fragment import TEMPLATES_OF_FRAGMENTS
from decompose.studies.labelling import LabellingData

LONGEST_LINE = 120
TEMPLATES = STATIC_FOLDER.parent / "templates"
TYPES = STATIC_FOLDER / "types.js"
SCRIPTS = sorted(STATIC_FOLDER.glob("*.js"))
FILES = [*sorted(STATIC_FOLDER.iterdir()), TEMPLATES_OF_FRAGMENTS / "labelling.js"]
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
]
TYPESCRIPT = 7  # older ones do not know `Uint8Array.fromBase64`


def test_every_script_and_style_is_part_of_the_site() -> None:
    used = {part for parts in SCRIPT_PARTS.values() for part in parts}
    assert {path.name for path in SCRIPTS} == used | {TYPES.name}
    assert {path.name for path in STATIC_FOLDER.glob("*.css")} == set(STYLE_PARTS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_lines_are_short_enough_to_read(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    assert not [f"{path.name}:{number}" for number, line in enumerate(lines, 1) if len(line) > LONGEST_LINE]


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix == ".js"], ids=lambda path: path.name)
def test_scripts_ask_to_be_checked(path: Path) -> None:
    assert path.read_text("utf-8").startswith("// @ts-check\n")


def installed(name: str, version: int) -> str:
    """The path of a program of Node that is installed in this version or a later one; skips the test without it."""
    found = shutil.which(name) or ""
    told = found and subprocess.run([found, "--version"], capture_output=True, text=True).stdout
    number = re.search(r"\d+", told)
    if not number or int(number[0]) < version:
        package = {"tsc": "typescript"}.get(name, name)
        pytest.skip(f"needs {name} {version}, found {told.strip() or 'none'}: npm install -g {package}@{version}")
    return found


def check(files: list[Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([installed("tsc", TYPESCRIPT), *CHECK, *map(str, files)], capture_output=True, text=True)


def test_types_agree() -> None:
    done = check([path for path in FILES if path.suffix == ".js"])
    assert done.returncode == 0, done.stdout


def test_the_check_finds_a_wrong_name(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.js"
    wrong.write_text("// @ts-check\natlas.settings().palete;\n", "utf-8")
    done = check([*SCRIPTS, wrong])
    assert done.returncode != 0
    assert "palete" in done.stdout


def test_scripts_and_styles_are_formatted() -> None:
    command = [installed("prettier", 3), "--check", "--print-width", str(LONGEST_LINE)]
    done = subprocess.run([*command, *map(str, FILES)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_one_script_reads_what_python_hands_over(path: Path) -> None:
    code = re.sub(r"^\s*(//|/?\*).*$", "", path.read_text("utf-8"), flags=re.M)
    assert bool(re.search(r"""["'`]#?settings["'`]""", code)) == (path.name == "atlas.js")


def test_templates_hold_no_scripts_of_several_lines() -> None:
    for path in (*TEMPLATES.glob("*.html"), *TEMPLATES_OF_FRAGMENTS.glob("*.html")):
        for tag, code in re.findall(r"(<script[^>]*>)(.*?)</script>", path.read_text("utf-8"), re.S):
            assert "application/json" in tag or "\n" not in code.strip(), path.name


def described(name: str, path: Path = TYPES) -> set[str]:
    """The properties of a typedef in a script."""
    block = next(part for part in path.read_text("utf-8").split("/**") if f"@typedef {{object}} {name}\n" in part)
    return set(re.findall(r"@property \{.*\} (\w+)", block.split("*/")[0]))


@pytest.mark.parametrize("shape", [Settings, Places, Scheme, Drivers, CardFiles], ids=lambda shape: shape.__name__)
def test_both_languages_name_the_same_fields(shape: type) -> None:
    assert described(shape.__name__) == set(shape.__annotations__)


def test_the_labelling_page_names_the_same_fields() -> None:
    assert described("LabellingData", FILES[-1]) == set(LabellingData.__annotations__)


def test_legend_entries_have_the_same_fields_in_both_languages() -> None:
    found = re.search(r"@property \{\{(.*)\}\[\]\} entries", TYPES.read_text("utf-8"))
    assert found
    assert set(re.findall(r"(\w+):", found[1])) == set(LegendEntry.__annotations__)
