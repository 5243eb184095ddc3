"""Equations as a figure: each concept as a sum of pictures with weights and captions, in PDF, SVG or PNG."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from atlas.errors import Misuse
from atlas.pages.figure import check_target, new_figure, save_figure, text_lines, write_source
from atlas.pages.frame import StoreFrame
from atlas.store.store import Store
from decompose.equations import Equation, Term
from decompose.pages.fragment import term_coefficient
from decompose.pages.shown import Shown, shown_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_EQUATIONS, _TERMS = 40, 6  # in a figure; terms in a row, of which the largest are shown
_WIDTH, _BAND, _FOOT = 10.0, 1.2, 0.45  # inches: the figure, each equation, and the line of sources
_LEFT, _STEP, _SIDE = 2.4, 1.22, 0.66  # inches: where terms begin, from term to term, and the side of a picture


def write_sum_figure(store: Store, found: Sequence[Equation], file: str | Path, dpi: int = 200) -> Path:
    """Draw equations into a PDF, SVG or PNG file; the foot names model, layer, data and their hashes.

    Raises `Misuse` for another kind of file, a file that is no figure of a Store, and more than 40 equations; `Refused`
    without Matplotlib.
    """
    path = Path(file)
    check_target(store, path)
    if not 0 < len(found) <= MOST_EQUATIONS:
        raise Misuse(f"{len(found)} equations; a figure shows 1 to {MOST_EQUATIONS}")
    height = _BAND * len(found) + _FOOT
    figure = new_figure(_WIDTH, height)
    shown = shown_rows(store)
    for place, equation in enumerate(found):
        _draw(figure, store, equation, shown, height - _BAND * place - 0.25)
    write_source(figure, StoreFrame(store, path.parent, [], {}).facts.cite)
    return save_figure(figure, path, dpi)


def _draw(figure: "Figure", store: Store, equation: Equation, shown: Callable[[Term], Shown], top: float) -> None:
    """An equation's band, whose upper edge lies `top` inches above the figure's lower edge."""
    _, height = figure.get_size_inches()

    def say(text: str, x: float, below: float, size: float, align: str = "left", color: str = "black") -> None:
        style = {"size": size, "color": color, "ha": align, "va": "top", "linespacing": 1.2}
        figure.text(x / _WIDTH, (top - below) / height, text, style, parse_math=False)

    say(text_lines(equation.concept, 20, 2), 0.3, 0.24, size=11.0)
    say(f"{equation.kept:.0%} of the logit kept", 0.3, 0.66, size=6.5, color="#666")
    say("=", _LEFT - 0.5, 0.26, size=12.0, align="center")
    terms = sorted(sorted(equation.terms, key=lambda term: -abs(term.weight))[:_TERMS], key=equation.terms.index)
    for k, term in enumerate(terms):
        x = _LEFT + k * _STEP
        say(term_coefficient(term, k == 0).strip(), x - 0.28, 0.31, size=8.0, align="center")
        middle = x + _SIDE / 2
        row, caption = shown(term)
        say(text_lines(caption, 15, 2), middle, 0.14 + _SIDE, size=6.5, align="center", color="#333")
        _picture(figure, None if row is None else store.thumb(row), (middle - _SIDE / 2, top - 0.06 - _SIDE))
    if not terms:
        say("nothing", _LEFT - 0.2, 0.29, size=9.0, color="#666")


def _picture(figure: "Figure", content: bytes | None, corner: tuple[float, float]) -> None:
    """A thumbnail in a square of which the lower left corner is given in inches; nothing without content."""
    _, height = figure.get_size_inches()
    if content:
        axes = figure.add_axes((corner[0] / _WIDTH, corner[1] / height, _SIDE / _WIDTH, _SIDE / height))
        axes.imshow(Image.open(io.BytesIO(content)).convert("RGB"), interpolation="lanczos")
        axes.set_axis_off()
