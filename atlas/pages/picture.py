"""The map as a still picture, for readers without JavaScript, and below the points where not all can be drawn."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from jaxtyping import Int16, UInt8
from PIL import Image

from atlas.pages.colours import hue_channels
from atlas.pages.columns import LOW_STEP, STEP_COUNT

STILL_SIDE, MARGIN = 900, 2  # pixels
STILL_EDGE = -LOW_STEP + MARGIN * STEP_COUNT / (STILL_SIDE - 2 * MARGIN)  # where it ends, in steps from the middle
FEW_POINTS, DISC_RADIUS = 3000, 4  # fewer points than this are drawn as discs, of this radius in pixels


def still_picture(places: Int16[np.ndarray, "n 2"], codes: UInt8[np.ndarray, " n"], palette: Sequence[str]) -> bytes:
    """A WebP picture of points coloured by code: more opaque where there are many, transparent where there are none."""
    counts = point_density(places, codes, len(palette))
    hues = np.array([hue_channels(hue) for hue in palette], np.float64)
    total = counts.sum(axis=2)
    mixed = counts @ hues / np.maximum(total, 1)[:, :, None]
    high = np.percentile(total[total > 0], 98) if total.any() else 1.0
    cover = np.where(total > 0, 70 + 185 * np.minimum(total / max(high, 1.0), 1) ** 0.5, 0)
    out = BytesIO()
    Image.fromarray(np.dstack([mixed, cover]).round().astype(np.uint8), "RGBA").save(out, "WebP", quality=60, method=4)
    return out.getvalue()


def point_density(places: Int16[np.ndarray, "n 2"], codes: UInt8[np.ndarray, " n"], hues: int) -> np.ndarray:
    """Points of each colour in each pixel, y upwards: (side, side, hues). Points are crosses; few points are discs."""
    counts = np.zeros((STILL_SIDE, STILL_SIDE, hues), np.float32)
    column, up = ((places.astype(np.int64) - LOW_STEP) * (STILL_SIDE - 2 * MARGIN) // STEP_COUNT + MARGIN).T
    code = np.minimum(codes, hues - 1)
    reach = DISC_RADIUS if len(places) < FEW_POINTS else 1
    for right, above in np.argwhere(np.ones((2 * reach + 1,) * 2)) - reach:
        if right**2 + above**2 <= reach**2:
            at = (
                np.clip(STILL_SIDE - 1 - up - above, 0, STILL_SIDE - 1),
                np.clip(column + right, 0, STILL_SIDE - 1),
                code,
            )
            np.add.at(counts, at, 1)
    return counts
