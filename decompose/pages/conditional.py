"""The page of a neuron's conditional probabilities: stacked columns, counts, both tails."""

from atlas.formatting import Record
from atlas.pages.colours import PALETTE
from decompose.pages.fragment import render_fragment
from decompose.studies.conditional import OTHER_CATEGORY, Conditional

CONDITIONAL_PAGE = "conditional"
_WIDTH, _HEIGHT = 760, 300  # of the plot, in its own units


def conditional_page(found: Conditional, neuron: int, model: str, source: str, kappa: float | None = None) -> str:
    """The HTML of the page. `source`: where the categories come from, in words."""
    low, high = found.intervals
    return render_fragment(
        "conditional.html",
        found=found,
        neuron=neuron,
        model=model,
        source=source,
        kappa=kappa,
        bars=stacked_bars(found),
        colours=category_colours(found.categories),
        width=_WIDTH,
        height=_HEIGHT,
        low=low,
        high=high,
        whole=int(found.totals.sum()),
    )


def category_colours(categories: tuple[str, ...]) -> list[str]:
    """A colour for each category; "other" is grey."""
    return [
        PALETTE[-1] if name == OTHER_CATEGORY else PALETTE[i % (len(PALETTE) - 1)] for i, name in enumerate(categories)
    ]


def stacked_bars(found: Conditional) -> list[Record]:
    """Rectangles of the plot: x and width by activation, y and height by share; a bucket without stimuli has none."""
    x, colours, bars = found.x, category_colours(found.categories), []
    scale = _WIDTH / (x[-1] - x[0])
    for b, shares in enumerate(found.shares):
        top = 0.0
        for c, share in enumerate(shares):
            if share > 0:
                box = {"x": (x[b] - x[0]) * scale, "width": (x[b + 1] - x[b]) * scale - 1, "y": top * _HEIGHT}
                said = f"{found.categories[c]}: {found.counts[b, c]} of {found.totals[b]}"
                bars.append(box | {"height": share * _HEIGHT, "colour": colours[c], "said": said})
                top += share
    return bars
