"""Parquet and Arrow files whose rows hold images: encoded bytes, paths, base64, pixels, Hugging Face's structs."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
from PIL import Image

from atlas.errors import Refused
from atlas.formatting import Record
from atlas.sources.archives import split_of_path
from atlas.sources.columnarfile import PARQUET_SUFFIXES, ColumnarFile
from atlas.sources.columns import column_roles, plain_name, roles_in_words
from atlas.sources.decoding import Unreadable
from atlas.sources.imagefile import PathFinder, image_file_item
from atlas.sources.items import Item, Note, image_item, only_items, printable_line, refused_item, size_and_mtime
from atlas.sources.signatures import never_arrived
from atlas.sources.tablepictures import (
    BYTES_NAMES,
    PATH_NAMES,
    decode_cell,
    decode_encoded,
    holds_encoded,
    note_on_several,
)
from atlas.sources.values import cell_texts

COLUMNAR_SUFFIXES = (*PARQUET_SUFFIXES, ".arrow", ".feather")
_CELLS_AT_ONCE = 1024  # of a row group, as Python objects: equal cells share their bytes in the file, not in Python


@dataclass(frozen=True)
class Parquet:
    """Parquet or Arrow files with a column of images: bytes, paths, structs {bytes, path}, base64, or pixels."""

    name: str
    spec: str
    files: tuple[tuple[str, Path], ...]
    columns: Mapping[str, str] = field(default_factory=dict)
    beside: tuple[Note, ...] = ()  # on other files of the same folder

    def __iter__(self) -> Iterator[Item]:
        return only_items(self.entries())

    def entries(self) -> Iterator[Item | Note]:
        """Items, and notes on the columns, and on the files that hold no pictures beside others that do."""
        without = list[tuple[str, Refused]]()
        for inside, file in self.files:
            try:
                with ColumnarFile(file) as table:
                    try:
                        found = self._roles(inside, table)
                    except Refused as refused:
                        without.append((inside, refused))
                        continue
                    yield from self._file(inside, file, table, found)
            except (pa.ArrowException, OSError) as error:
                kind = "a Parquet" if file.suffix.lower() in PARQUET_SUFFIXES else "an Arrow"
                reason = never_arrived(file) or f"not {kind} file that can be read ({printable_line(error)[:120]})"
                if len(self.files) == 1:
                    raise Refused(f"{file}: {reason}") from None
                yield refused_item(f"{self.name}/{inside}(rest)", self.spec, f"its file is {reason}")
        if len(without) == len(self.files) or (without and self.columns):
            raise without[0][1]
        if without:
            yield Note(
                "left", "files of columns that hold no pictures, beside others", len(without), without[0][0].rstrip("/")
            )
        yield from self.beside

    def _roles(self, inside: str, table: ColumnarFile) -> dict[str, str]:
        """The columns by role. Raises `Refused` if none holds pictures."""
        schema = table.schema
        sample = table.first_row([each.name for each in schema if _is_text(storage_type(each.type))])
        asked = self._asked(schema, sample)
        found = column_roles([*schema.names, *_partitions(inside)], asked, self.spec, sample)
        images = schema.field(found["image"])
        kind = storage_type(images.type)
        if not (_is_text(kind) or _holds_images(kind)):
            held = f"{images.type}, not image bytes or paths"
            if isinstance(kind, pa.StructType):
                names = " and ".join(kind.field(i).name for i in range(min(kind.num_fields, 4)))
                held = f"structs of {names}; give bytes and path"
            raise Refused(f"{self.spec}: column {images.name!r} holds {held[:120]}")
        return found

    def _file(self, inside: str, file: Path, table: ColumnarFile, found: Mapping[str, str]) -> Iterator[Item | Note]:
        schema, partitions = table.schema, _partitions(inside)
        images = schema.field(found["image"])
        kind = storage_type(images.type)
        yield Note("taken", roles_in_words(found, schema.names))
        if holds_several(kind):
            yield note_on_several(images.name)
        classes = {role: class_names(schema, column) for role, column in found.items() if role != "image"}
        paths, finder, row = _is_text(kind), PathFinder(file.parent), 0
        read = [column for role, column in found.items() if (paths or role != "image") and column not in partitions]
        size, mtime = size_and_mtime(file)
        for part in range(table.parts):
            whole, cells = table.read(part, read) if read else None, {}
            for place in range(table.length(part)):
                offset = place % _CELLS_AT_ONCE
                if whole is not None and offset == 0:
                    cells = whole.slice(place, _CELLS_AT_ONCE).to_pydict(maps_as_pydicts="lossy")
                texts = {role: _texts(role, found, cells, offset, partitions, names) for role, names in classes.items()}
                texts["split"] = texts.get("split") or (split_of_path(inside or file.name),)
                id = f"{self.name}/{inside}{row}"
                if paths:
                    yield self._named(id, cells[images.name][offset], finder, texts)
                else:
                    load = partial(_decode_cell, file, part, place, images.name)
                    yield image_item(id, self.spec, texts, load, size, mtime)
                row += 1
        yield from finder.notes()

    def _asked(self, schema: pa.Schema, sample: Record) -> Mapping[str, str]:
        """The columns that the user names, and that of the pictures as the types and a row of the texts tell it."""
        if "image" in self.columns:
            return self.columns
        chosen = [each.name for each in schema if _feature(schema, each.name).get("_type") == "Image"]
        kinds = {each.name: storage_type(each.type) for each in schema}
        if len(chosen) != 1:
            fitting = [name for name, kind in kinds.items() if _is_text(kind) or _holds_images(kind)]
            chosen = [name for name, kind in kinds.items() if _holds_images(kind) and not pa.types.is_list(kind)]
            with suppress(Refused):
                chosen = [column_roles(fitting, {}, "", sample)["image"]]
        return {**self.columns, "image": chosen[0]} if len(chosen) == 1 else self.columns

    def _named(self, id: str, cell: object, finder: PathFinder, texts: Mapping[str, tuple[str, ...]]) -> Item:
        """The item of a cell of text: a path, an address, or the image itself in base64."""
        path = str(cell or "").strip()
        if not path:
            return refused_item(id, self.spec, "the row holds no image", texts)
        if holds_encoded(path):
            return image_item(id, self.spec, texts, partial(decode_encoded, path), len(path))
        return image_file_item(id, self.spec, finder.find(path), texts)


def _texts(
    role: str,
    found: Mapping[str, str],
    cells: Mapping[str, list[object]],
    offset: int,
    partitions: Mapping[str, str],
    names: list[str],
) -> tuple[str, ...]:
    """The texts of one cell; class numbers become names."""
    column = found[role]
    if column in partitions:
        return cell_texts(partitions[column])
    cell = cells[column][offset]
    if names and isinstance(cell, int):
        return (names[cell],) if 0 <= cell < len(names) else ()
    return cell_texts(cell)


def _partitions(inside: str) -> dict[str, str]:
    """Columns that folders stand for: label=cat/part-0.parquet."""
    pairs = [part.partition("=") for part in inside.split("/") if "=" in part and not part.endswith(COLUMNAR_SUFFIXES)]
    return {name: unquote(value) for name, _, value in pairs}


def _feature(schema: pa.Schema, column: str) -> Mapping[str, object]:
    """What Hugging Face says of a column in the file's metadata."""
    try:
        said = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        feature = said.get("info", {}).get("features", {}).get(column, {})
    except (ValueError, AttributeError):
        return {}
    return feature if isinstance(feature, dict) else {}


