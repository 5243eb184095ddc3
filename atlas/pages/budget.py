"""The byte budget: the size of a site by part, and the thumbnails that fit, estimated before it is written."""

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log2
from pathlib import Path

import bokeh

from atlas.errors import Refused
from atlas.pages import drivers, thumbnails, tiles
from atlas.pages.frame import ROWS_A_SCRIPT, STATIC_FOLDER
from atlas.store.shards import Shard

DEFAULT_MAX_MB = 25  # of a site or a map of points (10^6 bytes)
ONE_FILE_POINTS = 100_000  # up to so many points, a map of points is one file by default
CARD_BYTES = 4_700  # bytes of a card with its share of the data
PLAN_SLACK = 0.8  # a plan is an estimate: it is refused only if this share of it does not fit
SAMPLED_CAPTIONS = 5_000  # captions that are packed to estimate all


@dataclass(frozen=True)
class SitePlan:
    """Bytes by part, and the size of thumbnails; `lines` prints it."""

    points: int
    limit: int
    parts: dict[str, tuple[str, int]]
    size: thumbnails.ThumbnailSize | None
    single_file: bool

    @property
    def total(self) -> int:
        """Bytes in all."""
        return sum(size for _, size in self.parts.values())

    def lines(self) -> list[str]:
        """The plan as it is printed."""
        form = "one file" if self.single_file else "a folder"
        head = f"plan: {self.points:,} points in {form}, at most {self.limit / 1e6:g} MB"
        body = [f"  {name:<11} {size / 1e6:6.1f} MB  {what}" for name, (what, size) in self.parts.items()]
        return [head, *body, f"  {'in all':<11} {self.total / 1e6:6.1f} MB, about"]


def plan_site(
    captions: list[str], max_mb: float | int, neighbours: int = 8, cards: int = 0, shards: list[Shard] | None = None,
    single_file: bool = False, what: str = "a site", driven: int = 0, drawn: int = 0,
    files: Sequence[str] = (),
) -> SitePlan:  # fmt: skip
    """The estimated size of a site by part. Thumbnails are the largest that fit `max_mb` (10^6 bytes).

    `neighbours`: how many each point lists. `cards`: neurons with a card. `driven`: neurons that colour the map.
    `drawn`: bytes of feature visualisations. `files`: addresses of the files of rows. `what`: the site's name in an
    error. Raises `Refused` where the site is far too large even with the smallest thumbnails.
    """
    points, limit = len(captions), round(max_mb * 1e6)
    places = _places(points)
    near = round(points * neighbours * log2(max(points, 2)) / 8 * 1.4)
    parts = {
        "library": ("BokehJS, packed", _library()),
        "own": ("scripts and styles", sum(path.stat().st_size for path in STATIC_FOLDER.iterdir())),
        "places": places,
        "captions": (f"{points:,} lines", _captions(captions)),
    }
    if files:
        parts["file links"] = ("of pictures", _captions(files))
    if neighbours:
        parts["neighbours"] = (f"{neighbours} a point", near)
    if driven:
        parts["drivers"] = (f"{drivers.drivers_per_neuron(driven)} rows of each neuron", drivers.drivers_bytes(driven))
    if cards:
        parts["cards"] = (f"of {cards:,} neurons", cards * CARD_BYTES)
    if drawn:
        parts["drawings"] = ("of neurons, texts and cells", drawn)
    size, sheets = _thumbnails(shards or [], limit - sum(part for _, part in parts.values()), single_file)
    if size:
        rows = sum(shard.rows for shard in shards or [])
        shown = f"{rows:,} at {size.side} px, WebP quality {size.quality}, {len(shards or [])} sheets"
        parts["thumbnails"] = (shown, sheets)
    made = SitePlan(points, limit, parts, size, single_file)
    if made.total * PLAN_SLACK > limit:
        raise Refused(f"{what} takes {made.total / 1e6:.1f} MB at least, above {max_mb:g} MB; raise --max-mb")
    return made


def _places(points: int) -> tuple[str, int]:
    """Packed: two int16, kind, group and preservation; in tiles also the row's number, and the overview."""
    if points <= tiles.UNTILED_POINTS:
        scripts = -(-points // ROWS_A_SCRIPT) or 1
        return f"16-bit steps, {scripts} script{'s' * (scripts > 1)}", points * 7
    count = 2 ** ceil(log2(points / tiles.TILE_POINTS))
    row = points * log2(points) / 8 * 1.4
    return f"16-bit steps, {count} tiles; {tiles.OVERVIEW_POINTS:,} drawn first", round(
        points * 7 + row + tiles.OVERVIEW_POINTS * 12
    )


def _library() -> int:
    folder = Path(bokeh.__file__).parent / "server" / "static" / "js"
    whole = sum((folder / name).stat().st_size for name in ("bokeh.min.js", "bokeh-gl.min.js"))
    return whole * 4 // 10


def _captions(captions: Sequence[str]) -> int:
    sample = captions[:: max(1, len(captions) // SAMPLED_CAPTIONS)]
    packed = len(gzip.compress("\n".join(sample).encode("utf-8", "replace"), 6))
    return round(packed * 4 / 3 * len(captions) / max(1, len(sample)))


def _thumbnails(shards: list[Shard], room: int, single_file: bool) -> tuple[thumbnails.ThumbnailSize | None, int]:
    """The largest size that fits, else the smallest one; None where there are no pictures."""
    found: tuple[thumbnails.ThumbnailSize | None, int] = None, 0
    for size, need in thumbnails.sheet_estimates(shards) if shards else ():
        found = size, need * 4 // 3 if single_file else need
        if found[1] <= room:
            break
    return found
