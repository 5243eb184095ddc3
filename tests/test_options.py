"""The help of a command names the default of the function it calls."""

import inspect
import re
from collections.abc import Callable

import pytest

import atlas
from atlas.analysis import derivation, queries
from atlas.cli import ATLAS_COMMANDS
from atlas.dream.gallery import write_drawings
from atlas.pages.figure import write_figure
from atlas.pages.mapfigure import write_map_figure
from atlas.pages.site import write_site
from atlas.sources.look import look_at

CALLED: dict[str, tuple[Callable, ...]] = {
    "demo": (atlas.collect, write_site),
    "build": (atlas.collect, atlas.Clip, write_site),
    "look": (look_at,),
    "collect": (atlas.collect, atlas.Clip),
    "index": (derivation.index_embeddings,),
    "map": (derivation.MapOptions,),
    "dream": (write_drawings,),
    "page": (write_site,),
    "figure": (write_figure, write_map_figure),
    "near": (queries.neurons_near, queries.rows_near),
    "layers": (atlas.Clip,),
}
OTHER_NAMES = {"n": "shown", "to": "file", "model": "name", "neighbors": "n_neighbors"}


def options() -> list[tuple[str, str, object, str]]:
    """Command, option, the parser's default and the default that the help text ends with."""
    found = []
    for command in ATLAS_COMMANDS:
        flat = [one for each in command.__dict__["options"] for one in each.settings.get("options", (each,))]
        for each in flat:
            if named := re.search(r"\(([^()]+)\)$", each.settings.get("help", "")):
                option = each.names[-1].lstrip("-").replace("-", "_")
                found.append((command.__name__.removesuffix("_command"), option, each.settings, named[1]))
    return found


@pytest.mark.parametrize(("command", "option", "settings", "named"), options())
def test_help_names_the_default_of_the_function(command: str, option: str, settings: dict, named: str) -> None:
    name = OTHER_NAMES.get(option, option)
    defaults = [
        parameter.default
        for function in CALLED[command]
        for parameter in [inspect.signature(function).parameters.get(name)]
        if parameter is not None
    ]
    if option == "out":
        assert str(settings["default"]) == named
        return
    assert defaults
    assert {str(default) for default in defaults} == set(named.split(", "))
    assert settings.get("default") in (None, *defaults), "a default that is repeated must be the same"


def test_the_options_are_found() -> None:
    assert {"batch", "thumb", "steps", "neighbors", "max_mb", "seed", "k"} <= {option for _, option, *_ in options()}
