"""Places of a layout moved to grid squares, one point per square, so that no point covers another."""

from math import ceil, sqrt

import numpy as np
from jaxtyping import Float, Float32

_SPARE = 1.06  # squares for each point: a few stay empty, so that points move less far
_ASPECT = 1.25  # width to height of the grid, as of a window beside a panel: in a square, pictures would be smaller


def snap_to_grid(places: Float[np.ndarray, "n 2"]) -> Float32[np.ndarray, "n 2"]:
    """A square (whole numbers) for each of n places, so that the squares of the distances moved are smallest in sum.

    The places are spread out first: by their rank on each axis, half the way, because a layout is dense in its middle.
    The work grows with the cube of n: some seconds for 4,000 places.

    >>> snap_to_grid(np.array([[0.0, 0.0], [0.1, 0.0], [9.0, 9.0]])).tolist()
    [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]
    """
    from scipy.optimize import linear_sum_assignment

    n = len(places)
    columns = ceil(sqrt(_SPARE * n * _ASPECT))
    rows = ceil(_SPARE * n / columns)
    ranks = np.argsort(np.argsort(places, axis=0, kind="stable"), axis=0, kind="stable") / max(n - 1, 1)
    span = np.maximum(np.ptp(places, axis=0), 1e-9)
    spread = (ranks + (places - places.min(axis=0)) / span) / 2 * (columns - 1, rows - 1)
    squares = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=2).reshape(-1, 2).astype(np.float64)
    cost = np.square(spread[:, None] - squares[None]).sum(axis=2)
    point, square = linear_sum_assignment(cost)
    found = np.empty((n, 2), np.float32)
    found[point] = squares[square]
    return found
