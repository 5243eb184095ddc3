"""One page beside the Store's other derived folders, in the site's style.

`atlas.pages.fragments` has the contract: a page stands in the navigation the next time that the site is written.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from atlas.pages.cards import address
from atlas.pages.fragments import FOLDER, PAGE
from atlas.store import Store
from atlas.terminal import chance
from decompose.equations import Term

HERE = Path(__file__).parent


def write_fragment(
    store: Store, name: str, title: str, recipe: dict[str, Any], body: str, beside: Mapping[str, bytes] | None = None
) -> Path:
    """Write a page, and files beside it, as the fragment `name` of the Store's site; returns its folder."""
    with store.deriving(f"{FOLDER}/{name}", {"title": title, **recipe}) as folder:
        (folder / PAGE).write_text(body, "utf-8")
        for file, content in (beside or {}).items():
            (folder / file).write_bytes(content)
    return store.derived(f"{FOLDER}/{name}")


def render(template: str, **names: Any) -> str:
    """What a template of this folder says with these names; numbers are written one way by what all of them share."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(
        chance=chance, card=lambda neuron: f"neurons/{address(neuron)}", signed=signed, coefficient=coefficient
    )
    return environment.get_template(template).render(**names)


def signed(value: float, digits: int) -> str:
    """A number with its sign, whichever it is; one that rounds to zero has none."""
    said = f"{value:+.{digits}f}".replace("-", "−")
    return said if float(said.replace("−", "-")) else said[1:]


def coefficient(term: Term, first: bool) -> str:
    """What stands before a term's name, not to be parted from it: its sign, and its weight unless that is 1."""
    sign = ("−" if term.weight < 0 else "") if first else (" −\xa0" if term.weight < 0 else " +\xa0")
    size = f"{abs(term.weight):.2f}".rstrip("0").rstrip(".")
    return sign if size == "1" else f"{sign}{size}\xa0"
