"""The figure of the map and of the neuron atlas: an empty Bokeh scatter that the page's script fills."""

from bokeh.embed import json_item
from bokeh.models import ColumnDataSource, LinearColorMapper, PanTool, Range1d, WheelZoomTool
from bokeh.plotting import figure
from bokeh.transform import transform

from atlas.pages.colours import HEAT, MARK, PALETTE, RAMP
from atlas.pages.settings import Figure


def draw_scatter(name: str) -> Figure:
    """A WebGL scatter as JSON: renderers words, points, hits and marks, with columns x, y and code (of a colour).

    It has one type of marker and no selection, because mixed or changing masks are not redrawn in WebGL (bokeh issue
    15279). `name`: the text for screen readers.
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
    colour = transform("code", mapper)
    for layer, size, alpha in (("words", 4, 0.4), ("points", 5, 0.75), ("hits", 8, 1.0)):
        source = ColumnDataSource({"x": [], "y": [], "code": []}, name=layer)
        fig.scatter(
            "x", "y", source=source, size=size, fill_color=colour, fill_alpha=alpha, line_color=None, name=layer
        )
    marks = ColumnDataSource({"x": [], "y": []}, name="marks")
    fig.scatter("x", "y", source=marks, size=18, fill_color=None, line_color=MARK, line_width=2.5, name="marks")
    return dict(json_item(fig))
