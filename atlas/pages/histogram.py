"""A histogram as inline SVG: no script, a kilobyte."""

import math
from typing import Any

from markupsafe import Markup

WIDTH, HEIGHT, BASE = 640, 150, 120
MERGED = 2  # bins drawn as one: finer than this only looks ragged


def draw_histogram(stats: dict[str, dict[str, Any]]) -> Markup:
    """Histograms of one neuron over each kind on one axis, in units of activation, with mean and deviation.

    Heights are the logarithm of the count, each kind to its own largest: tails are what one looks for here.
    """
    low = min(stat["min"] for stat in stats.values())
    high = max(stat["max"] for stat in stats.values())
    span = high - low or 1.0

    def place(value: float) -> int:
        return round((value - low) / span * WIDTH)

    parts = [
        Markup('<path class="k-{}" d="{}"><title>{}s</title></path>').format(kind, _outline(stat, place), kind)
        for kind, stat in stats.items()
    ]
    parts += [_mean(kind, stat, place, 12 + 16 * i) for i, (kind, stat) in enumerate(stats.items())]
    parts += [
        Markup('<text x="{}" y="{}"{}>{}</text>').format(place(tick), HEIGHT - 12, _anchor(place(tick)), label)
        for tick, label in ticks(low, high)
    ]
    parts.append(Markup('<path class="axis" d="M0 {}h{}"/>').format(BASE, WIDTH))
    picture = '<svg class="histogram" viewBox="0 0 {} {}" role="img" aria-label="Histogram of activations">{}</svg>'
    return Markup(picture).format(WIDTH, HEIGHT, Markup("").join(parts))


def _outline(stat: dict[str, Any], place: Any) -> str:
    counts = [sum(stat["counts"][i : i + MERGED]) for i in range(0, len(stat["counts"]), MERGED)]
    edges = [stat["min"], *stat["edges"][MERGED::MERGED]]
    edges += [stat["max"]] * (len(counts) + 1 - len(edges))
    scale = (BASE - 6) / math.log1p(max([*counts, 1]))
    steps = (f"V{round(BASE - math.log1p(n) * scale)}H{place(edge)}" for n, edge in zip(counts, edges[1:], strict=True))
    return f"M{place(edges[0])} {BASE}{''.join(steps)}V{BASE}Z"


def _mean(kind: str, stat: dict[str, Any], place: Any, y: int) -> Markup:
    at, left, right = (place(stat["mean"] + d * stat["std"]) for d in (0, -1, 1))
    bar = '<path class="m-{}" d="M{} {}H{}M{} {}v8"><title>{}s: mean {:.3g}, standard deviation {:.3g}</title></path>'
    return Markup(bar).format(kind, max(0, left), y, min(WIDTH, right), at, y - 4, kind, stat["mean"], stat["std"])


def _anchor(x: int) -> Markup:
    return Markup(' text-anchor="end"' if x > WIDTH - 16 else ' text-anchor="start"' if x < 16 else "")


def ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Round values within a range, four to nine of them, as figures and text."""
    if not high > low:
        return [(low, f"{low:.3g}")]
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough)
    first = math.ceil(low / step)
    values = [i * step for i in range(first, math.floor(high / step) + 1)]
    return [(value, f"{value:.6g}".replace("-", "−")) for value in values]
