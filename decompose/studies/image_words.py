"""Image-based word embeddings (Goh et al. 2021, section "Image-based word embeddings"): words as the model sees them.

The embedding of a word is the mean activation of the neurons over images of the word in several fonts, minus the mean
over images of frequent English words. Beside it stands the text tower's embedding of the same word, centred likewise.

    A (m, f, u) activations for m words in f fonts    X (m, d) centred embeddings of unit length
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from atlas.console import track
from atlas.errors import Refused
from atlas.model.clip import Clip
from atlas.sources.decoding import Unreadable
from atlas.sources.vocabulary import english_words
from atlas.sources.word_images import render_word
from atlas.store.store import Store
from atlas.vectors import scaled_rows
from decompose.attribution import check_model
from decompose.defaults import CONCEPT_TEMPLATES
from decompose.prompting import Templates, concept_embeddings
from decompose.renderings import display_texts

CENTRE_WORDS = 2000  # frequent English words whose mean is the origin; the paper took 10,000
MOST_WORDS = 4000
_SIZE, _AT_ONCE = 32, 256
_SUM = re.compile(r"[^+=-]+(?:[+-][^+=-]+)+(?:=[^+=-]+)?")


@dataclass(frozen=True)
class WordEmbeddings:
    """Words, and their embeddings in image space (by font) and in text space, both centred."""

    words: tuple[str, ...]
    fonts: tuple[str, ...]
    A: Float[np.ndarray, "m f u"]
    T: Float[np.ndarray, "m e"]  # centred, of unit length
    centred_on: int

    @cached_property
    def place(self) -> dict[str, int]:
        """The number of each word."""
        return {word: i for i, word in enumerate(self.words)}

    def image_space(self, masked: Sequence[int] = (), fonts: slice = slice(None)) -> Float[np.ndarray, "m u"]:
        """Embeddings of unit length over the fonts, with some neurons set to zero."""
        X = self.A[:, fonts].mean(1)
        X[:, list(masked)] = 0
        return scaled_rows(X)


def word_embeddings(
    store: Store,
    clip: Clip,
    more: Sequence[str] = (),
    templates: Templates = CONCEPT_TEMPLATES,
    centre: int = CENTRE_WORDS,
) -> WordEmbeddings:
    """Embeddings of a Store's rendered words, and of `more` words, which are rendered in the same fonts.

    `centre`: over how many frequent English words the mean is taken, each in one of the fonts. Raises Refused for a
    Store without rendered words, or with more than MOST_WORDS.
    """
    check_model(store, clip)
    if "word" not in store.counts:
        raise Refused(f"{store.path} holds no rendered words; collect some, as words:emoji")
    table = store.table(["label", "caption", "group"]).take(store.positions("word"))
    texts, groups = display_texts(table), [group or "" for group in table["group"].to_pylist()]
    fonts = tuple(dict.fromkeys(groups))
    stored, A = font_means(np.asarray(store.array("mean", "word"), np.float32), texts, groups, fonts)
    if len(stored) > MOST_WORDS:
        raise Refused(f"{store.path} holds {len(stored):,} words; at most {MOST_WORDS:,} are compared")
    new = [word for word in dict.fromkeys(more) if word not in set(stored)]
    if new:
        added = word_activations(clip, [(word, font) for word in new for font in fonts])
        A = np.concatenate([A, added.reshape(len(new), len(fonts), -1)])
    words = (*stored, *new)
    frequent = english_words(centre)
    pages = [(word, fonts[i % len(fonts)]) for i, word in enumerate(frequent)]
    origin = word_activations(clip, pages).mean(0)
    T, middle = (concept_embeddings(clip, each, templates) for each in (words, frequent))
    return WordEmbeddings(words, fonts, A - origin, scaled_rows(T - middle.mean(0)), len(frequent))


def font_means(
    A: Float[np.ndarray, "n u"], texts: Sequence[str], groups: Sequence[str], fonts: Sequence[str]
) -> tuple[list[str], Float[np.ndarray, "m f u"]]:
    """The different words that are there in every font, and their mean activations by font over the sizes."""
    number, font = {word: i for i, word in enumerate(dict.fromkeys(texts))}, {name: i for i, name in enumerate(fonts)}
    at = np.array([number[text] * len(fonts) + font[group] for text, group in zip(texts, groups, strict=True)])
    sums = np.zeros((len(number) * len(fonts), A.shape[1]), np.float32)
    np.add.at(sums, at, A)
    count = np.bincount(at, minlength=len(sums)).reshape(-1, len(fonts))
    whole = (count > 0).all(1) & np.array([bool(word.strip()) for word in number])
    means = sums.reshape(len(number), len(fonts), -1) / np.maximum(count, 1)[..., None]
    return [word for word, there in zip(number, whole, strict=True) if there], means[whole]


def word_activations(clip: Clip, pages: Sequence[tuple[str, str]]) -> Float[np.ndarray, "n u"]:
    """Mean rectified activations for words, each rendered in a font: as a Store's `mean`."""
    found = []
    for start in track(range(0, len(pages), _AT_ONCE), -(-len(pages) // _AT_ONCE), "rendered words", "batches"):
        drawn = [render_asked_word(word, font) for word, font in pages[start : start + _AT_ONCE]]
        found.append(np.maximum(clip.activations(drawn), 0).mean((2, 3)))
    return np.concatenate(found) if found else np.zeros((0, clip.neurons), np.float32)


def render_asked_word(word: str, font: str) -> Image.Image:
    """A word that was asked for, as a picture. Raises Refused if the font cannot draw it."""
    try:
        return render_word(word, font, _SIZE)
    except Unreadable as error:
        raise Refused(f"cannot draw {word[:40]!r}: {error}; leave the word out") from None


def nearest_words(
    X: Float[np.ndarray, "m d"], queries: Float[np.ndarray, "q d"], left_out: Sequence[Sequence[int]], k: int
) -> Int[np.ndarray, "q k"]:
    """The k words nearest to each query by cosine, best first; some words are left out of each answer."""
    C = queries @ X.T
    for row, out in zip(C, left_out, strict=True):
        row[list(out)] = -np.inf
    return np.argsort(-C, axis=1, kind="stable")[:, :k]


@dataclass(frozen=True)
class WordSum:
    """An expression such as king - man + woman = queen: words with signs, and the word that should come out."""

    signs: tuple[int, ...]
    words: tuple[str, ...]
    expected: str | None

    @classmethod
    def parse(cls, text: str) -> "WordSum":
        """Read an expression. Raises Refused for one that is none, or has no minus or plus."""
        plain = text.replace("\N{MINUS SIGN}", "-").replace("\N{EN DASH}", "-")
        if not _SUM.fullmatch(plain):
            raise Refused(f"{text[:60]!r} is no sum of words; write king-man+woman, or king-man+woman=queen")
        left, _, expected = plain.partition("=")
        parts = re.findall(r"([+-]?)([^+-]+)", left)
        words = tuple(word.strip() for _, word in parts)
        if not all(words) or ("=" in plain and not expected.strip()):
            raise Refused(f"{text[:60]!r} has an empty word; write king-man+woman=queen")
        return cls(tuple(-1 if sign == "-" else 1 for sign, _ in parts), words, expected.strip() or None)

    def __str__(self) -> str:
        terms = [f"{'−' if sign < 0 else '+'} {word}" for sign, word in zip(self.signs, self.words, strict=True)]
        return " ".join(terms).removeprefix("+ ")

    @property
    def every_word(self) -> list[str]:
        """The words of both sides."""
        return [*self.words, *([self.expected] if self.expected else [])]

    def nearest(self, X: Float[np.ndarray, "m d"], place: dict[str, int], k: int = 5) -> tuple[list[int], int | None]:
        """The k words nearest to the sum, without its own words; and the rank of the expected word, 1 the best."""
        own = [place[word] for word in self.words]
        query = np.array(self.signs, np.float32) @ X[own]
        order = nearest_words(X, query[None], [own], len(X))[0]
        rank = None if self.expected is None else int(np.flatnonzero(order == place[self.expected])[0]) + 1
        return order[:k].tolist(), rank
