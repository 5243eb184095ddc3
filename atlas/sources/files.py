"""Sources of image files: a folder, a list of paths, or a table with captions."""

import csv
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from atlas.errors import Refused
from atlas.sources.decoding import TRIED_AGAIN, Unreadable, decode, read_bytes
from atlas.sources.items import Distinct, Item, identifier, printable_line, raise_unreadable, size_and_mtime

# Files with other suffixes are tried; those that are no images are listed as rejects.
NOT_IMAGES = frozenset((
    ".txt", ".json", ".jsonl", ".csv", ".tsv", ".md", ".rst", ".html", ".htm", ".xml", ".yaml", ".yml", ".toml",
    ".ini", ".cfg", ".log", ".py", ".ipynb", ".sh", ".npy", ".npz", ".pt", ".pth", ".ckpt", ".safetensors", ".pkl",
    ".h5", ".hdf5", ".parquet", ".arrow", ".db", ".sqlite", ".tar", ".zip", ".gz", ".bz2", ".xz", ".7z", ".rar",
    ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".mp3", ".wav", ".flac", ".ogg", ".mp4", ".mov", ".avi", ".mkv",
    ".webm", ".cls", ".caption", ".index", ".id", ".url",
))  # fmt: skip
MAX_CAPTION = 2**20  # bytes of a file with one caption
MAX_TABLE = 2**32  # bytes of a table or list
_LONGEST_LINE = 2**24  # characters
ROLES = {
    "image": ("image", "path", "file", "file_name", "filename", "jpg", "jpeg", "png", "webp", "bytes"),
    "caption": ("caption", "text", "txt"),
    "label": ("label", "class", "cls"),
    "group": ("group", "style"),
}


@dataclass(frozen=True)
class Folder:
    """All images below a folder, sorted by name, without hidden files. A .txt file of the same name is the caption."""

    name: str
    spec: str
    root: Path

    def __iter__(self) -> Iterator[Item]:
        return self._below(self.root, "", ())

    def _below(self, folder: Path, inside: str, above: tuple[tuple[int, int], ...]) -> Iterator[Item]:
        try:
            status = folder.stat()
            here = status.st_dev, status.st_ino
            if here in above:  # a link to an enclosing folder: following it would never end
                return
            entries = _visible(folder)
        except OSError as error:
            reason = f"cannot be listed ({(error.strerror or 'unknown').lower()})"
            if not above:
                raise Refused(f"{folder}: {reason}") from None
            lost = partial(raise_unreadable, f"a folder that {reason}{TRIED_AGAIN}")
            yield Item(identifier(f"{self.name}/{inside}"), "image", self.spec, "", "", "", size=0, mtime=0, load=lost)
            return
        names = {entry.name for entry in entries}
        for entry in entries:
            if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
                yield from self._below(Path(entry.path), f"{inside}{entry.name}/", (*above, here))
            elif Path(entry.name).suffix.lower() not in NOT_IMAGES:
                yield self._item(Path(entry.path), inside, names)

    def _item(self, path: Path, inside: str, beside: set[str]) -> Item:
        text, caption, fault = path.with_suffix(".txt"), "", ""
        if text.name in beside and not text.is_dir():
            try:
                caption = read_text(text)
            except Unreadable as unreadable:
                fault = f"its caption {printable_line(text.name)}: {unreadable}"
        folders = inside.split("/")[:-1] or [self.name]
        id = f"{self.name}/{inside}{path.name}"
        item = image_file_item(id, self.spec, path, caption, label=folders[-1], group=folders[0])
        return replace(item, load=partial(raise_unreadable, fault)) if fault else item


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)


@dataclass(frozen=True)
class Paths:
    """The images listed in a text file, one path per line, relative to that file."""

    name: str
    spec: str
    file: Path

    def __iter__(self) -> Iterator[Item]:
        distinct = Distinct()
        for _, line in read_lines(self.file):
            path = self.file.parent / line
            yield image_file_item(
                distinct(f"{self.name}/{line}"), self.spec, path, label=path.parent.name, group=path.parent.name
            )


@dataclass(frozen=True)
class Table:
    """The images listed in a CSV, TSV or JSONL table, with captions, labels and groups; paths are relative to it.

    `columns` maps a role to its column, where that has a name that `ROLES` lacks.
    """

    name: str
    spec: str
    file: Path
    columns: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Item]:
        distinct, found = Distinct(), None
        for number, row in _rows(self.file):
            found = found or column_roles(list(row), self.columns, self.spec)
            cells = {role: row.get(column) for role, column in found.items()}
            path = "" if cells["image"] is None else str(cells["image"]).strip().strip("\ufeff")
            texts = {role: printable_line(cells.get(role)) for role in ("caption", "label", "group")}
            if not path:
                lost = partial(raise_unreadable, f"line {number} of the table names no image")
                yield Item(
                    distinct(f"{self.name}/line {number}"), "image", self.spec, **texts, size=0, mtime=0, load=lost
                )
            else:
                yield image_file_item(distinct(f"{self.name}/{path}"), self.spec, self.file.parent / path, **texts)


