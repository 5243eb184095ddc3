"""How the sources of a finished Store differ from its listing: files added, gone, touched and changed."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from atlas.sources.decoding import CONTENT, Unreadable
from atlas.sources.items import Item
from atlas.store.manifest import Manifest, stored_file
from atlas.store.shards import open_shards


@dataclass(frozen=True)
class Difference:
    """The difference of a source from a listing: ids of the files added, changed and gone; size and time of touched.

    A touched file has another time of change, and the same content.
    """

    added: list[str]
    changed: list[str]
    gone: list[str]
    touched: Mapping[str, tuple[int, int]]

    def __str__(self) -> str:
        named = (("added", self.added), ("changed", self.changed), ("gone", self.gone))
        return ", ".join(f"{len(ids):,} {what} (such as {ids[0]})" for what, ids in named if ids)


def compare_listing(items: Iterable[Item], store: Path, manifest: Manifest) -> Difference:
    """Compare a source with the listing of the finished Store at `store`; contents decide where only times differ."""
    table = pq.read_table(stored_file(store, "listing.parquet"), columns=["id", "size", "mtime"])
    known = {row["id"]: (row["size"], row["mtime"]) for batch in table.to_batches() for row in batch.to_pylist()}
    added, changed, doubtful = [], [], []
    for item in items:
        stat = known.pop(item.id, None)
        if stat is None:
            added.append(item.id)
        elif stat != (item.size, item.mtime):
            if stat[0] == item.size:
                doubtful.append(item)
            else:
                changed.append(item.id)
    held = dict(_contents(store, manifest, {item.id for item in doubtful})) if doubtful else {}
    touched = {item.id: (item.size, item.mtime) for item in doubtful if _content(item) == held.get(item.id, b"")}
    changed += [item.id for item in doubtful if item.id not in touched]
    return Difference(added, changed, list(known), touched)


def _contents(store: Path, manifest: Manifest, ids: set[str]) -> Iterator[tuple[str, bytes | str]]:
    """Yield (id, content) for those of the ids that are rows: the digest of an image, the caption of a text."""
    for shard in open_shards(store, manifest.get("shards", {})):
        table = shard.table(["id", "kind", "caption"])
        rows = [row for row, id in enumerate(table["id"].to_pylist()) if id in ids]
        digests = shard.contents() if rows else None
        for row in rows:
            entry = table.slice(row, 1).to_pylist()[0]
            if entry["kind"] == "text":
                yield entry["id"], entry["caption"]
            elif digests is not None:
                yield entry["id"], digests[row].tobytes()


def can_be_read(item: Item) -> bool:
    """Whether an item loads now."""
    return item.load is None or _content(item) is not None


def _content(item: Item) -> bytes | str | None:
    """The content of an item as it is now; None if it cannot be read."""
    if item.load is None:
        return item.caption
    try:
        return item.load().info.get(CONTENT)
    except (Unreadable, MemoryError):
        return None
