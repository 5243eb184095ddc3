"""What the pages show of a Store's rows: caption, kind, style, and where its thumbnail lies."""

import unicodedata
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int, Int32, UInt8

from atlas.pages.columns import Column, factor
from atlas.pages.thumbnails import pictured
from atlas.store import Store

CAPTION = 140  # letters shown of a caption
TELLING = 10  # distinct labels from which on labels tell rows apart: fewer are names of folders


@dataclass(frozen=True, slots=True)
class Picture:
    """A thumbnail on a page: its sheet, its cell there, its name, and which position of the layer's map is meant."""

    row: int
    sheet: int
    cell: int
    name: str
    value: float | None = None
    at: int | None = None


class Rows:
    """Captions, kinds, styles and thumbnails of all rows.

    What has no caption is called by its label, or by its file where all have one label.
    """

    def __init__(self, store: Store):
        self.store = store
        table = store.table(["id", "caption", "label", "group"])
        self.labels = [plain(label) for label in table["label"].to_pylist()]
        captions = map(plain, table["caption"].to_pylist())
        self.alike = len(set(self.labels)) == 1
        spare = [plain(id.rsplit("/", 1)[-1]) for id in table["id"].to_pylist()] if self.alike else self.labels
        self.captions = [caption or other for caption, other in zip(captions, spare, strict=True)]
        self.groups = [plain(group) for group in table["group"].to_pylist()]

    def __len__(self) -> int:
        return len(self.captions)

    @cached_property
    def telling(self) -> bool:
        """Whether the labels say what rows show, rather than where they lie."""
        return len(set(self.labels)) >= TELLING

    @cached_property
    def places(self) -> tuple[Int32[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """Sheet (-1 for texts) and cell of every row's thumbnail."""
        sheet, cell = np.full(len(self), -1, np.int32), np.zeros(len(self), np.int64)
        for number, shard in enumerate(pictured(self.store)):
            sheet[shard.positions], cell[shard.positions] = number, np.arange(shard.rows)
        return sheet, cell

    @cached_property
    def kinds(self) -> UInt8[np.ndarray, " n"]:
        """The kind of every row: a position in the Store's `counts`."""
        kinds = np.zeros(len(self), np.uint8)
        for code, kind in enumerate(self.store.counts):
            kinds[self.store.positions(kind)] = code
        return kinds

    def name(self, row: int) -> str:
        """What a row shows and in which style, in one line: the label where there is one, being shorter."""
        named, group = self.called(row), self.groups[row]
        return f"{named} · {group}" if group else named

    def called(self, row: int) -> str:
        """What a row shows, shorter than its caption where its label says it."""
        return self.captions[row] if self.alike else self.labels[row] or self.captions[row]

    def picture(self, row: int, value: float | None = None, at: int | None = None) -> Picture:
        """What a page needs to show a row."""
        return Picture(int(row), int(self.places[0][row]), int(self.places[1][row]), self.name(row), value, at)

    def columns(self) -> dict[str, Column]:
        """What is drawn of rows: the columns of data/rows.js, or parts of tiles; factors as codes and levels."""
        found: dict[str, Column] = {"kind": self.kinds}
        found["group"], found["groups"] = factor(self.groups)
        sheet, cell = self.places
        found["sheet"], found["cell"] = sheet.astype(np.int16), cell.astype(np.uint16)
        return found


def plain(text: str | None) -> str:
    """One line of printable text, cut to a readable length."""
    text = text or ""
    if not text.isprintable():  # which is quick to tell, and true of almost all
        text = "".join(c if unicodedata.category(c) not in ("Cc", "Cs") else " " for c in text)
    line = " ".join(text.split())
    return line if len(line) <= CAPTION else line[: CAPTION - 1].rstrip() + "…"
