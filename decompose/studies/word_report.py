"""All figures of `decompose words`: neighbours, sums of words, other languages, and what chance gives.

Goh et al. 2021, section "Image-based word embeddings". Nearness in meaning is measured in the text space of the same
model: how near to a word, there, are its neighbours in image space.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from atlas.formatting import Record
from atlas.model.clip import Clip
from atlas.model.untrained import untrained_clip
from atlas.store.store import Store
from atlas.vectors import scaled_rows
from decompose.defaults import CONCEPT_TEMPLATES
from decompose.prompting import Templates, concept_embeddings
from decompose.studies.edits import UNLIKE, lexicographic_neurons, spelling_likeness
from decompose.studies.image_words import (
    CENTRE_WORDS,
    WordEmbeddings,
    WordSum,
    nearest_words,
    word_activations,
    word_embeddings,
)
from decompose.studies.rates import Rate
from decompose.studies.translations import foreign_words

NEAREST_SHOWN = 10
ASKED_WORDS = ("France", "Jesus", "xbox", "happy", "pizza")  # the paper's three, and two
WORD_SUMS = (
    "king-man+woman=queen", "prince-man+woman=princess", "husband-man+woman=wife", "father-man+woman=mother",
    "brother-man+woman=sister", "son-man+woman=daughter", "boy-man+woman=girl", "actor-man+woman=actress",
    "germany-german+italian=italy", "japan-tokyo+paris=france", "cat-kitten+puppy=dog", "hand-glove+shoe=foot",
)  # fmt: skip
_DRAWS, _UNTRAINED_WORDS = 200, 400


class UntrainedWords(NamedTuple):
    """Some of the words, by number, and what an untrained network responds to their renderings in the first font."""

    words: Int[np.ndarray, " n"]
    A: Float[np.ndarray, "n u"]


def untrained_words(found: WordEmbeddings, clip: Clip, seed: int = 0) -> UntrainedWords:
    """Render at most 400 of the words for an untrained network of the model's architecture."""
    some = np.sort(np.random.default_rng(seed).permutation(len(found.words))[:_UNTRAINED_WORDS])
    pages = [(found.words[i], found.fonts[0]) for i in some]
    return UntrainedWords(some, word_activations(untrained_clip(clip, seed), pages))


@dataclass(frozen=True)
class WordReport:
    """Everything that `decompose words` found."""

    model: str
    words: int
    fonts: tuple[str, ...]
    centred_on: int
    neighbours: list[Record]  # of each asked word in image space and in text space
    lexicographic: list[Record]
    lexicographic_few: dict[str, int]  # by one font, on the words that an untrained network reads: the model's, its own
    sums: list[Record]
    fonts_agree: list[Record]  # a word's nearest in another font is itself, and with fonts shuffled
    meaning: list[Record]  # mean cosine in text space of neighbours, and what nulls give
    languages: list[Record]


def report_words(
    store: Store,
    clip: Clip,
    asked: Sequence[str] = ASKED_WORDS,
    sums: Sequence[str] = WORD_SUMS,
    templates: Templates = CONCEPT_TEMPLATES,
    centre: int = CENTRE_WORDS,
    seed: int = 0,
) -> WordReport:
    """Measure the image-based word embeddings of a Store's model."""
    given = [WordSum.parse(each) for each in sums]
    asked = [word.lower() for word in asked]
    every = [*asked, *(word for each in given for word in each.every_word)]
    found = word_embeddings(store, clip, every, templates, centre)
    S = spelling_likeness(found.words)
    lexicographic = lexicographic_neurons(found.A.mean(1), S, found.T @ found.T.T, seed=seed)
    for row in lexicographic:
        row["words"] = [found.words[i] for i in row["words"]]
    masked = [row["neuron"] for row in lexicographic]
    few = untrained_words(found, clip, seed)
    spaces = {"image": found.image_space(), "image, masked": found.image_space(masked), "text": found.T}
    return WordReport(
        clip.name,
        len(found.words),
        found.fonts,
        found.centred_on,
        [_neighbours(found, spaces, word) for word in asked],
        lexicographic,
        few_lexicographic(found, S, few, seed),
        [_summed(found, spaces, each) for each in given],
        font_agreement(found, seed),
        meaning_figures(found, S, spaces, few, seed),
        language_figures(found, clip, templates, seed),
    )


def _neighbours(found: WordEmbeddings, spaces: dict[str, np.ndarray], word: str) -> Record:
    at = found.place[word]
    row: Record = {"word": word}
    for name, X in spaces.items():
        row[name] = [found.words[i] for i in nearest_words(X, X[[at]], [[at]], NEAREST_SHOWN)[0]]
    return row


def _summed(found: WordEmbeddings, spaces: dict[str, np.ndarray], each: WordSum) -> Record:
    row: Record = {"sum": str(each), "expected": each.expected}
    for name, X in spaces.items():
        near, rank = each.nearest(X, found.place)
        row |= {name: [found.words[i] for i in near], f"{name} rank": rank}
    return row


