"""Candidate labels, and the settings of the significance test."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from jaxtyping import Float

from atlas.errors import Refused
from atlas.model.clip import Clip
from atlas.store.store import Store
from decompose.attribution import check_model
from decompose.defaults import FALSE_RATE, NULL_DRAWS
from decompose.enrichment import concepts_in
from decompose.prompting import Templates, concept_embeddings
from decompose.renderings import display_texts, without_tone
from decompose.responses import check_rows

_MOST_CONCEPTS = 5000  # labels taken from a Store, the most frequent ones


@dataclass(frozen=True)
class Candidates:
    """The t labels to choose from. Raises Refused for none, for repeats, and for embeddings that do not fit them."""

    texts: tuple[str, ...]
    """The labels, each once."""

    T: Float[np.ndarray, "t e"]
    """Their text embeddings, of unit norm."""

    def __post_init__(self) -> None:
        if not self.texts or len({*self.texts}) < len(self.texts):
            different = len({*self.texts})
            raise Refused(f"{len(self.texts)} concepts, {different} of them different: give one or more, each once")
        check_rows(len(self.texts), T=self.T)
        if not np.isfinite(self.T).all():
            raise Refused("the text embeddings T hold numbers that are not finite")

    @classmethod
    def of(cls, store: Store, clip: Clip, vocabulary: Sequence[str] | None, templates: Templates) -> "Candidates":
        """The vocabulary or, without one, the labels and words of the Store's rows, embedded in these prompts.

        Raises Refused for a Store of another model, and if there is nothing to choose from.
        """
        check_model(store, clip)
        texts = concepts_of(store) if vocabulary is None else tuple(dict.fromkeys(vocabulary))
        if not texts:
            raise Refused(f"no labels to choose from: the rows of {store.path} carry none; give a vocabulary")
        return cls(texts, concept_embeddings(clip, texts, templates))


@dataclass(frozen=True)
class LabelTest:
    """How labels are tested. Raises Refused for values that no test can have."""

    rate: float | int = FALSE_RATE
    """False discovery rate: a label is given if its q-value is at most this."""

    draws: int = NULL_DRAWS
    """Draws from every null distribution that has no closed form."""

    seed: int = 0
    """Seed of these draws."""

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise Refused(f"the false discovery rate is {self.rate}; it must be more than 0 and less than 1")
        if self.draws < 1:
            raise Refused(f"draws={self.draws}: a null distribution needs at least one draw")


class LabelTesting(TypedDict, total=False):
    """The fields of `LabelTest`, as keyword arguments."""

    rate: float | int
    draws: int
    seed: int


def concepts_of(store: Store) -> tuple[str, ...]:
    """The labels of the Store's images and words, and the single words in them; the most frequent first.

    Skin tones are left out, because renderings in all skin tones count as one thing.
    """
    counts: Counter[str] = Counter()
    for kind in ("image", "word"):
        for phrase, rows in _phrases(store, kind).items():
            for concept in concepts_in(without_tone(phrase)):
                counts[concept] += rows
    return tuple(sorted(counts, key=lambda concept: (-counts[concept], concept))[:_MOST_CONCEPTS])


def _phrases(store: Store, kind: str) -> Counter[str]:
    """The labels of the rows of a kind (captions, where rows have no label), and how many rows have each."""
    counts: Counter[str] = Counter()
    for shard in store.of_kind(kind):
        counts.update(display_texts(shard.table(["label", "caption"])))
    return counts
