"""How the sources of a finished Store differ from its listing: items added, gone, touched, changed, described anew."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from atlas.sources.decoding import CONTENT, Unreadable
from atlas.sources.items import Item
from atlas.store.listing import Stat, listed_stats
from atlas.store.manifest import LISTING_FILE, Manifest, stored_file
from atlas.store.shards import open_shards


@dataclass(frozen=True)
class Difference:
    """The difference of a source from a listing: ids of the files added, changed and gone; the stats of touched ones.

    A touched file has another time of change, and the same content. An item that is described anew has another caption,
    label, group or split.
    """

    added: list[str]
    changed: list[str]
    anew: list[str]
    gone: list[str]
    touched: Mapping[str, Stat]

    def __str__(self) -> str:
        anew = ("with other captions or labels", self.anew)
        named = (("added", self.added), ("changed", self.changed), anew, ("gone", self.gone))
        return ", ".join(f"{len(ids):,} {what} (such as {ids[0]})" for what, ids in named if ids)


def compare_listing(items: Iterable[Item], store: Path, manifest: Manifest) -> Difference:
    """Compare a source with the listing of the finished Store at `store`; contents decide where only times differ."""
    known = listed_stats(stored_file(store, LISTING_FILE))
    added, changed, anew, doubtful = [], [], [], []
    for item in items:
        stat, now = known.pop(item.id, None), Stat.of(item)
        if stat is None:
            added.append(item.id)
        elif stat.size != now.size:
            changed.append(item.id)
        elif not stat.says(now):
            (changed if item.load is None else anew).append(item.id)
        elif not stat.same(now):
            doubtful.append(item)
    held = dict(_contents(store, manifest, {item.id for item in doubtful})) if doubtful else {}
    touched = {item.id: Stat.of(item) for item in doubtful if _content(item) == held.get(item.id, b"")}
    changed += [item.id for item in doubtful if item.id not in touched]
    return Difference(added, changed, anew, list(known), touched)


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
