"""Contracts about the code itself: what it exports, what it imports, what it never does, and that README is true."""

import ast
import inspect
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from functools import reduce
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import atlas
import decompose
from atlas.cli import ATLAS_COMMANDS
from decompose.cli import DECOMPOSE_COMMANDS

ROOT = Path(__file__).parent.parent
MODULES = sorted([*(ROOT / "atlas").rglob("*.py"), *(ROOT / "decompose").rglob("*.py")])


FIXED = (  # what other people's code calls: names, order of parameters, defaults
    "atlas.Clip(name, pretrained=None, layer=None, device=None)",
    "atlas.Clip.layers(clip)",
    "atlas.Clip.encode_images(clip, images)",
    "atlas.Clip.encode_texts(clip, texts)",
    "atlas.Clip.activations(clip, images)",
    "atlas.Clip.basis(clip)",
    "atlas.collect(source, clip, path)",
    "atlas.Store.open(path)",
    "atlas.Store.array(store, name, kind=None)",
    "atlas.Index.build(vectors)",
    "atlas.Index.search(index, queries, k)",
    "atlas.Index.save(index, path)",
    "atlas.Index.open(path)",
    "atlas.project(vectors, kinds=None)",
    "atlas.Neuron(store, neuron)",
    "atlas.visualise(clip, neurons)",
    "decompose.attribute(clip, texts, templates=None, store=None)",
    "decompose.SparseNMF(7, alpha=0.0, init='nndsvd', split=None, max_iter=200, tol=1e-4, random_state=None)",
    "decompose.equation(clip, text, k=4, store=None)",
    "decompose.search(clip, text, k=10, store=None)",
    "decompose.texts(clip, neuron, k=10)",
    "decompose.nearest(store, neuron, k=10)",
    "decompose.label_activations(A, concepts, T, E=None, captions=None, W=None)",
    "decompose.Directions.load(path)",
    "decompose.Directions.sae(path)",
    "decompose.Directions.activations(directions, A)",
    "decompose.associations(X, Y, A, B, draws=10_000, seed=0)",
    "decompose.studies.attacks.overlay(image, text)",
)


@pytest.mark.parametrize("fixed", FIXED)
def test_the_fixed_calls_are_there(fixed: str) -> None:
    call = ast.parse(fixed, mode="eval").body
    assert isinstance(call, ast.Call)
    package, _, path = ast.unparse(call.func).partition(".")
    found = reduce(getattr, path.split("."), {"atlas": atlas, "decompose": decompose}[package])
    signature = inspect.signature(found)
    given = {word.arg or "": ast.literal_eval(word.value) for word in call.keywords}
    signature.bind(*map(ast.unparse, call.args), **given)
    assert {name: signature.parameters[name].default for name in given} == given


def test_the_fixed_attributes_are_there(mini: atlas.Clip) -> None:
    for name in ("model", "dim", "neurons", "image_size"):
        assert getattr(mini, name)
    assert {each.name for each in fields(decompose.Directions)} >= {"read", "write", "bias"}
    assert {each.name for each in fields(decompose.Association)} >= {"effect", "p"}
    assert hasattr(atlas.Store, "rows")
    for package in (atlas, decompose):
        assert all(hasattr(package, name) for name in package.__all__)
    for package in (atlas, decompose, decompose.studies):
        with pytest.raises(AttributeError):
            package.nothing  # noqa: B018


@pytest.mark.slow
def test_modules_that_readme_names_need_no_import_of_their_own() -> None:
    """In a fresh process, because a module that was imported once is an attribute of its package."""
    script = "import decompose; decompose.components.factor_activations, decompose.significance.q_values"
    subprocess.run([sys.executable, "-c", script], check=True)
    for name in ("nothing", "__nothing__"):
        with pytest.raises(AttributeError, match=f"^module 'decompose' has no attribute '{name}'$"):
            getattr(decompose, name)


@pytest.mark.parametrize("code", ["import atlas", "import decompose", "import atlas.cli, decompose.cli"])
def test_imports_are_light(code: str) -> None:
    heavy = "torch, open_clip, umap, faiss, bokeh, sklearn, pyarrow, numpy, PIL"
    script = f"import sys; {code}; print([m for m in '{heavy}'.split(', ') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


@pytest.mark.slow
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
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            names |= {each.value for each in node.args if isinstance(each, ast.Constant)}
    return names


