"""Thumbnails as WebP sprite sheets, one for each shard: the position of a row in its shard is its cell in the sheet.

A sheet has 32 x 32 cells, as many as a shard has rows at most. Cells are square, and pictures are cropped to their
centre, as the models' preprocessing does.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from math import ceil
from pathlib import Path

from PIL import Image, ImageOps

from atlas.store.shards import SHARD_ROWS, Shard
from atlas.store.store import Store

SHEET_COLUMNS = ceil(SHARD_ROWS**0.5)  # a sheet holds a shard: 32 x 32
WEBP_METHOD = 5  # of the WebP encoder: 2.5 % smaller than the default 4, in a fifth more time
_SHADES = [round(value / 17) * 17 for value in range(256)] * 3
SAMPLED_THUMBNAILS = SHEET_COLUMNS * SHEET_COLUMNS  # thumbnails that are encoded to estimate the bytes of all


@dataclass(frozen=True, order=True)
class ThumbnailSize:
    """Side of a thumbnail in pixels, and WebP quality."""

    side: int
    quality: int


THUMBNAIL_SIZES = tuple(
    ThumbnailSize(*pair) for pair in ((56, 75), (48, 75), (48, 60), (48, 50), (40, 60), (40, 45), (32, 50), (24, 40))
)


def pictured_shards(store: Store) -> list[Shard]:
    """The shards that have a sheet: those of images and words."""
    return [shard for shard in store.of_kind(None) if shard.kind != "text"]


def sheet_name(shard: Shard) -> str:
    """File name of a shard's sheet."""
    return f"{shard.folder.name}.webp"


def shard_thumbnails(shard: Shard, step: int = 1) -> list[bytes]:
    """The thumbnails of every `step`-th row of a shard."""
    return shard.table(["thumb"])["thumb"].to_pylist()[::step]


def thumbnail_sheet(pictures: Sequence[bytes], size: ThumbnailSize, words: bool = False) -> bytes:
    """The WebP sheet of at most 1,024 thumbnails, in their order, left to right and downwards.

    `words`: of rendered words, a lossless sheet with 16 shades a channel is used if it is smaller; it is sharper too.
    """
    page = Image.new("RGB", (SHEET_COLUMNS * size.side, SHEET_COLUMNS * size.side), "white")
    for cell, thumb in enumerate(pictures):
        if thumb:
            with Image.open(BytesIO(thumb)) as image:
                picture = ImageOps.fit(image.convert("RGB"), (size.side, size.side), Image.Resampling.BICUBIC)
            page.paste(picture, (cell % SHEET_COLUMNS * size.side, cell // SHEET_COLUMNS * size.side))
    lossy = _webp(page, quality=size.quality)
    return min(lossy, _webp(page.point(_SHADES), lossless=True), key=len) if words else lossy


def _webp(page: Image.Image, quality: int = 80, lossless: bool = False) -> bytes:
    out = BytesIO()
    page.save(out, "WebP", method=WEBP_METHOD, quality=quality, lossless=lossless)
    return out.getvalue()


def sheet_estimates(shards: Sequence[Shard]) -> Iterator[tuple[ThumbnailSize, int]]:
    """The sizes, largest first, each with the bytes of all sheets, estimated from rows spread over them."""
    kinds = [(words, [shard for shard in shards if (shard.kind == "word") == words]) for words in (False, True)]
    samples = [(words, sum(shard.rows for shard in of), sample_thumbs(of)) for words, of in kinds if of]
    for size in THUMBNAIL_SIZES:
        yield size, sum(len(thumbnail_sheet(some, size, words)) * rows // len(some) for words, rows, some in samples)


def sample_thumbs(shards: Sequence[Shard]) -> list[bytes]:
    """Thumbnails spread over shards, at most as many as a sheet holds."""
    step = max(1, -(-sum(shard.rows for shard in shards) // SAMPLED_THUMBNAILS))
    return [thumb for shard in shards for thumb in shard_thumbnails(shard, step)][:SAMPLED_THUMBNAILS]


def write_sheets(shards: Iterable[Shard], size: ThumbnailSize, folder: Path) -> int:
    """Write every sheet into `folder`; returns the bytes written."""

    def write(shard: Shard) -> int:
        return (folder / sheet_name(shard)).write_bytes(
            thumbnail_sheet(shard_thumbnails(shard), size, shard.kind == "word")
        )

    with ThreadPoolExecutor(max_workers=4) as pool:  # Pillow releases the interpreter lock while it encodes
        return sum(pool.map(write, shards))
