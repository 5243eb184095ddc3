"""The page of the emotion atlas: words in a disc, coloured by their factors, with their equations."""

import colorsys
import textwrap

from atlas.formatting import Record
from decompose.emotions import CELL_ASPECT, Factors, Study
from decompose.families import FAINT, verdict, verdict_in_figures
from decompose.pages.fragment import Cover, no_cover, render_fragment

CELL_HEIGHT = 48  # pixels of a word's cell
CELL_WIDTH = round(CELL_ASPECT * CELL_HEIGHT)
LINE_LETTERS = 13  # of a word, in a line of its cell
FIRST_HUE = 91  # degrees; the paper's hues of factors (Goh et al. 2021, figure 13)
LIGHT, DARK = (0.24, 0.93), (0.42, 0.4)  # saturation and value of the hues below dark and below light letters


def emotions_page(found: Study, model: str, cover: Cover = no_cover) -> str:
    """The HTML of the page; empty where no word has an equation.

    `model`: the model's name. `cover`: gives each neuron's picture.
    """
    if not any(each.terms for each in found.equations):
        return ""
    k = max(found.factors)
    factors, agreements = found.factors[k], found.agreements.to_pylist()
    columns, rows = (int(most) + 1 for most in found.places.max(0))
    return render_fragment(
        "emotions.html",
        study=found,
        model=model,
        cells=_cells(found, factors),
        hues=[factor_hues(i, k) for i in range(k)],
        factors=factors.members(found.words),
        fewer=[(number, each.members(found.words)) for number, each in found.factors.items() if number != k],
        cover=cover,
        agreements=agreements,
        verdict=verdict(agreements),
        figures=verdict_in_figures(agreements),
        fewest=min(found.factors),
        affect=[] if found.affect is None else found.affect.to_pylist(),
        cell_size=(CELL_WIDTH, CELL_HEIGHT),
        disc=(columns * CELL_WIDTH, rows * CELL_HEIGHT),
    )


def factor_hues(factor: int, factors: int) -> tuple[str, str]:
    """The colour of one of so many factors on light and on dark pages, as #rrggbb; the hue is the paper's."""
    hue = (360 / factors * factor + FIRST_HUE) % 360 / 360
    light, dark = (colorsys.hsv_to_rgb(hue, *tone) for tone in (LIGHT, DARK))
    return _hex(light), _hex(dark)


def _hex(rgb: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)


def _cells(found: Study, factors: Factors) -> list[Record]:
    """Place, lines, factors with their shares, and equation of each word; a word without factors has no colour."""
    cells = []
    for word, place, weights, equation in zip(found.words, found.places, factors.words, found.equations, strict=True):
        total = max(float(weights.sum()), 1e-12)
        layers = [(i, round(float(w) / total, 3)) for i, w in enumerate(weights) if w / total > FAINT]
        x, y = (int(coordinate) * size for coordinate, size in zip(place, (CELL_WIDTH, CELL_HEIGHT), strict=True))
        lines = textwrap.wrap(word, LINE_LETTERS, max_lines=2, placeholder="…")
        coloured = layers if weights.max() > FAINT else []
        cells.append({"x": x, "y": y, "lines": lines, "layers": coloured, "said": equation})
    return cells
