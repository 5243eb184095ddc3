"""Sources that pack many images into one file: tar shards, Parquet files, Hugging Face data sets."""

import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import groupby, repeat
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from atlas.errors import Refused
from atlas.formatting import Record
from atlas.sources.decoding import Unreadable, decode
from atlas.sources.files import MAX_CAPTION, NOT_IMAGES, column_roles, image_file_item
from atlas.sources.items import Distinct, Item, identifier, printable_line, raise_unreadable, size_and_mtime

if TYPE_CHECKING:
    from datasets import Dataset

MAX_HEADER = 2**20  # bytes of a tar header that tells about the next member
_ABOUT_NEXT = {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE}
_ABOUT_NEXT.add(tarfile.SOLARIS_XHDTYPE)
_TAR_FAULTS = (tarfile.TarError, OSError, ValueError, RecursionError)


@dataclass(frozen=True)
class Tars:
    """Tar shards in webdataset's layout, as img2dataset writes them: key.jpg next to key.txt, key.cls and key.json.

    Listing reads headers and texts only. Images are read by their offset, so the shards need not be unpacked.
    """

    name: str
    spec: str
    files: tuple[tuple[str, Path], ...]  # (prefix of the ids, path of the shard)

    def __iter__(self) -> Iterator[Item]:
        for inside, file in self.files:
            distinct, (size, mtime) = Distinct(), size_and_mtime(file)
            try:
                for member, texts in _pictures(file, size):
                    id = distinct(identifier(f"{self.name}/{inside}{member.name.removeprefix('./')}"))
                    load = partial(_decode_slice, file, member.offset_data, member.size)
                    if fault := texts.pop("fault", ""):
                        load = partial(raise_unreadable, fault)
                    texts = {role: texts.get(role, "") for role in ("caption", "label", "group")}
                    yield Item(id, "image", self.spec, **texts, size=member.size, mtime=mtime, load=load)
            except _TAR_FAULTS as error:
                lost = partial(raise_unreadable, f"the shard breaks off or is no tar: {printable_line(error)}")
                yield Item(f"{self.name}/{inside}(rest)", "image", self.spec, "", "", "", size, mtime, load=lost)


class _CheckedInfo(tarfile.TarInfo):
    """A header of a tar file whose sizes are checked before Python's tarfile follows them.

    Versions of Python differ in what they check: some go round for ever at a negative size (CVE-2025-8194), or at a
    list of holes that does not end.
    """

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.size < 0 or (self.type in _ABOUT_NEXT and self.size > MAX_HEADER):
            raise tarfile.HeaderError(f"a member of {self.size:,} bytes")
        return super()._proc_member(tar)  # type: ignore[misc] - tarfile's own step from header to member

    def _proc_gnusparse_10(self, next: tarfile.TarInfo, pax_headers: Record, tar: tarfile.TarFile) -> None:
        raise tarfile.HeaderError("a sparse member, whose bytes are not as they are named")


def _pictures(file: Path, size: int) -> Iterator[tuple[tarfile.TarInfo, dict[str, str]]]:
    """Every image of a shard, of `size` bytes, with the texts of its sample; "fault": why it cannot be read."""
    if not file.is_file():
        raise tarfile.ReadError("not a regular file")
    with tarfile.open(file, "r:", tarinfo=_CheckedInfo) as tar:  # not "r": offsets mean nothing in a compressed file
        faults: list[Exception] = []
        for _, sample in groupby(_members(tar, faults), key=_key):
            members = list(sample)
            texts = _texts(tar, members)
            for member in members:
                if PurePosixPath(member.name).suffix.lower() not in NOT_IMAGES:
                    yield member, {**texts, **_member_fault(member, size)}
        if faults:
            raise faults[0]


def _members(tar: tarfile.TarFile, faults: list[Exception]) -> Iterator[tarfile.TarInfo]:
    """The visible members; a fault is put into the list, so that the sample before it is not lost."""
    try:
        yield from filter(_is_visible, tar)
    except _TAR_FAULTS as fault:
        faults.append(fault)


