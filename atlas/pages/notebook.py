"""What a Store, a search and a neuron show of themselves in Jupyter, and the map as a Bokeh figure.

Each is HTML that needs nothing beside it: thumbnails are data: URIs, styles are in place, colours are the notebook's.
"""

from base64 import b64encode
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from bokeh.models import ColumnDataSource, GlobalInlineStyleSheet, HoverTool
from bokeh.plotting import figure as bokeh_figure
from markupsafe import Markup

from atlas.analysis import parts
from atlas.analysis.neuron import Neuron
from atlas.errors import Refused
from atlas.formatting import display_text, format_p
from atlas.pages.histogram import draw_histogram
from atlas.pages.scatter import PALETTE
from atlas.pages.thumbnails import COLUMNS, Size, sheet
from atlas.store.store import Store

SHOWN, QUERIES = 12, 10  # pictures of a neuron or a Store; queries of a search
HOVER = Size(48, 60)  # thumbnails of the figure
STYLE = Markup("""<style>
.atlas-notebook { font: 14px/1.5 system-ui, sans-serif; max-width: 760px; }
.atlas-notebook img { width: 52px; height: 52px; object-fit: contain; vertical-align: top; }
.atlas-notebook img { border-radius: 5px; background: #fff; margin: 0 6px 4px 0; }
.atlas-notebook p { margin: 0.4em 0; }
.atlas-notebook small { opacity: 0.7; }
.atlas-notebook td, .atlas-notebook th { text-align: left; padding: 1px 14px 1px 0; }
.atlas-notebook svg { width: 100%; max-width: 560px; height: auto; overflow: visible; }
.atlas-notebook svg text { font-size: 11px; fill: currentColor; text-anchor: middle; }
.atlas-notebook .axis { stroke: currentColor; opacity: 0.3; }
.atlas-notebook .k-image { fill: #2a9d8f66; stroke: #2a9d8f; }
.atlas-notebook .k-word { fill: #e08a2b55; stroke: #e08a2b; }
.atlas-notebook .m-image { fill: none; stroke: #2a9d8f; stroke-width: 2; }
.atlas-notebook .m-word { fill: none; stroke: #e08a2b; stroke-width: 2; }
</style>""")


def neuron_html(neuron: Neuron) -> str:
    """Number, label with its p, strongest images, words, histogram, and neurons near it."""
    head = Markup("<p><b>Neuron {}</b> of {} · <bdi>{}</bdi></p>")
    parts = [head.format(neuron.number, neuron.store.layer, display_text(neuron.label))]
    parts += [_line("Labels", [f"{display_text(row['label'])} (p {format_p(row['p'])})" for row in neuron.labels])]
    if "image" in neuron.stats:
        rows = neuron.images(SHOWN)
        names = [f"{display_text(row['caption'] or row['label'])}: {row['value']:.3g}" for row in rows]
        parts += [_pictures(neuron.store, [row["row"] for row in rows], names)]
    if "word" in neuron.stats:
        parts += [_line("Words", [display_text(word) for word in neuron.words(SHOWN)])]
    parts += [draw_histogram(neuron.stats)]
    if neuron.store.has(parts.NEIGHBOURS):
        parts += [_line("Answer alike", [str(n) for n in neuron.neighbours["by_response"][:SHOWN]])]
    return _whole(parts)


def store_html(store: Store) -> str:
    """What it holds, of which model and layer, what was derived, and some of its pictures."""
    facts = {
        "Rows": ", ".join(f"{n:,} {kind}s" for kind, n in store.counts.items()) or "none",
        "Model": " ".join(filter(None, [store.request["model"]["name"], store.request["model"].get("pretrained")])),
        "Layer": ", ".join(store.layers),
        "Derived": ", ".join(store.everything_derived()) or f"nothing yet: atlas build, or atlas stats {store.path}",
    }
    table = Markup("").join(Markup("<tr><th>{}</th><td>{}</td></tr>").format(*fact) for fact in facts.items())
    parts = [Markup("<p><b>Store</b> {}</p><table>{}</table>").format(store.path, table)]
    kind = next((kind for kind in ("image", "word") if kind in store.counts), None)
    if kind:
        positions = store.positions(kind)
        rows = positions[np.linspace(0, len(positions) - 1, min(SHOWN, len(positions))).astype(int)].tolist()
        captions = store.rows["caption"].take(rows).to_pylist()
        parts += [_pictures(store, rows, [display_text(caption) for caption in captions])]
    return _whole(parts)


