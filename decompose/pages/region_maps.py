"""Maps of the world as SVG: outlines once, then fills of countries and circles of cities for each map.

Colours of several neurons at once follow Goh et al. 2021, Figure 6: each neuron has a hue; a country's hue and
saturation come from the mean vector of its squared responses, and its lightness from the largest and the mean response.
"""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from jaxtyping import Float
from PIL import Image

from atlas.pages.colours import HEAT, hue_channels
from decompose.studies.gazetteer import City, Country, map_places, world_map

SVG_WIDTH = 720  # of the SVG, in its own units; twice as wide as high
SOUTH_END = 305  # of the SVG: Antarctica is cut off
_LEAST_RING = 1.5  # units: smaller islands are not drawn
_PALE = "#dddbd6"  # a country without a response
_HEAT_WIDTH = 480
_CLEAR = 0.5  # least response to a city's name that is drawn


def outline_paths(lands: Sequence[Country]) -> dict[str, str]:
    """The outline of every country with a shape, as the data of an SVG path, by the country's code."""
    found = {}
    for land in lands:
        parts = []
        for ring in land.shape:
            at = map_places(ring, SVG_WIDTH).round(1)
            at = at[np.append(True, (np.diff(at, axis=0) != 0).any(1))]
            if len(at) > 2 and np.ptp(at, axis=0).max() >= _LEAST_RING:
                parts.append("M" + "L".join(f"{x:g} {y:g}" for x, y in at.tolist()) + "Z")
        if parts and map_places(np.concatenate(land.shape), SVG_WIDTH)[:, 1].min() < SOUTH_END:
            found[land.code] = "".join(parts)
    return found


def neuron_hues(count: int) -> list[float]:
    """The hue of each of several neurons, in degrees."""
    return [360 * i / count for i in range(count)]


def mixed_colours(a: Float[np.ndarray, "n c"]) -> list[str]:
    """The CSS colour of every country from the responses of n neurons, each 0 to 1."""
    turn = np.deg2rad(neuron_hues(len(a)))
    square = a**2
    vector = (square[..., None] * np.stack([np.cos(turn), np.sin(turn)], 1)[:, None]).mean(0)
    length = np.linalg.norm(vector, axis=1)
    saturation = length / (square.mean(0) + 0.001)
    light = 1 - 0.6 * np.clip(0.4 * (2 * a.max(0) + a.mean(0)), 0.1, 1)
    hue = np.rad2deg(np.arctan2(vector[:, 1], vector[:, 0])) % 360
    return [
        f"hsl({h:.0f} {min(120 * s**3, 100):.0f}% {100 * bright:.0f}%)"
        for h, s, bright in zip(hue.tolist(), saturation.tolist(), light.tolist(), strict=True)
    ]


def single_colours(a: Float[np.ndarray, " c"]) -> list[str]:
    """The CSS colour of every country from the responses of one neuron, 0 to 1: pale to the strongest of HEAT."""
    ramp = np.array([hue_channels(each) for each in (_PALE, *HEAT)], float)
    at = np.clip(a, 0, 1) * (len(ramp) - 1)
    mixed = np.stack([np.interp(at, range(len(ramp)), channel) for channel in ramp.T], 1)
    return ["#{:02x}{:02x}{:02x}".format(*map(round, row)) for row in mixed.tolist()]


def city_circles(a: Float[np.ndarray, " t"], cities: Sequence[City]) -> list[dict[str, str]]:
    """A circle for each city whose name a neuron responds to clearly: place, radius, colour, what it is."""
    colours, found = single_colours(a), []
    for city, strength, colour in zip(cities, a.tolist(), colours, strict=True):
        if strength > _CLEAR:
            x, y = map_places(np.array([city.at]), SVG_WIDTH)[0]
            said = f"{city.name}: {strength:.2f}"
            found.append(
                {"x": f"{x:.1f}", "y": f"{y:.1f}", "r": f"{1 + 4 * strength:.1f}", "colour": colour, "said": said}
            )
    return found


def heat_map(grid: Float[np.ndarray, "h w"]) -> bytes:
    """Responses on the grid of the world, 0 to 1, over the map that was shown; as WebP."""
    base = np.asarray(world_map(_HEAT_WIDTH).convert("L"), float)[..., None]
    size = (_HEAT_WIDTH, _HEAT_WIDTH // 2)
    coarse = Image.fromarray((255 * np.clip(grid, 0, 1)).astype(np.uint8))
    wide = coarse.resize(size, Image.Resampling.BICUBIC)
    a = np.asarray(wide, float)[..., None] / 255
    ramp = np.array([hue_channels(each) for each in HEAT], float)
    at = a[..., 0] * (len(ramp) - 1)
    tint = np.stack([np.interp(at, range(len(ramp)), channel) for channel in ramp.T], -1)
    share = 0.85 * np.clip(2 * (a - 0.3), 0, 1)
    mixed = (1 - share) * (140 + base * 0.42) + share * tint
    out = BytesIO()
    Image.fromarray(mixed.clip(0, 255).astype(np.uint8)).save(out, "WebP", quality=80)
    return out.getvalue()