def _member_fault(member: tarfile.TarInfo, size: int) -> dict[str, str]:
    if member.issparse():
        return {"fault": "a sparse member: its bytes are not as they are named"}
    if member.offset_data + member.size > size:
        return {"fault": "the shard breaks off within it"}
    return {}


def _is_visible(member: tarfile.TarInfo) -> bool:
    return member.isfile() and not PurePosixPath(member.name).name.startswith(".")


def _key(member: tarfile.TarInfo) -> str:
    """The key that the files of one sample share: the path up to the first dot of the file name."""
    folder, _, file = member.name.rpartition("/")
    return f"{folder}/{file.partition('.')[0]}"


def _texts(tar: tarfile.TarFile, members: list[tarfile.TarInfo]) -> dict[str, str]:
    """Caption, label and group of a sample; its separate files take precedence over its JSON."""
    read: dict[str, str] = {}
    for member in members:
        suffix = PurePosixPath(member.name).suffix.lower()
        if suffix not in (".txt", ".caption", ".cls", ".json"):
            continue
        if member.size > MAX_CAPTION:
            name = printable_line(PurePosixPath(member.name).name)
            return {"fault": f"its {name} has {member.size:,} bytes, the limit is {MAX_CAPTION:,}"}
        if not member.issparse() and (content := tar.extractfile(member)):
            read[suffix] = content.read().decode("utf-8", "replace")
    try:
        described = json.loads(read.get(".json", "{}"))
    except (ValueError, RecursionError):
        described = {}
    described = described if isinstance(described, dict) else {}
    caption = read.get(".txt", read.get(".caption", described.get("caption")))
    label, group = read.get(".cls", described.get("label")), described.get("group")
    return {"caption": printable_line(caption), "label": printable_line(label), "group": printable_line(group)}


def _decode_slice(file: Path, offset: int, size: int) -> Image.Image:
    try:
        with file.open("rb") as shard:
            shard.seek(offset)
            return decode(shard.read(size))
    except OSError as error:
        raise Unreadable(f"its shard cannot be read: {(error.strerror or 'unknown').lower()}") from None


@dataclass(frozen=True)
class Parquet:
    """Parquet files whose image column holds encoded bytes, paths, or Hugging Face's struct {bytes, path}."""

    name: str
    spec: str
    files: tuple[tuple[str, Path], ...]
    columns: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Item]:
        for inside, file in self.files:
            if not file.is_file():
                raise Refused(f"{file}: not a regular file")
            try:
                with pq.ParquetFile(file) as table:
                    yield from self._file(inside, file, table)
            except (pa.ArrowException, OSError) as error:
                raise Refused(f"{file}: not a Parquet file that can be read ({printable_line(error)[:120]})") from None

    def _file(self, inside: str, file: Path, table: pq.ParquetFile) -> Iterator[Item]:
        schema = table.schema_arrow
        found = column_roles(schema.names, self.columns, self.spec)
        images = schema.field(found["image"])
        paths = _is_text(images.type)
        if not (paths or _holds_bytes(images.type)):
            raise Refused(f"{self.spec}: column {images.name!r} holds {images.type}, not image bytes or paths")
        read = [column for role, column in found.items() if paths or role != "image"]  # images are read when wanted
        row = 0
        for part in range(table.num_row_groups):
            cells = table.read_row_group(part, columns=read).to_pydict()
            for offset in range(table.metadata.row_group(part).num_rows):
                texts = {
                    role: printable_line(cells[found[role]][offset]) if role in found else ""
                    for role in ("caption", "label", "group")
                }
                id = f"{self.name}/{inside}{row}"
                if paths:
                    yield image_file_item(id, self.spec, file.parent / (cells[images.name][offset] or ""), **texts)
                else:
                    load = partial(_decode_cell, file, part, offset, images.name)
                    yield Item(
                        id,
                        "image",
                        self.spec,
                        **texts,
                        size=size_and_mtime(file)[0],
                        mtime=size_and_mtime(file)[1],
                        load=load,
                    )
                row += 1


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if isinstance(kind, pa.DictionaryType) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _holds_bytes(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.StructType):
        return {"bytes", "path"} <= {kind.field(i).name for i in range(kind.num_fields)}
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _decode_cell(file: Path, part: int, offset: int, column: str) -> Image.Image:
    try:
        cell = _row_group(file, size_and_mtime(file), part, column)[offset].as_py()
    except (pa.ArrowException, OSError, IndexError):
        raise Unreadable("its Parquet file cannot be read or has changed") from None
    return _decode_image(cell, file.parent)


