"""Contracts about the code itself: what it exports, what it imports, what it never does, and that README is true."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import atlas
from atlas import cli as atlas_cli
from decompose import cli as decompose_cli

ROOT = Path(__file__).parent.parent
MODULES = sorted([*(ROOT / "atlas").rglob("*.py"), *(ROOT / "decompose").rglob("*.py")])


def test_the_fixed_names_are_there() -> None:
    for name in ("Clip", "collect", "Store", "Index", "project", "Neuron", "Refused"):
        assert getattr(atlas, name).__name__ == name
    with pytest.raises(AttributeError):
        atlas.nothing  # noqa: B018


@pytest.mark.parametrize("code", ["import atlas", "import decompose", "import atlas.cli; atlas.cli.main([])"])
def test_imports_are_light(code: str) -> None:
    heavy = "torch, open_clip, umap, faiss, bokeh, sklearn, pyarrow, numpy, PIL"
    script = f"import sys; {code}; print([m for m in '{heavy}'.split(', ') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_pages_are_written_without_pytorch() -> None:
    script = "import sys, atlas.pages; print([m for m in ('torch', 'open_clip') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_atlas_never_imports_decompose() -> None:
    for path in (ROOT / "atlas").rglob("*.py"):
        assert not [name for name in imported(path) if name.split(".")[0] == "decompose"], path


def test_nothing_is_unpickled_evaluated_or_asserted() -> None:
    for path in MODULES:
        tree = ast.parse(path.read_text("utf-8"))
        assert not {"pickle", "dill", "joblib"} & imported(path), path
        for node in ast.walk(tree):
            assert not isinstance(node, ast.Assert), f"{path}:{node.lineno}"
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec"), f"{path}:{node.lineno}"
                if called == "torch.load":
                    assert "weights_only=True" in ast.unparse(node), f"{path}:{node.lineno}"


def test_every_module_says_what_it_is() -> None:
    for path in MODULES:
        assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), path


def test_the_top_level_is_as_it_should_be() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    top = {line.split("/")[0] for line in tracked.stdout.splitlines()}
    house = {"atlas", "decompose", "tests", "outputs", "pyproject.toml", "README.md", "LICENSE", ".gitignore", ".ci"}
    assert top == house


def test_readme_lists_every_module_and_command() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for path in MODULES:
        if path.parent.parent == ROOT and not path.name.startswith("__"):
            assert re.search(rf"\b{path.stem}\.py\b", readme), path
    for name, cli in (("atlas", atlas_cli), ("decompose", decompose_cli)):
        for command in cli.parser()._subparsers._group_actions[0].choices:  # pyright: ignore
            assert f"{name} {command}" in readme, command


def test_readme_pictures_and_commands_exist() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", readme):
        assert (ROOT / picture).exists(), picture
    assert 'pip install -e ".[demo]" && atlas demo' in readme
    assert 'pip install -e ".[demo,test]" && pytest' in readme
