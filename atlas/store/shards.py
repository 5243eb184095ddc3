"""The shards of a Store: folders of at most 1,024 rows, and a view that joins their arrays.

(Sources in tar or Parquet shards are read by `atlas.sources.archives`.)
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from atlas.errors import Refused
from atlas.formatting import Record

SHARD_ROWS = 1024
KINDS = ("image", "word", "text")
ARRAYS = ("embedding", "max", "argmax", "mean", "patch")
ROW_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("kind", pa.string()),
        ("source", pa.string()),
        ("caption", pa.string()),
        ("label", pa.string()),
        ("group", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("patch_row", pa.int16()),
        ("patch_col", pa.int16()),
        ("thumb", pa.binary()),
    ]
)
LATER_COLUMNS = pa.schema(  # Stores of earlier versions lack them; all captions, where a picture has several
    [("split", pa.string()), ("captions", pa.list_(pa.string()))]
)
REJECT_SCHEMA = pa.schema(
    [("id", pa.string()), ("kind", pa.string()), ("source", pa.string()), ("reason", pa.string())]
)


def sha256(path: Path) -> str:
    """Sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Record:
    """Read a JSON object from a file. Raises `Refused` if the file cannot be read as JSON."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise Refused(f"{path} cannot be read as JSON ({error}); restore it, or make the folder anew") from None


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write a JSON file under another name and rename it, so that readers see the old or the new content."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    partial.replace(path)


def describe_files(folder: Path) -> dict[str, Record]:
    """Size and sha256 of all files under a folder: {relative path: {"bytes", "sha256"}}, sorted by path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in files
    }


@dataclass(frozen=True)
class Shard:
    """At most 1,024 rows of one kind: the rows `start` to `start + rows` of the Store."""

    folder: Path
    kind: str
    start: int
    rows: int
    files: dict[str, Record] = field(repr=False)

    @property
    def positions(self) -> np.ndarray:
        """Positions of the shard's rows in the Store: int64 (rows,)."""
        return np.arange(self.start, self.start + self.rows)

    def array(self, name: str, layer: str = "") -> np.ndarray:
        """A memory map of one array: (rows, e) or (rows, u)."""
        return np.load(self.folder / layer / f"{name}.npy", mmap_mode="r", allow_pickle=False)

    def table(self, columns: Sequence[str]) -> pa.Table:
        """Columns of rows.parquet; those that an older version did not write hold nulls."""
        file, later = self.folder / "rows.parquet", LATER_COLUMNS.names
        there = set(pq.read_schema(file, memory_map=True).names)
        known = [name for name in columns if name in there or name not in later]
        found = pq.read_table(file, columns=known, memory_map=True)
        for place, name in enumerate(columns):
            if name not in known:
                field = LATER_COLUMNS.field(name)
                found = found.add_column(place, field, pa.nulls(self.rows, field.type))
        return found


class Array:
    """A view (n, d) on the memory maps of shards; slicing and indexing read only the rows asked for."""

    def __init__(self, parts: list[np.ndarray]):
        self.parts = parts
        self.starts = np.cumsum([0, *(len(part) for part in parts)])
        self.dtype = parts[0].dtype
        self.shape = (int(self.starts[-1]), *parts[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"Array(shape={self.shape}, dtype={self.dtype}, shards={len(self.parts)})"

    def __getitem__(self, at: int | slice | np.ndarray | list[int]) -> np.ndarray:
        if isinstance(at, int | np.integer):
            return self._take(np.array([at]))[0]
        if isinstance(at, slice):
            start, stop, step = at.indices(len(self))
            if step != 1:
                return self._take(np.arange(start, stop, step))
            pieces = [
                part[max(0, start - first) : max(0, stop - first)]
                for part, first in zip(self.parts, self.starts[:-1], strict=True)
                if first < stop and first + len(part) > start
            ]
            return np.concatenate(pieces) if pieces else np.empty((0, *self.shape[1:]), self.dtype)
        at = np.asarray(at)
        return self._take(np.flatnonzero(at) if at.dtype == bool else at)

    def _take(self, at: np.ndarray) -> np.ndarray:
        if len(at) and (at.max() >= len(self) or at.min() < -len(self)):
            raise IndexError(f"row {at.max()} of {len(self)}")
        at = np.where(at < 0, at + len(self), at)
        out = np.empty((len(at), *self.shape[1:]), self.dtype)
        shard = np.searchsorted(self.starts, at, side="right") - 1
        for number in np.unique(shard):
            here = shard == number
            out[here] = self.parts[number][at[here] - self.starts[number]]
        return out

    def __array__(self, dtype: np.dtype | type | None = None, copy: bool | None = None) -> np.ndarray:
        whole = self[:]
        return whole if dtype is None else whole.astype(dtype)


def layer_folder(layers: Sequence[str], layer: str) -> str:
    """The folder of a layer's arrays in a shard: "" for the first layer, otherwise the path of the layer."""
    return "" if layer == layers[0] else layer


def check_size(file: Path, expected: int, remedy: str) -> None:
    """Raise `Refused` unless the file is there and has the expected number of bytes. `remedy`: what the user can do."""
    found = file.stat().st_size if file.exists() else None
    if found != expected:
        state = "is missing" if found is None else f"has {found} bytes"
        raise Refused(f"{file} {state}, expected {expected} bytes; {remedy}")


def checksum_faults(folder: Path, files: dict[str, Record]) -> list[str]:
    """The files whose sha256 differs from the expected one, one line each."""
    return [
        f"{folder / file}: expected sha256 {stat['sha256'][:12]}, got {found[:12]}"
        for file, stat in files.items()
        if (found := sha256(folder / file) if (folder / file).exists() else "no file") != stat["sha256"]
    ]


def open_shards(path: Path, digests: Mapping[str, str]) -> Iterator[Shard]:
    """Open the shards of a Store in order; raises `Refused` for the first one that does not match its checksum."""
    start, remedy = 0, f"restore it, or remove {path} and collect again"
    for name, expected in digests.items():
        folder = path / "shards" / name
        manifest = folder / "shard.json"
        if not manifest.exists():
            raise Refused(f"{folder} is missing; {remedy}")
        if (found := sha256(manifest)) != expected:
            raise Refused(f"{manifest} does not match store.json: expected sha256 {expected[:12]}, got {found[:12]}")
        content = read_json(manifest)
        for file, stat in content["files"].items():
            check_size(folder / file, stat["bytes"], remedy)
        yield Shard(folder, content["kind"], start, content["rows"], content["files"])
        start += content["rows"]
