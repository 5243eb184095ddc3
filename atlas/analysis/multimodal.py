"""Which neurons respond to a concept in two modalities: one rule, for any labels and any two kinds of stimuli.

A neuron is multimodal for a concept if it responds more to the concept's drawings than to all other drawings, and more
to renderings of its name than to all other renderings: the smaller of the two areas under the ROC curve is at least .9
and significant. The null distribution pairs the drawings of one concept with the words of another, pooled over all
neurons, so that small p-values can be told apart. Benjamini and Hochberg's procedure at 1 % selects among all pairs of
a neuron and a concept. The embedded model's evidence and `decompose concept` both use this rule.

    A (n, u) responses to n stimuli of one kind    c concepts
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import rankdata

from atlas.analysis.significance import q_values

FLOOR, FALSE_DISCOVERIES = 0.9, 0.01
_NEURONS_AT_ONCE = 128  # whose ranks are in memory


@dataclass(frozen=True)
class Found:
    """The selected pairs, best first: neuron, concept, both areas and p; and the number of pairs above the floor."""

    neuron: Int[np.ndarray, " k"]
    concept: Int[np.ndarray, " k"]
    drawn: Float[np.ndarray, " k"]
    written: Float[np.ndarray, " k"]
    p: Float[np.ndarray, " k"]
    above_floor: int

    def __len__(self) -> int:
        return len(self.neuron)


def areas(A: Float[np.ndarray, "n u"], concept: Int[np.ndarray, " n"], concepts: int) -> Float[np.ndarray, "u c"]:
    """Area under the ROC curve of every neuron for every concept against all others (Mann-Whitney; ties count half).

    The area is .5 for a concept without a row, or with all rows.
    """
    n, size = len(A), np.bincount(concept, minlength=concepts)
    order, there = np.argsort(concept, kind="stable"), np.flatnonzero(size)
    first = (np.cumsum(size) - size)[there]
    sums = np.zeros((A.shape[1], concepts))
    for start in range(0, A.shape[1], _NEURONS_AT_ONCE):
        ranks = rankdata(A[order, start : start + _NEURONS_AT_ONCE], axis=0)
        sums[start : start + _NEURONS_AT_ONCE, there] = np.add.reduceat(ranks, first, axis=0).T
    wins = sums - size * (size + 1) / 2
    pairs = size * (n - size)
    return np.where(pairs > 0, wins / np.maximum(pairs, 1), 0.5)


def multimodal_pairs(drawn: Float[np.ndarray, "u c"], written: Float[np.ndarray, "u c"], floor: float = FLOOR) -> Found:
    """The neurons that are significantly above the floor for a concept, both drawn and written."""
    least = np.minimum(drawn, written)
    neuron, concept = np.nonzero(least >= floor)
    p = np.ones_like(least)
    p[neuron, concept] = null(drawn, written, least[neuron, concept])
    picked = q_values(p.ravel()).reshape(p.shape)[neuron, concept] <= FALSE_DISCOVERIES
    order = np.lexsort((-least[neuron, concept], p[neuron, concept]))
    order = order[picked[order]]
    u, c = neuron[order], concept[order]
    return Found(u, c, drawn[u, c], written[u, c], p[u, c], len(neuron))


def null(
    drawn: Float[np.ndarray, "u c"], written: Float[np.ndarray, "u c"], at: Float[np.ndarray, " k"]
) -> Float[np.ndarray, " k"]:
    """p-values: share of (neuron, concept, other concept) whose drawn and other written areas reach `at`."""
    u, c = drawn.shape
    both = np.zeros(len(at))
    for d, w in zip(np.sort(drawn, 1), np.sort(written, 1), strict=True):
        both += (c - np.searchsorted(d, at, "left")) * (c - np.searchsorted(w, at, "left")).astype(float)
    own = u * c - np.searchsorted(np.sort(np.minimum(drawn, written).ravel()), at, "left")
    return (1 + both - own) / (1 + u * c * (c - 1))


def probes(A: Float[np.ndarray, "n u"], concept: Int[np.ndarray, " n"], concepts: int) -> Float[np.ndarray, "c u"]:
    """Linear discriminant directions, one per concept, with shrunken within-class covariance."""
    member = np.zeros((len(A), concepts))
    member[np.arange(len(A)), concept] = 1
    means = (member.T @ A) / np.maximum(member.sum(0), 1)[:, None]
    within = np.cov((A - means[concept]).T)
    shrunk = within + 0.1 * np.trace(within) / len(within) * np.eye(len(within))
    return np.linalg.solve(shrunk, (means - A.mean(0)).T).T