@lru_cache(2)  # rows come in order, so each row group is read once; two entries, since threads straddle a boundary
def _row_group(file: Path, state: tuple[int, int], part: int, column: str) -> pa.ChunkedArray:
    del state  # part of the cache's key, so that a rewritten file is read again
    with pq.ParquetFile(file) as table:
        return table.read_row_group(part, columns=[column]).column(0)


def _decode_image(cell: bytes | str | Record | None, folder: Path) -> Image.Image:
    """The image of one cell, which holds bytes, a path, or Hugging Face's struct of both."""
    data, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
    if data is None and path is None:
        raise Unreadable("the row holds no image")
    if isinstance(data, bytes):
        return decode(data)
    return decode(folder / str(data or path))


@dataclass(frozen=True)
class HuggingFace:
    """One split of a Hugging Face data set, given by its name on the hub or by a local folder."""

    name: str
    spec: str
    data: str
    split: str
    columns: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Item]:
        rows = _data_set(self.data, self.split)
        found = column_roles(rows.column_names, self.columns, self.spec)
        readers = {role: _reader(rows.features[column]) for role, column in found.items()}
        columns = [column for role, column in found.items() if role != "image"]
        texts = rows.select_columns(columns) if columns else repeat({}, len(rows))
        for number, row in enumerate(map(dict, texts)):
            cells = {
                role: readers[role](row[found[role]]) if role in found else "" for role in ("caption", "label", "group")
            }
            load = partial(_decode_row, self.data, self.split, found["image"], number)
            yield Item(f"{self.name}/{self.split}/{number}", "image", self.spec, **cells, size=0, mtime=0, load=load)


def _reader(feature: object) -> Callable[[object], str]:
    """The function that turns a cell into text: class numbers become class names."""
    names = getattr(feature, "int2str", None)
    if names is None:
        return printable_line
    return lambda cell: printable_line(names(cell)) if isinstance(cell, int) and cell >= 0 else ""


def _decode_row(data: str, split: str, column: str, number: int) -> Image.Image:
    return _decode_image(_images(data, split, column)[number][column], Path())


@lru_cache(4)
def _images(data: str, split: str, column: str) -> "Dataset":
    """The image column alone, with its cells still encoded."""
    from datasets import Image as Feature

    rows = _data_set(data, split).select_columns([column])
    encoded = isinstance(rows.features[column], Feature)
    return rows.cast_column(column, Feature(decode=False)) if encoded else rows


@lru_cache(4)
def _data_set(data: str, split: str) -> "Dataset":
    try:
        import datasets
        from datasets.exceptions import DatasetsError
    except ImportError:
        raise Refused('a Hugging Face data set needs datasets: pip install "multimodal-atlas[hf]"') from None
    saved = Path(data)
    try:
        if any((saved / mark).is_file() for mark in ("state.json", "dataset_dict.json")):  # by save_to_disk
            rows = datasets.load_from_disk(data)
        else:
            rows = datasets.load_dataset(data)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        raise Refused(f"hf:{data}: cannot be loaded ({printable_line(error)[:160]})") from None
    if isinstance(rows, datasets.DatasetDict):
        if split not in rows:
            raise Refused(f"hf:{data}: no split {split!r}; it has {', '.join(map(str, rows))} (hf:{data}:SPLIT)")
        return rows[split]
    return rows
