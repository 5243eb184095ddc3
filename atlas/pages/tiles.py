"""More points than a page can read when it opens: an even sample of all, and tiles that it reads as one looks closer.

A tile is a script, data/tile-12.js, with all that is known of up to TILE points that lie together. The page numbers
points tile by tile, so that a number tells which tile to read; data/where.js leads from a row to its number.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int16, Int64, UInt32

from atlas.pages.columns import Column
from atlas.pages.frame import Frame

WHOLE = 500_000  # points up to which a page reads all of them
TILE = 25_000  # points in a tile at most: about a megabyte
SAMPLE = 250_000  # points drawn before one looks closer
SEED = 0
FIFTHS = (20, 40, 60, 80, 101, 256)  # where the legend's steps of neighbours kept end, in percent; the last: not known


def cut(places: Int16[np.ndarray, "n 2"], most: int) -> list[Int64[np.ndarray, " m"]]:
    """Positions of the points of each tile, all of one size: halved along the longer side until none is too large."""
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

    `points` and `near` are columns by point, as `draw_map` has them, where points["row"] is the row of each and
    near["near"] holds rows; `rows` and `captions` go by row.
    """
    tiles = cut(places, TILE)
    order = np.concatenate(tiles)
    ends = np.cumsum([0, *map(len, tiles)])
    listed = np.asarray(points["row"])[order]
    where = np.full(len(captions), 2**32 - 1, np.uint32)  # no point: the row is not on the map
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
    sample = np.sort(np.random.default_rng(SEED).permutation(len(order))[:SAMPLE])
    drawn = _drawn(places, points, rows, order[sample], listed[sample])
    drawn |= {"point": sample.astype(np.uint32), "ends": ends.astype(np.uint32), "box": _boxes(places, tiles)}
    frame.write_data("overview", drawn | _counts(frame, points, rows, listed))
    frame.write_data("where", {"point": where})


def _drawn(places: np.ndarray, points: dict, rows: dict, members: np.ndarray, row: np.ndarray) -> dict[str, Column]:
    """What drawing needs: place, kind, style, thumbnail, neighbours kept."""
    found: dict[str, Column] = {"x": places[members, 0], "y": places[members, 1]}
    found |= {name: np.asarray(rows[name])[row] for name in ("kind", "group", "sheet", "cell")}
    if "kept" in points:
        found["kept"] = np.asarray(points["kept"])[members]
    return found


def _boxes(places: np.ndarray, tiles: list[np.ndarray]) -> Int16[np.ndarray, "t 4"]:
    """Left, bottom, right and top of every tile."""
    return np.array([[*places[members].min(0), *places[members].max(0)] for members in tiles], np.int16)


def _counts(frame: Frame, points: dict, rows: dict, listed: np.ndarray) -> dict[str, Column]:
    """Names of styles, and what the legend says of all points: how many of each kind, style and fifth kept."""

    def counted(codes: np.ndarray, levels: int) -> UInt32[np.ndarray, " k"]:
        return np.bincount(codes, minlength=levels).astype(np.uint32)

    found: dict[str, Column] = {"groups": rows["groups"]}
    found["kinds"] = counted(np.asarray(rows["kind"])[listed], len(frame.settings["kinds"]))
    found["members"] = counted(np.asarray(rows["group"])[listed], len(rows["groups"]))
    if "kept" in points:
        found["fifths"] = counted(np.digitize(np.asarray(points["kept"]), FIFTHS[:-1]), len(FIFTHS))
    return found
