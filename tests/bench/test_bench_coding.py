"""Sparse codes of 10,000 targets over 10,000 concepts: `pytest tests/bench/test_bench_coding.py -s` (not by default).

scikit-learn fits a sample of the targets one by one; its time for all of them is the sample's, extrapolated.
"""

import time

import numpy as np
import pytest
from sklearn.linear_model import Lasso

from decompose.coding import solve_sparse
from tests.optimality import kkt_violation

TARGETS, CONCEPTS, DIMS, SAMPLE = 10_000, 10_000, 512, 40


def unit(X: np.ndarray) -> np.ndarray:
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def concepts() -> np.ndarray:
    """Families of 20 concepts each, half alike within a family (cosine 0.5), centred."""
    rng = np.random.default_rng(0)
    D = np.repeat(rng.standard_normal((CONCEPTS // 20, DIMS)), 20, axis=0) + rng.standard_normal((CONCEPTS, DIMS))
    return unit(D - D.mean(0)).astype(np.float32)


def targets(D: np.ndarray) -> np.ndarray:
    """Mixtures of six concepts each, with noise of half the mixture's norm."""
    rng = np.random.default_rng(1)
    atoms, weights = rng.integers(0, CONCEPTS, (TARGETS, 6)), rng.uniform(0.5, 1, (TARGETS, 6))
    mixed = np.stack([w @ D[a] for a, w in zip(atoms, weights, strict=True)])
    return unit(unit(mixed) + 0.5 * unit(rng.standard_normal(mixed.shape))).astype(np.float32)


@pytest.mark.parametrize("penalty", [2.4e-4, 1.5e-4])  # the first: 0.25 / 1024, a usual one for CLIP embeddings
def test_many_targets_against_one_by_one(penalty) -> None:
    D = concepts()
    T = targets(D)
    solve_sparse(T[:64], D, penalty=penalty)  # libraries are up
    began = time.perf_counter()
    Z = solve_sparse(T, D, penalty=penalty)
    ours = time.perf_counter() - began
    X, theirs, worst = np.asfortranarray(D.T, np.float64), 0.0, -np.inf  # the order it would copy to, made beforehand
    for i in range(0, TARGETS, TARGETS // SAMPLE):
        began = time.perf_counter()
        lasso = Lasso(penalty, positive=True, tol=1e-6, fit_intercept=False, max_iter=10_000)
        z = lasso.fit(X, T[i].astype(np.float64)).coef_
        theirs += time.perf_counter() - began
        fits = [((T[i] - code @ D) ** 2).sum() / (2 * DIMS) + penalty * code.sum() for code in (Z[i].astype(float), z)]
        worst = max(worst, fits[0] / fits[1] - 1)
    theirs *= TARGETS / SAMPLE
    print(f"\npenalty {penalty}: {(Z > 0).sum(1).mean():.1f} terms; {ours:.1f} s against {theirs:.0f} s ", end="")
    print(f"(extrapolated from {SAMPLE}), {theirs / ours:.0f} times; objective at most {worst:.1e} above")
    assert worst <= 1e-3
    assert kkt_violation(T, D, Z, penalty) <= 1e-2 * penalty
    assert theirs >= 10 * ours