def font_agreement(found: WordEmbeddings, seed: int = 0) -> list[Record]:
    """How often a word's nearest in the last font is itself, by its first font; and with fonts shuffled over words."""
    if len(found.fonts) < 2:
        return []
    one, other = found.image_space(fonts=slice(0, 1)), found.image_space(fonts=slice(-1, None))
    hits = nearest_words(other, one, [()] * len(one), 1)[:, 0]
    shuffled = np.random.default_rng(seed).permutation(len(one))
    rows = []
    for name, own in (("measured", np.arange(len(one))), ("fonts shuffled over words", shuffled)):
        rows.append({"fonts": name} | Rate.counted(hits == own).columns("itself"))
    return rows


def meaning_figures(
    found: WordEmbeddings,
    S: Float[np.ndarray, "m m"],
    spaces: dict[str, np.ndarray],
    few: UntrainedWords,
    seed: int = 0,
) -> list[Record]:
    """How near in text space a word's neighbours in image space are: mean cosine, beside nulls.

    Two rows a space: all neighbours, and those that are unlike the word in spelling. The null shuffles meanings over
    the words; an untrained network sees the same renderings, of fewer words.
    """
    M, rng = found.T @ found.T.T, np.random.default_rng(seed)
    rows = []
    for name in ("image", "image, masked"):
        for unlike in (False, True):
            near = _near_words(spaces[name], S, unlike)
            rows.append(
                {"space": name, "neighbours": "unlike in spelling" if unlike else "all"} | _nearness(M, near, rng)
            )
    some, X = few.words, scaled_rows(few.A - few.A.mean(0))
    here = np.ix_(some, some)
    for unlike in (False, True):
        near = _near_words(X, S[here], unlike)
        kind = "unlike in spelling" if unlike else "all"
        rows.append({"space": f"untrained, {len(some)} words", "neighbours": kind} | _nearness(M[here], near, rng))
    return rows


def few_lexicographic(
    found: WordEmbeddings, S: Float[np.ndarray, "m m"], few: UntrainedWords, seed: int = 0
) -> dict[str, int]:
    """How many neurons respond to spelling, of the model and of an untrained network, on the same few renderings."""
    here = np.ix_(few.words, few.words)
    likeness, meaning = S[here], (found.T @ found.T.T)[here]
    each = {"model": found.A[few.words, 0], "untrained": few.A}
    counts = {name: len(lexicographic_neurons(A, likeness, meaning, seed=seed)) for name, A in each.items()}
    return counts | {"words": len(few.words)}


def _near_words(X: Float[np.ndarray, "m d"], S: Float[np.ndarray, "m m"], unlike: bool) -> np.ndarray:
    C = X @ X.T
    np.fill_diagonal(C, -np.inf)
    if unlike:
        C[S >= UNLIKE] = -np.inf
    return np.argsort(-C, axis=1, kind="stable")[:, :NEAREST_SHOWN]


def _nearness(M: Float[np.ndarray, "m m"], near: np.ndarray, rng: np.random.Generator) -> Record:
    """Mean cosine of words and their neighbours, its interval over words, and the same with meanings shuffled."""
    each = np.take_along_axis(M, near, 1).mean(1)
    means = rng.choice(each, (_DRAWS, len(each))).mean(1)
    shuffled = []
    for _ in range(_DRAWS // 10):
        order = rng.permutation(len(M))
        shuffled.append(float(M[order[:, None], order[near]].mean()))
    low, high = np.percentile(means, (2.5, 97.5))
    return {
        "cosine": float(each.mean()), "low": float(low), "high": float(high),
        "shuffled": float(np.mean(shuffled)), "shuffled_most": max(shuffled),
    }  # fmt: skip


def language_figures(found: WordEmbeddings, clip: Clip, templates: Templates, seed: int = 0) -> list[Record]:
    """How often the English word is among the 10 nearest to its translation, rendered, by language and in text space.

    Words unlike their translation in spelling are counted apart, because others can be found by their letters.
    """
    rows = []
    for language, pairs in foreign_words(found.words, seed).items():
        own = np.array([found.place[english] for english, _ in pairs])
        unlike = np.array([spelling_likeness([a], [b])[0, 0] < UNLIKE for a, b in pairs], bool)
        A = word_activations(clip, [(word, found.fonts[0]) for _, word in pairs])
        T = concept_embeddings(clip, [word for _, word in pairs], templates)
        for name, X, Q in (("image", found.image_space(), A - A.mean(0)), ("text", found.T, T - T.mean(0))):
            near = nearest_words(X, Q, [()] * len(Q), NEAREST_SHOWN)
            hit = (near == own[:, None]).any(1)
            wrong = (near == np.random.default_rng(seed).permutation(own)[:, None]).any(1)
            rows.append(
                {"language": language, "space": name}
                | Rate.counted(hit).columns("found")
                | Rate.counted(hit[unlike]).columns("unlike")
                | {"shuffled": Rate.counted(wrong).share}
            )
    return rows
