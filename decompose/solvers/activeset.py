"""Non-negative lasso and least squares of many targets over one dictionary, exact and in parallel.

T targets (n, d), D dictionary (m, d), Z codes (n, m). Each round has three steps: one matrix product finds candidate
atoms of every target; the small problems over these are solved together by Cholesky; optimality is checked on the whole
dictionary, and atoms that violate it become candidates. The objective falls in every round, so no working set repeats.
A working set is `atoms` (n, w), each target's own rows of D; `values` (n, w) are their codes, padded with zeros.
"""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

TARGETS_AT_ONCE = 1024  # the largest array is (TARGETS_AT_ONCE, m)
_CANDIDATES = 24  # atoms that join a working set in a round, at least; the set at most doubles
_ROUNDS = 100
_TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-9}  # relative to a target's largest correlation with an atom

_Values = tuple[Int[Tensor, "n w"], Float[Tensor, "n w"]]


class Restricted(NamedTuple):
    """The problem of n targets, each over its own working set of w atoms."""

    T: Float[Tensor, "n d"]
    D: Float[Tensor, "m d"]
    penalty: Float[Tensor, "n w"]
    atoms: Int[Tensor, "n w"]
    values: Float[Tensor, "n w"]  # where the codes start
    allowed: Bool[Tensor, "n w"]  # False for padding


_Solver = Callable[[Restricted], Tensor]
_Residual = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def lasso(
    T: Float[Tensor, "n d"], D: Float[Tensor, "m d"], penalty: Float[Tensor, " n"], enough: int | None = None
) -> Float[Tensor, "n m"]:
    """Codes z >= 0 that minimise |t - zD|^2 / 2 + penalty sum(z), with a penalty for each target; 0: NNLS.

    `enough`: a target that uses this many atoms stops there, optimal over its working set but not over all of D.
    Warns (`ConvergenceWarning`) if some targets are not optimal after all rounds.
    """
    Z, left = T.new_zeros(len(T), len(D)), 0
    for start in range(0, len(T), TARGETS_AT_ONCE):
        here = slice(start, start + TARGETS_AT_ONCE)
        every = penalty[here, None].expand(-1, len(D))
        none = torch.zeros(len(T[here]), 0, dtype=torch.int64, device=T.device), T.new_zeros(len(T[here]), 0)
        left += working_sets(T[here], D, every, none, restricted_codes, residuals, Z[here], enough or len(D))
    warn_unsolved(left, len(T))
    return Z


def working_sets(
    T: Float[Tensor, "n d"],
    D: Float[Tensor, "m d"],
    penalty: Float[Tensor, "n m"],
    begin: _Values,
    restricted: _Solver,
    residual: _Residual,
    Z: Float[Tensor, "n m"],
    enough: int,
) -> int:
    """Write the optimal codes of each target into Z (zeros); returns how many targets are not optimal.

    `restricted(problem)`: the optimal codes over the working sets, starting at its `values`.
    `residual(T, D, atoms, values)`: minus the derivative of the loss with respect to the prediction zD.
    `begin`: atoms and values to start from. `enough`: as in `lasso`.
    """
    at, (atoms, values) = torch.arange(len(T), device=T.device), begin  # `at`: the targets still open
    slack = None
    for _ in range(_ROUNDS):
        wish = residual(T, D, atoms, values) @ D.T  # how fast the loss falls in each atom
        if slack is None:
            slack = _TOLERANCE[T.dtype] * wish.amax(1, keepdim=True).clamp(min=0)
        wish -= penalty[at] + slack
        size = min(max(_CANDIDATES, atoms.shape[1]), len(D))
        found, new = wish.topk(size)
        going = (found[:, 0] > 0) & ((values > 0).sum(1) < enough)
        _put(Z, at[~going], atoms[~going], values[~going])
        at, T, slack, atoms, values, found, new = (x[going] for x in (at, T, slack, atoms, values, found, new))
        if not len(at):
            break
        atoms, allowed = torch.cat([atoms, new], 1), torch.cat([values > 0, found > 0], 1)
        values = torch.cat([values, torch.zeros_like(found)], 1)
        values = restricted(Restricted(T, D, penalty[at[:, None], atoms], atoms, values, allowed))
        values, order = values.topk(int((values > 0).sum(1).amax()))
        atoms = atoms.gather(1, order)
    _put(Z, at, atoms, values)
    return len(at)


