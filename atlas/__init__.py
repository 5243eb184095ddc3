"""See what the neurons of a CLIP model respond to.

Each public name is imported when it is first used: `import atlas` is fast, and PyTorch loads with the first `Clip`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atlas.analysis.index import Index
    from atlas.analysis.layout import project
    from atlas.analysis.neuron import Neuron
    from atlas.dream.visualisation import visualise
    from atlas.errors import Refused
    from atlas.model.clip import Clip
    from atlas.store.collection import collect
    from atlas.store.store import Store

__version__ = "0.2.0"
__all__ = ["Clip", "Index", "Neuron", "Refused", "Store", "collect", "project", "visualise"]
_HOME = {
    "Clip": "atlas.model.clip",
    "Index": "atlas.analysis.index",
    "Neuron": "atlas.analysis.neuron",
    "Refused": "atlas.errors",
    "Store": "atlas.store.store",
    "collect": "atlas.store.collection",
    "project": "atlas.analysis.layout",
    "visualise": "atlas.dream.visualisation",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'atlas' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
