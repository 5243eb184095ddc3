"""Parquet and Arrow files whose rows hold images: encoded bytes, paths, base64, pixels, Hugging Face's structs."""

import binascii
import json
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
from PIL import Image

from atlas.errors import Refused
from atlas.sources.archives import split_of_path
from atlas.sources.columns import column_roles, roles_in_words
from atlas.sources.decoding import Unreadable, decode, free_memory
from atlas.sources.imagefile import PathFinder, image_file_item
from atlas.sources.items import Item, Note, image_item, only_items, printable_line, refused_item, size_and_mtime
from atlas.sources.values import cell_texts

COLUMNAR_SUFFIXES = (".parquet", ".pq", ".arrow", ".feather")
_CELLS_AT_ONCE = 1024  # of a row group, as Python objects: equal cells share their bytes in the file, not in Python
_LONGEST_PATH = 4096  # characters; longer texts are images in base64


@dataclass(frozen=True)
class Parquet:
    """Parquet or Arrow files with a column of images: bytes, paths, structs {bytes, path}, base64, or pixels."""

    name: str
    spec: str
    files: tuple[tuple[str, Path], ...]
    columns: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Item]:
        return only_items(self.entries())

    def entries(self) -> Iterator[Item | Note]:
        """Items, and notes on the columns."""
        for inside, file in self.files:
            try:
                with _Columnar(file) as table:
                    yield from self._file(inside, file, table)
            except (pa.ArrowException, OSError) as error:
                kind = "a Parquet" if file.suffix.lower() in (".parquet", ".pq") else "an Arrow"
                raise Refused(f"{file}: not {kind} file that can be read ({printable_line(error)[:120]})") from None

    def _file(self, inside: str, file: Path, table: "_Columnar") -> Iterator[Item | Note]:
        schema = table.schema
        partitions = _partitions(inside)
        found = column_roles([*schema.names, *partitions], self._asked(schema), self.spec)
        images = schema.field(found["image"])
        kind = storage_type(images.type)
        if not (_is_text(kind) or _holds_images(kind)):
            raise Refused(f"{self.spec}: column {images.name!r} holds {images.type}, not image bytes or paths")
        yield Note("taken", roles_in_words(found, schema.names))
        classes = {role: class_names(schema, column) for role, column in found.items() if role != "image"}
        paths, finder, row = _is_text(kind), PathFinder(file.parent), 0
        read = [column for role, column in found.items() if (paths or role != "image") and column not in partitions]
        size, mtime = size_and_mtime(file)
        for part in range(table.parts):
            whole, cells = table.read(part, read) if read else None, {}
            for place in range(table.length(part)):
                offset = place % _CELLS_AT_ONCE
                if whole is not None and offset == 0:
                    cells = whole.slice(place, _CELLS_AT_ONCE).to_pydict()
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

    def _asked(self, schema: pa.Schema) -> Mapping[str, str]:
        """The columns that the user names, and the image column if its type alone gives it away."""
        if "image" in self.columns:
            return self.columns
        told = [each.name for each in schema if _feature(schema, each.name).get("_type") == "Image"]
        kinds = {each.name: storage_type(each.type) for each in schema}
        try:
            usual = column_roles(schema.names, {}, "")["image"]
            if _is_text(kinds[usual]) or _holds_images(kinds[usual]):
                return self.columns
        except Refused:
            pass
        bytes_alone = [name for name, kind in kinds.items() if _holds_images(kind) and not pa.types.is_list(kind)]
        chosen = (told or bytes_alone)[:1]
        return {**self.columns, "image": chosen[0]} if chosen and len(told or bytes_alone) == 1 else self.columns

    def _named(self, id: str, cell: object, finder: PathFinder, texts: Mapping[str, tuple[str, ...]]) -> Item:
        """The item of a cell of text: a path, an address, or the image itself in base64."""
        path = str(cell or "").strip()
        if not path:
            return refused_item(id, self.spec, "the row holds no image", texts)
        if path.startswith("data:") or len(path) > _LONGEST_PATH or _from_base64(path):
            return image_item(id, self.spec, texts, partial(_decode_text, path), len(path))
        return image_file_item(id, self.spec, finder.find(path), texts)


class _Columnar:
    """One file of columns: its schema, and its parts (row groups or record batches), read one at a time."""

    def __init__(self, file: Path):
        self._parquet = _open_parquet(file) if file.suffix.lower() in (".parquet", ".pq") else None
        self._batches: list[pa.RecordBatch] = []  # of a stream of Arrow
        self._arrow: pyarrow.ipc.RecordBatchFileReader | None = None
        if self._parquet is not None:
            self.schema = self._parquet.schema_arrow
            return
        self._mapped = source = pa.memory_map(str(file))
        whole = source.read(6) == b"ARROW1"
        source.seek(0)
        if whole:
            self._arrow = pyarrow.ipc.open_file(source)
            self.schema = self._arrow.schema
        else:
            stream, before = pyarrow.ipc.open_stream(source), pa.total_allocated_bytes()
            self.schema = stream.schema
            for batch in stream:
                self._batches.append(batch)
                _refuse_large(pa.total_allocated_bytes() - before, "the stream")  # compressed; others stay on disk

    def __enter__(self) -> "_Columnar":
        return self

    def __exit__(self, *error: object) -> None:
        (self._parquet or self._mapped).close()

    @property
    def parts(self) -> int:
        if self._arrow is not None:
            return self._arrow.num_record_batches
        return len(self._batches) if self._parquet is None else self._parquet.num_row_groups

    def length(self, part: int) -> int:
        if self._parquet is None:
            return self._batch(part).num_rows
        return self._parquet.metadata.row_group(part).num_rows

    def read(self, part: int, columns: list[str]) -> pa.Table:
        if self._parquet is None:
            return pa.Table.from_batches([self._batch(part)]).select(columns)
        about = self._parquet.metadata.row_group(part)
        chunks = [about.column(i) for i in range(about.num_columns)]
        size = sum(each.total_uncompressed_size for each in chunks if each.path_in_schema.split(".")[0] in columns)
        _refuse_large(size, f"row group {part}")
        return self._parquet.read_row_group(part, columns=columns)

    def _batch(self, part: int) -> pa.RecordBatch:
        return self._batches[part] if self._arrow is None else self._arrow.get_batch(part)


