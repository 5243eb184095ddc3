"""The colours of points: a palette of classes, a ramp of measures, and a ramp of activations (heat).

One numbering of colour codes runs through palette, ramp and heat.
"""

import numpy as np

# Twelve hues of middle lightness, which are visible on white and on near-black.
PALETTE = (
    "#2a9d8f", "#e08a2b", "#8f6ed5", "#d1495b", "#4f86c6", "#8ab17d",
    "#c77d9b", "#b08968", "#5fa8d3", "#d4b13f", "#7a8b99", "#a0a0a0",
)  # fmt: skip
MARK = PALETTE[3]  # the ring around what is chosen


def _mixed_ramp(steps: int = 9, ends: tuple[str, ...] = ("#3f5f9e", "#8c8c88", "#e3a92b")) -> tuple[str, ...]:
    """Hues between some ends, told apart by any eye and visible on white and near-black."""
    corners = np.array([hue_channels(end) for end in ends])
    at = np.linspace(0, len(ends) - 1, steps)
    mixed = np.stack([np.interp(at, range(len(ends)), corner) for corner in corners.T], 1)
    return tuple("#{:02x}{:02x}{:02x}".format(*map(round, hue)) for hue in mixed.tolist())


def hue_channels(hue: str) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255, of #rrggbb."""
    red, green, blue = (int(hue[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue


RAMP = _mixed_ramp()  # low to high, for measures; its codes follow those of PALETTE
HEAT = _mixed_ramp(ends=("#5468b4", "#c95f86", "#efa534"))  # weak to strong, nowhere grey; its codes follow RAMP's
