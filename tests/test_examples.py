"""Examples run: those in the docstrings of what a user meets first, and the notebooks."""

import doctest
import os
import subprocess
import sys
from pathlib import Path

import pytest

import atlas
import decompose

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "tests/notebooks").glob("*.ipynb"))
FIRST = {  # what a user meets first
    "atlas.Clip": atlas.Clip,
    "atlas.Clip.activations": atlas.Clip.activations,
    "atlas.Clip.encode_texts": atlas.Clip.encode_texts,
    "atlas.collect": atlas.collect,
    "atlas.Store": atlas.Store,
    "atlas.Store.array": atlas.Store.array,
    "atlas.Index": atlas.Index,
    "atlas.Neuron": atlas.Neuron,
    "atlas.project": atlas.project,
    "atlas.visualise": atlas.visualise,
    "decompose.search": decompose.search,
    "decompose.equation": decompose.equation,
    "decompose.SparseNMF": decompose.SparseNMF,
    "decompose.label_activations": decompose.label_activations,
}
EXAMPLES = {
    test.name: test
    for name, thing in FIRST.items()
    for test in doctest.DocTestFinder(recurse=False).find(thing, name, module=False, globs={})
    if test.examples
}


def test_what_a_user_meets_first_has_an_example() -> None:
    assert len(EXAMPLES) == len(FIRST) >= 12, FIRST.keys() - EXAMPLES.keys()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_of_a_docstring_prints_what_it_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    test = EXAMPLES[name]
    home = sys.modules[FIRST[name].__module__]
    test.globs = {**vars(home), "atlas": atlas, "decompose": decompose}
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