def _open_parquet(file: Path) -> pq.ParquetFile:
    """A Parquet file whose texts and bytes stay in dictionaries: few bytes on the disk may stand for any number."""
    with pq.ParquetFile(file) as plain:
        if not plain.metadata.num_row_groups:
            return pq.ParquetFile(file)
        first = plain.metadata.row_group(0)
        chunks = [first.column(i) for i in range(first.num_columns)]
    repeated = [each.path_in_schema for each in chunks if each.physical_type == "BYTE_ARRAY"]
    return pq.ParquetFile(file, read_dictionary=repeated)


def _refuse_large(size: int, what: str) -> None:
    if size > free_memory() // 2:
        raise pa.ArrowInvalid(f"{what} takes {size / 1e9:.1f} GB, more than half of the free memory")


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


def _holds_images(kind: pa.DataType) -> bool:
    """Whether values may be images: bytes, structs of bytes or a path, lists of these, or pixels."""
    kind = storage_type(kind)
    if isinstance(kind, pa.StructType):
        names = {kind.field(i).name for i in range(kind.num_fields)}
        return bool(names & {"bytes", "path"})
    if _is_list(kind):
        inner = storage_type(kind.value_type)  # pyright: ignore[reportAttributeAccessIssue]
        return pa.types.is_integer(inner) or pa.types.is_floating(inner) or _is_text(inner) or _holds_images(inner)
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    return binary or pa.types.is_fixed_size_binary(kind)


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
    with _Columnar(file) as table:
        return table.read(part, [column]).column(0)


def decode_cell(cell: object, folder: Path) -> Image.Image:
    """The image of one cell: bytes, a path, base64, a struct of bytes or path, pixels, or the first of a list."""
    if isinstance(cell, Mapping):
        data, path = cell.get("bytes"), cell.get("path")
        return decode_cell(data if data is not None else path, folder)
    if cell is None or (isinstance(cell, str | bytes | list) and not cell):
        raise Unreadable("the row holds no image")
    if isinstance(cell, bytes):
        return _decode_bytes(cell)
    if isinstance(cell, str):
        return _decode_text(cell) if cell.startswith("data:") or _from_base64(cell) else decode(folder / cell)
    if isinstance(cell, list) and not isinstance(cell[0], int | float | list):
        return decode_cell(cell[0], folder)
    return _of_numbers(cell)


def _decode_bytes(data: bytes) -> Image.Image:
    start = data[:64]
    if start.isascii() and (start.startswith(b"data:") or _from_base64(start[: len(start) // 4 * 4].decode())):
        return _decode_text(data.decode("ascii", "replace"))
    return decode(data)


def _of_numbers(cell: object) -> Image.Image:
    """An image of numbers: encoded bytes as a list, or pixels (h, w), (h, w, 1, 3 or 4) or (3, h, w)."""
    try:
        values = np.asarray(cell)
    except ValueError:
        raise Unreadable("the row holds lists of different lengths, which are no image") from None
    if values.ndim == 1 and values.dtype.kind in "iu" and len(values) > 8:
        if values.min() < -128 or values.max() > 255:
            raise Unreadable("the row holds numbers, and neither the bytes of an image nor its pixels")
        encoded = (values % 256).astype(np.uint8).tobytes()
        try:
            return decode(encoded)
        except Unreadable as unreadable:
            if "not an image that can be read" in str(unreadable):
                shape = f"{len(values):,} numbers in one list: no encoded image, and pixels need rows (height, width)"
                raise Unreadable(f"the row holds {shape}") from None
            raise
    if values.ndim == 3 and values.shape[0] in (1, 3, 4) and values.shape[2] not in (1, 3, 4):
        values = values.transpose(1, 2, 0)
    if values.ndim not in (2, 3) or values.dtype.kind not in "iuf" or (values.ndim == 3 and values.shape[2] > 4):
        raise Unreadable(f"the row holds numbers of shape {values.shape}, which are no image")
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise Unreadable("the row holds pixels that are not finite")
    scale = 255 if values.min() >= 0 and values.max() <= 1 else 1
    pixels = np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)
    return Image.fromarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels).convert("RGB")


def _from_base64(text: str) -> bool:
    """Whether a text is base64 of something that begins as images do."""
    try:
        start = b64decode(text[: min(len(text), 64) // 4 * 4], validate=True) if len(text) >= 64 else b""
    except (binascii.Error, ValueError):
        return False
    return start.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"\0\0\0"))


def _decode_text(text: str) -> Image.Image:
    """The image in a data address or in base64."""
    body = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return decode(b64decode("".join(body.split()) + "=" * (-len(body) % 4)))
    except (binascii.Error, ValueError) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable("a text that is neither a path nor base64") from None
