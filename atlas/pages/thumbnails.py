"""Thumbnails as WebP sprite sheets: one sheet a shard, so that a row's place in the Store is its place in a sheet.

A sheet has 32 x 32 cells, as many as a shard has rows at most. The cells are square: a picture that is not is cut
to its middle, as the models' own preprocessing does.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from math import ceil
from pathlib import Path

from PIL import Image, ImageOps

from atlas.shards import SHARD_ROWS, Shard
from atlas.store import Store

COLUMNS = ceil(SHARD_ROWS**0.5)  # a sheet holds a shard: 32 x 32
SAMPLE = COLUMNS * COLUMNS  # thumbnails encoded to plan the bytes of all


@dataclass(frozen=True, order=True)
class Size:
    """Side of a thumbnail in pixels, and WebP quality."""

    side: int
    quality: int


SIZES = tuple(Size(*pair) for pair in ((56, 75), (48, 75), (48, 60), (48, 50), (40, 60), (40, 45), (32, 50), (24, 40)))


def pictured(store: Store) -> list[Shard]:
    """The shards that have a sheet: those of images and words."""
    return [shard for shard in store.of_kind(None) if shard.kind != "text"]


def sheet_name(shard: Shard) -> str:
    """File name of a shard's sheet."""
    return f"{shard.folder.name}.webp"


def thumbs(shard: Shard, step: int = 1) -> list[bytes]:
    """The thumbnails of every `step`-th row of a shard."""
    return shard.table(["thumb"])["thumb"].to_pylist()[::step]


def sheet(pictures: Sequence[bytes], size: Size) -> bytes:
    """The WebP sheet of at most 1,024 thumbnails, in their order, left to right and downwards."""
    page = Image.new("RGB", (COLUMNS * size.side, COLUMNS * size.side), "white")
    for cell, thumb in enumerate(pictures):
        if thumb:
            with Image.open(BytesIO(thumb)) as image:
                picture = ImageOps.fit(image.convert("RGB"), (size.side, size.side), Image.Resampling.BICUBIC)
            page.paste(picture, (cell % COLUMNS * size.side, cell // COLUMNS * size.side))
    out = BytesIO()
    page.save(out, "WebP", quality=size.quality, method=4)
    return out.getvalue()


def estimates(shards: Sequence[Shard]) -> Iterator[tuple[Size, int]]:
    """The sizes, largest first, each with the bytes that all sheets would take, judged by rows spread over them."""
    rows = sum(shard.rows for shard in shards)
    sample = [thumb for shard in shards for thumb in thumbs(shard, max(1, -(-rows // SAMPLE)))][:SAMPLE]
    for size in SIZES:
        yield size, len(sheet(sample, size)) * rows // len(sample) if sample else 0


def write_sheets(shards: Iterable[Shard], size: Size, folder: Path) -> int:
    """Write every sheet into `folder`; the bytes written."""

    def write(shard: Shard) -> int:
        return (folder / sheet_name(shard)).write_bytes(sheet(thumbs(shard), size))

    with ThreadPoolExecutor(max_workers=4) as pool:  # Pillow lets go of the interpreter while it codes
        return sum(pool.map(write, shards))
