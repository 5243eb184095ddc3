"""Drawings of a Store's neurons, neurons/drawings: made a few at a time, so that a run that was cut off goes on."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import UInt8
from PIL import Image

from atlas.analysis import parts, queries
from atlas.console import Progress
from atlas.dream.facets import Theme
from atlas.dream.visualisation import DREAM_STEPS, NeuronDrawing, directions_at_once, visualise
from atlas.errors import Refused
from atlas.model.clip import Clip
from atlas.store.originals import original_pictures
from atlas.store.store import Part, Store

DRAWINGS_FILE = "drawings.parquet"
WORDS_THEME = "words"  # the theme that rendered words are of
_THEME_PICTURES, _OTHER_PICTURES = 200, 400  # pictures that a theme is learnt from
_COLOUR_SAMPLE = 256  # thumbnails whose mean colour a drawing begins with
_WEBP_QUALITY = 85  # of WebP
DRAWINGS_SCHEMA = pa.schema(
    {"neuron": pa.int64(), "theme": pa.string(), "repeat": pa.int64(), "image": pa.binary(), "reached": pa.float32(),
     "strongest": pa.float32(), "steps": pa.int64(), "strength": pa.float64(), "repeats": pa.int64(),
     "seed": pa.int64()}
)  # fmt: skip

_Table = list[dict[str, Any]]


def write_drawings(
    store: Store,
    clip: Clip,
    neurons: Iterable[int],
    themes: Sequence[str] = ("",),
    repeats: int = 1,
    steps: int = DREAM_STEPS,
    strength: float = 1.0,
    seed: int = 0,
) -> _Table:
    """Draw what drives neurons, each by itself ("") or as it answers to themes, and keep it as neurons/drawings.

    A theme is a text, whose nearest pictures of the Store teach it, or "words", which the Store's rendered words do.
    What was drawn alike before is not drawn again. Returns a row a drawing: neuron, theme, repeat, image (WebP),
    reached (mean over positions, and views, of what the layer passes on) and strongest (the same of the Store's image
    that has most of it; None where there are no images). Raises Refused as `dream.visualise` and `Theme.learn` do.
    """
    wanted = list(dict.fromkeys(neurons))
    options = {"repeats": repeats, "steps": steps, "seed": seed}
    table = _drawn(store)
    asked = {theme: options | {"strength": strength if theme else 0.0} for theme in themes}
    todo = {theme: [n for n in wanted if not _has(table, n, theme, asked[theme])] for theme in asked}
    begin = mean_colour(store)
    strongest = _strongest(store)
    with Progress(sum(map(len, todo.values())), "drawings", "drawings") as progress:
        for theme, missing in todo.items():
            learnt = learn_theme(store, clip, theme, seed) if theme and missing else None
            size = directions_at_once(clip, repeats)
            for some in (missing[i : i + size] for i in range(0, len(missing), size)):
                found = visualise(clip, some, repeats, steps, learnt, strength, about=begin, seed=seed)
                fresh = list(_rows(some, found, theme, strongest, asked[theme]))
                table = [row for row in table if (row["neuron"], row["theme"]) not in {(n, theme) for n in some}]
                table = sorted(table + fresh, key=lambda row: (row["neuron"], row["theme"], row["repeat"]))
                with store.deriving(_remade(table, themes, asked), {"drawings": len(table)}) as folder:
                    pq.write_table(pa.Table.from_pylist(table, DRAWINGS_SCHEMA), folder / DRAWINGS_FILE)
                progress.advance(len(some))
    return [row for row in table if row["neuron"] in set(wanted) and row["theme"] in asked]


def learn_theme(store: Store, clip: Clip, theme: str, seed: int = 0) -> Theme:
    """A theme of a Store by its text, or of its rendered words ("words")."""
    random, images = np.random.default_rng(seed), store.positions("image")
    if theme == WORDS_THEME and "word" in store.counts:
        words = store.positions("word")
        own = random.choice(words, min(_THEME_PICTURES, len(words)), replace=False)
    else:
        own = np.array([row["row"] for row in queries.rows_near(store, clip.encode_texts([theme])[0], _THEME_PICTURES)])
    rest = np.setdiff1d(images, own)
    others = random.choice(rest, min(_OTHER_PICTURES, len(rest)), replace=False)
    if not len(own) or not len(others):
        raise Refused(f"{store.path} has no pictures to learn the theme {theme!r} from, and others besides")
    return Theme.learn(clip, original_pictures(store, clip, own), original_pictures(store, clip, others))


def mean_colour(store: Store) -> tuple[float, float, float] | None:
    """The mean colour of a Store's images, 0 to 1, by a seeded sample of thumbnails; None where it has none."""
    if "image" not in store.counts:
        return None
    rows = store.positions("image")
    chosen = np.sort(np.random.default_rng(0).choice(rows, min(_COLOUR_SAMPLE, len(rows)), replace=False))
    means = [np.asarray(Image.open(BytesIO(store.thumb(int(row)))).convert("RGB")).mean((0, 1)) / 255 for row in chosen]
    red, green, blue = np.clip(np.mean(means, 0), 0.05, 0.95).tolist()  # black and white leave no room on one side
    return red, green, blue


def encode_webp(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """A picture as WebP."""
    written = BytesIO()
    Image.fromarray(image).save(written, "WEBP", quality=_WEBP_QUALITY)
    return written.getvalue()


def _drawn(store: Store) -> _Table:
    """What was drawn before; nothing where that was of another state of the Store."""
    return (
        pq.read_table(store.derived(parts.DRAWINGS) / DRAWINGS_FILE).to_pylist()
        if store.current(parts.DRAWINGS)
        else []
    )


def _remade(table: _Table, themes: Sequence[str], asked: dict[str, dict[str, Any]]) -> Part:
    """The drawings, with the command that makes all of them again."""
    numbers = sorted({row["neuron"] for row in table})
    first = [n for n in numbers if n - 1 not in numbers]
    last = [n for n in numbers if n + 1 not in numbers]
    spans = " ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in zip(first, last, strict=True))
    options = next(iter(asked.values()))
    named = " ".join(["--theme", *map(shlex.quote, themes)]) if any(themes) else ""
    part = Part(parts.DRAWINGS.name, f"atlas dream {{store}} {spans} {named}".rstrip())
    strength = max(each["strength"] for each in asked.values()) or None
    return part.made_with(steps=options["steps"], repeats=options["repeats"], strength=strength, seed=options["seed"])


def _has(table: _Table, neuron: int, theme: str, options: dict[str, Any]) -> bool:
    mine = (row for row in table if (row["neuron"], row["theme"]) == (neuron, theme))
    return any(all(row[name] == value for name, value in options.items()) for row in mine)


def _strongest(store: Store) -> np.ndarray | None:
    """The largest of what the layer passes on of each neuron, mean over positions, among the images: (u,)."""
    if "image" not in store.counts:
        return None
    return np.max([shard.array("mean").max(0) for shard in store.of_kind("image")], 0).astype(np.float32)


def _rows(
    neurons: Sequence[int],
    found: Sequence[NeuronDrawing],
    theme: str,
    strongest: np.ndarray | None,
    options: dict[str, Any],
) -> Iterator[dict[str, Any]]:
    for neuron, drawing in zip(neurons, found, strict=True):
        most = None if strongest is None else float(strongest[neuron])
        for repeat, (image, reached) in enumerate(zip(drawing.images, drawing.reached.tolist(), strict=True)):
            figures = {"reached": reached, "strongest": most, "repeat": repeat}
            yield {"neuron": neuron, "theme": theme, "image": encode_webp(image), **figures, **options}
