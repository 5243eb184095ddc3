"""Evidence that a neuron stands for a text: a score above chance and a p-value for every neuron and text.

There are three kinds: the labels of the things that activate the neuron most (`caption_evidence`), CLIP's own text
probabilities of these things (`image_evidence`), and the cosine of the basis row with the text (`basis_evidence`). Each
kind has a null of its own, and its p-values are corrected for the number of texts tested.

    T (t, e) text embeddings    E (n, e) embeddings of the rows    u neurons (or directions), k strongest of m things
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from scipy.special import softmax
from scipy.stats import norm
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from atlas.analysis.significance import enrichment_p_values, max_null_p_values
from atlas.errors import Refused
from atlas.vectors import Rows, scaled_rows
from decompose.renderings import Things
from decompose.responses import RESPONSE_BLOCK

_DRAWS_A_BLOCK = 500
PROBABILITY_POOL = 2**24  # probabilities of the things that the null draws from: 64 MB
_RANK_WEIGHTS = (0.998, 0.97)  # of soft-WPMI: weights of the first and the last of the strongest things
_LEAST_PROBABILITY = 1e-7  # lower bound, so that the logarithm is finite
_WORD = re.compile(r"[^\W\d_]{2,}")


@dataclass(frozen=True)
class Evidence:
    """For every neuron and label: standard deviations above chance, and p corrected for the number of labels tested."""

    score: Float[np.ndarray, "u t"]
    p: Float[np.ndarray, "u t"]


def concepts_in(phrase: str) -> tuple[str, ...]:
    """The concepts in a label: the whole label, if it is short, and its single words without stop words ("of")."""
    words = [word for word in _WORD.findall(phrase.casefold()) if word not in ENGLISH_STOP_WORDS]
    whole = " ".join(phrase.casefold().split())
    return tuple(dict.fromkeys([whole] * (0 < len(whole) <= 40) + words))


def caption_evidence(things: Things, top: Int[np.ndarray, "u k"], concepts: Sequence[str]) -> Evidence:
    """Enrichment of labels among the strongest things, with the permutation null in closed form (hypergeometric).

    A label that only one thing carries can never be significant, so it is not tested (Tarone 1990, "A modified
    Bonferroni method for discrete data").
    """
    carries = _incidence(things.phrases, concepts)
    totals = carries.T @ np.bincount(things.phrase, minlength=len(things.phrases))
    u, k = top.shape
    at = things.phrase[top.ravel()], np.arange(0, u * k + 1, k)
    product: Any = csr_array((np.ones(u * k, np.int64), *at), (u, len(things.phrases))) @ carries
    seen = product.tocoo()
    score, corrected = np.zeros(seen.shape, np.float32), np.ones(seen.shape, np.float32)
    several = totals[seen.col] > 1
    row, column = seen.row[several], seen.col[several]
    p = enrichment_p_values(seen.data[several], totals[column], len(things), k)
    score[row, column] = norm.isf(np.clip(p, 1e-300, 0.5))
    corrected[row, column] = np.minimum(p * (totals > 1).sum(), 1)
    return Evidence(score, corrected)


def image_evidence(
    things: Things,
    top: Int[np.ndarray, "u k"],
    E: Rows,
    T: Float[np.ndarray, "t e"],
    scale: float,
    draws: int,
    random: np.random.Generator,
) -> Evidence:
    """Soft-WPMI: log p(D|t) of the strongest things, against that of random things.

    `E`: (n, e) embeddings of all rows, an array or a Store's view. `scale`: the model's inverse temperature.

    Embeddings are centred on their mean, so that a text near to every image gains nothing by it. CLIP-Dissect's term
    log p(t) is the same for all neurons, and cancels with the mean of the null. If there are many things, the null
    draws from a sample of them.
    """
    mean = mean_embedding(E)
    weights = np.linspace(*_RANK_WEIGHTS, top.shape[1], dtype=np.float32)[:, None]

    def probability(some: np.ndarray) -> np.ndarray:
        return softmax(scale * ((things.embeddings(E, some) - mean) @ T.T), axis=-1)

    def probabilities(block: np.ndarray) -> np.ndarray:
        some, place = np.unique(block, return_inverse=True)
        return probability(some)[place.reshape(block.shape)]

    def weigh(P: Float[np.ndarray, "b k t"]) -> Float[np.ndarray, "b t"]:
        return np.log1p(weights * (P - 1) + np.float32(_LEAST_PROBABILITY)).sum(1)

    at_once = max(1, PROBABILITY_POOL // (top.shape[1] * len(T)))
    blocks = (top[i : i + at_once] for i in range(0, len(top), at_once))
    scores = np.concatenate([weigh(probabilities(block)) for block in blocks])
    pool = np.sort(random.permutation(len(things))[: max(PROBABILITY_POOL // len(T), 1)])
    P = probability(pool)

    def null() -> Iterator[np.ndarray]:
        for size in draw_blocks(draws):
            picks = random.integers(0, len(pool), (size, top.shape[1]))
            yield np.concatenate([weigh(P[picks[i : i + at_once]]) for i in range(0, size, at_once)])

    return Evidence(*(each.astype(np.float32) for each in max_null_p_values(scores, null())))


def basis_evidence(
    W: Float[np.ndarray, "u e"], T: Float[np.ndarray, "t e"], draws: int, random: np.random.Generator
) -> Evidence:
    """Cosines of basis rows with centred texts, against those of random directions.

    The directions are normal, with the second moments of the basis rows: a text close to the whole basis is not
    evidence for a single neuron.
    """
    rows = scaled_rows(W)
    values, vectors = np.linalg.eigh((rows.T @ rows).astype(np.float64) / len(rows))
    root = (vectors * np.sqrt(np.maximum(values, 0))).astype(np.float32)
    T = (T - T.mean(0)).T

    def null() -> Iterator[np.ndarray]:
        for size in draw_blocks(draws):
            yield scaled_rows(random.standard_normal((size, len(root)), dtype=np.float32) @ root.T) @ T

    return Evidence(*(each.astype(np.float32) for each in max_null_p_values(rows @ T, null())))


def mean_embedding(E: Rows) -> Float[np.ndarray, " e"]:
    """Mean of embeddings (n, e), read a block at a time."""
    total = np.zeros(E.shape[1])
    for start in range(0, len(E), RESPONSE_BLOCK):
        total += E[start : start + RESPONSE_BLOCK].sum(0, dtype=np.float64)
    if not np.isfinite(total).all():
        raise Refused("embeddings hold numbers that are not finite; leave those rows out")
    return (total / len(E)).astype(np.float32)


def draw_blocks(draws: int) -> list[int]:
    """Sizes of the blocks that the null is drawn in; the first block gives the null's mean and deviation."""
    return [min(_DRAWS_A_BLOCK, draws - start) for start in range(0, draws, _DRAWS_A_BLOCK)]


def _incidence(phrases: Sequence[str], concepts: Sequence[str]) -> csr_array:
    """Which concepts each phrase contains: (phrases, t), 0 and 1."""
    number = {concept.casefold(): i for i, concept in enumerate(concepts)}
    pairs = [(i, number[c]) for i, phrase in enumerate(phrases) for c in concepts_in(phrase) if c in number]
    rows, columns = np.array(pairs, np.int64).reshape(-1, 2).T
    return csr_array((np.ones(len(rows), np.int64), (rows, columns)), (len(phrases), len(concepts)))
