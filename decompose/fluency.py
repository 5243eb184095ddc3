"""Fluency of English texts: a bigram model from the word counts in the package wordsegment.

The counts are a part of Google's Web 1T, selected by Norvig ("Natural Language Corpus Data", 2009): 333,000 words and
258,000 pairs. A pair without a count gets 0.4 times the frequency of its second word ("stupid backoff", Brants et al.
2007, "Large Language Models in Machine Translation"), so scores are not exactly probabilities. A bigram model knows
that "happy face" is more usual than "face happy", but nothing about words further apart.

v words; the start of a text counts as one more word, which only comes first
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.sparse import csc_array, csr_array

from atlas.errors import Refused

_BACKOFF = 0.4
_START = "<s>"


class Bigrams:
    """log10 probabilities of v words after each other. Words are given by number, texts as tuples of numbers."""

    def __init__(self, words: Sequence[str]):
        try:
            import wordsegment
        except ImportError:
            raise Refused('fluency needs wordsegment: pip install "multimodal-atlas[demo]"') from None
        if not wordsegment.UNIGRAMS:
            wordsegment.load()
        singles, pairs = wordsegment.UNIGRAMS, wordsegment.BIGRAMS
        total = float(sum(singles.values()))
        number = {word: i for i, word in enumerate(words)}
        counts = np.array([singles.get(word, 1.0) for word in words])
        self.alone: Float[np.ndarray, " v"] = np.log10(counts / total)
        known = [(*pair.split(" ", 1), count) for pair, count in pairs.items()]
        begins = sum(count for first, _, count in known if first == _START)
        rows = [
            (number.get(first, len(words)), number[then], count / (begins if first == _START else singles[first]))
            for first, then, count in known
            if then in number and ((first in number and first in singles) or first == _START)
        ]
        before, after, share = (np.array(each) for each in zip(*rows, strict=True)) if rows else np.zeros((3, 0), int)
        shape = len(words) + 1, len(words)
        self.known: csr_array = csr_array((np.log10(np.minimum(share, 1)), (before, after)), shape)

    @cached_property
    def _by_second(self) -> csc_array:
        return self.known.tocsc()

    def after(self, word: int | None) -> Float[np.ndarray, " v"]:
        """log10 probability of every word after `word`; None is the start of a text."""
        row = len(self.alone) if word is None else word
        here = slice(*self.known.indptr[row : row + 2])
        found = self.alone + np.log10(_BACKOFF)
        found[self.known.indices[here]] = self.known.data[here]
        return found

    def before(self, word: int) -> Float[np.ndarray, " v"]:
        """log10 probability of `word` after every other word."""
        here = slice(*self._by_second.indptr[word : word + 2])
        found = np.full(len(self.alone) + 1, self.alone[word] + np.log10(_BACKOFF))
        found[self._by_second.indices[here]] = self._by_second.data[here]
        return found[:-1]

    def fluency(self, texts: Sequence[tuple[int, ...]]) -> Float[np.ndarray, " t"]:
        """Mean log10 probability of the words of each text, each given the word before it."""
        afters: dict[int | None, np.ndarray] = {}

        def likely(first: int | None, then: int) -> float:
            if first not in afters:
                afters[first] = self.after(first)
            return float(afters[first][then])

        return np.array([np.mean([likely(*pair) for pair in zip((None, *text), text, strict=False)]) for text in texts])

    def gains(self, text: tuple[int, ...]) -> Float[np.ndarray, "n v"]:
        """The fluency that each word would contribute in each place of a text, up to a constant a place."""
        rows = []
        for place, first in enumerate((None, *text[:-1])):
            then = self.before(text[place + 1]) if place + 1 < len(text) else 0
            rows.append((self.after(first) + then) / len(text))
        return np.stack(rows)
