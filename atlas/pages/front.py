"""The pictures that a page shows first, in one small sheet of their own: all sheets would take seconds to arrive.

They are the pictures of the opening page and those that stand for their surroundings on the map (one sheet), and the
pictures that neurons are shown by (another).
"""

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int64

from atlas.pages.thumbnails import SHEET_COLUMNS, ThumbnailSize, pictured_shards, shard_thumbnails, thumbnail_sheet
from atlas.store.store import Store

FRONT_SHEET, COVERS_SHEET = "front.webp", "covers.webp"  # the second: the picture that each neuron is shown by
FRONT_SIZE = ThumbnailSize(56, 75)
FRONT_CELLS = SHEET_COLUMNS * SHEET_COLUMNS
STANDING = 900  # pictures that stand for their surroundings on the map, at most
_GRIDS = (16, 32, 48)  # squares along the map in which each picture stands for the others, coarse to fine


class FrontSheet:
    """Rows whose thumbnails go into one sheet, each with its cell; `write` makes the file `name`."""

    def __init__(self, store: Store, name: str = FRONT_SHEET):
        self.store, self.name = store, name
        self.cells: dict[int, int] = {}

    def add(self, row: int) -> int:
        """The cell of a row; the row is added unless it is there. Raises ValueError where the sheet is full."""
        if row not in self.cells:
            if len(self.cells) == FRONT_CELLS:
                raise ValueError("the sheet of first pictures is full")
            self.cells[row] = len(self.cells)
        return self.cells[row]

    def write(self, folder: Path) -> None:
        """Write the sheet into a folder; an empty one where no row was added, because the style names it."""
        pictures: list[bytes] = [b""] * len(self.cells)
        for shard in pictured_shards(self.store):
            here = [row for row in self.cells if shard.start <= row < shard.start + shard.rows]
            thumbs = shard_thumbnails(shard) if here else []
            for row in here:
                pictures[self.cells[row]] = thumbs[row - shard.start]
        (folder / self.name).write_bytes(thumbnail_sheet(pictures, FRONT_SIZE))


def standing_points(xy: Float[np.ndarray, "n 2"], pictured: Bool[np.ndarray, " n"]) -> Int64[np.ndarray, " m"]:
    """Pictures that stand for those around them, the ones to show first at the front: in each square of a grid, the
    one nearest to the middle of its pictures.
    """
    points = np.flatnonzero(pictured)
    if not len(points):
        return points
    low, span = xy[points].min(axis=0), np.ptp(xy[points], axis=0).max() or 1.0
    chosen: dict[int, None] = {}
    for side in _GRIDS:
        steps = np.minimum(((xy[points] - low) / span * side).astype(np.int64), side - 1)
        square = np.unique(steps @ (1, side), return_inverse=True)[1].ravel()
        count = np.bincount(square)
        middle = np.stack([np.bincount(square, xy[points][:, axis]) / count for axis in (0, 1)], 1)
        apart = np.square(xy[points] - middle[square]).sum(axis=1)
        order = np.lexsort((apart, square))
        best = order[np.searchsorted(square[order], np.arange(len(count)))]
        chosen |= dict.fromkeys(points[best[np.argsort(-count, kind="stable")]].tolist())
    return np.array(list(chosen)[:STANDING], np.int64)
