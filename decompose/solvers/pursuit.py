"""Codes of at most k terms, found greedily: matching pursuit and hard thresholding, many targets in parallel.

T targets (n, d), D dictionary (m, d) with rows of unit norm, Z codes (n, m); atoms (n, w) are each target's own rows
of D. Every step is one matrix product with the whole dictionary, and one small least squares problem for each target.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from decompose.solvers.activeset import TARGETS_AT_ONCE, least_squares, nonnegative_minimum, normal_equations, residuals

_THRESHOLDING_STEPS = 50  # at most; most targets converge after a few
_RESIDUAL_ROUNDING = 1e-5  # relative to a target's first correlation; smaller correlations are rounding


def omp(T: Float[Tensor, "n d"], D: Float[Tensor, "m d"], k: int, signed: bool) -> Float[Tensor, "n m"]:
    """Orthogonal matching pursuit (Pati et al. 1993): k times the atom closest to the residual, then a refit.

    Without signs, only positively correlated atoms are added, and codes are >= 0 (Bruckstein et al. 2008).
    """
    return _in_chunks(_omp, T, D, k, signed)


def iht(T: Float[Tensor, "n d"], D: Float[Tensor, "m d"], k: int, signed: bool) -> Float[Tensor, "n m"]:
    """Iterative hard thresholding (Blumensath & Davies 2009), with a refit on every support (Foucart 2011).

    Each step is a gradient step, of which the k largest codes are kept. If the new support fits no better, the step
    size is halved.
    """
    return _in_chunks(_iht, T, D, k, signed)


def pruned_codes(
    T: Float[Tensor, "n d"], D: Float[Tensor, "m d"], Z: Float[Tensor, "n m"], k: int
) -> Float[Tensor, "n m"]:
    """The k largest codes of each target, all >= 0, fitted again."""
    values, atoms = Z.topk(k)
    return torch.zeros_like(Z).scatter_(1, atoms, fitted_codes(T, D, atoms, values > 0, signed=False))


def fitted_codes(
    T: Float[Tensor, "n d"],
    D: Float[Tensor, "m d"],
    atoms: Int[Tensor, "n w"],
    allowed: Bool[Tensor, "n w"],
    signed: bool,
) -> Float[Tensor, "n w"]:
    """Least squares codes of each target over its own atoms; >= 0 unless signed."""
    G, c = normal_equations(T, D, atoms)
    return least_squares(G, c, allowed) if signed else nonnegative_minimum(G, c, torch.zeros_like(c), allowed)


def _in_chunks(pursue, T: Float[Tensor, "n d"], D: Float[Tensor, "m d"], k: int, signed: bool) -> Float[Tensor, "n m"]:
    Z = T.new_zeros(len(T), len(D))
    for start in range(0, len(T), TARGETS_AT_ONCE):
        here = slice(start, start + TARGETS_AT_ONCE)
        atoms, values = pursue(T[here], D, k, signed)
        Z[here].scatter_(1, atoms, values)
    return Z


def _omp(
    T: Float[Tensor, "n d"], D: Float[Tensor, "m d"], k: int, signed: bool
) -> tuple[Int[Tensor, "n k"], Float[Tensor, "n k"]]:
    atoms = torch.zeros(len(T), 0, dtype=torch.int64, device=T.device)
    values, allowed, first, R = T.new_zeros(len(T), 0), atoms > 0, None, T
    for _ in range(k):
        alike = R @ D.T
        alike = (alike.abs() if signed else alike).scatter(1, atoms, -torch.inf)
        best, new = alike.max(1, keepdim=True)
        first = best if first is None else first
        atoms = torch.cat([atoms, new], 1)
        allowed = torch.cat([allowed, best > _RESIDUAL_ROUNDING * first.clamp(min=0)], 1)
        values = fitted_codes(T, D, atoms, allowed, signed)
        R = residuals(T, D, atoms, values)
    return atoms, values


def _iht(
    T: Float[Tensor, "n d"], D: Float[Tensor, "m d"], k: int, signed: bool
) -> tuple[Int[Tensor, "n k"], Float[Tensor, "n k"]]:
    atoms, values, R = _largest(T @ D.T, T, D, k, signed)
    step = T.new_ones(len(T), 1)
    for _ in range(_THRESHOLDING_STEPS):
        moved = (step * (R @ D.T)).scatter_add(1, atoms, values)
        new = _largest(moved, T, D, k, signed)
        better = new[2].square().sum(1) < (1 - _RESIDUAL_ROUNDING) * R.square().sum(1)
        step = torch.where(better[:, None], step, step / 2)
        atoms, values, R = (
            torch.where(better[:, None], now, was) for now, was in zip(new, (atoms, values, R), strict=True)
        )
        if step.amax() < 1 / 16:
            break
    return atoms, values


def _largest(
    moved: Float[Tensor, "n m"], T: Float[Tensor, "n d"], D: Float[Tensor, "m d"], k: int, signed: bool
) -> tuple[Int[Tensor, "n k"], Float[Tensor, "n k"], Float[Tensor, "n d"]]:
    """The k atoms with the largest codes, their least squares codes, and the residuals."""
    size, atoms = (moved.abs() if signed else moved).topk(k)
    values = fitted_codes(T, D, atoms, size > 0, signed)
    return atoms, values, residuals(T, D, atoms, values)
