"""The paper's studies, each a short recipe on the analysis: words, concepts, categories, attacks, audit, regions.

A module is imported when it is first used: `import decompose; decompose.studies.attacks.overlay(image, text)`.
"""

from importlib import import_module
from importlib.util import find_spec


def __getattr__(name: str) -> object:
    home = f"{__name__}.{name}"
    if name.startswith("_") or find_spec(home) is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(home)
