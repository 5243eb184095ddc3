"""The pictures that a Store was made from, read once more from where they still lie.

A Store keeps thumbnails, which are for looking at. What runs a model again needs the pictures themselves.
"""

import sys
from collections.abc import Iterator, Sequence
from io import BytesIO

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Int, UInt8
from PIL import Image

from atlas.errors import Refused
from atlas.model.clip import Clip
from atlas.sources import spec
from atlas.sources.decoding import Unreadable
from atlas.store.store import Store


def original_pictures(
    store: Store, clip: Clip, rows: Sequence[int] | Int[np.ndarray, " n"]
) -> UInt8[np.ndarray, "n s s 3"]:
    """The pictures of some rows of images or words, as the Store's sources give them and `clip` reads them.

    Where a source is not there any more, or what it lists has another size or time of change than when the Store was
    made, the row's thumbnail stands in; one line on stderr says for how many.
    """
    ids = store.table(["id"])["id"].take(np.asarray(rows, np.int64)).to_pylist()
    found: dict[str, np.ndarray] = {}
    for id, picture in _unchanged(store, set(ids)):
        found[id] = clip.prepare(picture)  # at once: sixty photographs in full would not fit every memory
        if len(found) == len(set(ids)):
            break
    for id, row in zip(ids, rows, strict=True):
        if id not in found:
            found[id] = clip.prepare(Image.open(BytesIO(store.thumb(int(row)))).convert("RGB"))
    return np.stack([found[id] for id in ids])


def _unchanged(store: Store, ids: set[str]) -> Iterator[tuple[str, Image.Image]]:
    """Of those ids, the pictures that the Store's sources still list as they did."""
    asked = pc.field("id").isin(sorted(ids))
    listed = pq.read_table(store.path / "listing.parquet", columns=["id", "size", "mtime"], filters=asked)
    known = {row["id"]: (row["size"], row["mtime"]) for row in listed.to_pylist()}
    left = len(ids)
    try:
        for item in spec.join(store.request["sources"]):
            if item.load and known.get(item.id) == (item.size, item.mtime):
                try:
                    yield item.id, item.load()
                except Unreadable:
                    continue
                left -= 1
    except Refused:  # gone, or never a spec: an object of Python's
        pass
    if left:
        side = store.request["thumb"]
        print(
            f"{left:,} of {len(ids):,} pictures are not where {store.path} was made from: their thumbnails, {side} "
            "pixels wide, stand in",
            file=sys.stderr,
        )
