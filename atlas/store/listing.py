"""The listing of a collection's inputs, and their division into shards.

The listing is written before any work is done, and the work is made from it: the same listing is divided into the same
shards, whatever became of the sources since. A change of an item is noticed by the size or modification time of its
file, or by the texts that describe it.
"""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from atlas.errors import Refused
from atlas.formatting import Record
from atlas.sources.decoding import TRIED_AGAIN
from atlas.sources.items import Item, raise_unreadable
from atlas.store.shards import KINDS, SHARD_ROWS

_LISTING_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("kind", pa.string()),
        ("size", pa.int64()),
        ("mtime", pa.int64()),
        ("texts", pa.uint64()),
        ("shard", pa.int32()),
    ]
)


CHANGED, GONE = (f"{what} since it was listed{TRIED_AGAIN}" for what in ("changed", "gone"))


class Stat(NamedTuple):
    """What shows whether an item has changed: size and time of change of its file, and a hash of its texts."""

    size: int
    mtime: int
    texts: int | None  # None in Stores of earlier versions

    @classmethod
    def of(cls, item: Item) -> "Stat":
        """The stat of an item as it is now."""
        said = (item.caption, item.label, item.group, item.split, item.captions)
        return cls(item.size, item.mtime, id_hash(repr(said)))

    def says(self, other: "Stat") -> bool:
        """Whether the texts are the same, as far as is known."""
        return None in (self.texts, other.texts) or self.texts == other.texts

    def same(self, other: "Stat") -> bool:
        """Whether nothing has changed, as far as is known."""
        return self[:2] == other[:2] and self.says(other)


@dataclass(frozen=True)
class ShardJob:
    """One shard to be made: its number, kind and items."""

    number: int
    kind: str
    items: list[Item]
    name: str = ""
    """Name of the shard's folder."""


@dataclass(frozen=True)
class Listing:
    """The size of a listing: items of each kind, number of shards; and the sha256 of the listing."""

    counts: dict[str, int]
    shards: int
    sha256: str


def shard_name(number: int) -> str:
    """The folder of a shard; names sort as numbers do, beyond 99,999 too."""
    return f"{number:05d}" if number < 100_000 else f"x{number:09d}"


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
        if earlier:
            held = read_rows(earlier)
            writer.write_table(held)
            seen.extend(map(id_hash, _values(held["id"])))
        for job in shard_jobs(items, first):
            names = [[item.id for item in job.items], [item.kind for item in job.items]]
            stats = zip(*map(Stat.of, job.items), strict=True)
            writer.write_table(pa.table([*names, *map(list, stats), [job.number] * len(job.items)], _LISTING_SCHEMA))
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
        first = next((id for id in ids if id_hash(id) == int(repeated[0])), "")
        raise Refused(
            f"the id {first!r} is listed twice; name each source once, and give files of one name a folder each"
        )


def listing_digest(items: Iterable[Item]) -> str:
    """Sha256 of a listing that does not depend on the order, so that a Store after --append matches its sources."""
    return _combined((item.id, item.kind, *Stat.of(item)) for item in items)


def refuse_damaged_listing(path: Path, digest: str, remove: Path) -> None:
    """Raise `Refused` unless the listing of a run in progress is as it was written; `remove`: what to remove then."""
    try:
        damaged = _combined(_listed(path)) != digest
    except (OSError, pa.ArrowException):
        damaged = True
    if damaged:
        raise Refused(f"{path} is damaged; remove {remove}, then the same command begins again")


def _combined(rows: Iterable[tuple[str | int | None, ...]]) -> str:
    total = 0
    for row in rows:
        known = row if row[-1] is not None else row[:-1]
        total += int.from_bytes(hashlib.sha256(repr(known).encode()).digest(), "big")
    return f"{total % 2**256:064x}"


def _listed(path: Path) -> Iterator[tuple[str | int | None, ...]]:
    for batch in read_rows(path).to_batches():
        yield from zip(*(column.to_pylist() for column in batch.columns[:-1]), strict=True)


def read_rows(path: Path) -> pa.Table:
    """The rows of a listing; the hashes of texts, which earlier versions lack, are null there."""
    table = pq.read_table(path)
    if "texts" not in table.column_names:
        table = table.append_column("texts", pa.nulls(len(table), pa.uint64()))
    return table.select(_LISTING_SCHEMA.names)


