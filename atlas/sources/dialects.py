"""CSV and its dialects: the separator, the encoding, the line of column names, and the rows of tables of all kinds.

Every row of the file is a row or a reject with its line number: none is lost, and none is joined with another.
"""

import csv
import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import StringIO
from itertools import count, islice
from pathlib import Path

from atlas.sources.columns import ROLES, is_address, looks_like_picture, plain_name
from atlas.sources.records import BadRow, Row, json_records, json_row
from atlas.sources.textfiles import bounded_lines, read_lines, text_encoding

SEPARATORS = {"comma": ",", "tab": "\t", "semicolon": ";", "bar": "|"}
_SNIFFED_LINES = 50  # lines from which the separator is told
_LONGEST_RECORD = 10_000  # lines that one quoted field may span

csv.field_size_limit(sys.maxsize)  # a field may be of any length


@dataclass(frozen=True)
class Dialect:
    """How a table is written: its encoding, the character between cells, and its columns if no line names them."""

    encoding: str = "utf-8-sig"
    separator: str = ""
    header: tuple[str, ...] | None = None  # None: the first line names the columns
    skipped: int = 0  # lines before that: remarks, or Excel's "sep=;"

    def __str__(self) -> str:
        names = {sign: name for name, sign in SEPARATORS.items()}
        said = [f"separator {names.get(self.separator, repr(self.separator))}"] if self.separator else []
        said += [f"encoding {self.encoding}"] if not self.encoding.startswith("utf") else []
        said += ["no line of column names"] if self.header else []
        said += [f"{self.skipped} lines of remarks before the columns"] if self.skipped else []
        return ", ".join(said)


def table_dialect(file: Path, separator: str | None = None, encoding: str | None = None) -> Dialect:
    """How a table is written. Of a CSV, the separator is the one that makes a known column, or else most columns."""
    encoding = encoding or text_encoding(file)
    if file.suffix.lower() in (".jsonl", ".ndjson", ".json"):
        return Dialect(encoding)
    with file.open(encoding=encoding, newline="", errors="replace") as text:
        lines = list(islice((line for line in bounded_lines(text, file) if line.strip()), _SNIFFED_LINES))
    skipped, said = _remarks(lines)
    lines = lines[skipped:]
    first = "\t" if file.suffix.lower() == ".tsv" else ","
    signs = (
        [separator or said] if separator or said else [first, *(each for each in SEPARATORS.values() if each != first)]
    )
    sign = max(signs, key=lambda each: _fit(lines, each)) if lines else first
    header = next((cells for _, cells in _records(iter(lines), sign)), [])
    if any(looks_like_picture(cell) or is_address(cell) for cell in header) and not names_columns(header):
        return Dialect(encoding, sign, _invented_header(header), skipped)
    return Dialect(encoding, sign, skipped=skipped)


def _remarks(lines: list[str]) -> tuple[int, str]:
    """How many lines stand before the names of the columns, and the separator that Excel's "sep=;" names."""
    start = lines[0].strip("\ufeff \r\n") if lines else ""
    if named := re.fullmatch(r"\"?sep=(.)\"?", start, re.IGNORECASE):
        return 1, named[1]
    count = next((i for i, line in enumerate(lines) if not line.lstrip('\ufeff "').startswith("#")), 0)
    cells = [cell for sign in SEPARATORS.values() for cell in start.split(sign)] if count else []
    named = names_columns(cell.lstrip("#") for cell in cells)
    return (count, "") if count and not named and not any(map(looks_like_picture, cells)) else (0, "")


def _fit(lines: list[str], sign: str) -> tuple[bool, bool, float, int]:
    rows = [cells for _, cells in _records(iter(lines), sign)]
    width = len(rows[0]) if rows else 0
    same = sum(len(row) == width for row in rows) / max(len(rows), 1)
    named = bool(rows) and names_columns(rows[0])
    pictures = bool(rows) and any(looks_like_picture(cell) for cell in rows[0])
    return named or pictures, width > 1, round(same, 1), width


def names_columns(cells: Iterable[str]) -> bool:
    """Whether one of these cells is a usual name of the column of pictures."""
    return bool({plain_name(cell) for cell in cells} & set(ROLES["image"]))


def _invented_header(cells: list[str]) -> tuple[str, ...]:
    """Names for columns that have none: the first picture is the image, the longest of the rest a caption."""
    image = next((i for i, cell in enumerate(cells) if looks_like_picture(cell) and not is_address(cell)), None)
    image = next(i for i, cell in enumerate(cells) if is_address(cell)) if image is None else image
    others = [i for i in range(len(cells)) if i != image and any(letter.isalpha() for letter in cells[i])]
    caption = max(others, key=lambda i: len(cells[i]), default=None)
    names = {image: "image", caption: "caption"}
    return tuple(names.get(i, f"column {i + 1}") for i in range(len(cells)))


def table_rows(file: Path, layout: Dialect) -> Iterator[tuple[int, Row]]:
    """Yield (line number, row) for every row; blank lines are skipped."""
    match file.suffix.lower():
        case ".jsonl" | ".ndjson":
            yield from ((number, json_row(line)) for number, line in read_lines(file, layout.encoding))
        case ".json":
            yield from enumerate(json_records(file, layout.encoding), 1)
        case _:
            yield from _csv_rows(file, layout)


def _csv_rows(file: Path, layout: Dialect) -> Iterator[tuple[int, Row]]:
    header = list(layout.header) if layout.header else None
    remarks = layout.skipped
    with file.open(encoding=layout.encoding, newline="", errors="replace") as text:
        for number, cells in _records(bounded_lines(text, file), layout.separator):
            if remarks:
                remarks -= 1
                continue
            if header is None:
                header = _distinct_names([cell.strip().strip("\ufeff") for cell in cells])
                continue
            while len(cells) > len(header) and not cells[-1].strip():
                cells.pop()
            if len(cells) > len(header):
                yield number, BadRow(f"has {len(cells)} cells where there are {len(header)} columns: quote such texts")
            else:
                yield number, dict(zip(header, [*cells, *[None] * (len(header) - len(cells))], strict=True))


def _distinct_names(columns: list[str]) -> list[str]:
    """The names of the columns; a repeated one gets a number, so that no column hides another."""
    named: list[str] = []
    for column in columns:
        numbers = (f"{column} ({number})" for number in count(2))
        named.append(next(name for name in numbers if name not in columns + named) if column in named else column)
    return named


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
        cells = quoted_cells(line, separator)
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


def quoted_cells(text: str, separator: str) -> list[str] | None:
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
            return more, quoted_cells(line + "".join(more), separator)
    return more, None


def _all_whole(lines: list[str], width: int) -> bool:
    """Whether every line has the columns by itself, so that its quotes are letters."""
    return all(line.rstrip("\r\n").count("\t") == width - 1 for line in lines)
