"""Association tests of embeddings: effect size and permutation p-value of WEAT and iEAT.

Caliskan, Bryson and Narayanan 2017 ("Semantics derived automatically from language corpora contain human-like biases")
for words; Steed and Caliskan 2021 ("Image representations learned with unsupervised pre-training contain human-like
biases") for images. The test asks whether two sets of targets differ in how near they are to two sets of attributes.

    X (n, e), Y (m, e) targets    A (a, e), B (b, e) attributes    s (n + m,) association of each target
"""

from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from jaxtyping import Float

from atlas.arrays import accepts
from atlas.errors import Refused
from atlas.vectors import cosines
from decompose.defaults import NULL_DRAWS

MOST_EXACT_PARTITIONS = 20_000  # with fewer partitions than this, all are counted
_ROUNDING = 1e-9  # two partitions whose statistics differ by less are equal


@dataclass(frozen=True)
class Association:
    """The result of one test. A positive effect means that X is nearer to A, and Y nearer to B."""

    effect: float  # difference of the mean associations of X and Y, over the deviation of all: Cohen's d
    p: float  # one-sided: the share of partitions of the targets with a difference at least as large
    partitions: int  # that p counts
    exact: bool  # whether these are all partitions; otherwise they are random draws


@accepts(targets=2, A=2, B=2)
def association_scores(
    targets: Float[np.ndarray, "n e"], A: Float[np.ndarray, "a e"], B: Float[np.ndarray, "b e"]
) -> Float[np.ndarray, " n"]:
    """The association of each target: its mean cosine with A less its mean cosine with B."""
    wide = [np.asarray(each, np.float64) for each in (targets, A, B)]
    return cosines(wide[0], wide[1]).mean(1) - cosines(wide[0], wide[2]).mean(1)


@accepts(X=2, Y=2, A=2, B=2)
def association_test(
    X: Float[np.ndarray, "n e"],
    Y: Float[np.ndarray, "m _"],
    A: Float[np.ndarray, "a _"],
    B: Float[np.ndarray, "b _"],
    draws: int = NULL_DRAWS,
    seed: int = 0,
) -> Association:
    """Whether X is nearer to A and Y nearer to B than the other way round, in plain embeddings (any lengths).

    p is exact if there are fewer than 20,000 ways to divide the targets into sets as large as X and Y. Otherwise it
    comes from `draws` random ones, with the division that is tested counted as one. Raises Refused for a set that is
    too small, for embeddings that do not match, and for targets that all have the same association.
    """
    for name, rows, least in (("X", X, 2), ("Y", Y, 2), ("A", A, 1), ("B", B, 1)):
        if len(rows) < least or rows.shape[1] != X.shape[1]:
            got = f"{len(rows)} of length {rows.shape[1]}"
            raise Refused(f"{name} needs at least {least} embeddings of length {X.shape[1]}, got {got}")
        if not np.isfinite(rows).all():
            raise Refused(f"{name} holds numbers that are not finite")
    s = association_scores(np.concatenate([X, Y]), A, B)
    n, spread = len(X), float(s.std(ddof=1))
    if spread < _ROUNDING:
        raise Refused("all targets have the same association with A and B, so there is nothing to test")
    sums, exact = _partition_sums(s, n, draws, seed)
    larger = int((sums >= s[:n].sum() - _ROUNDING * spread).sum())
    p = larger / len(sums) if exact else (1 + larger) / (1 + len(sums))
    return Association(float((s[:n].mean() - s[n:].mean()) / spread), p, len(sums), exact)


def _partition_sums(s: Float[np.ndarray, " t"], n: int, draws: int, seed: int) -> tuple[Float[np.ndarray, " d"], bool]:
    """The sum of n of the associations for each partition, and whether these are all partitions.

    The difference of means rises with the sum of the first set, so the sums order partitions as the effect does.
    """
    if comb(len(s), n) < MOST_EXACT_PARTITIONS:
        return s[np.array(list(combinations(range(len(s)), n)))].sum(1), True
    rng = np.random.default_rng(seed)
    blocks = [min(4096, draws - start) for start in range(0, draws, 4096)]
    orders = (np.argsort(rng.random((size, len(s))), axis=1)[:, :n] for size in blocks)
    return np.concatenate([s[order].sum(1) for order in orders]), False
