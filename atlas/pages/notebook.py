"""The map of a Store as a Bokeh figure, for notebooks."""

from base64 import b64encode

import numpy as np
import pyarrow.parquet as pq
from bokeh.models import ColumnDataSource, GlobalInlineStyleSheet, HoverTool
from bokeh.plotting import figure as bokeh_figure

from atlas.analysis import parts
from atlas.errors import Refused
from atlas.formatting import display_text
from atlas.pages.colours import PALETTE
from atlas.pages.thumbnails import SHEET_COLUMNS, ThumbnailSize, thumbnail_sheet
from atlas.store.store import Store

HOVER_SIZE = ThumbnailSize(48, 60)  # thumbnails of the figure


def map_figure(store: Store, rows: int = 5000, size: int = 640, seed: int = 0) -> bokeh_figure:
    """The map as a Bokeh figure, with thumbnail and caption on hover: `bokeh.io.show(map_figure(store))`.

    `rows`: how many rows are shown at most, a sample by `seed`, because a notebook stores every thumbnail (about 0.5 kB
    each). `size`: the side of the figure in pixels. Raises `Refused` where there is no map.
    """
    points = pq.read_table(store.derived(parts.MAP) / "points.parquet", columns=["row", "x", "y"])
    if rows < 1:
        raise Refused(f"rows={rows}: show at least one")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(points))[:rows])
    points = points.take(chosen)
    shown = store.rows.select(["kind", "caption", "group"]).take(points["row"])
    kinds = list(store.counts)
    codes = [kinds.index(kind) for kind in shown["kind"].to_pylist()]
    data = {name: points[name].to_numpy() for name in ("x", "y")}
    data |= {"colour": [PALETTE[code] for code in codes], "kind": shown["kind"].to_pylist()}
    data |= {name: [display_text(text) for text in shown[name].to_pylist()] for name in ("caption", "group")}
    sheets = _sheets([store.thumb(row) for row in points["row"].to_pylist()])
    at = np.arange(len(chosen))
    data |= {"sheet": at // SHEET_COLUMNS**2}
    data |= {
        "left": -HOVER_SIZE.side * (at % SHEET_COLUMNS),
        "top": -HOVER_SIZE.side * (at // SHEET_COLUMNS % SHEET_COLUMNS),
    }
    fig = bokeh_figure(
        width=size,
        height=size,
        tools="pan,wheel_zoom,box_zoom,reset",
        active_scroll="wheel_zoom",
        output_backend="webgl",
    )
    fig.axis.visible = fig.grid.visible = False
    fig.add_tools(HoverTool(tooltips=HOVER_TEMPLATE.replace("SIDE", str(HOVER_SIZE.side)), limit=1))
    fig.stylesheets = [GlobalInlineStyleSheet(css=f":root{{{sheets}}}")]
    fig.scatter(
        "x",
        "y",
        source=ColumnDataSource(data),
        color="colour",
        legend_group="kind",
        size=5,
        alpha=0.75,
        line_color=None,
    )
    return fig


# Bokeh escapes the value of @caption. Sheets are custom properties of the root, which shadow trees inherit.
HOVER_TEMPLATE = (
    '<div style="display:flex;gap:10px;align-items:center;max-width:280px">'
    '<div style="flex:none;width:SIDEpx;height:SIDEpx;background:var(--atlas-@{sheet}) @{left}px @{top}px"></div>'
    "<div>@{caption}<br><small>@{kind} · @{group}</small></div></div>"
)


def _sheets(thumbs: list[bytes]) -> str:
    step = SHEET_COLUMNS**2
    parts = [thumbnail_sheet(thumbs[start : start + step], HOVER_SIZE) for start in range(0, len(thumbs), step)]
    return "".join(
        f"--atlas-{i}:url(data:image/webp;base64,{b64encode(part).decode()});" for i, part in enumerate(parts)
    )