def nearest_html(scores: np.ndarray, ids: np.ndarray) -> str:
    """Ids with their cosines, a line a query; of many queries the first."""
    entry = Markup("<td>{} <small>{:.3f}</small></td>")
    lines = [
        Markup("<tr><th>{}</th>{}</tr>").format(
            i, Markup("").join(entry.format(*pair) for pair in zip(row, score, strict=True))
        )
        for i, (row, score) in enumerate(
            zip(ids[:QUERIES, :SHOWN].tolist(), scores[:QUERIES, :SHOWN].tolist(), strict=True)
        )
    ]
    count = Markup("<p><b>{:,}</b> queries, the <b>{}</b> nearest rows of each <small>with their cosines</small></p>")
    return _whole([count.format(*ids.shape), Markup("<table>{}</table>").format(Markup("").join(lines))])


def figure(store: Store, rows: int = 5000, size: int = 640, seed: int = 0) -> Any:
    """The map as a Bokeh figure, with picture and caption where one points: `bokeh.io.show(figure(store))`.

    Shows at most `rows` rows, a seeded sample of them, since a notebook keeps every thumbnail that it shows (about
    0.5 kB each); `size` is the figure's side in pixels. `Refused` where no map was drawn.
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
    data |= {"sheet": at // COLUMNS**2}
    data |= {"left": -HOVER.side * (at % COLUMNS), "top": -HOVER.side * (at // COLUMNS % COLUMNS)}
    fig = bokeh_figure(
        width=size,
        height=size,
        tools="pan,wheel_zoom,box_zoom,reset",
        active_scroll="wheel_zoom",
        output_backend="webgl",
    )
    fig.axis.visible = fig.grid.visible = False
    fig.add_tools(HoverTool(tooltips=TOOLTIP.replace("SIDE", str(HOVER.side)), limit=1))
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


# Bokeh escapes what stands for @caption; the sheets are properties of the root, which shadow trees see.
TOOLTIP = (
    '<div style="display:flex;gap:10px;align-items:center;max-width:280px">'
    '<div style="flex:none;width:SIDEpx;height:SIDEpx;background:var(--atlas-@{sheet}) @{left}px @{top}px"></div>'
    "<div>@{caption}<br><small>@{kind} · @{group}</small></div></div>"
)


def _sheets(thumbs: list[bytes]) -> str:
    step = COLUMNS**2
    parts = [sheet(thumbs[start : start + step], HOVER) for start in range(0, len(thumbs), step)]
    return "".join(
        f"--atlas-{i}:url(data:image/webp;base64,{b64encode(part).decode()});" for i, part in enumerate(parts)
    )


def _pictures(store: Store, rows: list[int], names: list[str]) -> Markup:
    image = Markup('<img src="data:image/webp;base64,{}" title="{}" alt="{}">')
    thumbs = ((b64encode(store.thumb(row)).decode(), name) for row, name in zip(rows, names, strict=True))
    return Markup("<p>{}</p>").format(Markup("").join(image.format(thumb, name, name) for thumb, name in thumbs))


def _line(name: str, values: list[str]) -> Markup:
    if not values:
        return Markup("")
    return Markup("<p><small>{}</small> {}</p>").format(
        name, Markup(" · ").join(Markup("<bdi>{}</bdi>").format(v) for v in values)
    )


def _whole(parts: list[Markup]) -> str:
    return str(Markup('<div class="atlas-notebook">{}{}</div>').format(STYLE, Markup("").join(parts)))
