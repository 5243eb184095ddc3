"""The shards of a Store: folders of at most 1,024 rows, and a view that joins their arrays.

(Sources in tar or Parquet shards are read by `atlas.sources.archives`.)
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from atlas.errors import Refused
from atlas.formatting import Record
from atlas.store.derived import check_size, verify_file
from atlas.store.files import read_json, sha256
from atlas.store.manifest import check_types

SHARD_ROWS = 1024
KINDS = ("image", "word", "text")
CONTENT_FILE = "content.npy"  # blake2b of each encoded image: uint8 (n, 16)
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
        """A memory map of one array: (rows, e) or (rows, u). Raises `Refused` if the file is damaged."""
        file = f"{layer}/{name}.npy" if layer else f"{name}.npy"
        self.verify(file)
        try:
            array = np.load(self.folder / file, mmap_mode="r", allow_pickle=False)
            self._check_header(name, array, self.files[file])
            return array
        except Exception as error:  # NumPy raises many types of error for a damaged header
            raise self._damaged(file, error) from None

    def contents(self) -> np.ndarray | None:
        """The digests of the encoded images, uint8 (rows, 16); None for other kinds. Raises `Refused` for damage."""
        if CONTENT_FILE not in self.files:
            return None
        self.verify(CONTENT_FILE)
        try:
            found = np.load(self.folder / CONTENT_FILE, allow_pickle=False)
            if found.dtype != np.uint8 or found.ndim != 2 or len(found) != self.rows:
                raise ValueError(f"its header says {found.dtype} {found.shape}")
        except Exception as error:
            raise self._damaged(CONTENT_FILE, error) from None
        return found

    def _check_header(self, name: str, array: np.memmap, stat: Record) -> None:
        """Raise `ValueError` unless an array has the numbers that fill its file; not every file is read in full."""
        dtype = np.dtype(np.uint16 if name == "argmax" else np.float16)
        found = (array.dtype, array.ndim, len(array), array.offset + array.nbytes)
        if found != (dtype, 2, self.rows, stat.get("bytes")):
            raise ValueError(f"its header says {array.dtype} {array.shape}")

    def table(self, columns: Sequence[str]) -> pa.Table:
        """Columns of rows.parquet; later versions have more, which are null here. Raises `Refused` for damage."""
        self.verify("rows.parquet")
        file, later = self.folder / "rows.parquet", LATER_COLUMNS.names
        try:
            there = set(pq.read_schema(file, memory_map=True).names)
            known = [name for name in columns if name in there or name not in later]
            found = pq.read_table(file, columns=known, memory_map=True)
        except (OSError, pa.ArrowException) as error:
            raise self._damaged("rows.parquet", error) from None
        for place, name in enumerate(columns):
            if name not in known:
                field = LATER_COLUMNS.field(name)
                found = found.add_column(place, field, pa.nulls(self.rows, field.type))
        return found

    def verify(self, file: str) -> None:
        """Raise `Refused` unless a file of the shard is as it was written; each is read for that once in a process."""
        if file not in self.files:
            raise Refused(f"{self.folder / file} is not listed in shard.json; {shard_remedy(self.folder)}")
        verify_file(self.folder / file, self.files[file], shard_remedy(self.folder))

    def _damaged(self, file: str, error: Exception) -> Refused:
        reason = " ".join(str(error).split())[:100]
        return Refused(f"{self.folder / file} cannot be read ({reason}); {shard_remedy(self.folder)}")


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


def shard_remedy(folder: Path) -> str:
    """What a user can do about a damaged shard."""
    return f"restore it, or remove {folder} and collect again"


def open_shard(folder: Path, expected: str, start: int) -> Shard:
    """Open one shard, whose first row is row `start`; raises `Refused` if it does not match its checksum or sizes."""
    manifest = folder / "shard.json"
    if not manifest.exists():
        raise Refused(f"{folder} is missing; restore it, or collect again")
    if (found := sha256(manifest)) != expected:
        raise Refused(
            f"{manifest} does not match store.json: expected sha256 {expected[:12]}, got {found[:12]}; "
            f"{shard_remedy(folder)}"
        )
    content = read_json(manifest)
    check_types(manifest, content, {"kind": str, "rows": int, "files": dict})
    for file, stat in content["files"].items():
        check_size(folder / file, stat, shard_remedy(folder))
    return Shard(folder, content["kind"], start, content["rows"], content["files"])


def open_shards(path: Path, digests: Mapping[str, str]) -> Iterator[Shard]:
    """Open the shards of a Store in order; raises `Refused` for the first one that does not match."""
    start = 0
    for name, expected in digests.items():
        shard = open_shard(path / "shards" / name, expected, start)
        yield shard
        start += shard.rows
