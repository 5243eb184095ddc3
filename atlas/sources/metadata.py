"""Tables inside an image folder that describe its pictures: metadata.csv, .jsonl and .parquet with file names.

This is the layout of Hugging Face's imagefolder. Rows that name no picture of the folder are counted.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from atlas.errors import Refused
from atlas.sources.columns import IDS, column_roles, looks_like_picture, plain_name, roles_in_words
from atlas.sources.dialects import Dialect, table_dialect, table_rows
from atlas.sources.items import Note, printable_line
from atlas.sources.records import BadRow
from atlas.sources.sidecars import SidecarTexts, alike
from atlas.sources.textfiles import MAX_RECORDS, check_regular
from atlas.sources.values import cell_texts

METADATA_NAMES = (
    "metadata.jsonl",
    "metadata.csv",
    "metadata.tsv",
    "metadata.parquet",
    "metadata.json",
    "meta_cap.json",
    "meta_clean.json",
    "meta_lat.json",
)


@dataclass
class FolderMetadata:
    """The rows of one such table, by the file that they name."""

    place: str
    about: str
    home: str = ""  # the folder that its names start from, with a slash
    rows: dict[str, SidecarTexts] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)  # as they are written
    bad: list[str] = field(default_factory=list)
    met: set[str] = field(default_factory=set)
    oddities: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # what is not used, with examples

    def added_to(self, said: SidecarTexts, path: str) -> SidecarTexts:
        """What a picture's sidecars say, with what its row says where they say nothing."""
        inside = alike(path.removeprefix(self.home))
        name = next((each for each in (inside, inside.rpartition(".")[0]) if each in self.rows), None)
        if name is None or not path.startswith(self.home):
            return said
        self.met.add(name)
        row = self.rows[name]
        if said.captions and row.captions and said.captions != row.captions:
            self.oddities["captions of {}, of pictures that have another beside them"].append(row.captions[0])
        merged = {part: getattr(said, part) or getattr(row, part) for part in ("captions", "label", "group", "split")}
        named_by = said.named_by if said.label else self.place
        return replace(said, **merged, origin=said.origin or self.place, named_by=named_by)

    def notes(self) -> Iterator[Note]:
        """The columns in use, rows that name no picture, and bad lines."""
        yield Note("taken", f"{self.place}: {self.about or 'no row can be read'}", len(self.rows))
        for text, examples in self.oddities.items():
            yield Note("left", text.format(self.place), len(examples), printable_line(examples[0])[:60])
        if lost := [row for name, row in self.names.items() if name not in self.met]:
            yield Note("lost", f"rows of {self.place} that name no picture here", len(lost), lost[0])
        if self.bad:
            yield Note("lost", f"rows of {self.place} that cannot be read", len(self.bad), self.bad[0])


def read_metadata(file: Path, inside: str) -> FolderMetadata:
    """Read such a table. One that cannot be used says so, and gives no rows: the pictures are there without it."""
    found = FolderMetadata(f"{inside}{file.name}", "", inside)
    try:
        check_regular(file, MAX_RECORDS)
        layout = None if file.suffix.lower() == ".parquet" else table_dialect(file)
        encoding = f"; encoding {layout.encoding}" if layout and not layout.encoding.startswith("utf") else ""
        for number, row in _rows(file, layout):
            if isinstance(row, BadRow):
                found.bad.append(f"line {number}: {row.reason}")
                continue
            roles = _roles(row, file)
            found.about = found.about or roles_in_words(roles, list(row)) + encoding
            name = next(iter(cell_texts(row.get(roles["image"]))), "")
            texts = {role: cell_texts(row.get(column)) for role, column in roles.items()}
            if any("\ufffd" in text for text in texts.get("caption", ())):
                found.oddities["rows of {} with broken letters, shown as \ufffd"].append(texts["caption"][0])
            if row.get(roles.get("caption", ""), "") is None and layout and layout.separator:
                found.oddities["rows of {} with fewer cells than columns, which have no caption"].append(
                    f"line {number}"
                )
            label, group, split = (next(iter(texts.get(role, ())), "") for role in ("label", "group", "split"))
            if name:
                found.names[key := alike(_relative(name))] = _relative(name)
                here = found.rows.get(key, SidecarTexts())
                captions = tuple(dict.fromkeys((*here.captions, *texts.get("caption", ()))))
                found.rows[key] = SidecarTexts(captions, label, group, split)
            else:
                found.bad.append(f"line {number} names no image")
    except (Refused, OSError, pa.ArrowException) as error:
        found.about = f"lies there and was not read ({printable_line(error)[:160]})"
    return found


def nearest_first(tables: dict[str, FolderMetadata]) -> dict[str, FolderMetadata]:
    """Tables in the order in which pictures are looked up in them: those of inner folders before those around."""
    return dict(sorted(tables.items(), key=lambda item: -item[1].home.count("/")))


def with_rows(said: SidecarTexts, path: str, tables: Mapping[str, FolderMetadata]) -> SidecarTexts:
    """What a picture's sidecars say, and what the tables around it say, the nearest first."""
    for table in tables.values():
        said = table.added_to(said, path)
    return said


def _rows(file: Path, layout: Dialect | None) -> Iterator[tuple[int, Mapping[str, object] | BadRow]]:
    if layout is None:
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches():
                yield from enumerate(batch.to_pylist(), 1)
    else:
        yield from table_rows(file, layout)


def _roles(row: Mapping[str, object], file: Path) -> dict[str, str]:
    """The columns by role; file_name, the name that Hugging Face asks for, comes before all others."""
    usual = [column for column in row if plain_name(column) in ("filename", "imagefilename")]
    named = [column for column in usual if looks_like_picture(row[column])][:1]
    try:
        return column_roles(list(row), dict.fromkeys(("image",), *named) if named else {}, str(file), row)
    except Refused:
        numbers = [column for column in row if plain_name(column) in IDS]  # names without their suffixes
        if not numbers:
            raise
        return column_roles(list(row), {"image": numbers[0]}, str(file), row)


def _relative(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./")