def image_file_item(id: str, spec: str, path: Path, caption: str = "", label: str = "", group: str = "") -> Item:
    """The item of one image file; a missing file shows only when `load` is called."""
    size, mtime = size_and_mtime(path)
    load = partial(decode, path)
    if not size and re.search("(http|https|s3|gs|data):", str(path)):
        load = partial(raise_unreadable, "an address, not a file: download it first")
    texts = (printable_line(text) for text in (caption, label, group))
    return Item(identifier(id), "image", spec, *texts, size=size, mtime=mtime, load=load)


def column_roles(found: Sequence[str], asked: Mapping[str, str], where: str) -> dict[str, str]:
    """Find the columns of the image, the caption, the label and the group: {role: column}.

    `found`: the columns of a table. `asked`: columns named by the user, which take precedence. Raises `Refused` if
    one of those is missing, or if no column holds images; `where` begins the message.
    """
    for column in asked.values():
        if column not in found:
            raise Refused(f"{where}: no column {column!r}; found: {', '.join(map(printable_line, found))}")
    plain = {printable_line(column).lower(): column for column in reversed(found)}
    known = {role: next((plain[name] for name in names if name in plain), None) for role, names in ROLES.items()}
    chosen = {role: column for role, column in {**known, **asked}.items() if column is not None}
    twice = next((column for column in chosen.values() if list(found).count(column) > 1), None)
    if twice is not None:
        raise Refused(f"{where}: two columns are called {printable_line(twice)!r}; rename one")
    if "image" not in chosen:
        there = ", ".join(map(printable_line, found)) or "none"
        raise Refused(f"{where}: no column image, path or file; found: {there} (name it: ?image=COLUMN)")
    return chosen


def _rows(file: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield (line number, {column: cell}) for every row; blank lines are skipped."""
    if file.suffix.lower() == ".jsonl":
        for number, line in read_lines(file):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise Refused(f"{file}: line {number} is not JSON ({printable_line(error)[:100]})") from None
            if not isinstance(row, dict):
                raise Refused(f"{file}: line {number} is not a JSON object")
            yield number, row
        return
    with file.open(encoding=text_encoding(file), newline="", errors="replace") as text:
        reader = csv.DictReader(text, delimiter="\t" if file.suffix.lower() == ".tsv" else ",", restkey="")
        try:
            for row in reader:
                yield reader.line_num, dict(row)
        except csv.Error as error:
            raise Refused(f"{file}: line {reader.line_num} is not {file.suffix[1:].upper()} ({error})") from None


def read_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield (number, line) for every line that is not blank, without surrounding white space and byte order marks."""
    with file.open(encoding=text_encoding(file), errors="replace") as text:
        for number, line in enumerate(iter(partial(text.readline, _LONGEST_LINE), ""), 1):
            if len(line) == _LONGEST_LINE:
                raise Refused(f"{file}: line {number} is longer than {_LONGEST_LINE:,} characters")
            if line := line.strip().strip("\ufeff\u200b\x00").strip():
                yield number, line


def read_text(file: Path) -> str:
    """The content of a small text file. Raises `Unreadable` if it is no regular file, or a large one."""
    content = read_bytes(file, MAX_CAPTION)
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        return content.decode("utf-16" if encoding == "utf-16" else "cp1252", "replace")


def text_encoding(file: Path) -> str:
    """The encoding of a text file: UTF-16 with a byte order mark, UTF-8 if it decodes, otherwise Windows-1252.

    Raises `Refused` for what is no regular file, no text, or too large.
    """
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_TABLE:
            raise Refused(f"{file}: not a regular file of at most {MAX_TABLE:,} bytes")
        with file.open("rb") as raw:
            start = raw.read(2**16)
            if start.startswith((b"\xff\xfe", b"\xfe\xff")):
                return "utf-16"
            if b"\0" in start.rstrip(b"\0\r\n"):
                raise Refused(f"{file}: not a text file (it holds null bytes)")
        with file.open(encoding="utf-8") as text:
            while text.read(1 << 20):
                pass
    except UnicodeDecodeError:
        return "cp1252"
    except OSError as error:
        raise Refused(f"{file}: cannot be read ({(error.strerror or 'unknown').lower()})") from None
    return "utf-8-sig"
