"""Rows of a Store as pages show them: caption, kind, style, and the place of the thumbnail."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int32, UInt8

from atlas.analysis.naming import RowNames
from atlas.analysis.phrases import plain_names, runs_of_labels
from atlas.formatting import display_text
from atlas.pages.columns import Column, encode_levels
from atlas.pages.files import file_addresses
from atlas.pages.thumbnails import pictured_shards
from atlas.store.store import Store

_ALIAS = re.compile(r" \([^)]*\)$")  # "pizza (slice)"


class Peak(NamedTuple):
    """Where in a picture an activation is largest: a position of the layer's map, row by row, and its `heat`.

    `heat`: by how many percent of itself the largest activation lies above the mean of those at all other positions;
    100 where these are 0, or below it.
    """

    at: int
    heat: int


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A thumbnail on a page: its sheet and cell, its name, an activation, and where in the picture it is largest."""

    row: int
    sheet: int
    cell: int
    name: str
    value: float | None = None
    peak: Peak | None = None


class PageRows:
    """Names, captions, kinds, styles and thumbnails of all rows of a Store, as the pages show them."""

    def __init__(self, store: Store):
        self.store, self.names = store, RowNames(store)
        self.labels, self.captions = self.names.labels, self.names.captions
        self.groups = [display_text(group) for group in store.table(["group"])["group"].to_pylist()]

    def __len__(self) -> int:
        return len(self.captions)

    @cached_property
    def places(self) -> tuple[Int32[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """Sheet (-1 for texts) and cell of every row's thumbnail."""
        sheet, cell = np.full(len(self), -1, np.int32), np.zeros(len(self), np.int64)
        for number, shard in enumerate(pictured_shards(self.store)):
            sheet[shard.positions], cell[shard.positions] = number, np.arange(shard.rows)
        return sheet, cell

    @cached_property
    def files(self) -> list[str]:
        """The address of every row's file as seen from the site; empty where no row has one."""
        found = file_addresses(self.store)
        return found if any(found) else []

    @cached_property
    def kinds(self) -> UInt8[np.ndarray, " n"]:
        """The kind of every row: a position in the Store's `counts`."""
        kinds = np.zeros(len(self), np.uint8)
        for code, kind in enumerate(self.store.counts):
            kinds[self.store.positions(kind)] = code
        return kinds

    @cached_property
    def things(self) -> Int[np.ndarray, " n"]:
        """A code of what every row shows: rows that differ in style, skin tone or an alias share one."""
        plain = plain_names([_ALIAS.sub("", self.names[row]) for row in range(len(self))])
        return np.unique([name.lower() for name in plain], return_inverse=True)[1].reshape(-1)

    @cached_property
    def depicted(self) -> Counter[str]:
        """How many pictures have each run of words in their names: as many could show the thing."""
        return runs_of_labels(self.names[row] for row in self.store.positions("image").tolist())

    def name(self, row: int) -> str:
        """Name and style of a row, in one line."""
        named = self.captions[row] if self.names.filed[row] else self.names[row]
        group = self.groups[row]
        return f"{named} · {group}" if group else named

    def picture(self, row: int, value: float | None = None, peak: Peak | None = None) -> Thumbnail:
        """The thumbnail of a row."""
        return Thumbnail(int(row), int(self.places[0][row]), int(self.places[1][row]), self.name(row), value, peak)

    def distinct(self, rows: Sequence[int] | Int[np.ndarray, " m"], k: int) -> list[int]:
        """The places of the first k of some rows of which no two show the same thing."""
        found: dict[int, int] = {}
        for at, thing in enumerate(self.things[np.asarray(rows, np.int64)].tolist()):
            found.setdefault(thing, at)
            if len(found) == k:
                break
        return list(found.values())

    def columns(self) -> dict[str, Column]:
        """The columns of data/rows.js, which tiles hold in parts; classes are codes and levels."""
        found: dict[str, Column] = {"kind": self.kinds}
        found["group"], found["groups"] = encode_levels(self.groups)
        sheet, cell = self.places
        found["sheet"], found["cell"] = sheet.astype(np.int16), cell.astype(np.uint16)
        return found
