"""Feature visualisations of a Store's neurons, neurons/drawings; written in batches, so that a run can be continued."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Int, UInt8
from PIL import Image

from atlas.analysis import parts, queries
from atlas.analysis.naming import NeuronNames
from atlas.console import Progress
from atlas.dream.facets import Theme
from atlas.dream.objectives import direction_responses
from atlas.dream.prior import Prior, image_style, store_prior, strongest_images
from atlas.dream.visualisation import DREAM_STEPS, NeuronDrawing, directions_at_once, visualise
from atlas.errors import Refused
from atlas.formatting import Record
from atlas.model.clip import Clip
from atlas.model.directions import Directions
from atlas.store.lock import writer_lock
from atlas.store.originals import original_pictures
from atlas.store.store import Part, Store

DRAWINGS_FILE = "drawings.parquet"
WORDS_THEME = "words"  # the theme that is learnt from rendered words
KEPT_SHARE = 0.5  # a facet's strength lowers itself until this share of the unfaceted activation is kept
_THEME_PICTURES, _OTHER_PICTURES = 200, 400  # images of the theme, and others, that a theme is learnt from
_WEBP_QUALITY = 85
DRAWINGS_SCHEMA = pa.schema(
    {"neuron": pa.int64(), "theme": pa.string(), "repeat": pa.int64(), "image": pa.binary(), "reached": pa.float32(),
     "strongest": pa.float32(), "kept": pa.float32(), "seen": pa.float32(), "steps": pa.int64(),
     "strength": pa.float64(), "repeats": pa.int64(), "seed": pa.int64()}
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
    from the rendered words. A theme's strength lowers itself until the neuron keeps half of its activation, so plain
    drawings are made first. Visualisations that were made with the same options before are not made again. The other
    options are those of `visualise`. Raises `Refused` as `visualise` and `Theme.learn` do.

    Returns one row per visualisation: neuron, theme, repeat, image (WebP), reached (mean activation over positions and
    views, after the ReLU), strongest (that of the best image of the Store on such views; None without images), kept
    (for a theme, reached as a share of the plain drawing's), seen (for a theme, the share of other images that a
    held-out probe finds less like the theme), and the options.
    """
    wanted = list(dict.fromkeys(neurons))
    options = {"repeats": repeats, "steps": steps, "seed": seed}
    table, kinds = _drawn(store), list(dict.fromkeys(["", *themes]))
    asked = {theme: options | {"strength": strength if theme else 0.0} for theme in kinds}
    todo = {theme: [n for n in wanted if not _has(table, n, theme, asked[theme])] for theme in kinds}
    style, size = image_style(store), directions_at_once(clip, repeats)
    with Progress(sum(map(len, todo.values())), "drawings", "drawings") as progress:
        for theme, missing in todo.items():
            learnt, own = learn_theme(store, clip, theme, seed) if theme and missing else (None, None)
            for some in (missing[i : i + size] for i in range(0, len(missing), size)):
                prior = _prior_of(store, clip, some, own)
                plain = {row["neuron"]: row for row in table if row["theme"] == "" and row["repeat"] == 0}
                if learnt and prior:
                    reached = torch.tensor([plain[n]["reached"] for n in some], device=clip.device)
                    prior = replace(prior, floor=(KEPT_SHARE * reached).clamp(min=float(np.finfo(np.float32).tiny)))
                found = visualise(clip, some, repeats, steps, learnt, strength, style=style, prior=prior, seed=seed)
                figures = _figures(clip, some, found, prior, learnt, plain)
                fresh = list(_rows(some, found, figures, theme, asked[theme]))
                table = _add(store, fresh, {(n, theme) for n in some})
                progress.advance(len(some))
    return [row for row in table if row["neuron"] in set(wanted) and row["theme"] in themes]


