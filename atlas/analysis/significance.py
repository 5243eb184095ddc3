"""Statistical significance: p-values from null draws, false discovery rates, and random texts to compare with.

A null is a set of draws of a statistic when there is no effect. For many statistics at once (a neuron's labels), the
null is that of the largest, which corrects p for the number of statistics (Westfall and Young 1993).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import false_discovery_control, hypergeom, norm
from scipy.stats import t as student_t

from atlas.sources import vocabulary
from atlas.vectors import scaled_rows

_DRAWS_A_BLOCK = 500
_TAIL_SHARE = 20  # a tail is fitted to one draw in so many, the largest
RANKED_WORDS = 30_000  # English words that random texts are drawn from
_LEAST_BAND = 100  # words of similar frequency, at least
_LIKE_FREQUENCY = 2.0  # two words are of similar frequency if their ranks differ by at most this factor
_RESAMPLES = 2000  # of the bootstrap
INTERVAL = (2.5, 97.5)  # percentiles between which 95 % of draws lie
_LONGEST_RANDOM_TEXT = 24  # words of a random text; the models cut longer prompts too


def p_values(scores: Float[np.ndarray, "*shape"], null: Float[np.ndarray, "..."]) -> Float[np.ndarray, "*shape"]:
    """p-values: the share of null draws at least as large as each score, with the score itself counted as a draw.

    (1 + larger) / (1 + draws) is never 0 (Phipson and Smyth 2010). All draws are pooled, whatever the shape of `null`.
    """
    ordered = np.sort(null, axis=None)
    larger = ordered.size - np.searchsorted(ordered, scores, side="left")
    return (1 + larger) / (1 + ordered.size)


def tail_p_values(scores: Float[np.ndarray, "*shape"], ordered: Float[np.ndarray, " d"]) -> Float[np.ndarray, "*shape"]:
    """p-values as `p_values` gives them, but above the largest draw from an exponential tail.

    `ordered`: draws in ascending order. The tail is fitted to the largest twentieth of them. Where the statistic is
    bounded or has a normal tail, an exponential one is heavier, so that p is not too small.
    """
    larger = len(ordered) - np.searchsorted(ordered, scores, side="left")
    p = (1 + larger) / (1 + len(ordered))
    top = ordered[-max(len(ordered) // _TAIL_SHARE, 1) :]
    excess = float((top - top[0]).mean())
    if excess <= 0:  # equal draws have no tail
        return p
    tail = len(top) / len(ordered) * np.exp(-np.clip((np.asarray(scores) - top[0]) / excess, 0, 600))
    return np.where(larger == 0, np.minimum(p, tail), p)


@dataclass(frozen=True)
class CosineNull:
    """Cosines of random directions with t vectors: what p-values of such cosines are measured against.

    The directions are normal with a given second moment. A cosine is judged in standard deviations of its vector's own
    cosines (z), which the normal distribution bounds: cosines have lighter tails.
    """

    spread: Float[np.ndarray, " t"]  # standard deviation of each vector's cosines
    largest: Float[np.ndarray, " d"]  # the largest z of each draw

    @classmethod
    def of(cls, moment: Float[np.ndarray, "e e"], T: Float[np.ndarray, "t e"], draws: int, seed: int) -> "CosineNull":
        """Draw directions with the second moment (e, e); T (t, e) are of unit norm."""
        values, vectors = np.linalg.eigh(moment)
        root, random = (vectors * np.sqrt(np.maximum(values, 0))).astype(np.float32), np.random.default_rng(seed)
        sizes = [min(_DRAWS_A_BLOCK, draws - start) for start in range(0, draws, _DRAWS_A_BLOCK)]
        blocks = (scaled_rows(random.standard_normal((n, len(root)), dtype=np.float32) @ root.T) @ T.T for n in sizes)
        first = next(blocks)
        spread = np.sqrt((first**2).mean(0))
        null = cls(spread, np.zeros(0))
        return cls(spread, np.concatenate([null.z(block).max(1) for block in chain([first], blocks)]))

    def z(self, cosines: Float[np.ndarray, "u t"]) -> Float[np.ndarray, "u t"]:
        """Cosines in standard deviations of their null; 0 for a vector that no direction comes near."""
        return np.divide(cosines, self.spread, out=np.zeros_like(cosines), where=self.spread > 1e-9)

    def row_p_values(self, z: Float[np.ndarray, "u t"]) -> Float[np.ndarray, " u"]:
        """For each row, the probability that any of the t cosines is as large as its largest.

        That is the share of draws, the row itself counted, or t times the normal tail where this is less: so p-values
        below 1 / draws resolve.
        """
        best = z.max(1)
        return np.minimum(p_values(best, self.largest), np.maximum(z.shape[1] * norm.sf(best), 1e-300))

    def p_values(self, z: Float[np.ndarray, "u t"]) -> Float[np.ndarray, "u t"]:
        """For each cosine by itself, the normal tail."""
        return np.maximum(norm.sf(z), 1e-300)


def mean_interval(values: Float[np.ndarray, " n"], seed: int = 0) -> tuple[float, float]:
    """The ends of a 95 % interval of the mean of two values or more: of Student's t and the studentised bootstrap, the
    lower low end and the higher high end.

    The bootstrap of the mean alone is too narrow for few values; t is too narrow where they are skewed.
    """
    n, mean = len(values), float(values.mean())
    error = float(values.std(ddof=1)) / n**0.5
    if not error:
        return mean, mean
    again = values[np.random.default_rng(seed).integers(0, n, (_RESAMPLES, n))].astype(np.float64)
    spread = np.maximum(again.std(1, ddof=1) / n**0.5, error / 100)
    below, above = np.percentile((again.mean(1) - mean) / spread, INTERVAL)
    half = float(student_t.ppf(INTERVAL[1] / 100, n - 1))
    return mean - max(half, float(above)) * error, mean + max(half, -float(below)) * error


def q_values(p: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """q-values: the least false discovery rate at which each test is significant (Benjamini and Hochberg 1995)."""
    return false_discovery_control(p) if p.size else p


def selected_q_values(p: Float[np.ndarray, "*shape"], families: Float[np.ndarray, " n"]) -> Float[np.ndarray, "*shape"]:
    """q-values of tests in n families, from p-values that are corrected within each family.

    Families are selected by the least p of each (`families`). At rate a, with R of n families selected, a test in a
    selected family is significant if p <= a R / n (Benjamini and Bogomolov 2014). So q is the least of
    max(p, p_(r)) n / r over the families' ordered p_(r).
    """
    best = np.sort(families)
    n, rank = len(best), np.arange(1, len(best) + 1)
    later = np.append(np.minimum.accumulate((best * n / rank)[::-1])[::-1], np.inf)
    below = np.searchsorted(best, p, side="right")  # number of families with a p at most this large
    now = np.divide(p * n, below, out=np.full(p.shape, np.inf), where=below > 0)
    return np.minimum(np.minimum(now, later[below]), 1.0)


def moderated_scores(
    scores: Float[np.ndarray, "*shape u"], null: Float[np.ndarray, "m u"]
) -> Float[np.ndarray, "*shape u"]:
    """Scores less the mean of the null, over its deviation plus the median column's deviation; column by column.

    The median keeps columns with hardly any variation from ranking high (Tusher, Tibshirani and Chu 2001, "Significance
    analysis of microarrays"). All columns must be in one unit. 0 for a column whose null is constant.
    """
    spread = null.std(0)
    alive = spread > 0
    usual = np.median(spread[alive]) if alive.any() else 1.0
    return np.divide(scores - null.mean(0), spread + usual, out=np.zeros(scores.shape), where=alive)


def max_null_p_values(
    scores: Float[np.ndarray, "u t"], null: Iterable[Float[np.ndarray, "_ t"]]
) -> tuple[Float[np.ndarray, "u t"], Float[np.ndarray, "u t"]]:
    """Scores (u, t) in standard deviations of the null, and p-values that are corrected for the t scores of a row.

    `null`: blocks of draws, each draw as long as a row of `scores`. The first block gives the mean and deviation of
    each column. Deviations below their median are raised to it, so that columns with little variation, such as labels
    of few rows, do not get extreme scores. p-values come from the largest score of each draw.
    """
    blocks = iter(null)
    first = next(blocks)
    mean, spread = first.mean(0), first.std(0)
    spread = np.maximum(spread, max(float(np.median(spread)), 1e-12))
    largest = [((block - mean) / spread).max(1) for block in chain([first], blocks)]
    z = (scores - mean) / spread
    return z, p_values(z, np.concatenate(largest))


def enrichment_p_values(
    carried: Int[np.ndarray, "*shape"], totals: Int[np.ndarray, "..."], rows: int, drawn: Int[np.ndarray, "..."] | int
) -> Float[np.ndarray, "*shape"]:
    """p-values of labels: the chance of `carried` or more among `drawn` rows, if `totals` of all `rows` carry them.

    `totals` and `drawn` have the shape of `carried`, or broadcast to it. The count of a shuffled label is
    hypergeometric, so this is the permutation test in closed form.
    """
    triples = [np.broadcast_to(each, carried.shape).ravel() for each in (carried, totals, np.asarray(drawn))]
    (there, whole, size), back = np.unique(np.stack(triples), axis=1, return_inverse=True)
    return hypergeom.sf(there - 1, rows, whole, size)[back.reshape(-1)].reshape(carried.shape)


def random_texts(like: str, count: int, seed: int = 0) -> list[str]:
    """`count` different random texts with as many words as `like`, each an English word of similar frequency.

    Similar is a rank between half and twice the word's own in wordfreq's list; a word that is not in the list, in any
    script, gets the last rank. Of a single word, as many ranks as are needed for `count` words are taken. The words of
    `like` themselves are excluded.
    """
    ranked = vocabulary.english_words(RANKED_WORDS)
    place = {word: rank for rank, word in enumerate(ranked)}
    own = re.findall(r"\w+", like.casefold())[:_LONGEST_RANDOM_TEXT] or [like]
    random, least = np.random.default_rng(seed), count + len(own) if len(own) == 1 else 0
    bands = []
    for word in own:
        rank = place.get(word, len(ranked) - 1)
        width = max(_LEAST_BAND, least)
        low = max(min(int(rank / _LIKE_FREQUENCY), len(ranked) - width), 0)
        bands.append(np.array([w for w in ranked[low : max(int(_LIKE_FREQUENCY * rank), low + width)] if w not in own]))
    if len(own) == 1:
        return random.permutation(bands[0])[:count].tolist()
    found: dict[str, None] = {}
    while len(found) < count:
        drawn = (random.choice(band, count) for band in bands)
        found |= dict.fromkeys(" ".join(words) for words in zip(*drawn, strict=True))
    return list(found)[:count]
