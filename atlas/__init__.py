"""See what the neurons of a CLIP model respond to.

Every name is imported when it is first used, so that `import atlas` stays light (no torch until a model is wanted).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atlas.clip import Clip
    from atlas.collection import collect
    from atlas.dream import visualise
    from atlas.errors import Refused
    from atlas.index import Index
    from atlas.neuron import Neuron
    from atlas.projection import project
    from atlas.store import Store

__version__ = "0.1.0"
__all__ = ["Clip", "Index", "Neuron", "Refused", "Store", "collect", "project", "visualise"]
_HOME = {
    "Clip": "atlas.clip",
    "Index": "atlas.index",
    "Neuron": "atlas.neuron",
    "Refused": "atlas.errors",
    "Store": "atlas.store",
    "collect": "atlas.collection",
    "project": "atlas.projection",
    "visualise": "atlas.dream",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'atlas' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
