"""The listing of a collection's inputs, and their division into shards.

The listing is written before any work is done, and it makes a collection resumable: the same listing is divided into
the same shards, and a file that has changed is noticed by its size or modification time.
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
    """One shard to be made: its number, kind and items."""

    number: int
    kind: str
    items: list[Item]

    @property
    def name(self) -> str:
        """Name of the shard's folder."""
        return f"{self.number:05d}"


@dataclass(frozen=True)
class Listing:
    """The size of a listing: items of each kind, number of shards; and the sha256 of the listing."""

    counts: dict[str, int]
    shards: int
    sha256: str


def id_hash(id: str, seed: int = 0) -> int:
    """A 64-bit hash of a row's id, the same on every machine: the seed of random choices about the row."""
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{id}".encode(), digest_size=8).digest(), "big")


def shard_jobs(items: Iterable[Item], first: int = 0) -> Iterator[ShardJob]:
    """Yield shards of items of one kind, in order; only the shards being filled are in memory."""
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
    """Write the listing of `items` as Parquet, after the rows of an `earlier` listing if there is one.

    `first`: number of the first new shard. Raises `Refused` if an id occurs twice.
    """
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
    """Sha256 of a listing that does not depend on the order, so that a Store after --append matches its sources."""
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
    """The difference of a source from an earlier listing: ids of the files added, changed and gone."""

    added: list[str]
    changed: list[str]
    gone: list[str]

    def __str__(self) -> str:
        named = (("added", self.added), ("changed", self.changed), ("gone", self.gone))
        return ", ".join(f"{len(ids):,} {what} (such as {ids[0]})" for what, ids in named if ids)


def compare_listing(items: Iterable[Item], path: Path) -> Difference:
    """Compare a source with its listing at `path`."""
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
    """Ids of the listed items in shards before number `shard`."""
    table = pq.read_table(path, columns=["id"], filters=[("shard", "<", shard)])
    return set(table["id"].to_pylist())
