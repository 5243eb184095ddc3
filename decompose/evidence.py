"""Evidence that a neuron stands for a text: for every neuron and text a p-value, and a score that ranks the texts.

Three functions for four kinds of evidence (words and captions share one), each with a null of its own. P-values are
corrected for the number of texts tested:

    caption_evidence    labels among the things that activate the neuron most, against random things and directions
    image_evidence      texts near the images that activate the neuron, against random directions and random images
    basis_evidence      texts near the neuron's basis row, against random directions of the basis

    A (n, u) activations    E (n, e) embeddings of the rows    T (t, e) text embeddings    W (u, e) basis
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array
from scipy.special import softmax

from atlas.analysis.significance import CosineNull, tail_p_values
from atlas.errors import Refused
from atlas.vectors import Rows, scaled_rows
from decompose.defaults import NULL_DRAWS
from decompose.enrichment import CaptionNull, LabelledThings
from decompose.renderings import Things
from decompose.responses import RESPONSE_BLOCK, Responses, picked_rows

_DRAWS_A_BLOCK = 500
_LEAST_PROBABILITY = 1e-5  # added before the logarithm: a text that no image suggests is not infinitely unlikely
_LEAST_SHARE = 1e-4  # the same for shares of labels
_POOL, _MEANS = 8192, 2000  # images that means of random images are drawn from, and such means of each size
_EQUAL_ROWS = 8  # strongest rows that count alike in a mean image
_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # sizes of the random sets of images


@dataclass(frozen=True)
class Evidence:
    """One kind of evidence for every neuron and text."""

    least: Float[np.ndarray, " u"]
    """For each neuron, the p-value of the strongest text, corrected for the number of texts looked at."""

    p: Float[np.ndarray, "u t"]
    """For each text, its p-value by itself."""

    score: Float[np.ndarray, "u t"]
    """How far a text stands out among all texts for the neuron: standard deviations, 0 where nothing stands out."""


def caption_evidence(
    answers: Responses,
    things: Things,
    top: Int[np.ndarray, "u k"],
    concepts: Sequence[str],
    null: CaptionNull | None = None,
) -> Evidence:
    """Enrichment of labels among the strongest things, beside random things and directions (`CaptionNull`).

    The score compares a label's share of the neuron's activation (`weighted`) with its share of the rows, on a log
    scale.
    """
    named, phrase = LabelledThings.of(things, concepts), things.phrase[things.of]
    null = null or CaptionNull.of(things, concepts, top.shape[1], answers)
    least, single = null.tested(answers, named, top)
    share, alive = np.zeros((len(top), len(things.phrases))), np.zeros(len(top))
    for rows, w in answers.weighted():
        block = csr_array((np.ones(len(rows)), (phrase[rows], np.arange(len(rows)))), (share.shape[1], len(rows)))
        share += (block @ w).T
        alive += w.sum(0)
    share = (named.by_phrase.T @ (share / np.maximum(alive, 1e-12)[:, None]).T).T
    usual = named.by_phrase.T @ np.bincount(phrase, minlength=len(things.phrases)) / len(phrase)
    score = _standardised(np.log((share + _LEAST_SHARE) / (usual + _LEAST_SHARE)), alive > 0)
    return Evidence(np.where(alive > 0, least, 1.0), np.where(alive[:, None] > 0, single, 1.0), score)


def image_evidence(
    answers: Responses, E: Rows, T: Float[np.ndarray, "t e"], scale: float, null: "ImageNull | None" = None
) -> Evidence:
    """What CLIP itself sees in the images that activate a neuron.

    p-values: the cosine of each text with the neuron's mean image, in which images count by the fourth power of the
    activation (`Responses.weighted`) but the strongest eight alike, beside that of random directions and of means of
    random images (`ImageNull`). So neither that a neuron's images are alike nor that texts lie near images is evidence.
    Scores: the log of the mean zero-shot probability of a text over the images, weighted by the fourth power, less that
    over all images. `E` (n, e): embeddings of all rows, of unit norm. `scale`: the model's inverse temperature.
    Embeddings and texts are centred on their means.
    """
    null, mean, T = null or ImageNull.of(E, T), mean_embedding(E), _centred(T)
    cap, squares = _equal_weight(answers), np.zeros(answers.width)
    mass: Float[np.ndarray, " u"] = np.zeros(answers.width)
    usual = np.zeros(len(T))
    likely = np.zeros((answers.width, len(T)), np.float32)
    images = np.zeros((answers.width, T.shape[1]), np.float32)
    for rows, w in answers.weighted():
        block = scaled_rows(np.asarray(E[rows[0] : rows[-1] + 1], np.float32) - mean)
        probability = softmax(np.float32(scale) * (block @ T.T), axis=1)
        mass, usual = mass + w.sum(0), usual + probability.sum(0)
        likely += w.T @ probability
        level = np.minimum(w, cap)
        images, squares = images + level.T @ block, squares + (level**2).sum(0)
    alive = np.asarray(mass > 0)
    likely /= np.maximum(mass, 1e-12).astype(np.float32)[:, None]
    lift = np.log(likely + _LEAST_PROBABILITY) - np.log(usual / len(E) + _LEAST_PROBABILITY).astype(np.float32)
    several = np.divide(squares, cap**2, out=np.ones(len(cap)), where=alive)
    return Evidence(*null.tested(scaled_rows(images) @ T.T, several, alive), _standardised(lift, alive))


def basis_evidence(W: Float[np.ndarray, "u e"], T: Float[np.ndarray, "t e"], null: CosineNull) -> Evidence:
    """Cosines of basis rows with centred texts, beside those of random directions of the basis (`direction_null`)."""
    T = _centred(T)
    cosine, alive = scaled_rows(W) @ T.T, np.asarray(W.any(1))
    return Evidence(*_tested(cosine, alive, null), _standardised(cosine, alive))


def _equal_weight(answers: Responses) -> Float[np.ndarray, " u"]:
    """The weight at which each neuron's weights are cut off: the eighth largest, or the least above 0 of fewer rows.

    A mean image that one row made up would be near to that row's text, whatever the neuron answers to.
    """
    top = np.zeros((0, answers.width), np.float32)
    for _, w in answers.weighted():
        top = np.concatenate([top, w])
        top = np.partition(top, max(len(top) - _EQUAL_ROWS, 0), axis=0)[-_EQUAL_ROWS:]
    least = np.where(top > 0, top, np.inf).min(0)
    return np.where(np.isfinite(least), least, 1).astype(np.float64)


@dataclass(frozen=True)
class ImageNull:
    """What a neuron's mean image is judged by: random directions, and means of random images; the larger p counts.

    Random directions have the second moments of centred image embeddings. Means of random images are as few as those
    that make up the neuron's mean, because one image lies near its own text whichever neuron it activates. With
    weights w that number is sum(w^2) / max(w)^2, rounded down to one of `sizes`: 1 where one image outweighs the rest.
    """

    directions: CosineNull
    sizes: Int[np.ndarray, " s"]
    largest: Float[np.ndarray, "s d"]  # for each size, the largest z of each mean, in ascending order

    @classmethod
    def of(cls, E: Rows, T: Float[np.ndarray, "t e"], draws: int = NULL_DRAWS, seed: int = 0) -> "ImageNull":
        """The null of all t texts together. `draws`: random directions; of means there are at most 2,000 a size."""
        mean, moment, random = mean_embedding(E), np.zeros((E.shape[1],) * 2), np.random.default_rng(seed)
        for start in range(0, len(E), RESPONSE_BLOCK):
            block = scaled_rows(np.asarray(E[start : start + RESPONSE_BLOCK], np.float32) - mean)
            moment += block.T @ block
        T = _centred(T)
        null = CosineNull.of(moment / len(E), T, draws, seed)
        picked = np.sort(random.permutation(len(E))[:_POOL])
        pool = scaled_rows(picked_rows(E, picked).astype(np.float32) - mean)
        largest = np.zeros((len(_SIZES), min(draws, _MEANS)))
        for found, size in zip(largest, _SIZES, strict=True):
            for start in range(0, len(found), _DRAWS_A_BLOCK):
                some = found[start : start + _DRAWS_A_BLOCK]
                means = pool[random.integers(0, len(pool), (len(some), size))].mean(1)
                some[:] = null.z(scaled_rows(means) @ T.T).max(1)
        return cls(null, np.array(_SIZES), np.sort(largest, axis=1))

    def tested(
        self, cosines: Float[np.ndarray, "u t"], several: Float[np.ndarray, " u"], alive: Bool[np.ndarray, " u"]
    ) -> tuple[Float[np.ndarray, " u"], Float[np.ndarray, "u t"]]:
        """p-values of neurons, and of their texts by themselves; 1 for a neuron that is not alive."""
        least, p = _tested(cosines, alive, self.directions)
        z, place = self.directions.z(cosines), np.searchsorted(self.sizes, several, side="right") - 1
        for size in np.unique(place[alive]):
            here = alive & (place == size)
            by_means = tail_p_values(z[here], self.largest[size])
            least[here] = np.maximum(least[here], by_means.min(1))
            p[here] = np.maximum(p[here], by_means / z.shape[1])
        return least, p


def direction_null(
    W: Float[np.ndarray, "u e"], T: Float[np.ndarray, "t e"], draws: int = NULL_DRAWS, seed: int = 0
) -> CosineNull:
    """The largest cosine over all texts of random directions with the second moments of the basis rows W.

    W is the basis of the whole layer, so that the p-value of one direction does not depend on what is asked with it.
    """
    rows = scaled_rows(W)
    return CosineNull.of((rows.T @ rows).astype(np.float64) / len(rows), _centred(T), draws, seed)


def _tested(
    cosines: Float[np.ndarray, "u t"], alive: Bool[np.ndarray, " u"], null: CosineNull
) -> tuple[Float[np.ndarray, " u"], Float[np.ndarray, "u t"]]:
    """p-values of neurons and of their texts; 1 for a neuron that is not alive."""
    z = null.z(cosines)
    return np.where(alive, null.row_p_values(z), 1.0), np.where(alive[:, None], null.p_values(z), 1)


def _standardised(scores: Float[np.ndarray, "u t"], alive: Bool[np.ndarray, " u"]) -> Float[np.ndarray, "u t"]:
    """Scores of each row in its standard deviations; 0 in rows that are not alive, or that never change."""
    spread = scores.std(1, keepdims=True)
    usable = (spread > 0) & alive[:, None]
    return np.divide(
        scores - scores.mean(1, keepdims=True), spread, out=np.zeros(scores.shape, np.float32), where=usable
    )


def _centred(T: Float[np.ndarray, "t e"]) -> Float[np.ndarray, "t e"]:
    """Texts less their mean, of unit norm; a single text as it is."""
    return scaled_rows(T - T.mean(0)) if len(T) > 1 else T


def mean_embedding(E: Rows) -> Float[np.ndarray, " e"]:
    """Mean of embeddings (n, e), read a block at a time."""
    total = np.zeros(E.shape[1])
    for start in range(0, len(E), RESPONSE_BLOCK):
        total += E[start : start + RESPONSE_BLOCK].sum(0, dtype=np.float64)
    if not np.isfinite(total).all():
        raise Refused("the embeddings E hold numbers that are not finite; leave those rows out")
    return (total / len(E)).astype(np.float32)
