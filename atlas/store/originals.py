"""The original images of a Store, read again from its sources.

A Store holds thumbnails only, which are made for display. To run a model again, the originals are needed.
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
from atlas.store.manifest import LISTING_FILE, stored_file
from atlas.store.store import Store


def original_pictures(
    store: Store, clip: Clip, rows: Sequence[int] | Int[np.ndarray, " n"]
) -> UInt8[np.ndarray, "n s s 3"]:
    """The original images of some rows, resized and cropped for `clip`; `rows` are images or words.

    A thumbnail is used in place of an image that is gone or has changed since the Store was made; one line on stderr
    gives their number.
    """
    ids = store.table(["id"])["id"].take(np.asarray(rows, np.int64)).to_pylist()
    found: dict[str, np.ndarray] = {}
    for id, picture in _unchanged(store, set(ids)):
        found[id] = clip.prepare(picture)  # resized at once: many photographs in full size may not fit into memory
        if len(found) == len(set(ids)):
            break
    for id, row in zip(ids, rows, strict=True):
        if id not in found:
            found[id] = clip.prepare(Image.open(BytesIO(store.thumb(int(row)))).convert("RGB"))
    return np.stack([found[id] for id in ids])


def _unchanged(store: Store, ids: set[str]) -> Iterator[tuple[str, Image.Image]]:
    """Yield (id, image) for those of the ids whose size and time of change in the sources are as listed."""
    asked = pc.field("id").isin(sorted(ids))
    listed = pq.read_table(stored_file(store.path, LISTING_FILE), columns=["id", "size", "mtime"], filters=asked)
    known = {row["id"]: (row["size"], row["mtime"]) for row in listed.to_pylist()}
    left = len(ids)
    try:
        for item in spec.join(store.manifest.get("sources", store.request["sources"])):
            if item.load and known.get(item.id) == (item.size, item.mtime):
                try:
                    yield item.id, item.load()
                except Unreadable:
                    continue
                left -= 1
    except Refused:  # the source is gone, or it was a Python object and has no spec
        pass
    if left:
        side = store.request["thumb"]
        print(
            f"{left:,} of {len(ids):,} original images of {store.path} are gone or changed: their thumbnails of {side} "
            "pixels are used",
            file=sys.stderr,
        )
