"""Analysis of neurons, directions and texts of CLIP models: attribution, labels, receipts, equations, search.

Every name, and every module, is imported when it is first used, so that `import decompose` stays light. The short names
(`decompose.search`, `decompose.nearest`, ...) are aliases of functions whose names say what they return.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atlas.model.directions import Directions
    from decompose.association import Association, association_test
    from decompose.attribution import attribute, completeness, explained
    from decompose.bakeoff import compare_solvers
    from decompose.coding import solve_sparse
    from decompose.confirmation import confirm_labels
    from decompose.emotions import study_emotions
    from decompose.equations import compose, equation
    from decompose.facets import split_activations, split_neurons
    from decompose.labels import label_activations, label_neurons
    from decompose.lookup import neurons_of_text, texts_of_neuron
    from decompose.neighbours import compare_neurons, match_neurons, similar_neurons, universality
    from decompose.nmf import SparseNMF, choose_n_components, held_out, stability
    from decompose.ranking import rank_neurons
    from decompose.receipts import receipt
    from decompose.wording import text_feature

    associations = association_test
    choose = choose_n_components
    compare = compare_solvers
    nearest = similar_neurons
    search = neurons_of_text
    solve = solve_sparse
    study = study_emotions
    texts = texts_of_neuron

__version__ = "0.2.0"
__all__ = [
    "Association",
    "Directions",
    "SparseNMF",
    "association_test",
    "associations",
    "attribute",
    "choose",
    "choose_n_components",
    "compare",
    "compare_neurons",
    "compare_solvers",
    "completeness",
    "compose",
    "confirm_labels",
    "equation",
    "explained",
    "held_out",
    "label_activations",
    "label_neurons",
    "match_neurons",
    "nearest",
    "neurons_of_text",
    "rank_neurons",
    "receipt",
    "search",
    "similar_neurons",
    "solve",
    "solve_sparse",
    "split_activations",
    "split_neurons",
    "stability",
    "study",
    "study_emotions",
    "text_feature",
    "texts",
    "texts_of_neuron",
    "universality",
]
_ALIASES = {
    "associations": "association_test",
    "choose": "choose_n_components",
    "compare": "compare_solvers",
    "nearest": "similar_neurons",
    "search": "neurons_of_text",
    "solve": "solve_sparse",
    "study": "study_emotions",
    "texts": "texts_of_neuron",
}
_HOME = {
    "Association": "decompose.association",
    "Directions": "atlas.model.directions",
    "SparseNMF": "decompose.nmf",
    "association_test": "decompose.association",
    "attribute": "decompose.attribution",
    "choose_n_components": "decompose.nmf",
    "compare_neurons": "decompose.neighbours",
    "compare_solvers": "decompose.bakeoff",
    "completeness": "decompose.attribution",
    "compose": "decompose.equations",
    "confirm_labels": "decompose.confirmation",
    "equation": "decompose.equations",
    "explained": "decompose.attribution",
    "held_out": "decompose.nmf",
    "label_activations": "decompose.labels",
    "label_neurons": "decompose.labels",
    "match_neurons": "decompose.neighbours",
    "neurons_of_text": "decompose.lookup",
    "rank_neurons": "decompose.ranking",
    "receipt": "decompose.receipts",
    "similar_neurons": "decompose.neighbours",
    "solve_sparse": "decompose.coding",
    "split_activations": "decompose.facets",
    "split_neurons": "decompose.facets",
    "stability": "decompose.nmf",
    "study_emotions": "decompose.emotions",
    "text_feature": "decompose.wording",
    "texts_of_neuron": "decompose.lookup",
    "universality": "decompose.neighbours",
}


def __getattr__(name: str) -> object:
    own = _ALIASES.get(name, name)
    if own in _HOME:
        return getattr(import_module(_HOME[own]), own)
    home = f"decompose.{name}"  # a module, as in `decompose.significance`
    if name.startswith("_") or find_spec(home) is None:
        raise AttributeError(f"module 'decompose' has no attribute {name!r}")
    return import_module(home)


def __dir__() -> list[str]:
    return sorted(__all__)
