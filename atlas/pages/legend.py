"""The legend of the map of rows: the colour schemes, their entries, and a bit mask for each region's name.

The mask says which combinations of entries the points of the name have. A point has an entry in each scheme: its kind,
its style, and the share of its neighbours that the map kept.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8

from atlas.pages.colours import PALETTE, RAMP
from atlas.pages.columns import Column
from atlas.pages.settings import LegendEntry, Scheme

FIFTH_ENDS = (20, 40, 60, 80, 101, 256)  # percent at which the entries of neighbours kept end; the last: not known
FIFTH_NAMES = ("0 to 19 %", "20 to 39 %", "40 to 59 %", "60 to 79 %", "80 to 100 %", "not known")
KEPT_TEXT = "How many of a point's 15 nearest in the model's space the map put among its 15 nearest."
MASK_SIZES = {"kind": len(PALETTE), "group": len(PALETTE), "kept": len(FIFTH_ENDS)}  # entries of a scheme at most
MASK_BITS = [  # scheme, stride, entries: bit c of a mask has entry c // stride % entries of the scheme
    ("kind", MASK_SIZES["group"] * MASK_SIZES["kept"], MASK_SIZES["kind"]),
    ("group", MASK_SIZES["kept"], MASK_SIZES["group"]),
    ("kept", 1, MASK_SIZES["kept"]),
]


def row_schemes(data: Mapping[str, Column], rows: Mapping[str, Column], kinds: Sequence[str]) -> list[Scheme]:
    """The schemes of a map of rows: kind, style and, where data["kept"] is there, neighbours kept.

    data["row"] is the row of each point; rows["kind"] and rows["group"] are codes into `kinds` and rows["groups"].
    """
    at = np.asarray(data["row"])
    groups = [str(group) or "no style" for group in rows["groups"]]
    found = [
        class_scheme("kind", "Kind", np.asarray(rows["kind"])[at], kinds, by_size=False),
        class_scheme("group", "Style", np.asarray(rows["group"])[at], groups),
    ]
    return [*found, kept_scheme(np.asarray(data["kept"]))] if "kept" in data else found


def class_scheme(name: str, title: str, codes: np.ndarray, names: Sequence[str], by_size: bool = True) -> Scheme:
    """A scheme of classes, the largest first; those that the palette has no colour for share its last, "others"."""
    counts = np.bincount(codes, minlength=len(names))
    order = np.argsort(-counts, kind="stable") if by_size else np.arange(len(counts))
    order = order[counts[order] > 0]
    of = np.zeros(len(counts), np.int64)
    of[order] = np.minimum(np.arange(len(order)), len(PALETTE) - 1)
    entries = [
        LegendEntry(name=str(names[c]), count=int(counts[c]), hue=k)
        for k, c in enumerate(order[: len(PALETTE)].tolist())
    ]
    if len(order) > len(PALETTE):
        last = len(PALETTE) - 1
        entries[-1] = LegendEntry(name="others", count=int(counts[order[last:]].sum()), hue=last)
    return Scheme(name=name, title=title, about="", entries=entries, of=of.tolist())


def kept_scheme(kept: UInt8[np.ndarray, " n"]) -> Scheme:
    """The scheme of neighbours kept, in fifths, from percent (255: not known)."""
    of = np.digitize(np.arange(256), FIFTH_ENDS[:-1])
    counts = np.bincount(of[kept], minlength=len(FIFTH_ENDS))
    hues = [*ramp_hues(len(FIFTH_ENDS) - 1), len(PALETTE) - 1]
    entries = [
        LegendEntry(name=name, count=int(count), hue=hue)
        for name, count, hue in zip(FIFTH_NAMES, counts, hues, strict=True)
    ]
    if not counts[-1]:
        entries.pop()
    return Scheme(name="kept", title="Trust", about=KEPT_TEXT, entries=entries, of=of.tolist())


def ramp_hues(count: int) -> list[int]:
    """The colours of so many graded entries, low to high: codes of RAMP, which follow those of PALETTE."""
    return [len(PALETTE) + round(k * (len(RAMP) - 1) / max(1, count - 1)) for k in range(count)]


def first_scheme(schemes: Sequence[Scheme]) -> Scheme:
    """The scheme that colours points when the page opens: the first in which they differ."""
    return next((scheme for scheme in schemes if len(scheme["entries"]) > 1), schemes[0])


def legend_entries(
    schemes: Sequence[Scheme], data: Mapping[str, Column], rows: Mapping[str, Column]
) -> dict[str, UInt8[np.ndarray, " n"]]:
    """Every point's entry in each scheme, by the scheme's name."""
    at = np.asarray(data["row"])
    values = {name: np.asarray(rows[name])[at] for name in ("kind", "group")}
    if "kept" in data:
        values["kept"] = np.asarray(data["kept"])
    return {scheme["name"]: np.array(scheme["of"], np.uint8)[values[scheme["name"]]] for scheme in schemes}


def name_masks(
    entries: Mapping[str, UInt8[np.ndarray, " n"]], members: Sequence[np.ndarray]
) -> UInt8[np.ndarray, "names bytes"]:
    """For each name a bit for every combination of entries: whether any of its points has the combination.

    So a name is shown as long as one of its points is. MASK_BITS says which bit stands for which combination.
    """
    points = len(entries["kind"])
    combination = sum(
        (entries[name].astype(np.int64) * stride for name, stride, _ in MASK_BITS if name in entries),
        np.zeros(points, np.int64),
    )
    there = np.zeros((len(members), combination.max(initial=0) + 1), bool)
    for one, own in zip(there, members, strict=True):
        one[combination[own]] = True
    return np.packbits(there, axis=1, bitorder="little")
