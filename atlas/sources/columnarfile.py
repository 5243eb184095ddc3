"""Files of columns, Parquet or Arrow: their schema, and their parts, which are read one at a time."""

from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from atlas.formatting import Record
from atlas.sources.decoding import free_memory

PARQUET_SUFFIXES = (".parquet", ".pq")


class ColumnarFile:
    """One file of columns: its schema, and its parts (row groups or record batches), read one at a time."""

    def __init__(self, file: Path):
        self._parquet = _open_parquet(file) if file.suffix.lower() in PARQUET_SUFFIXES else None
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

    def __enter__(self) -> "ColumnarFile":
        return self

    def __exit__(self, *error: object) -> None:
        (self._parquet or self._mapped).close()

    @property
    def parts(self) -> int:
        """How many there are."""
        if self._arrow is not None:
            return self._arrow.num_record_batches
        return len(self._batches) if self._parquet is None else self._parquet.num_row_groups

    def length(self, part: int) -> int:
        """The rows of a part."""
        if self._parquet is None:
            return self._batch(part).num_rows
        return self._parquet.metadata.row_group(part).num_rows

    def read(self, part: int, columns: list[str]) -> pa.Table:
        """Some columns of a part."""
        if self._parquet is None:
            return pa.Table.from_batches([self._batch(part)]).select(columns)
        about = self._parquet.metadata.row_group(part)
        chunks = [about.column(i) for i in range(about.num_columns)]
        size = sum(each.total_uncompressed_size for each in chunks if each.path_in_schema.split(".")[0] in columns)
        _refuse_large(size, f"row group {part}")
        return self._parquet.read_row_group(part, columns=columns)

    def first_row(self, columns: list[str]) -> Record:
        """The cells of these columns in the first row; none if there is no row."""
        if self._parquet is None:
            first = self._batch(0).select(columns).slice(0, 1) if self.parts else None
        else:
            first = next(self._parquet.iter_batches(1, columns=columns), None)
        return next(iter(first.to_pylist()), {}) if first is not None else {}

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
