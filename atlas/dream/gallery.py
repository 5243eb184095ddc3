"""Feature visualisations of a Store's neurons, neurons/drawings; written in batches, so that a run can be continued."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO

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
from atlas.formatting import Record
from atlas.model.clip import Clip
from atlas.store.lock import writer_lock
from atlas.store.originals import original_pictures
from atlas.store.store import Part, Store

DRAWINGS_FILE = "drawings.parquet"
WORDS_THEME = "words"  # the theme that is learnt from rendered words
_THEME_PICTURES, _OTHER_PICTURES = 200, 400  # images of the theme, and others, that a theme is learnt from
_COLOUR_SAMPLE = 256  # thumbnails over which the mean colour is taken
_WEBP_QUALITY = 85
DRAWINGS_SCHEMA = pa.schema(
    {"neuron": pa.int64(), "theme": pa.string(), "repeat": pa.int64(), "image": pa.binary(), "reached": pa.float32(),
     "strongest": pa.float32(), "steps": pa.int64(), "strength": pa.float64(), "repeats": pa.int64(),
     "seed": pa.int64()}
)  # fmt: skip

_DEFAULTS = {"repeats": 1, "steps": DREAM_STEPS, "seed": 0}  # of `atlas dream`

_Table = list[Record]


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
    """Make feature visualisations of neurons, plain ("") or by theme, and keep them in neurons/drawings.

    `themes`: each is a text, whose theme is learnt from the Store's images nearest to it, or "words", which is learnt
    from the rendered words. Visualisations that were made with the same options before are not made again. The other
    options are those of `visualise`. Raises `Refused` as `visualise` and `Theme.learn` do.

    Returns one row per visualisation: neuron, theme, repeat, image (WebP), reached (mean activation over positions and
    views, after the ReLU), strongest (the largest mean activation of an image of the Store; None without images), and
    the options.
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
                table = _add(store, fresh, {(n, theme) for n in some})
                progress.advance(len(some))
    return [row for row in table if row["neuron"] in set(wanted) and row["theme"] in asked]


def _add(store: Store, fresh: _Table, drawn: set[tuple[int, str]]) -> _Table:
    """Add visualisations to those that the Store holds now: another run may have added some meanwhile."""
    with writer_lock(store.path):
        kept = [row for row in _drawn(store) if (row["neuron"], row["theme"]) not in drawn]
        table = sorted(kept + fresh, key=lambda row: (row["neuron"], row["theme"], row["repeat"]))
        with store.deriving(_remade(table), {"drawings": len(table)}) as folder:
            pq.write_table(pa.Table.from_pylist(table, DRAWINGS_SCHEMA), folder / DRAWINGS_FILE)
    return table


def learn_theme(store: Store, clip: Clip, theme: str, seed: int = 0) -> Theme:
    """Learn a theme from a Store's images nearest to a text, or, for "words", from its rendered words."""
    random, images = np.random.default_rng(seed), store.positions("image")
    if theme == WORDS_THEME and "word" in store.counts:
        words = store.positions("word")
        own = random.choice(words, min(_THEME_PICTURES, len(words)), replace=False)
    else:
        own = np.array([row["row"] for row in queries.rows_near(store, clip.encode_texts([theme])[0], _THEME_PICTURES)])
    rest = np.setdiff1d(images, own)
    others = random.choice(rest, min(_OTHER_PICTURES, len(rest)), replace=False)
    if not len(own) or not len(others):
        raise Refused(f"{store.path} has too few images to learn the theme {theme!r}: it needs some of it and others")
    return Theme.learn(clip, original_pictures(store, clip, own), original_pictures(store, clip, others))


def mean_colour(store: Store) -> tuple[float, float, float] | None:
    """The mean colour (0 to 1) of a Store's images, over a seeded sample of thumbnails; None without images."""
    if "image" not in store.counts:
        return None
    rows = store.positions("image")
    chosen = np.sort(np.random.default_rng(0).choice(rows, min(_COLOUR_SAMPLE, len(rows)), replace=False))
    means = [np.asarray(Image.open(BytesIO(store.thumb(int(row)))).convert("RGB")).mean((0, 1)) / 255 for row in chosen]
    red, green, blue = np.clip(np.mean(means, 0), 0.05, 0.95).tolist()  # not black or white, whose logits are infinite
    return red, green, blue


def encode_webp(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """Encode an image as WebP."""
    written = BytesIO()
    Image.fromarray(image).save(written, "WEBP", quality=_WEBP_QUALITY)
    return written.getvalue()


def _drawn(store: Store) -> _Table:
    """The visualisations made before; none if they are stale."""
    return (
        pq.read_table(store.derived(parts.DRAWINGS) / DRAWINGS_FILE).to_pylist()
        if store.current(parts.DRAWINGS)
        else []
    )


def _remade(table: _Table) -> Part:
    """The part of the drawings, with the commands that make all of them again: one for each set of options."""
    neurons: dict[tuple[tuple[str, float], ...], dict[str, set[int]]] = {}
    for row in table:
        changed = {"strength": row["strength"] if row["theme"] else 1.0} | {name: row[name] for name in _DEFAULTS}
        options = tuple((name, value) for name, value in changed.items() if value != _DEFAULTS.get(name, 1.0))
        neurons.setdefault(options, {}).setdefault(row["theme"], set()).add(row["neuron"])
    commands = []
    for options, by_theme in neurons.items():
        themes: dict[str, list[str]] = {}  # the themes that have the same neurons share a command
        for theme, numbers in by_theme.items():
            themes.setdefault(_spans(numbers), []).append(theme)
        for spans, names in themes.items():
            named = " ".join(["--theme", *map(shlex.quote, names)]) if any(names) else ""
            part = Part(parts.DRAWINGS.name, f"atlas dream {{store}} {spans} {named}".rstrip())
            commands.append(part.made_with(**dict(options)).command)
    return Part(parts.DRAWINGS.name, " && ".join(commands))


def _spans(numbers: set[int]) -> str:
    """Numbers as `atlas dream` takes them: {1, 40, 41, 42} is "1 40-42"."""
    first = sorted(n for n in numbers if n - 1 not in numbers)
    last = sorted(n for n in numbers if n + 1 not in numbers)
    return " ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in zip(first, last, strict=True))


def _has(table: _Table, neuron: int, theme: str, options: Record) -> bool:
    mine = (row for row in table if (row["neuron"], row["theme"]) == (neuron, theme))
    return any(all(row[name] == value for name, value in options.items()) for row in mine)


def _strongest(store: Store) -> np.ndarray | None:
    """The largest mean activation of each neuron over the images, after the ReLU: (u,)."""
    if "image" not in store.counts:
        return None
    return np.max([shard.array("mean").max(0) for shard in store.of_kind("image")], 0).astype(np.float32)


def _rows(
    neurons: Sequence[int],
    found: Sequence[NeuronDrawing],
    theme: str,
    strongest: np.ndarray | None,
    options: Record,
) -> Iterator[Record]:
    for neuron, drawing in zip(neurons, found, strict=True):
        most = None if strongest is None else float(strongest[neuron])
        for repeat, (image, reached) in enumerate(zip(drawing.images, drawing.reached.tolist(), strict=True)):
            figures = {"reached": reached, "strongest": most, "repeat": repeat}
            yield {"neuron": neuron, "theme": theme, "image": encode_webp(image), **figures, **options}