def class_names(schema: pa.Schema, column: str) -> list[str]:
    """The names of the classes that a column of numbers stands for; none if the file does not name them."""
    names = _feature(schema, column).get("names") if column in schema.names else None
    return [str(name) for name in names] if isinstance(names, list) else []


def storage_type(kind: pa.DataType) -> pa.DataType:
    """The type in which values lie: without dictionaries and extensions."""
    if isinstance(kind, pa.DictionaryType):
        return storage_type(kind.value_type)
    return storage_type(kind.storage_type) if isinstance(kind, pa.BaseExtensionType) else kind


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_list(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.ListType | pa.LargeListType | pa.FixedSizeListType | pa.ListViewType)


def holds_several(kind: pa.DataType) -> bool:
    """Whether a cell of this type holds a list of pictures, which are paths, bytes or structs."""
    inner = storage_type(kind.value_type) if _is_list(kind) else None  # pyright: ignore[reportAttributeAccessIssue]
    return inner is not None and (_is_text(inner) or (_holds_images(inner) and not _is_list(inner)))


def _holds_images(kind: pa.DataType) -> bool:
    """Whether values may be images: bytes, structs of bytes or a path, lists of these, or pixels."""
    kind = storage_type(kind)
    if isinstance(kind, pa.StructType):
        return any(_may_be_picture(kind.field(i)) for i in range(kind.num_fields))
    if _is_list(kind):
        inner = storage_type(kind.value_type)  # pyright: ignore[reportAttributeAccessIssue]
        numbers = pa.types.is_integer(inner) or pa.types.is_floating(inner) or pa.types.is_boolean(inner)
        return numbers or _is_text(inner) or _holds_images(inner)
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    return binary or pa.types.is_fixed_size_binary(kind)


def _may_be_picture(field: pa.Field) -> bool:
    """Whether a field of a struct holds the bytes or the path of a picture, by its name and type."""
    name, kind = plain_name(field.name), storage_type(field.type)
    return (name in BYTES_NAMES and (_is_text(kind) or _holds_images(kind))) or (name in PATH_NAMES and _is_text(kind))


def _decode_cell(file: Path, part: int, offset: int, column: str) -> Image.Image:
    try:
        cell = _row_group(file, size_and_mtime(file), part, column)[offset]
        shape = getattr(cell.type, "shape", None)  # of Arrow's tensors
        value = cell.as_py()
    except (pa.ArrowException, OSError, IndexError):
        raise Unreadable("its Parquet file cannot be read or has changed") from None
    if shape is not None and value is not None:
        value = np.asarray(value).reshape(shape)
    return decode_cell(value, file.parent)


@lru_cache(2)  # rows come in order, so each row group is read once; two entries, since threads straddle a boundary
def _row_group(file: Path, state: tuple[int, int], part: int, column: str) -> pa.ChunkedArray:
    del state  # part of the cache's key, so that a rewritten file is read again
    with ColumnarFile(file) as table:
        return table.read(part, [column]).column(0)
