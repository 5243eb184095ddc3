"""How alike words are in spelling, and the neurons that respond to spelling rather than to meaning.

Goh et al. 2021, section "Image-based word embeddings", mask "lexicographic" neurons without a list of them. Here a rule
finds them: a neuron is lexicographic if its responses follow the edit distance from the words that it responds to most,
more than chance allows, and more closely than they follow nearness in meaning.

    A (m, u) responses to m words    S (m, m) likeness in spelling, 0 to 1    M (m, m) likeness in meaning
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import rankdata

from atlas.analysis.significance import p_values, q_values
from atlas.formatting import Record
from decompose.defaults import FALSE_RATE

UNLIKE = 0.5  # two words are unlike in spelling below this likeness
PEAKS = 5  # words of each neuron from which distances are measured
_NULL_SCORES = 4000  # at least, over all neurons, so that small p-values can be told apart


def spelling_likeness(words: Sequence[str], others: Sequence[str] | None = None) -> Float[np.ndarray, "m n"]:
    """1 - Levenshtein distance / length of the longer word, for every pair of `words` and `others` (or of `words`)."""
    among = list(words if others is None else others)
    lengths = np.array([len(word) for word in among])
    codes = np.zeros((len(among), max(lengths, default=0)), np.int32)
    for row, word in zip(codes, among, strict=True):
        row[: len(word)] = [ord(letter) for letter in word]
    steps = np.arange(codes.shape[1] + 1, dtype=np.int32)
    found = np.zeros((len(words), len(among)), np.float32)
    for i, word in enumerate(words):
        row = np.tile(steps, (len(among), 1))
        for place, letter in enumerate(word, start=1):
            changed = row[:, :-1] + (codes != ord(letter))
            new = np.concatenate([np.full((len(among), 1), place), np.minimum(changed, row[:, 1:] + 1)], 1)
            row = np.minimum.accumulate(new - steps, axis=1) + steps  # an insertion costs one a letter
        distance = np.take_along_axis(row, lengths[:, None], 1)[:, 0]
        found[i] = 1 - distance / np.maximum(np.maximum(lengths, len(word)), 1)
    return found


def lexicographic_neurons(
    A: Float[np.ndarray, "m u"],
    S: Float[np.ndarray, "m m"],
    M: Float[np.ndarray, "m m"],
    rate: float = FALSE_RATE,
    seed: int = 0,
) -> list[Record]:
    """The lexicographic neurons, most significant first: rank correlation with spelling and with meaning, and q.

    Both correlations are means over the PEAKS words that the neuron responds to most. The null takes other words in
    their place, drawn at random. Neurons that respond to no word are left out.
    """
    alive = np.flatnonzero(A.std(0) > 0)
    if not len(alive) or len(A) <= PEAKS:
        return []
    answers, spelled, meant = (_standard_ranks(each) for each in (A[:, alive], S, M))
    peaks = np.argsort(-A[:, alive], axis=0, kind="stable")[:PEAKS]
    rng, rounds = np.random.default_rng(seed), -(-_NULL_SCORES // len(alive))
    by_spelling, by_meaning = _mean_correlation(answers, spelled, peaks), _mean_correlation(answers, meant, peaks)
    null = [_mean_correlation(answers, spelled, rng.integers(0, len(A), peaks.shape)) for _ in range(rounds)]
    q = q_values(p_values(by_spelling, np.concatenate(null)))
    chosen = np.flatnonzero((q <= rate) & (by_spelling > by_meaning))
    return [
        {
            "neuron": int(alive[i]), "spelling": float(by_spelling[i]), "meaning": float(by_meaning[i]),
            "q": float(q[i]), "words": peaks[:, i].tolist(),
        }
        for i in chosen[np.lexsort((-by_spelling[chosen], q[chosen]))]
    ]  # fmt: skip


def _standard_ranks(X: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "m n"]:
    """Ranks of each column, with mean 0 and length 1; 0 for a constant column."""
    ranks = rankdata(X, axis=0).astype(np.float32)
    ranks -= ranks.mean(0)
    return ranks / np.maximum(np.linalg.norm(ranks, axis=0), 1e-9)


def _mean_correlation(
    answers: Float[np.ndarray, "m u"], likeness: Float[np.ndarray, "m m"], at: Int[np.ndarray, "k u"]
) -> Float[np.ndarray, " u"]:
    return np.mean([(answers * likeness[:, row]).sum(0) for row in at], axis=0)