def _put(
    Z: Float[Tensor, "n m"], at: Int[Tensor, " t"], atoms: Int[Tensor, "t w"], values: Float[Tensor, "t w"]
) -> None:
    Z.index_put_((at[:, None], atoms), values, accumulate=True)  # padding adds 0 to some atom, which changes nothing


def warn_unsolved(left: int, targets: int) -> None:
    """Warn if some targets are not optimal."""
    if left:
        warnings.warn(f"{left} of {targets} targets are not optimal yet", ConvergenceWarning, stacklevel=3)


def residuals(
    T: Float[Tensor, "n d"], D: Float[Tensor, "m d"], atoms: Int[Tensor, "n w"], values: Float[Tensor, "n w"]
) -> Float[Tensor, "n d"]:
    """The residual of each target: t - zD."""
    return T - (values[:, None] @ D[atoms])[:, 0]


def restricted_codes(problem: Restricted) -> Float[Tensor, "n w"]:
    """Codes of the non-negative lasso of each target over its own working set."""
    T, D, penalty, atoms, values, allowed = problem
    G, c = normal_equations(T, D, atoms)
    return nonnegative_minimum(G, c - penalty, values, allowed)


def normal_equations(
    T: Float[Tensor, "n d"], D: Float[Tensor, "m d"], atoms: Int[Tensor, "n w"]
) -> tuple[Float[Tensor, "n w w"], Float[Tensor, "n w"]]:
    """G and c of |t - zD|^2 / 2 = z G z / 2 - c z + constant, each target's over its own atoms."""
    chosen = D[atoms]
    return with_ridge(chosen @ chosen.mT), (chosen @ T[:, :, None])[..., 0]


def with_ridge(G: Float[Tensor, "n w w"]) -> Float[Tensor, "n w w"]:
    """G with a tiny ridge, so that equal atoms (such as two spellings of a word) have a unique solution."""
    G.diagonal(dim1=1, dim2=2).mul_(1 + 16 * torch.finfo(G.dtype).eps)
    return G


def nonnegative_minimum(
    G: Float[Tensor, "n w w"], c: Float[Tensor, "n w"], z: Float[Tensor, "n w"], allowed: Bool[Tensor, "n w"]
) -> Float[Tensor, "n w"]:
    """argmin z G z / 2 - c z over z >= 0, many problems at once: an active set method (Lawson & Hanson 1974).

    Each step goes from z towards the least squares solution over the free unknowns, until one of them reaches 0 and is
    fixed there. At that solution, unknowns that lower the objective at more than half the fastest rate are freed.
    """
    Z, at, free = torch.zeros_like(c), torch.arange(len(c), device=c.device), z > 0
    slack = _TOLERANCE[c.dtype] / 10 * c.abs().amax(1, keepdim=True)
    for _ in range(20 * c.shape[1]):
        ahead = least_squares(G, c, free)
        passing = free & (ahead <= 0)
        share = torch.where(passing, z / (z - ahead).clamp(min=torch.finfo(z.dtype).tiny), torch.inf)
        step = share.amin(1, keepdim=True).clamp(max=1)
        free = free & (share > step)
        z = torch.where(free, z + step * (ahead - z), 0)
        rate = torch.where(allowed & ~free, c - (G @ z[..., None])[..., 0], 0)
        best = rate.amax(1, keepdim=True)
        arrived = ~passing.any(1, keepdim=True)
        free = free | (arrived & (rate > best / 2) & (best > slack))
        done = (arrived & (best <= slack))[:, 0]
        Z[at[done]] = z[done]
        at, G, c, z, allowed, free, slack = (x[~done] for x in (at, G, c, z, allowed, free, slack))
        if not len(at):
            break
    Z[at] = z
    return Z


def least_squares(
    G: Float[Tensor, "n w w"], c: Float[Tensor, "n w"], chosen: Bool[Tensor, "n w"]
) -> Float[Tensor, "n w"]:
    """The solution of G z = c over the chosen unknowns of each system, by Cholesky; the other unknowns are 0."""
    square = torch.where(chosen[:, :, None] & chosen[:, None, :], G, 0).double()
    square.diagonal(dim1=1, dim2=2).add_((~chosen).double())
    factor, _ = torch.linalg.cholesky_ex(square)
    return torch.cholesky_solve((c * chosen).double()[..., None], factor)[..., 0].to(c.dtype)
