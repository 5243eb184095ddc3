"""The figure of the map and of the neuron atlas: an empty Bokeh scatter that the page's script fills."""

from typing import Any

import numpy as np
from bokeh.embed import json_item
from bokeh.models import ColumnDataSource, LinearColorMapper, PanTool, Range1d, WheelZoomTool
from bokeh.plotting import figure

# Twelve hues of middle lightness: they hold on white and on near-black.
PALETTE = (
    "#2a9d8f", "#e08a2b", "#8f6ed5", "#d1495b", "#4f86c6", "#8ab17d",
    "#c77d9b", "#b08968", "#5fa8d3", "#d4b13f", "#7a8b99", "#a0a0a0",
)  # fmt: skip


def _ramp(steps: int = 9, ends: tuple[str, ...] = ("#3f5f9e", "#8c8c88", "#e3a92b")) -> tuple[str, ...]:
    """Hues between some ends, told apart by any eye and seen on white and near-black."""
    corners = np.array([[int(end[i : i + 2], 16) for i in (1, 3, 5)] for end in ends])
    at = np.linspace(0, len(ends) - 1, steps)
    mixed = np.stack([np.interp(at, range(len(ends)), corner) for corner in corners.T], 1)
    return tuple("#{:02x}{:02x}{:02x}".format(*map(round, hue)) for hue in mixed.tolist())


RAMP = _ramp()  # low to high, for what is measured; its codes follow the palette's
HEAT = _ramp(ends=("#5468b4", "#c95f86", "#efa534"))  # weak to strong, nowhere grey; its codes follow the ramp's


def draw_scatter(name: str) -> dict[str, Any]:
    """A WebGL scatter as JSON: renderers points, hits and marks, with columns x, y and code (a palette entry).

    One marker type only, and no selection: mixed or changing masks go stale in WebGL (bokeh issue 15279).
    """
    pan, zoom = PanTool(), WheelZoomTool()
    fig = figure(
        name="figure",
        sizing_mode="stretch_both",
        output_backend="webgl",
        tools=[pan, zoom],
        active_drag=pan,
        active_scroll=zoom,
        toolbar_location=None,
        x_range=Range1d(start=0, end=1),
        y_range=Range1d(start=0, end=1),
        min_border=0,
        outline_line_color=None,
        background_fill_color=None,
        border_fill_color=None,
        html_attributes={"role": "img", "aria-label": name},
    )
    fig.axis.visible = fig.grid.visible = False
    hues = [*PALETTE, *RAMP, *HEAT]
    mapper = LinearColorMapper(palette=hues, low=-0.5, high=len(hues) - 0.5, name="mapper")
    colour: Any = {"field": "code", "transform": mapper}
    for layer, size, alpha in (("points", 5, 0.75), ("hits", 8, 1.0)):
        source = ColumnDataSource({"x": [], "y": [], "code": []}, name=layer)
        fig.scatter(
            "x", "y", source=source, size=size, fill_color=colour, fill_alpha=alpha, line_color=None, name=layer
        )
    marks = ColumnDataSource({"x": [], "y": []}, name="marks")
    fig.scatter("x", "y", source=marks, size=18, fill_color=None, line_color="#d1495b", line_width=2.5, name="marks")
    return dict(json_item(fig))
