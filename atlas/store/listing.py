"""What a collection was asked for: the listing of its sources, and how it falls into shards.

The listing is written before any work is done and is what makes a collection resumable: the same listing falls into
the same shards, and a file that has changed since is noticed by its size or modification time.
"""

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from atlas.errors import Refused
from atlas.sources.spec import Item
from atlas.store.shards import KINDS, SHARD_ROWS

_LISTING_SCHEMA = pa.schema(
    [("id", pa.string()), ("kind", pa.string()), ("size", pa.int64()), ("mtime", pa.int64()), ("shard", pa.int32())]
)


@dataclass(frozen=True)
class ShardJob:
    """One shard to be made: its number, its kind, and the items that go in."""

    number: int
    kind: str
    items: list[Item]

    @property
    def name(self) -> str:
        """Name of the shard's folder."""
        return f"{self.number:05d}"


@dataclass(frozen=True)
class Listing:
    """How many items of each kind were listed, into how many shards, and the sha256 of it all."""

    counts: dict[str, int]
    shards: int
    sha256: str


def id_hash(id: str, seed: int = 0) -> int:
    """A 64-bit hash of a row's id, the same on every machine: seeds what is random about a row, orders reservoirs."""
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{id}".encode(), digest_size=8).digest(), "big")


def shard_jobs(items: Iterable[Item], first: int = 0) -> Iterator[ShardJob]:
    """Items in their order, gathered into shards of one kind; only the shards being filled are in memory."""
    waiting: dict[str, list[Item]] = {kind: [] for kind in KINDS}
    number = first
    for item in items:
        batch = waiting[item.kind]
        batch.append(item)
        if len(batch) == SHARD_ROWS:
            yield ShardJob(number, item.kind, batch)
            waiting[item.kind] = []
            number += 1
    for kind, batch in waiting.items():
        if batch:
            yield ShardJob(number, kind, batch)
            number += 1


def write_listing(items: Iterable[Item], path: Path, earlier: Path | None = None, first: int = 0) -> Listing:
    """Write the listing of `items`, after an `earlier` one if given, as Parquet; ids must be unique."""
    counts: dict[str, int] = dict.fromkeys(KINDS, 0)
    seen, shards = array("Q"), first
    with pq.ParquetWriter(path, _LISTING_SCHEMA, compression="zstd") as writer:
        for batch in pq.ParquetFile(earlier).iter_batches() if earlier else ():
            writer.write_batch(batch)
            seen.extend(id_hash(id) for id in batch["id"].to_pylist())
        for job in shard_jobs(items, first):
            columns = [[getattr(item, name) for item in job.items] for name in _LISTING_SCHEMA.names[:-1]]
            writer.write_table(pa.table([*columns, [job.number] * len(job.items)], _LISTING_SCHEMA))
            seen.extend(id_hash(item.id) for item in job.items)
            counts[job.kind] += len(job.items)
            shards = job.number + 1
    _refuse_repeats(np.frombuffer(seen, np.uint64), path)
    return Listing(counts, shards, _combined(_listed(path)))


def _refuse_repeats(hashes: np.ndarray, path: Path) -> None:
    order = np.sort(hashes)
    repeated = order[:-1][order[1:] == order[:-1]]
    if len(repeated):
        ids = pq.read_table(path, columns=["id"])["id"].to_pylist()
        first = next(id for id in ids if id_hash(id) == int(repeated[0]))
        raise Refused(
            f"the id {first!r} is listed twice; name each source once, and give files of one name a folder each"
        )


def listing_digest(items: Iterable[Item]) -> str:
    """A sha256 over what is listed, whatever the order, so that an appended Store knows its sources again."""
    return _combined((item.id, item.kind, item.size, item.mtime) for item in items)


def _combined(rows: Iterable[tuple[str, str, int, int]]) -> str:
    total = 0
    for row in rows:
        total += int.from_bytes(hashlib.sha256(repr(row).encode()).digest(), "big")
    return f"{total % 2**256:064x}"


def _listed(path: Path) -> Iterator[tuple[str, str, int, int]]:
    for batch in pq.ParquetFile(path).iter_batches(columns=_LISTING_SCHEMA.names[:-1]):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


@dataclass(frozen=True)
class Difference:
    """How a source differs from an earlier listing of it: ids of files added, changed and gone."""

    added: list[str]
    changed: list[str]
    gone: list[str]

    def __str__(self) -> str:
        named = (("added", self.added), ("changed", self.changed), ("gone", self.gone))
        return ", ".join(f"{len(ids):,} {what} (such as {ids[0]})" for what, ids in named if ids)


def compare_listing(items: Iterable[Item], path: Path) -> Difference:
    """What has changed in a source since its listing was written to `path`."""
    table = pq.read_table(path, columns=["id", "size", "mtime"])
    known = {row["id"]: (row["size"], row["mtime"]) for batch in table.to_batches() for row in batch.to_pylist()}
    added, changed = [], []
    for item in items:
        stat = known.pop(item.id, None)
        if stat is None:
            added.append(item.id)
        elif stat != (item.size, item.mtime):
            changed.append(item.id)
    return Difference(added, changed, list(known))


def listed_before(path: Path, shard: int) -> set[str]:
    """Ids of the listed items that belong to shards before `shard`."""
    table = pq.read_table(path, columns=["id"], filters=[("shard", "<", shard)])
    return set(table["id"].to_pylist())
