"""The examples in docstrings give what they say."""

import doctest
from importlib import import_module

import pytest

FIRST_MET = {
    "atlas.model.clip": ("Clip", "Clip.activations", "Clip.encode_texts"),
    "atlas.store.collection": ("collect",),
    "atlas.store.store": ("Store.open", "Store.array"),
    "atlas.store.part": ("Part",),
    "atlas.analysis.index": ("Index",),
    "atlas.analysis.neuron": ("Neuron",),
    "atlas.analysis.layout": ("project",),
    "atlas.dream.visualisation": ("visualise",),
}


@pytest.mark.parametrize("name", FIRST_MET)
def test_examples_run(name: str) -> None:
    module = import_module(name)
    found = {test.name.removeprefix(f"{name}."): test for test in doctest.DocTestFinder().find(module) if test.examples}
    assert set(found) >= set(FIRST_MET[name])
    runner = doctest.DocTestRunner()
    for test in found.values():
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0
