"""Pixels of more than 8 bits, or of any range of numbers, as 8 bits."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

_FULL = 65535.0
_FLOAT = 32  # bits of a fraction
_LITTLE = 1 / 8
_FEW = 2**15  # values below this use half of 16 bits or less: such pictures would be dark, most of them black


@dataclass(frozen=True)
class Depth:
    """The values that become black and white; `bits` of what was stretched to 8, or 0 for what means what it says."""

    low: float
    high: float
    bits: int = 0

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """The values as 8 bits."""
        finite = np.nan_to_num(values.astype(np.float64), nan=self.low, posinf=self.high, neginf=self.low)
        scale = 255 / max(self.high - self.low, 1e-300)
        return np.rint(np.clip((finite - self.low) * scale, 0, 255)).astype(np.uint8)


def depth_of(parts: Iterable[np.ndarray], whole: bool) -> Depth | None:
    """The depth of pixels: whole numbers from 0..65,535, others from 0..1 or 0..255, else by their range.

    Whole numbers of 15 bits or fewer are stretched by their range, as microscopes, X-rays and depth cameras store them
    in files of 16 bits; a full 65,535 among them marks pixels without a value. Fractions that use less than an eighth
    of 1 or 255 are stretched too (depth in metres). None: no pixel is finite.
    """
    low, high, below = np.inf, -np.inf, -np.inf
    for part in parts:
        values = part.astype(np.float64)
        finite = values[np.isfinite(values)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
            below = max(below, float(finite.max(where=finite < _FULL, initial=-np.inf)))
    if low > high:
        return None
    top = below if high == _FULL and below > 0 else high
    if whole and low >= 0 and top < _FEW:
        return Depth(low if low < top else 0.0, top, int(top).bit_length())
    if whole and low >= 0 and high <= _FULL:
        return Depth(0.0, _FULL)
    full = 255.0 if high > 1 else 1.0
    if not whole and low >= 0 and high <= 255 and (high >= full * _LITTLE or not high):
        return Depth(0.0, full)
    return Depth(low if low < high else min(low, 0.0), high, int(high - low).bit_length() if whole else _FLOAT)


def is_deep(image: Image.Image) -> bool:
    """Whether an image that is not yet loaded has colours of 16 bits, of which Pillow keeps the higher 8."""
    return image.mode in ("RGB", "RGBA", "LA") and ";16" in repr(getattr(image, "tile", ""))


def stretched_colours(image: Image.Image) -> tuple[Image.Image, int]:
    """The higher 8 of 16 bits, stretched if they are less than half used; and the bits of the file, or 0."""
    *colours, last = image.split()
    alpha = [last] if image.mode in ("RGBA", "LA") else []
    colours += [] if alpha else [last]
    high = max(int(np.asarray(band).max()) for band in colours)
    if not 0 < high < _FEW >> 8:
        return image, 0
    table = [min(255, round(value * 255 / high)) for value in range(256)]
    return Image.merge(image.mode, [*(band.point(table) for band in colours), *alpha]), high.bit_length() + 8
