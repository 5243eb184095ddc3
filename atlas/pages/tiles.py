"""Tiles: a map of more points than a page can read when it opens, as an even sample, and scripts read on zooming in.

A tile is a script, data/tile-12.js, with everything about up to TILE_POINTS neighbouring points. The page numbers
points tile by tile, so that a number tells which tile to read; data/where.js has the number of each row.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int16, Int64

from atlas.pages.columns import Column
from atlas.pages.frame import Frame

UNTILED_POINTS = 500_000  # up to so many points, a page reads all of them
TILE_POINTS = 25_000  # points in a tile at most: about a megabyte
OVERVIEW_POINTS = 250_000  # points that are drawn before the reader zooms in
OVERVIEW_SEED = 0


def cut_tiles(places: Int16[np.ndarray, "n 2"], most: int) -> list[Int64[np.ndarray, " m"]]:
    """The points of each tile. Tiles are halved along the longer side until none has more than `most` points."""
    pending, done = [np.arange(len(places))], []
    while pending:
        part = pending.pop()
        if len(part) <= most:
            done.append(np.sort(part))
            continue
        at = places[part]
        side, middle = int(np.ptp(at.astype(np.int32), axis=0).argmax()), len(part) // 2
        split = part[np.argpartition(at[:, side], middle)]
        pending += [split[middle:], split[:middle]]
    return done


def write_tiles(
    frame: Frame,
    places: Int16[np.ndarray, "n 2"],
    points: dict[str, Column],
    near: dict[str, Column],
    rows: dict[str, Column],
    captions: Sequence[str],
) -> None:
    """Write the tiles, data/overview.js and data/where.js.

    `points` and `near` are columns by point, as `render_map` has them, where points["row"] is the row of each and
    near["near"] holds rows; `rows` and `captions` go by row.
    """
    tiles = cut_tiles(places, TILE_POINTS)
    order = np.concatenate(tiles)
    ends = np.cumsum([0, *map(len, tiles)])
    listed = np.asarray(points["row"])[order]
    where = np.full(len(captions), 2**32 - 1, np.uint32)  # the largest number: the row is not on the map
    where[listed] = np.arange(len(order), dtype=np.uint32)
    for number, members in enumerate(tiles):
        row = np.asarray(points["row"])[members]
        tile = _drawn(places, points, rows, members, row)
        tile["row"] = row.astype(np.uint32)
        tile |= {name: np.asarray(column)[members] for name, column in near.items() if name != "near"}
        if "near" in near:
            tile["near"] = where[np.asarray(near["near"])[members]]
        tile["caption"] = [captions[int(at)] for at in row]
        frame.write_data(f"tile-{number}", tile)
    sample = np.sort(np.random.default_rng(OVERVIEW_SEED).permutation(len(order))[:OVERVIEW_POINTS])
    drawn = _drawn(places, points, rows, order[sample], listed[sample])
    drawn |= {"point": sample.astype(np.uint32), "ends": ends.astype(np.uint32), "box": _boxes(places, tiles)}
    frame.write_data("overview", drawn | {"groups": rows["groups"]})
    frame.write_data("where", {"point": where})


def _drawn(
    places: np.ndarray, points: dict[str, Column], rows: dict[str, Column], members: np.ndarray, row: np.ndarray
) -> dict[str, Column]:
    """The columns that drawing needs: place, kind, style, thumbnail, neighbours kept."""
    found: dict[str, Column] = {"x": places[members, 0], "y": places[members, 1]}
    found |= {name: np.asarray(rows[name])[row] for name in ("kind", "group", "sheet", "cell")}
    if "kept" in points:
        found["kept"] = np.asarray(points["kept"])[members]
    return found


def _boxes(places: np.ndarray, tiles: list[np.ndarray]) -> Int16[np.ndarray, "t 4"]:
    """Left, bottom, right and top of every tile."""
    return np.array([[*places[members].min(0), *places[members].max(0)] for members in tiles], np.int16)
