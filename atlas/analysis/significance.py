"""Is it more than chance: p-values against draws from a null, false discovery rates, and random texts to compare with.

A null is a set of draws of the same statistic where nothing is to be found. Of many statistics at once (a neuron's
labels) the null is of the largest, so that one p-value answers for having looked at them all (Westfall and Young 1993).
"""

import re
from collections.abc import Iterable
from itertools import chain

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import false_discovery_control, hypergeom

from atlas.sources import vocabulary

RANKED_WORDS = 30_000  # English words that random texts are drawn from
_LIKE_FREQUENCY = 2.0  # a word is of like frequency if its rank is at most this many times larger or smaller
INTERVAL = (2.5, 97.5)  # percentiles between which 95 % of draws lie
_LONGEST_RANDOM_TEXT = 24  # words of a random text: longer prompts are cut by the models too


def p_values(scores: Float[np.ndarray, "*shape"], null: Float[np.ndarray, "..."]) -> Float[np.ndarray, "*shape"]:
    """Share of null draws at least as large as each score, the score itself counted among them.

    (1 + larger) / (1 + draws) is never 0 (Phipson and Smyth 2010). All draws are pooled, whatever the shape of `null`.
    """
    ordered = np.sort(null, axis=None)
    larger = ordered.size - np.searchsorted(ordered, scores, side="left")
    return (1 + larger) / (1 + ordered.size)


def q_values(p: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The false discovery rates (Benjamini and Hochberg 1995) at which each test would just be kept."""
    return false_discovery_control(p) if p.size else p


def selected_q_values(p: Float[np.ndarray, "*shape"], families: Float[np.ndarray, " n"]) -> Float[np.ndarray, "*shape"]:
    """False discovery rates of claims on n families, from p-values that are corrected within the family.

    Families are selected by the least p-value of each (`families`); at rate a, with R of n selected, a claim on one of
    them is kept if p <= a R / n (Benjamini and Bogomolov 2014). So q is the least of max(p, p_(r)) n / r over the
    families' ordered p_(r).
    """
    best = np.sort(families)
    n, rank = len(best), np.arange(1, len(best) + 1)
    later = np.append(np.minimum.accumulate((best * n / rank)[::-1])[::-1], np.inf)
    below = np.searchsorted(best, p, side="right")  # families at least as strong as the claim: 1 or more for the best
    now = np.divide(p * n, below, out=np.full(p.shape, np.inf), where=below > 0)
    return np.minimum(np.minimum(now, later[below]), 1.0)


def moderated_scores(
    scores: Float[np.ndarray, "*shape u"], null: Float[np.ndarray, "m u"]
) -> Float[np.ndarray, "*shape u"]:
    """How far scores surpass the mean of the null draws, in their deviation plus the median column's; column by column.

    By its own deviation alone, a column where next to nothing happens wins by next to nothing (Tusher, Tibshirani and
    Chu 2001, "Significance analysis of microarrays"). So columns must be in one unit. 0 where the null never changes.
    """
    spread = null.std(0)
    alive = spread > 0
    usual = np.median(spread[alive]) if alive.any() else 1.0
    return np.divide(scores - null.mean(0), spread + usual, out=np.zeros(scores.shape), where=alive)


def max_null_p_values(
    scores: Float[np.ndarray, "u t"], null: Iterable[Float[np.ndarray, "_ t"]]
) -> tuple[Float[np.ndarray, "u t"], Float[np.ndarray, "u t"]]:
    """Scores (u, t) in standard deviations of the null, and p-values that answer for having looked at all t of a row.

    The null comes in blocks of draws, each as long as a row of `scores`; only the largest of a draw is kept. The first
    block gives mean and deviation of each column. One that hardly varies there, such as a label of few rows, is not
    blown up: no deviation is taken for less than the median one.
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
    """p-values of finding a label `carried` times or more among `drawn` rows, when `totals` of all `rows` carry it.

    `totals` and `drawn` are of the shape of `carried`, or broadcast to it. Shuffled labels make the count
    hypergeometric, so the permutation null has this closed form, and small p need no draws.
    """
    triples = [np.broadcast_to(each, carried.shape).ravel() for each in (carried, totals, np.asarray(drawn))]
    (there, whole, size), back = np.unique(np.stack(triples), axis=1, return_inverse=True)
    return hypergeom.sf(there - 1, rows, whole, size)[back.reshape(-1)].reshape(carried.shape)


def random_texts(like: str, count: int, seed: int = 0) -> list[str]:
    """`count` texts of as many words as `like`, each word replaced by an English one of like frequency.

    Of like frequency are the ranks from half to twice its own in wordfreq's list; a word that the list does not know,
    in any script, stands at its end. The words of `like` themselves are left out.
    """
    ranked = vocabulary.english(RANKED_WORDS)
    place = {word: rank for rank, word in enumerate(ranked)}
    own = re.findall(r"\w+", like.casefold())[:_LONGEST_RANDOM_TEXT] or [like]
    random = np.random.default_rng(seed)
    columns = []
    for word in own:
        rank = place.get(word, len(ranked) - 1)
        low = min(int(rank / _LIKE_FREQUENCY), len(ranked) - 100)
        band = [other for other in ranked[low : max(int(_LIKE_FREQUENCY * rank), low + 100)] if other not in own]
        columns.append(random.choice(np.array(band), count))
    return [" ".join(words) for words in zip(*columns, strict=True)]
