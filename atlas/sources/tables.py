"""Tables of images, with captions, labels and groups: CSV and its dialects, JSON lines, JSON records; and path lists.

Every row is an item or a reject with its line number: none is lost, and none is joined with another.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from atlas.errors import Refused
from atlas.sources.columns import IDS, ROLES, column_roles, is_address, looks_like_picture, plain_name, roles_in_words
from atlas.sources.dialects import SEPARATORS, Dialect, names_columns, quoted_cells, table_dialect, table_rows
from atlas.sources.imagefile import PathFinder, image_file_item
from atlas.sources.items import Distinct, Item, Note, image_item, only_items, printable_line, refused_item
from atlas.sources.records import BadRow, Row
from atlas.sources.tablepictures import cell_of_struct, decode_encoded, holds_encoded, note_on_several
from atlas.sources.textfiles import read_lines
from atlas.sources.values import cell_texts, first_text


@dataclass(frozen=True)
class Table:
    """The images listed in a table, with captions, labels and groups; paths are relative to it.

    `columns` maps a role to its column, where that has a name that `ROLES` lacks. `separator` and `encoding`: told
    from the file if they are not given.
    """

    name: str
    spec: str
    file: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    separator: str | None = None
    encoding: str | None = None

    def __iter__(self) -> Iterator[Item]:
        return only_items(self.entries())

    def entries(self) -> Iterator[Item | Note]:
        """Items, and notes on the dialect and the columns."""
        layout = table_dialect(self.file, self.separator, self.encoding)
        if str(layout):
            yield Note("taken", f"{self.file.name}: {layout}")
        distinct, finder, oddities = Distinct(), PathFinder(self.file.parent), _Oddities(self.file)
        for number, row, roles in self._rows_with_roles(layout, finder):
            if isinstance(row, BadRow):
                yield refused_item(distinct(f"{self.name}/line {number}"), self.spec, f"line {number} {row.reason}")
                continue
            if isinstance(roles, Note):
                yield roles
                continue
            item = self._item(number, row, roles, distinct, finder)
            oddities.look(number, row, roles, item)
            yield item
        yield from oddities.notes()
        yield from finder.notes()

    def _rows_with_roles(self, layout: Dialect, finder: PathFinder) -> Iterator[tuple[int, Row, dict[str, str] | Note]]:
        """Yield (line, row, its columns' roles); before the first row with new columns, a note on them."""
        waiting: list[tuple[int, BadRow]] = []
        known: dict[tuple[str, ...], dict[str, str]] = {}
        for number, row in table_rows(self.file, layout):
            if isinstance(row, BadRow):
                if known:
                    yield number, row, {}
                else:
                    waiting.append((number, row))
                continue
            columns = tuple(row)
            if not known:
                known[columns] = self._roles(row, layout, finder)
                yield number, {}, Note("taken", roles_in_words(known[columns], columns))
                yield from ((*early, {}) for early in waiting)
                waiting = []
            elif columns not in known:
                known[columns] = _roles_of_later_row(columns, next(iter(known.values())))
            yield number, row, known[columns]
        if waiting and not known:
            number, bad = waiting[0]
            raise Refused(f"{self.file}: line {number} {bad.reason}, and so is every other")

    def _roles(self, row: Mapping[str, object], layout: Dialect, finder: PathFinder) -> dict[str, str]:
        """The roles of the columns; a column of numbers or names without suffixes is that of the files so named."""
        if layout.header and is_address(row.get("image")):
            raise Refused(
                f"{self.spec}: its first line holds addresses and no names of columns: download them first, as "
                "img2dataset does, and name the folder that it writes"
            )
        try:
            return column_roles(list(row), self.columns, self.spec, row)
        except Refused:
            named = [column for column in row if plain_name(column) in IDS and "image" not in self.columns]
            files = [column for column in named if (name := first_text(row[column])) and finder.find(name).is_file()]
            if not files:
                raise
            return column_roles(list(row), {**self.columns, "image": files[0]}, self.spec, row)

    def _item(
        self, number: int, row: Mapping[str, object], roles: Mapping[str, str], distinct: Distinct, finder: PathFinder
    ) -> Item:
        texts = {role: cell_texts(row.get(column)) for role, column in roles.items() if role != "image"}
        cell = _path_of(row.get(roles.get("image", "")))
        if isinstance(cell, str) and holds_encoded(cell):
            load = partial(decode_encoded, cell)
            return image_item(distinct(f"{self.name}/line {number}"), self.spec, texts, load, len(cell))
        path = first_text(cell).strip("\ufeff")
        if not path:
            reason = f"line {number} of the table names no image"
            return refused_item(distinct(f"{self.name}/line {number}"), self.spec, reason, texts)
        return image_file_item(distinct(f"{self.name}/{path}"), self.spec, finder.find(path), texts)


@dataclass
class _Oddities:
    """Rows that were read and may not say all that was meant."""

    file: Path
    broken: list[int] = field(default_factory=list)  # lines with bytes that are no letters
    short: list[int] = field(default_factory=list)  # lines of a CSV that end before the caption
    several: str = ""  # a column of lists of pictures

    def look(self, number: int, row: Mapping[str, object], roles: Mapping[str, str], item: Item) -> None:
        """Look at one row and its item."""
        image = roles.get("image", "")
        if isinstance(cell := row.get(image), list) and len(cell) > 1:
            self.several = image
        if "\ufffd" in item.caption or "\ufffd" in item.label:
            self.broken.append(number)
        if not item.caption and roles.get("caption") and row.get(roles["caption"], "") is None and self._is_csv:
            self.short.append(number)

    @property
    def _is_csv(self) -> bool:
        return self.file.suffix.lower() not in (".jsonl", ".ndjson", ".json")

    def notes(self) -> Iterator[Note]:
        """How many there are, and where the first is."""
        name = self.file.name
        if self.several:
            yield note_on_several(self.several)
        if self.broken:
            text = f"rows of {name} with broken letters, shown as \ufffd"
            yield Note("left", text, len(self.broken), f"line {self.broken[0]}")
        if self.short:
            text = f"rows of {name} with fewer cells than columns, which have no caption"
            yield Note("left", text, len(self.short), f"line {self.short[0]}")


def _path_of(cell: object) -> object:
    """The path or the encoded image in the cell of a picture, which may be a mapping or a list with one."""
    if isinstance(cell, list) and cell:
        return _path_of(cell[0])
    if isinstance(cell, dict):
        return cell_of_struct(cell)
    return cell


def _roles_of_later_row(columns: tuple[str, ...], first: dict[str, str]) -> dict[str, str]:
    """Roles in a row of JSON whose keys differ from those of the first row: the same columns, else the usual names."""
    plain = {plain_name(column): column for column in reversed(columns)}
    usual = {role: next((plain[name] for name in names if name in plain), "") for role, names in ROLES.items()}
    kept = {role: column for role, column in first.items() if column in columns}
    return {role: column for role, column in (usual | kept).items() if column}


def table_of_texts(file: Path) -> bool:
    """Whether a .txt file is a table rather than a list of paths: its first line names columns, or has a caption."""
    first = next((line for _, line in read_lines(file)), "")
    for sign in SEPARATORS.values():
        cells = quoted_cells(first, sign) or first.split(sign)
        if len(cells) > 1 and (names_columns(cells) or looks_like_picture(cells[0])):
            return not (file.parent / first).exists()
    return False


@dataclass(frozen=True)
class Paths:
    """The images listed in a text file, one path per line, relative to that file; a class may follow after a blank."""

    name: str
    spec: str
    file: Path

    def __iter__(self) -> Iterator[Item]:
        return only_items(self.entries())

    def entries(self) -> Iterator[Item | Note]:
        """Items, and where their files were found."""
        distinct, finder = Distinct(), PathFinder(self.file.parent)
        for _, line in read_lines(self.file):
            path, label = finder.find(line), ""
            shorter, _, last = line.rpartition(" ")
            if looks_like_picture(shorter) and not path.exists() and finder.find(shorter).exists():
                path, label = finder.find(shorter), last
            home = (printable_line(path.parent.name),)
            texts = {"label": (printable_line(label),) if label else home, "group": home}
            yield image_file_item(distinct(f"{self.name}/{line}"), self.spec, path, texts)
        yield from finder.notes()
