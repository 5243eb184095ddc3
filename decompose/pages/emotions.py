"""The page of the emotion atlas: words in a disc, coloured by their factors, with their equations."""

import colorsys
from collections.abc import Sequence

import numpy as np

from atlas.formatting import Record
from decompose.emotions import Factors, Study
from decompose.families import FAINT, verdict
from decompose.pages.fragment import Cover, no_cover, render_fragment

WORD_CELL = 54  # pixels of a word's cell
FIRST_HUE, SATURATION = 91, 0.32  # degrees; the paper's hues of factors (Goh et al. 2021, figure 13), calmer


def emotions_page(found: Study, model: str, cover: Cover = no_cover) -> str:
    """The HTML of the page; empty where no word has an equation.

    `model`: the model's name. `cover`: gives each neuron's picture.
    """
    if not any(each.terms for each in found.equations):
        return ""
    k = max(found.factors)
    factors = found.factors[k]
    return render_fragment(
        "emotions.html",
        study=found,
        model=model,
        cells=_cells(found, factors),
        factors=[(factor_hue(i, k), words) for i, words in enumerate(factors.members(found.words))],
        fewer=[(number, each.members(found.words)) for number, each in found.factors.items() if number != k],
        cover=cover,
        agreements=found.agreements.to_pylist(),
        verdict=verdict(found.agreements.to_pylist()),
        fewest=min(found.factors),
        affect=[] if found.affect is None else found.affect.to_pylist(),
        side=(int(found.places.max()) + 1) * WORD_CELL,
        size=WORD_CELL,
    )


def factor_hue(factor: int, factors: int) -> str:
    """The colour of one of so many factors, as in the paper, as #rrggbb."""
    rgb = colorsys.hsv_to_rgb((360 / factors * factor + FIRST_HUE) % 360 / 360, SATURATION, 1)
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)


def _cells(found: Study, factors: Factors) -> list[Record]:
    """Place, colours and equation of each word; a word without factors has no colour."""
    k = factors.words.shape[1]
    cells = []
    for word, place, weights, equation in zip(found.words, found.places, factors.words, found.equations, strict=True):
        total = max(float(weights.sum()), 1e-12)
        layers = [(factor_hue(i, k), round(float(w) / total, 3)) for i, w in enumerate(weights) if w / total > FAINT]
        x, y = (int(coordinate) * WORD_CELL for coordinate in place)
        cells.append(
            {"word": word, "x": x, "y": y, "layers": layers if weights.max() > FAINT else [], "said": equation}
            | {"dark": _is_dark(layers)}
        )
    return cells


def _is_dark(layers: Sequence[tuple[str, float]]) -> bool:
    """Whether a cell of these colours over white needs white letters (WCAG's relative luminance)."""
    colour = np.ones(3)
    for name, share in layers:
        colour = (1 - share) * colour + share * np.array([int(name[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return bool(linear @ [0.2126, 0.7152, 0.0722] < 0.179)
