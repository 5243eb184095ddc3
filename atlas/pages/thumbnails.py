"""Thumbnails as WebP sprite sheets: one sheet a shard, so that a row's place in the Store is its place in a sheet.

A sheet has 32 x 32 cells, as many as a shard has rows at most. The cells are square: a picture that is not is cut
to its middle, as the models' own preprocessing does.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageOps

from atlas.shards import SHARD_ROWS, Shard
from atlas.store import Store

COLUMNS = 32
assert COLUMNS * COLUMNS >= SHARD_ROWS
SAMPLE = 3  # shards encoded to plan the bytes of all


@dataclass(frozen=True, order=True)
class Size:
    """Side of a thumbnail in pixels, and WebP quality."""

    side: int
    quality: int


SIZES = (Size(56, 75), Size(48, 75), Size(48, 60), Size(40, 65), Size(40, 45), Size(32, 50), Size(24, 50), Size(24, 20))


def pictured(store: Store) -> list[Shard]:
    """The shards that have a sheet: those of images and words."""
    return [shard for shard in store.of_kind(None) if shard.kind != "text"]


def sheet_name(shard: Shard) -> str:
    """File name of a shard's sheet."""
    return f"{shard.folder.name}.webp"


def sheet(shard: Shard, size: Size) -> bytes:
    """The WebP sheet of a shard's thumbnails, in row order, left to right and downwards."""
    page = Image.new("RGB", (COLUMNS * size.side,) * 2, "white")
    for cell, thumb in enumerate(shard.table(["thumb"])["thumb"].to_pylist()):
        if thumb:
            with Image.open(BytesIO(thumb)) as image:
                picture = ImageOps.fit(image.convert("RGB"), (size.side, size.side), Image.Resampling.BICUBIC)
            page.paste(picture, (cell % COLUMNS * size.side, cell // COLUMNS * size.side))
    out = BytesIO()
    page.save(out, "WebP", quality=size.quality, method=4)
    return out.getvalue()


def estimate(shards: list[Shard], size: Size) -> int:
    """Bytes of all sheets, judged by a few of each kind."""
    total = 0
    for kind in sorted({shard.kind for shard in shards}):
        of_kind = [shard for shard in shards if shard.kind == kind]
        sample = of_kind[:: max(1, len(of_kind) // SAMPLE)][:SAMPLE]
        rows = sum(shard.rows for shard in sample)
        total += sum(len(sheet(shard, size)) for shard in sample) * sum(shard.rows for shard in of_kind) // rows
    return total


def write_sheets(shards: Iterable[Shard], size: Size, folder: Path) -> int:
    """Write every sheet into `folder`; the bytes written."""

    def write(shard: Shard) -> int:
        return (folder / sheet_name(shard)).write_bytes(sheet(shard, size))

    with ThreadPoolExecutor(max_workers=4) as pool:  # Pillow lets go of the interpreter while it codes
        return sum(pool.map(write, shards))
