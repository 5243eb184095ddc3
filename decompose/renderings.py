"""Renderings of one thing count once: a word in several fonts, an emoji by several vendors or in all skin tones.

Renderings of one thing look nearly the same, so a neuron that responds to one of them responds to the others. They are
not independent evidence. Statistics therefore count things, and the response to a thing is the mean over its renderings
(as atlas.analysis.stats averages words over fonts).

    n rows of a kind, m things    A (m, u) activations of u neurons, or of directions    E (m, e) embeddings
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from atlas.analysis.stats import Extremes
from atlas.model.directions import Directions
from atlas.store.store import Store
from atlas.vectors import Rows
from decompose.responses import Responses, default_kind, hashed_rows, picked_rows, unhashed_rows

_TONE = re.compile(r"[,:]? (?:medium-)?(?:light|medium|dark) skin tone")
_MEANS_AT_ONCE = 2**24  # means of things held at once; it limits how many neurons are read in one pass


@dataclass(frozen=True)
class Things:
    """The things that the rows of one kind are renderings of."""

    kind: str
    of: Int[np.ndarray, " n"]  # the thing of each row, by number
    phrases: tuple[str, ...]  # the different names of things
    phrase: Int[np.ndarray, " m"]  # the name of each thing, as a position in `phrases`

    def __len__(self) -> int:
        return len(self.phrase)

    @property
    def weights(self) -> Float[np.ndarray, " n"]:
        """Weights of rows that give every thing the same weight."""
        return 1 / np.bincount(self.of)[self.of]

    @cached_property
    def _rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows sorted by their things, where the rows of each thing begin, and how many they are."""
        count = np.bincount(self.of, minlength=len(self))
        return np.argsort(self.of, kind="stable"), np.cumsum(count) - count, count

    def embeddings(self, E: Rows, some: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m e"]:
        """Mean embeddings of the renderings of some things. E (n, e): all rows, as an array or a Store's view."""
        order, start, count = self._rows
        sizes = count[some]
        first = np.cumsum(sizes) - sizes
        within = np.arange(sizes.sum()) - np.repeat(first, sizes)
        rows = picked_rows(E, order[np.repeat(start[some], sizes) + within])
        return np.add.reduceat(rows.astype(np.float32), first) / sizes[:, None].astype(np.float32)


def things_of(store: Store, kind: str) -> Things:
    """The things that the rows of a kind show, told apart by label (caption, where there is no label) and group."""
    texts, groups = [], []
    for shard in store.of_kind(kind):
        table = shard.table(["label", "caption", "group"])
        texts += display_texts(table)
        groups += table["group"].to_pylist()
    return tell_things(texts, groups, kind)


def tell_things(texts: Sequence[str], groups: Sequence[str | None], kind: str = "image") -> Things:
    """The things that n rows show, told apart by `texts` (their names) and `groups` (vendors, fonts or folders).

    All renderings of one word are one thing. Images with the same name in different groups (two vendors) are one thing;
    images with the same name in one group are different things, numbered in order: the second "cat" of one folder and
    the second "cat" of another are one thing. Skin tones do not make another thing. A row without a name is a thing by
    itself.
    """
    called: dict[str, int] = {}
    grouped: dict[str, int] = {}
    toned: dict[str, int] = {}
    numbers = np.array([called.setdefault(without_tone(text), len(called)) for text in texts], np.int64)
    variant = np.array([toned.setdefault(text, len(toned)) for text in texts], np.int64)
    group = np.array([grouped.setdefault(text or "", len(grouped)) for text in groups], np.int64)
    copy = np.zeros_like(numbers) if kind == "word" else _earlier(variant * len(grouped) + group)
    copy = np.where(numbers == called.get("", -1), np.arange(len(copy)), copy)
    thing, of = np.unique(np.stack([numbers, copy]), axis=1, return_inverse=True)
    return Things(kind, of.reshape(-1), tuple(called), thing[0])


def strongest_things(answers: Responses, things: Things, k: int) -> Int[np.ndarray, "u k"]:
    """The k things that activate each neuron or direction most, strongest first."""
    if len(things) == len(things.of):  # no averages needed
        return things.of[answers.strongest(k)[0]]
    count = np.bincount(things.of)[:, None].astype(np.float32)
    width, found = max(1, _MEANS_AT_ONCE // len(things)), []
    for start in range(0, answers.width, width):
        some = answers.columns(slice(start, min(start + width, answers.width)))
        sums = np.zeros((len(things), some.width), np.float32)
        for rows, A in some:
            here = np.argsort(things.of[rows], kind="stable")
            thing, first = np.unique(things.of[rows][here], return_index=True)
            sums[thing] += np.add.reduceat(A[here], first)
        found.append(unhashed_rows(Extremes.of(sums / count, hashed_rows(np.arange(len(things))), k).top[0]))
    return np.concatenate(found)


def display_texts(table: pa.Table) -> list[str]:
    """The name of each row: its label or, without a label, its caption."""
    pairs: Sequence[tuple[str | None, str | None]] = list(
        zip(table["label"].to_pylist(), table["caption"].to_pylist(), strict=True)
    )
    return [label or caption or "" for label, caption in pairs]


def without_tone(name: str) -> str:
    """An emoji's name without its skin tones."""
    return _TONE.sub("", name)


def _earlier(keys: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """For each key, how many equal keys come before it."""
    order = np.argsort(keys, kind="stable")
    new = np.append(True, np.diff(keys[order]) != 0)
    place = np.arange(len(keys))
    found = np.empty_like(keys)
    found[order] = place - np.maximum.accumulate(np.where(new, place, 0))
    return found


def spread_over_things(store: Store, directions: Directions | None = None) -> Float[np.ndarray, " k"]:
    """Standard deviation of each neuron or direction over the Store's images, or over its words without images.

    It is that of the mean over positions of the rectified map, which the bilinear form reads: 0 for a neuron that never
    fires. One thing by several vendors or in all skin tones counts once. Otherwise neurons for couples and families,
    whose emoji come in all pairs of skin tones, would vary most.
    """
    kind = default_kind(store)
    return Responses(store.array("mean", kind), directions).deviation(things_of(store, kind).weights)
