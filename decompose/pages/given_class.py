"""The page of a neuron's activation given a class: a bar to the median, a whisker of one standard deviation."""

import math
from collections.abc import Sequence

from atlas.formatting import Record
from decompose.pages.fragment import render_fragment

GIVEN_PAGE = "given"
_WIDTH, _ROW, _NAMES = 790, 26, 220  # of the plot in its own units; the height of a row; the width of the names
_MOST_TICKS, _STEPS = 8, [m * 10.0**e for e in range(-2, 9) for m in (1, 2, 5)]


def given_page(neuron: int, rows: Sequence[Record], model: str, images: int, chosen: bool) -> str:
    """The HTML of the page. `chosen`: whether the classes were chosen by their medians on other images."""
    ends = [value for row in rows for value in _ends(row)] + [0.0]
    low, high = min(ends), max(ends)
    scale = (_WIDTH - _NAMES) / max(high - low, 1e-9)

    def at(value: float) -> float:
        return round(_NAMES + (value - low) * scale, 1)

    bars = [
        row
        | {"y": i * _ROW, "x": at(min(row["median"], 0.0)), "width": round(abs(row["median"]) * scale, 1)}
        | {"left": at(row["median"] - row["spread"]), "right": at(row["median"] + row["spread"])}
        | {
            "chance_x": at(row["chance_low"]),
            "chance_width": round((row["chance_high"] - row["chance_low"]) * scale, 1),
        }
        for i, row in enumerate(rows)
    ]
    return render_fragment(
        "given.html", neuron=neuron, bars=bars, model=model, images=images, chosen=chosen, zero=at(0.0),
        ticks=[(at(tick), tick) for tick in axis_ticks(low, high)], width=_WIDTH, height=len(rows) * _ROW,
        row=_ROW, names=_NAMES,
    )  # fmt: skip


def axis_ticks(low: float, high: float) -> list[float]:
    """Round numbers between two ends, at most nine, zero among them if it lies between."""
    step = next(step for step in _STEPS if (high - low) / step <= _MOST_TICKS)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _ends(row: Record) -> tuple[float, float, float, float]:
    return row["median"] - row["spread"], row["median"] + row["spread"], row["chance_low"], row["chance_high"]
