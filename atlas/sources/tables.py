"""Tables of images, with captions, labels and groups: CSV and its dialects, JSON lines, JSON records; and path lists.

Every row is an item or a reject with its line number: none is lost, and none is joined with another.
"""

import csv
import json
import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import StringIO
from itertools import islice
from pathlib import Path

from atlas.errors import Refused
from atlas.sources.coco import coco_records, is_coco
from atlas.sources.columns import ROLES, column_roles, looks_like_picture, plain_name, roles_in_words
from atlas.sources.imagefile import PathFinder, image_file_item
from atlas.sources.items import Distinct, Item, Note, only_items, printable_line, refused_item
from atlas.sources.textfiles import MAX_RECORDS, bounded_lines, check_regular, read_lines, text_encoding
from atlas.sources.values import cell_texts, first_text

SEPARATORS = {"comma": ",", "tab": "\t", "semicolon": ";", "bar": "|"}
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
_SNIFFED_LINES = 50  # lines from which the separator is told
_LONGEST_RECORD = 10_000  # lines that one quoted field may span

csv.field_size_limit(sys.maxsize)  # a field may be of any length


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read, with the reason."""

    reason: str


Row = Mapping[str, object] | BadRow


@dataclass(frozen=True)
class Dialect:
    """How a table is written: its encoding, the character between cells, and its columns if no line names them."""

    encoding: str = "utf-8-sig"
    separator: str = ""
    header: tuple[str, ...] | None = None  # None: the first line names the columns

    def __str__(self) -> str:
        names = {sign: name for name, sign in SEPARATORS.items()}
        said = [f"separator {names.get(self.separator, repr(self.separator))}"] if self.separator else []
        said += [f"encoding {self.encoding}"] if not self.encoding.startswith("utf") else []
        said += ["no line of column names"] if self.header else []
        return ", ".join(said)


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
        distinct, finder = Distinct(), PathFinder(self.file.parent)
        for number, row, roles in self._rows_with_roles(layout):
            if isinstance(row, BadRow):
                yield refused_item(distinct(f"{self.name}/line {number}"), self.spec, f"line {number} {row.reason}")
                continue
            if isinstance(roles, Note):
                yield roles
                continue
            yield self._item(number, row, roles, distinct, finder)
        yield from finder.notes()

    def _rows_with_roles(self, layout: Dialect) -> Iterator[tuple[int, Row, dict[str, str] | Note]]:
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
                known[columns] = column_roles(columns, self.columns, self.spec, row)
                yield number, {}, Note("taken", roles_in_words(known[columns], columns))
                yield from ((*early, {}) for early in waiting)
                waiting = []
            elif columns not in known:
                known[columns] = _roles_of_later_row(columns, next(iter(known.values())))
            yield number, row, known[columns]
        if waiting and not known:
            number, bad = waiting[0]
            raise Refused(f"{self.file}: line {number} {bad.reason}, and so is every other")

    def _item(
        self, number: int, row: Mapping[str, object], roles: Mapping[str, str], distinct: Distinct, finder: PathFinder
    ) -> Item:
        texts = {role: cell_texts(row.get(column)) for role, column in roles.items() if role != "image"}
        path = first_text(_path_of(row.get(roles.get("image", "")))).strip("\ufeff")
        if not path:
            reason = f"line {number} of the table names no image"
            return refused_item(distinct(f"{self.name}/line {number}"), self.spec, reason, texts)
        return image_file_item(distinct(f"{self.name}/{path}"), self.spec, finder.find(path), texts)


def _path_of(cell: object) -> object:
    """The path in the cell of a picture, which may be a mapping with a path, or a list of one."""
    if isinstance(cell, list) and cell:
        return _path_of(cell[0])
    if isinstance(cell, dict):
        return next((cell[key] for key in ("path", "file_name", "filename", "src") if cell.get(key)), None)
    return cell


def _roles_of_later_row(columns: tuple[str, ...], first: dict[str, str]) -> dict[str, str]:
    """Roles in a row of JSON whose keys differ from those of the first row: the same columns, else the usual names."""
    plain = {plain_name(column): column for column in reversed(columns)}
    usual = {role: next((plain[name] for name in names if name in plain), "") for role, names in ROLES.items()}
    kept = {role: column for role, column in first.items() if column in columns}
    return {role: column for role, column in (usual | kept).items() if column}


def table_dialect(file: Path, separator: str | None = None, encoding: str | None = None) -> Dialect:
    """How a table is written. Of a CSV, the separator is the one that makes a known column, or else most columns."""
    encoding = encoding or text_encoding(file)
    if file.suffix.lower() in (".jsonl", ".ndjson", ".json"):
        return Dialect(encoding)
    with file.open(encoding=encoding, newline="", errors="replace") as text:
        lines = list(islice((line for line in bounded_lines(text, file) if line.strip()), _SNIFFED_LINES))
    first = "\t" if file.suffix.lower() == ".tsv" else ","
    signs = [separator] if separator else [first, *(each for each in SEPARATORS.values() if each != first)]
    sign = max(signs, key=lambda each: _fit(lines, each)) if lines else first
    header = next((cells for _, cells in _records(iter(lines), sign)), [])
    if any(looks_like_picture(cell) for cell in header) and not _names_columns(header):
        return Dialect(encoding, sign, _invented_header(header))
    return Dialect(encoding, sign)


def _fit(lines: list[str], sign: str) -> tuple[bool, bool, float, int]:
    rows = [cells for _, cells in _records(iter(lines), sign)]
    width = len(rows[0]) if rows else 0
    same = sum(len(row) == width for row in rows) / max(len(rows), 1)
    named = bool(rows) and _names_columns(rows[0])
    pictures = bool(rows) and any(looks_like_picture(cell) for cell in rows[0])
    return named or pictures, width > 1, round(same, 1), width


def _names_columns(cells: Iterable[str]) -> bool:
    return bool({plain_name(cell) for cell in cells} & set(ROLES["image"]))


def _invented_header(cells: list[str]) -> tuple[str, ...]:
    """Names for columns that have none: the first picture is the image, the longest of the rest a caption."""
    image = next(i for i, cell in enumerate(cells) if looks_like_picture(cell))
    others = [i for i in range(len(cells)) if i != image and any(letter.isalpha() for letter in cells[i])]
    caption = max(others, key=lambda i: len(cells[i]), default=None)
    names = {image: "image", caption: "caption"}
    return tuple(names.get(i, f"column {i + 1}") for i in range(len(cells)))


def table_rows(file: Path, layout: Dialect) -> Iterator[tuple[int, Row]]:
    """Yield (line number, row) for every row; blank lines are skipped."""
    match file.suffix.lower():
        case ".jsonl" | ".ndjson":
            yield from ((number, _json_row(line)) for number, line in read_lines(file, layout.encoding))
        case ".json":
            yield from enumerate(_json_records(file, layout.encoding), 1)
        case _:
            yield from _csv_rows(file, layout)


def _json_row(line: str) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return BadRow(f"is not JSON ({printable_line(error)[:100]})")
    return row if isinstance(row, dict) else BadRow("is not a JSON object")


def _json_records(file: Path, encoding: str) -> Iterator[Row]:
    """Records of a JSON file: a list of objects, an object with one for each picture (trainers), or COCO's lists."""
    check_regular(file, MAX_RECORDS)
    try:
        content = json.loads(file.read_text(encoding, errors="replace"))
    except (ValueError, RecursionError) as error:
        raise Refused(f"{file}: not JSON ({printable_line(error)[:100]})") from None
    if is_coco(content):
        content = list(coco_records(content))
    if isinstance(content, dict) and content:
        if all(isinstance(each, dict) for each in content.values()):
            content = [{"image": key, **value} for key, value in content.items()]
        elif all(map(looks_like_picture, content)):
            content = [{"image": key, "caption": value} for key, value in content.items()]
    if not isinstance(content, list):
        raise Refused(f"{file}: give a JSON list of objects, each with an image, JSON lines, or COCO's lists")
    for each in content:
        yield each if isinstance(each, dict) else BadRow("is not a JSON object")


