"""Writes a page as a fragment of a Store's site: see `atlas.pages.fragments`.

The page appears in the navigation the next time that the site is written.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from atlas.formatting import format_p, format_signed
from atlas.pages.fragments import FRAGMENT_FILE, fragment_part, picture_tag
from atlas.pages.frame import card_file
from atlas.store.store import Store
from decompose.equations import Term
from decompose.pages.shown import shown_rows

TEMPLATES_OF_FRAGMENTS = Path(__file__).parent
Cover = Callable[[Term], tuple[Markup, str]]  # gives the picture that shows a term's neuron, and its caption


def write_fragment(
    store: Store, name: str, title: str, command: str, body: str, beside: Mapping[str, bytes] | None = None
) -> Path:
    """Write a page, and files beside it, as the fragment `name` of the Store's site; returns its folder.

    `command`: what makes the page again; {store} in it stands for the Store's path.
    """
    part = fragment_part(name, command)
    with store.deriving(part, {"title": title}) as folder:
        (folder / FRAGMENT_FILE).write_text(body, "utf-8")
        for file, content in (beside or {}).items():
            (folder / file).write_bytes(content)
    return store.derived(part)


def render_fragment(template: str, **names: object) -> str:
    """The HTML of a template of this folder with these names; all templates share the formats of numbers."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES_OF_FRAGMENTS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        chance=format_p,
        card=lambda neuron: f"neurons/{card_file(neuron)}",
        signed=format_signed,
        coefficient=term_coefficient,
    )
    return environment.get_template(template).render(**names)


def no_cover(term: Term) -> tuple[Markup, str]:
    """The number of a term's neuron as a link to its card, and the term's label, where there are no pictures."""
    return Markup('<a href="neurons/{}">{}</a>').format(card_file(term.neuron), term.neuron), term.label


def covers(store: Store) -> Cover:
    """What gives the picture that shows a term's neuron (`shown_rows`), as a link to its card, and the caption."""
    find = shown_rows(store)

    def cover(term: Term) -> tuple[Markup, str]:
        row, caption = find(term)
        if row is None:
            return no_cover(term)
        name = caption if caption == term.label else f"{caption}, named {term.label}"
        return picture_tag(store, row, name, f"neurons/{card_file(term.neuron)}"), caption

    return cover


def term_coefficient(term: Term, first: bool) -> str:
    """The sign and weight before a term's name, with spaces that do not break; a weight of 1 is left out."""
    sign = ("−" if term.weight < 0 else "") if first else (" −\xa0" if term.weight < 0 else " +\xa0")
    size = f"{abs(term.weight):.2f}".rstrip("0").rstrip(".")
    return sign if size == "1" else f"{sign}{size}\xa0"
