"""What a direction, a word or a neuron of a CLIP model is made of.

Every name is imported when it is first used, so that `import decompose` stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from decompose.attribution import attribute, completeness, explained
    from decompose.bakeoff import compare
    from decompose.coding import solve
    from decompose.confirmation import confirm_labels
    from decompose.directions import Directions
    from decompose.emotions import study
    from decompose.equations import compose, equation
    from decompose.facets import split_activations, split_neurons
    from decompose.labels import label_activations, label_neurons
    from decompose.lookup import rank_neurons, search, texts
    from decompose.neighbours import compare_neurons, match_neurons, nearest, universality
    from decompose.nmf import SparseNMF, choose, held_out, stability
    from decompose.receipts import receipt
    from decompose.wording import text_feature

__version__ = "0.1.0"
__all__ = [
    "Directions",
    "SparseNMF",
    "attribute",
    "choose",
    "compare",
    "compare_neurons",
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
    "rank_neurons",
    "receipt",
    "search",
    "solve",
    "split_activations",
    "split_neurons",
    "stability",
    "study",
    "text_feature",
    "texts",
    "universality",
]
_HOME = {
    "Directions": "decompose.directions",
    "SparseNMF": "decompose.nmf",
    "attribute": "decompose.attribution",
    "choose": "decompose.nmf",
    "compare": "decompose.bakeoff",
    "compare_neurons": "decompose.neighbours",
    "completeness": "decompose.attribution",
    "compose": "decompose.equations",
    "confirm_labels": "decompose.confirmation",
    "equation": "decompose.equations",
    "explained": "decompose.attribution",
    "held_out": "decompose.nmf",
    "label_activations": "decompose.labels",
    "label_neurons": "decompose.labels",
    "match_neurons": "decompose.neighbours",
    "nearest": "decompose.neighbours",
    "rank_neurons": "decompose.lookup",
    "receipt": "decompose.receipts",
    "search": "decompose.lookup",
    "solve": "decompose.coding",
    "split_activations": "decompose.facets",
    "split_neurons": "decompose.facets",
    "stability": "decompose.nmf",
    "study": "decompose.emotions",
    "text_feature": "decompose.wording",
    "texts": "decompose.lookup",
    "universality": "decompose.neighbours",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'decompose' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
