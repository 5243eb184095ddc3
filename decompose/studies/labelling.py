"""A page on which a person labels a neuron's stimuli, and the answers that it exports.

The page is one file that works without a network: stimuli are shuffled, activations are not in it, a key labels and
moves on, answers stay in the browser and are exported as JSON.
"""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
from jaxtyping import Int

from atlas.errors import Refused
from atlas.formatting import Record, display_text
from atlas.pages.columns import safe_json
from atlas.sources.textfiles import read_given_json
from atlas.store.store import Store
from decompose.pages.fragment import TEMPLATES_OF_FRAGMENTS, render_fragment
from decompose.studies.conditional import Stimuli

MOST_CATEGORIES = 9  # one a digit key


class LabellingData(TypedDict):
    """What the page's script reads: each stimulus has its row and its picture. labelling.js has the same fields."""

    store: str
    neuron: int
    categories: list[str]
    stimuli: list[Record]


def labelling_page(store: Store, stimuli: Stimuli, categories: Sequence[str], seed: int = 0) -> str:
    """The HTML of the page. Raises Refused for fewer than two categories, more than nine, and repeated ones."""
    if not 2 <= len(categories) <= MOST_CATEGORIES or len(set(categories)) < len(categories):
        raise Refused(f"--labelling-page needs --categories: 2 to {MOST_CATEGORIES} different ones, a key each")
    order = np.random.default_rng(seed).permutation(len(stimuli.rows))
    shown: list[Record] = [
        {"row": int(row), "picture": f"data:image/webp;base64,{base64.b64encode(store.thumb(int(row))).decode()}"}
        for row in stimuli.rows[order]
    ]
    data = LabellingData(store=store.digest, neuron=stimuli.neuron, categories=list(categories), stimuli=shown)
    return render_fragment(
        "labelling.html",
        title=f"Neuron {stimuli.neuron}",
        categories=[display_text(name) for name in categories],
        data=safe_json(data),
        script=(TEMPLATES_OF_FRAGMENTS / "labelling.js").read_text("utf-8"),
    )


def read_answers(file: Path, store: Store, stimuli: Stimuli) -> tuple[Int[np.ndarray, " n"], list[str]]:
    """The category of each stimulus in a file that the page exported (-1: not labelled), and the categories.

    Raises Refused for a file of another form, of another Store or neuron, and for answers that are no categories.
    """
    if not file.exists():
        raise Refused(f"there is no file {file}")
    try:
        content = read_given_json(file)
        found: Record = content if isinstance(content, dict) else {}
        labelled, neuron = found["store"], found["neuron"]
        categories, answers = [str(name) for name in found["categories"]], dict(found["answers"])
        given = {int(row): int(answer) for row, answer in answers.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise Refused(f"{file} is no file that the labelling page exported") from None
    if labelled != store.digest:
        raise Refused(f"{file} was labelled with another Store")
    if neuron != stimuli.neuron:
        raise Refused(f"{file} has labels of neuron {neuron}; asked is neuron {stimuli.neuron}")
    if wrong := [answer for answer in given.values() if not 0 <= answer < len(categories)]:
        raise Refused(f"{file}: answer {wrong[0]} is none of the {len(categories)} categories")
    return np.array([given.get(int(row), -1) for row in stimuli.rows], np.int64), categories
