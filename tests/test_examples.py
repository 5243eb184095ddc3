"""Examples run: those in docstrings, and the notebooks."""

import ast
import doctest
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import atlas
import decompose

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "tests/notebooks").glob("*.ipynb"))
MODULES = [path for room in ("atlas", "decompose") for path in sorted((ROOT / room).rglob("*.py"))]
EXAMPLES = {  # by module and name
    (".".join(path.relative_to(ROOT).with_suffix("").parts), node.name): told
    for path in MODULES
    for node in ast.walk(ast.parse(path.read_text("utf-8")))
    if isinstance(node, ast.FunctionDef | ast.ClassDef) and ">>>" in (told := ast.get_docstring(node) or "")
}
FIRST = (  # what a user meets first
    *(atlas.Clip, atlas.Clip.activations, atlas.Clip.encode_texts, atlas.collect, atlas.Store, atlas.Store.array),
    *(atlas.Index, atlas.Neuron, atlas.project, atlas.visualise, decompose.search, decompose.equation),
    *(decompose.SparseNMF, decompose.label_activations),
)
LONG = {  # they compile UMAP, or encode the whole vocabulary
    ("atlas.analysis.layout", "project"),
    ("decompose.lookup", "neurons_of_text"),
    ("decompose.equations", "equation"),
}


def test_what_a_user_meets_first_has_an_example() -> None:
    assert len(FIRST) >= 12
    assert EXAMPLES.keys() >= LONG
    assert {(thing.__module__, thing.__name__) for thing in FIRST} <= EXAMPLES.keys()


def test_every_example_stands_in_a_docstring_that_is_run() -> None:
    written = sum(path.read_text("utf-8").count(">>> ") for path in MODULES)
    assert written == sum(told.count(">>> ") for told in EXAMPLES.values())


@pytest.mark.parametrize(
    ("module", "name"), [pytest.param(*each, marks=pytest.mark.slow if each in LONG else ()) for each in EXAMPLES]
)
def test_the_example_of_a_docstring_prints_what_it_says(
    module: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    known = {**vars(import_module(module)), "atlas": atlas, "decompose": decompose}
    test = doctest.DocTestParser().get_doctest(EXAMPLES[module, name], known, name, module, 0)
    said: list[str] = []
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.DocTestRunner(optionflags=flags).run(test, out=said.append).failed == 0, "".join(said)


RUN = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": sys.argv[2]}}).execute()
nbformat.write(notebook, sys.argv[3])
"""


def test_there_are_two_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["a_first_look_at_a_clip", "what_a_concept_is_made_of"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    (tmp_path / "run").mkdir()
    command = [sys.executable, "-c", RUN, str(path), str(tmp_path / "run"), str(tmp_path / "done.ipynb")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    done = nbformat.read(tmp_path / "done.ipynb", as_version=4)
    outputs = [each for cell in done.cells if cell.cell_type == "code" for each in cell.outputs]
    assert not [each for each in outputs if each.output_type == "error"]
    assert sum(each.output_type in ("execute_result", "display_data") for each in outputs) >= 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_its_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert notebook.cells[0].cell_type == "markdown"