# -- the house ---------------------------------------------------------------------------------------------------------

ROOMS = (  # in the order in which data flows
    *("errors", "arrays", "vectors", "formatting", "option_types", "console", "options", "reprs"),
    *("sources", "model", "store", "analysis", "dream", "pages", "mini", "cli"),
)
FREE = {"main"}  # each command line has its own
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def arrows() -> dict[str, set[str]]:
    """The project's own modules that each module imports, anywhere in it."""
    names = {module_name(path) for path in MODULES}
    found = {}
    for path in MODULES:
        asked = imported(path)
        asked -= {name.rpartition(".")[0] for name in asked & names}  # `from atlas.pages import tiles` is of tiles
        found[module_name(path)] = (asked & names) - {module_name(path)}
    return found


def public_names(path: Path) -> list[str]:
    """Functions, classes and constants that a module defines for others."""
    names = []
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, FUNCTION | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names += [name.id for each in targets for name in ast.walk(each) if isinstance(name, ast.Name)]
    return [name for name in names if not name.startswith("_") and name not in FREE]


def test_atlas_never_imports_decompose() -> None:
    for path in (ROOT / "atlas").rglob("*.py"):
        assert not [name for name in imported(path) if name.split(".")[0] == "decompose"], path


def test_imports_run_from_a_later_room_to_an_earlier_one() -> None:
    def floor(module: str) -> int:
        package, _, rest = module.partition(".")
        return len(ROOMS) if package == "decompose" else ROOMS.index(rest.split(".")[0])

    doors = {"atlas", "atlas.__main__"}  # these import what is asked for, when it is asked for
    found = {(a, b) for a, every in arrows().items() for b in every if not {a, b} & doors and floor(a) < floor(b)}
    assert found == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = TopologicalSorter(arrows())
    graph.prepare()  # raises CycleError, which names the circle


def test_all_that_lies_in_atlas_is_a_room() -> None:
    left_out = {"__pycache__", "py.typed"}
    found = {path.name.removesuffix(".py") for path in (ROOT / "atlas").iterdir() if path.name not in left_out}
    assert found == {*ROOMS, "__init__", "__main__"}


def test_no_public_name_is_that_of_a_module() -> None:
    modules = {part for path in MODULES for part in path.relative_to(ROOT).with_suffix("").parts}
    found = [f"{module_name(path)}.{name}" for path in MODULES for name in public_names(path) if name in modules]
    assert found == []


def test_no_public_name_means_two_things() -> None:
    homes: dict[str, list[str]] = {}
    for path in MODULES:
        for name in dict.fromkeys(public_names(path)):
            homes.setdefault(name, []).append(module_name(path))
    assert {name: modules for name, modules in homes.items() if len(modules) > 1} == {}


def test_modules_and_functions_are_short() -> None:
    long = []
    for path in MODULES:
        text = path.read_text("utf-8")
        long += [module_name(path)] * (len(text.splitlines()) > 350)
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, FUNCTION):
                continue
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            if (node.end_lineno or 0) - first >= 60:
                long.append(f"{module_name(path)}.{node.name}")
    assert long == []


SHARED = {"controls", "draws", "rate", "steps", "templates", "thumb"}  # options of several functions