def _add(store: Store, fresh: _Table, drawn: set[tuple[int, str]]) -> _Table:
    """Add visualisations to those that the Store holds now: another run may have added some meanwhile."""
    with writer_lock(store.path):
        kept = [row for row in _drawn(store) if (row["neuron"], row["theme"]) not in drawn]
        table = sorted(kept + fresh, key=lambda row: (row["neuron"], row["theme"], row["repeat"]))
        with store.deriving(_remade(table), {"drawings": len(table)}) as folder:
            pq.write_table(pa.Table.from_pylist(table, DRAWINGS_SCHEMA), folder / DRAWINGS_FILE)
    return table


def learn_theme(store: Store, clip: Clip, theme: str, seed: int = 0) -> tuple[Theme, Int[np.ndarray, " n"]]:
    """Learn a theme from a Store's images nearest to a text, or, for "words", from its rendered words.

    Returns it with the rows of its images.
    """
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
    learnt = Theme.learn(clip, original_pictures(store, clip, own), original_pictures(store, clip, others))
    return learnt, np.sort(own)


def encode_webp(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """Encode an image as WebP."""
    written = BytesIO()
    Image.fromarray(image).save(written, "WEBP", quality=_WEBP_QUALITY)
    return written.getvalue()


def drawn_rows(store: Store, found: list[Record]) -> list[Record]:
    """What `atlas dream` prints of drawings: what was drawn, what it reached, and as a multiple of the best image."""
    names = NeuronNames.read(store) if any("neuron" in row for row in found) else {}
    rows: list[Record] = []
    for row in found:
        shown = {name: row[name] for name in ("neuron", "text", "cell", "theme", "repeat") if name in row}
        shown |= {name: row[name] for name in ("reached", "strongest", "kept", "seen") if row.get(name) is not None}
        shown["times"] = row["reached"] / row["strongest"] if row["strongest"] else None
        rows.append(shown | ({"label": str(names[row["neuron"]])} if "neuron" in row else {}))
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name) for name in columns} for row in rows]


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


def _prior_of(store: Store, clip: Clip, neurons: Sequence[int], among: Int[np.ndarray, " r"] | None) -> Prior | None:
    """The prior of neurons from the images that activate each most, of all images or of a theme's."""
    if "image" not in store.counts:
        return None
    D = Directions.neurons(neurons, clip.neurons).read
    rows, style = strongest_images(store, D, among=among), image_style(store)
    read = torch.from_numpy(D).to(clip.device)
    return store_prior(store, clip, lambda m: direction_responses(read.repeat_interleave(m, 0)), rows, style)


def _figures(
    clip: Clip,
    neurons: Sequence[int],
    found: Sequence[NeuronDrawing],
    prior: Prior | None,
    theme: Theme | None,
    plain: dict[int, Record],
) -> Iterator[Record]:
    """What is known of each neuron's drawings: strongest, and for a theme kept and seen, a list each by repeat."""
    best = prior.best.tolist() if prior else [None] * len(neurons)
    for neuron, drawing, strongest in zip(neurons, found, best, strict=True):
        none = [None] * len(drawing.reached)
        if theme is None:
            yield {"strongest": strongest, "kept": none, "seen": none}
        else:
            whole = max(plain[neuron]["reached"], 1e-12)
            kept = (drawing.reached / whole).tolist()
            yield {"strongest": plain[neuron]["strongest"], "kept": kept, "seen": theme.seen_in(clip, drawing.images)}


def _rows(
    neurons: Sequence[int], found: Sequence[NeuronDrawing], figures: Iterable[Record], theme: str, options: Record
) -> Iterator[Record]:
    for neuron, drawing, known in zip(neurons, found, figures, strict=True):
        for repeat, (image, reached) in enumerate(zip(drawing.images, drawing.reached.tolist(), strict=True)):
            row = {"neuron": neuron, "theme": theme, "repeat": repeat, "image": encode_webp(image), "reached": reached}
            row |= {"strongest": known["strongest"], "kept": known["kept"][repeat], "seen": known["seen"][repeat]}
            yield row | options
