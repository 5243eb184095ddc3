"""HTML that Stores, neurons and search results show in Jupyter; it needs no other file.

Thumbnails are data: URIs and styles are inline. The functions take plain values and escape them.
"""

import math
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from markupsafe import Markup

from atlas.formatting import Record

SHOWN_IN_JUPYTER, _QUERIES = 12, 10  # entries in one line; queries shown of a search
_WIDTH, _HEIGHT, _AXIS_Y = 640, 150, 120  # size of a histogram, and the height of its axis
_MERGED_BINS = 2  # neighbouring bins drawn as one, for a smoother outline
_STYLE = Markup("""<style>
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


def notebook_html(pieces: Iterable[Markup]) -> str:
    """Join pieces of HTML into one element with its style."""
    return str(Markup('<div class="atlas-notebook">{}{}</div>').format(_STYLE, Markup("").join(pieces)))


def heading(kind: str, text: object) -> Markup:
    """A line with a bold title ("Store", "Neuron 12") and a description."""
    return Markup("<p><b>{}</b> <bdi>{}</bdi></p>").format(kind, text)


def fact_table(values: Mapping[str, object]) -> Markup:
    """A two-column table of names and values."""
    rows = (Markup("<tr><th>{}</th><td>{}</td></tr>").format(*fact) for fact in values.items())
    return Markup("<table>{}</table>").format(Markup("").join(rows))


def labelled_line(name: str, values: Sequence[str]) -> Markup:
    """A name and its values in one line; empty if there are no values."""
    if not values:
        return Markup("")
    entries = (Markup("<bdi>{}</bdi>").format(value) for value in values)
    return Markup("<p><small>{}</small> {}</p>").format(name, Markup(" · ").join(entries))


def thumbnail_strip(webps: Iterable[bytes], names: Iterable[str]) -> Markup:
    """A row of WebP thumbnails with their names as tooltips."""
    image = Markup('<img src="data:image/webp;base64,{}" title="{}" alt="{}">')
    pairs = ((b64encode(webp).decode(), name) for webp, name in zip(webps, names, strict=True))
    return Markup("<p>{}</p>").format(Markup("").join(image.format(webp, name, name) for webp, name in pairs))


def search_table(scores: np.ndarray, ids: np.ndarray) -> str:
    """A table of the nearest rows, ids (m, k) with cosines (m, k): one line for each of the first ten queries."""
    entry = Markup("<td>{} <small>{:.3f}</small></td>")
    found = zip(ids[:_QUERIES, :SHOWN_IN_JUPYTER].tolist(), scores[:_QUERIES, :SHOWN_IN_JUPYTER].tolist(), strict=True)
    lines = [
        Markup("<tr><th>{}</th>{}</tr>").format(
            query, Markup("").join(entry.format(*pair) for pair in zip(row, score, strict=True))
        )
        for query, (row, score) in enumerate(found)
    ]
    count = Markup("<p><b>{:,}</b> queries, the <b>{}</b> nearest rows of each <small>with their cosines</small></p>")
    table = Markup("<table>{}</table>").format(Markup("").join(lines))
    return notebook_html([count.format(*ids.shape), table])


# -- a histogram as inline SVG -----------------------------------------------------------------------------------------


def histogram_svg(stats: Mapping[str, Record]) -> Markup:
    """Histograms of one neuron's activations, one for each kind of rows, with means and standard deviations.

    Heights are logarithms of counts, scaled for each kind to its own maximum, so that the tails can be seen.
    """
    low = min(stat["min"] for stat in stats.values())
    high = max(stat["max"] for stat in stats.values())
    span = high - low or 1.0

    def place(value: float) -> int:
        return round((value - low) / span * _WIDTH)

    shapes = [
        Markup('<path class="k-{}" d="{}"><title>{}s</title></path>').format(kind, _outline(stat, place), kind)
        for kind, stat in stats.items()
    ]
    shapes += [_mean(kind, stat, place, 12 + 16 * i) for i, (kind, stat) in enumerate(stats.items())]
    shapes += [
        Markup('<text x="{}" y="{}"{}>{}</text>').format(place(tick), _HEIGHT - 12, _anchor(place(tick)), label)
        for tick, label in _ticks(low, high)
    ]
    shapes.append(Markup('<path class="axis" d="M0 {}h{}"/>').format(_AXIS_Y, _WIDTH))
    picture = '<svg class="histogram" viewBox="0 0 {} {}" role="img" aria-label="Histogram of activations">{}</svg>'
    return Markup(picture).format(_WIDTH, _HEIGHT, Markup("").join(shapes))


def _outline(stat: Record, place: Callable[[float], int]) -> str:
    counts = [sum(stat["counts"][i : i + _MERGED_BINS]) for i in range(0, len(stat["counts"]), _MERGED_BINS)]
    edges = [stat["min"], *stat["edges"][_MERGED_BINS::_MERGED_BINS]]
    edges += [stat["max"]] * (len(counts) + 1 - len(edges))
    scale = (_AXIS_Y - 6) / math.log1p(max([*counts, 1]))
    steps = (
        f"V{round(_AXIS_Y - math.log1p(n) * scale)}H{place(edge)}" for n, edge in zip(counts, edges[1:], strict=True)
    )
    return f"M{place(edges[0])} {_AXIS_Y}{''.join(steps)}V{_AXIS_Y}Z"


def _mean(kind: str, stat: Record, place: Callable[[float], int], y: int) -> Markup:
    at, left, right = (place(stat["mean"] + d * stat["std"]) for d in (0, -1, 1))
    bar = '<path class="m-{}" d="M{} {}H{}M{} {}v8"><title>{}s: mean {:.3g}, standard deviation {:.3g}</title></path>'
    return Markup(bar).format(kind, max(0, left), y, min(_WIDTH, right), at, y - 4, kind, stat["mean"], stat["std"])


def _anchor(x: int) -> Markup:
    return Markup(' text-anchor="end"' if x > _WIDTH - 16 else ' text-anchor="start"' if x < 16 else "")


def _ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Four to nine round values within a range, as numbers and as text."""
    if not high > low:
        return [(low, f"{low:.3g}")]
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough)
    first = math.ceil(low / step)
    values = [i * step for i in range(first, math.floor(high / step) + 1)]
    return [(value, f"{value:.6g}".replace("-", "−")) for value in values]
