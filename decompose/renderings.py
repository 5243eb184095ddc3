"""Renderings: one word in several fonts, or one thing by several vendors or in all skin tones, is one item.

A neuron that answers to one of them answers to the others, whatever it stands for, for the pictures are all but the
same. What is counted to tell a meaning from chance is therefore items; each answers with the mean over its renderings
(as atlas.analysis.stats averages words over fonts).

    n rows of a kind, m items    A (m, u) activations of u neurons, or of directions    E (m, e) embeddings
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from atlas.analysis.stats import Extremes
from atlas.store.store import Store
from decompose.responses import Responses, hashed_rows, unhashed_rows

_TONE = re.compile(r"[,:]? (?:medium-)?(?:light|medium|dark) skin tone")
_MEANS_AT_ONCE = 2**24  # means of items: as many neurons at once as this allows


@dataclass(frozen=True)
class Things:
    """The items that a kind's rows are renderings of."""

    kind: str
    of: Int[np.ndarray, " n"]  # the item of each row, within the kind
    phrases: tuple[str, ...]  # the different ones that items are called by
    phrase: Int[np.ndarray, " m"]  # which of these each item is called by

    def __len__(self) -> int:
        return len(self.phrase)

    @property
    def weights(self) -> Float[np.ndarray, " n"]:
        """How much each row counts where every item counts alike."""
        return 1 / np.bincount(self.of)[self.of]

    @cached_property
    def _rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows in the order of their items, where each item's begin, and how many it has."""
        count = np.bincount(self.of, minlength=len(self))
        return np.argsort(self.of, kind="stable"), np.cumsum(count) - count, count

    def embeddings(self, E: Any, some: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m e"]:
        """Mean embedding of the renderings of some items; E (n, e) is of all rows, an array or a Store's view."""
        order, start, count = self._rows
        sizes = count[some]
        first = np.cumsum(sizes) - sizes
        within = np.arange(sizes.sum()) - np.repeat(first, sizes)
        rows = E[order[np.repeat(start[some], sizes) + within]]
        return np.add.reduceat(rows.astype(np.float32), first) / sizes[:, None].astype(np.float32)


def things_of(store: Store, kind: str) -> Things:
    """What a kind's rows are renderings of, by their labels (captions, where they have none) and groups."""
    texts, groups = [], []
    for shard in store.of_kind(kind):
        table = shard.table(["label", "caption", "group"])
        texts += display_texts(table)
        groups += table["group"].to_pylist()
    return tell_things(texts, groups, kind)


def tell_things(texts: Sequence[str], groups: Sequence[str | None], kind: str = "image") -> Things:
    """What n rows are renderings of, by what they are called and by their groups (vendors, fonts, folders).

    All renderings of a word are one item. Of images that carry one label, those of different groups (vendors) are one
    item, those of one group are different pictures: the second cat of a folder is the item of every other folder's
    second cat; but an emoji in another skin tone is the same. A row without label and caption is an item by itself.
    """
    called: dict[str, int] = {}
    grouped: dict[str, int] = {}
    toned: dict[str, int] = {}
    numbers = np.array([called.setdefault(without_tone(text), len(called)) for text in texts], np.int64)
    variant = np.array([toned.setdefault(text, len(toned)) for text in texts], np.int64)
    group = np.array([grouped.setdefault(text or "", len(grouped)) for text in groups], np.int64)
    copy = np.zeros_like(numbers) if kind == "word" else _earlier(variant * len(grouped) + group)
    copy = np.where(numbers == called.get("", -1), np.arange(len(copy)), copy)
    item, of = np.unique(np.stack([numbers, copy]), axis=1, return_inverse=True)
    return Things(kind, of.reshape(-1), tuple(called), item[0])


def strongest_things(answers: Responses, items: Things, k: int) -> Int[np.ndarray, "u k"]:
    """The k items that each neuron or direction answers to most, strongest first."""
    if len(items) == len(items.of):  # nothing is averaged
        return items.of[answers.strongest(k)[0]]
    count = np.bincount(items.of)[:, None].astype(np.float32)
    width, found = max(1, _MEANS_AT_ONCE // len(items)), []
    for start in range(0, answers.width, width):
        some = answers.columns(slice(start, min(start + width, answers.width)))
        sums = np.zeros((len(items), some.width), np.float32)
        for rows, A in some:
            here = np.argsort(items.of[rows], kind="stable")
            item, first = np.unique(items.of[rows][here], return_index=True)
            sums[item] += np.add.reduceat(A[here], first)
        found.append(unhashed_rows(Extremes.of(sums / count, hashed_rows(np.arange(len(items))), k).top[0]))
    return np.concatenate(found)


def display_texts(table: pa.Table) -> list[str]:
    """What rows are called: their labels or, where they have none, their captions."""
    pairs: Sequence[tuple[str | None, str | None]] = list(
        zip(table["label"].to_pylist(), table["caption"].to_pylist(), strict=True)
    )
    return [label or caption or "" for label, caption in pairs]


def without_tone(name: str) -> str:
    """An emoji's name without its skin tones."""
    return _TONE.sub("", name)


def _earlier(keys: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """How many equal keys come before each."""
    order = np.argsort(keys, kind="stable")
    new = np.append(True, np.diff(keys[order]) != 0)
    place = np.arange(len(keys))
    found = np.empty_like(keys)
    found[order] = place - np.maximum.accumulate(np.where(new, place, 0))
    return found