def _csv_rows(file: Path, layout: Dialect) -> Iterator[tuple[int, Row]]:
    header = list(layout.header) if layout.header else None
    with file.open(encoding=layout.encoding, newline="", errors="replace") as text:
        for number, cells in _records(bounded_lines(text, file), layout.separator):
            if header is None:
                header = [cell.strip().strip("\ufeff") for cell in cells]
                continue
            while len(cells) > len(header) and not cells[-1].strip():
                cells.pop()
            if len(cells) > len(header):
                yield number, BadRow(f"has {len(cells)} cells where there are {len(header)} columns: quote such texts")
            else:
                yield number, dict(zip(header, [*cells, *[None] * (len(header) - len(cells))], strict=True))


def _records(lines: Iterable[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (number of its last line, cells) for every record of a CSV, whether its writer quoted fields or not.

    A field in quotes may hold separators and line breaks. A quote that is not closed before a separator or the end
    of a line is a letter of an unquoted field, so one bad line never swallows those after it.
    """
    source, ahead, number = iter(lines), deque[str](), 0
    while True:
        line = ahead.popleft() if ahead else next(source, None)
        if line is None:
            return
        number += 1
        plain = line.rstrip("\r\n")
        if not plain.strip("\0 \ufeff"):
            continue
        if '"' not in plain:
            yield number, plain.split(separator)
            continue
        cells = _quoted(line, separator)
        if cells is None and not _is_open(plain, separator):
            cells = plain.split(separator)
        if cells is not None:
            yield number, cells
            continue
        more, cells = _longer(line, separator, source, ahead)
        if cells is None or (separator == "\t" and _all_whole([line, *more], len(cells))):
            ahead.extendleft(reversed(more))
            yield number, plain.split(separator)
        else:
            number += len(more)
            yield number, cells


def _quoted(text: str, separator: str) -> list[str] | None:
    """The cells of one record by the rules of quoting; None if it breaks them."""
    try:
        rows = list(csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


def _is_open(plain: str, separator: str) -> bool:
    """Whether the last field that begins with a quote is not closed in this line."""
    return plain.count('"') % 2 == 1 and re.search(rf'(^|{re.escape(separator)}) *"', plain) is not None


def _longer(line: str, separator: str, source: Iterator[str], ahead: deque[str]) -> tuple[list[str], list[str] | None]:
    """The lines that a record goes on in, and its cells; None if its quotes never close."""
    more: list[str] = []
    quotes = line.count('"')
    while len(more) < _LONGEST_RECORD:
        following = ahead.popleft() if ahead else next(source, None)
        if following is None:
            return more, None
        more.append(following)
        quotes += following.count('"')
        if '"' in following and quotes % 2 == 0:
            return more, _quoted(line + "".join(more), separator)
    return more, None


def _all_whole(lines: list[str], width: int) -> bool:
    """Whether every line has the columns by itself, so that its quotes are letters."""
    return all(line.rstrip("\r\n").count("\t") == width - 1 for line in lines)


def table_of_texts(file: Path) -> bool:
    """Whether a .txt file is a table rather than a list of paths: its first line names columns, or has a caption."""
    first = next((line for _, line in read_lines(file)), "")
    for sign in SEPARATORS.values():
        cells = _quoted(first, sign) or first.split(sign)
        if len(cells) > 1 and (_names_columns(cells) or looks_like_picture(cells[0])):
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