def listed_stats(path: Path) -> dict[str, Stat]:
    """What a listing knows of each item, by its id."""
    columns = (_values(read_rows(path)[name]) for name in ("id", *Stat._fields))
    return {id: Stat(*stat) for id, *stat in zip(*columns, strict=True)}


@dataclass
class ListedJobs:
    """The shards of a listing that are wanted, with the items of a source that is walked again to load them.

    `wanted`: numbers of the shards, with the names of their folders. Listed items that the source lacks, or has with
    another size or time of change, are given as unreadable, with that reason. `unlisted` counts the items that the
    listing lacks.
    """

    items: Iterable[Item]
    listing: Path
    wanted: Mapping[int, str]
    unlisted: int = 0

    def __iter__(self) -> Iterator[ShardJob]:
        table = read_rows(self.listing)
        hashes = np.fromiter(map(id_hash, _values(table["id"])), np.uint64, len(table))
        stats, shard = [table[name] for name in Stat._fields], table["shard"].to_numpy()
        order = np.argsort(hashes, kind="stable")
        hashes = hashes[order]
        starts = np.searchsorted(shard, np.arange(shard[-1] + 2))  # rows of a shard are together, in order
        waiting: dict[int, list[Item | None]] = {}
        missing = np.diff(starts).tolist()  # rows of each shard that the source has not given yet
        for item in self.items:
            at = int(np.searchsorted(hashes, np.uint64(id_hash(item.id))))
            if at == len(hashes) or int(hashes[at]) != id_hash(item.id):
                self.unlisted += 1
                continue
            row = int(order[at])
            number = int(shard[row])
            if number not in self.wanted:
                continue
            bucket = waiting.setdefault(number, [None] * int(starts[number + 1] - starts[number]))
            same = Stat.of(item).same(Stat(*(column[row].as_py() for column in stats)))
            place = row - int(starts[number])
            missing[number] -= bucket[place] is None
            bucket[place] = item if same else replace(item, load=_lost(CHANGED))
            if not missing[number]:
                yield self._job(number, [each for each in waiting.pop(number) if each])
        for number in sorted(set(self.wanted) - self._given):
            rows = table.slice(starts[number], starts[number + 1] - starts[number]).to_pylist()
            bucket = waiting.get(number, [None] * len(rows))
            yield self._job(number, [each or _gone(row) for each, row in zip(bucket, rows, strict=True)])

    def places(self) -> list[Path]:
        """Files and folders that the sources are read from."""
        parts = getattr(self.items, "parts", (self.items,))
        found = [getattr(part, "root", getattr(part, "file", None)) for part in parts]
        found += [file for part in parts for _, file in getattr(part, "files", ())[:1]]
        return [place for place in found if isinstance(place, Path)]

    def __post_init__(self) -> None:
        self._given: set[int] = set()

    def _job(self, number: int, items: list[Item]) -> ShardJob:
        self._given.add(number)
        return ShardJob(number, items[0].kind, items, self.wanted[number])


def _values(column: pa.ChunkedArray) -> Iterator[str]:
    return (value for chunk in column.chunks for value in chunk.to_pylist())


def _lost(reason: str) -> Callable[[], NoReturn]:
    return partial(raise_unreadable, reason)


def _gone(row: Record) -> Item:
    id, kind, size, mtime = (row[name] for name in ("id", "kind", "size", "mtime"))
    return Item(id, kind, "", "", "", "", size=size, mtime=mtime, load=_lost(GONE))


def listed_before(path: Path, shard: int) -> set[str]:
    """Ids of the listed items in shards before number `shard`."""
    table = pq.read_table(path, columns=["id"], filters=[("shard", "<", shard)])
    return set(table["id"].to_pylist())


def restate_listing(path: Path, target: Path, stats: Mapping[str, Stat]) -> str:
    """Copy a listing with new stats of some ids; returns the listing's sha256."""
    table, known = read_rows(path), {**listed_stats(path), **stats}
    found = dict(zip(Stat._fields, zip(*(known[id] for id in _values(table["id"])), strict=True), strict=True))
    columns = [list(found[name]) if name in found else table[name] for name in _LISTING_SCHEMA.names]
    pq.write_table(pa.table(columns, _LISTING_SCHEMA), target, compression="zstd")
    return _combined(_listed(target))