def literal_defaults(path: Path) -> Iterator[tuple[str, object]]:
    """Parameters and fields of a module whose default is a number or a text written there."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        pairs: list[tuple[str, ast.expr | None]] = []
        if isinstance(node, ast.arguments):
            plain, named = [*node.posonlyargs, *node.args], zip(node.kwonlyargs, node.kw_defaults, strict=True)
            pairs += [(one.arg, value) for one, value in zip(reversed(plain), reversed(node.defaults), strict=False)]
            pairs += [(one.arg, value) for one, value in named]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            pairs.append((node.target.id, node.value))
        yield from ((name, value.value) for name, value in pairs if isinstance(value, ast.Constant) and value.value)


def test_a_default_that_functions_share_stands_once() -> None:
    homes: dict[tuple[str, object], list[str]] = {}
    for path in MODULES:
        for name, value in literal_defaults(path):
            if name in SHARED:
                homes.setdefault((name, value), []).append(module_name(path))
    assert {default: modules for default, modules in homes.items() if len(modules) > 1} == {}


WINDOW = 6  # lines


def windows(path: Path) -> Iterator[tuple[str, ...]]:
    """Every six lines that follow each other in a module, without imports, docstrings, empty lines and indents."""
    text = path.read_text("utf-8")
    left_out = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for line in range(node.lineno, (node.end_lineno or 0) + 1)
    }
    numbered = enumerate(map(str.strip, text.splitlines()), 1)
    lines = [line for number, line in numbered if line and number not in left_out]
    return (tuple(lines[i : i + WINDOW]) for i in range(len(lines) - WINDOW + 1))


def test_no_six_lines_stand_in_two_places() -> None:
    homes: dict[tuple[str, ...], list[str]] = {}
    for path in MODULES:
        for window in windows(path):
            homes.setdefault(window, []).append(module_name(path))
    assert [(modules, window) for window, modules in homes.items() if len(modules) > 1] == []


def lines_of_any(code: str) -> set[int]:
    """The lines with the type Any: as a name, an attribute of typing, or inside a quoted type."""
    tree = ast.parse(code)
    types = [each for node in ast.walk(tree) for each in quoted_types(node)]
    names = {node.lineno for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "Any"}
    names |= {node.lineno for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "Any"}
    strings = [node for each in types for node in ast.walk(each) if isinstance(node, ast.Constant)]
    return names | {node.lineno for node in strings if re.search(r"\bAny\b", str(node.value))}


def quoted_types(node: ast.AST) -> list[ast.expr]:
    """The expressions below a node that are types, and so may be quoted: annotations, and what `cast` casts to."""
    found = [getattr(node, "annotation", None), getattr(node, "returns", None)]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("cast"):
        found += node.args[:1]
    return [each for each in found if each is not None]


def test_few_lines_say_that_anything_will_do() -> None:
    found = {f"{path}:{line}" for path in MODULES for line in lines_of_any(path.read_text("utf-8"))}
    assert len(found) <= 20, sorted(found)
    ways = ("x: Any", "x: typing.Any", "def f(x: 'list[Any]'): ...", "def f() -> 'Any': ...", "x = cast('Any', y)")
    assert [lines_of_any(code) for code in ways] == [{1}] * len(ways)
    assert lines_of_any('"""Any text."""') == set()


def test_no_test_module_imports_another() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        assert not [name for name in imported(path) if re.match(r"tests\.(bench\.)?test_", name)], path


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


def test_readme_shows_every_room_and_lists_every_command() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    blocks = re.findall(r"(?:^ {4}.*\n)+", readme, re.M)
    trees = [block for block in blocks if re.search(r"^ *atlas/(\s|$)", block, re.M)]
    assert len(trees) == 1
    assert len(trees[0].splitlines()) <= 25
    shown = re.findall(r"^ +(\w+)(?:\.py|/)", trees[0], re.M)
    atlas_rooms = shown[shown.index("atlas") + 1 : shown.index("decompose")]
    assert atlas_rooms == list(ROOMS), "a module imports from the rooms above it"
    for name, commands in (("atlas", ATLAS_COMMANDS), ("decompose", DECOMPOSE_COMMANDS)):
        for command in commands:
            assert f"{name} {command.__name__.removesuffix('_command')}" in readme


def test_readme_shows_the_sentences_that_are_printed() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for module, sentence in (
        ("atlas/cli.py", r"(place on the map, among the \{kind\}s: )"),
        ("decompose/store_commands.py", "(have a label; the most significant:)"),
        ("decompose/results.py", "(; R2 of the bilinear form )"),
    ):
        printed = re.search(sentence, (ROOT / module).read_text("utf-8"))
        assert printed, sentence
        assert printed[1].replace("{kind}", "image") in readme


def test_readme_pictures_and_commands_exist() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", readme):
        assert (ROOT / picture).exists(), picture
    assert 'pip install -e ".[demo]" && atlas demo' in readme
    assert 'pip install -e ".[demo,test]" && pytest' in readme


def test_nothing_public_serves_only_tests() -> None:
    """A public name is used elsewhere in the project, or README or a notebook names it."""
    told = (ROOT / "README.md").read_text("utf-8") + "".join(
        path.read_text("utf-8") for path in (ROOT / "tests/notebooks").glob("*.ipynb")
    )
    words = Counter(re.findall(r"\w+", told + "".join(path.read_text("utf-8") for path in MODULES)))
    alone = [f"{module_name(path)}.{name}" for path in MODULES for name in public_names(path) if words[name] < 2]
    assert alone == []
