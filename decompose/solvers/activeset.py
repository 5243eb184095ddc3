"""Non-negative lasso and least squares of many targets over one dictionary: exact, and solved side by side.

T targets (n, d), D dictionary (m, d), Z codes (n, m). One matrix product screens the candidates of every target; the
small problems over these are solved at once by Cholesky; then the optimality of each is checked on the whole
dictionary, and what violates it joins the candidates. The objective falls in every round, so that
no working set comes twice. A working set is `atoms` (n, w), each target's own rows of D; `values` (n, w) are their
codes, filled up with zeros.
"""

import warnings
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

TARGETS_AT_ONCE = 1024  # targets at once: the largest array is (CHUNK, m)
_CANDIDATES = 24  # join a working set in a round, at least; as many as it has, if that is more
_ROUNDS = 100
_TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-9}  # of a target's largest correlation with an atom

_Values = tuple[Int[Tensor, "n w"], Float[Tensor, "n w"]]
_Restricted = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
_Residual = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def lasso(
    T: Float[Tensor, "n d"], D: Float[Tensor, "m d"], penalty: Float[Tensor, " n"], enough: int | None = None
) -> Float[Tensor, "n m"]:
    """Codes z >= 0 that minimise |t - zD|^2 / 2 + penalty sum(z) for each target with its own penalty; 0: NNLS.

    `enough`: a target that uses so many atoms is left there, optimal over its working set and not on all of D.
    Warns (`ConvergenceWarning`) where targets are left that no round made optimal.
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
    restricted: _Restricted,
    residual: _Residual,
    Z: Float[Tensor, "n m"],
    enough: int,
) -> int:
    """Write the optimal codes of each target into Z, which holds zeros; how many are not optimal after all rounds.

    restricted(T, D, penalty, atoms, values, allowed): the optimal codes over a working set, begun at `values`;
    residual(T, D, atoms, values): minus the derivative of the loss by the prediction zD. `begin`: the first codes.
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
        values = restricted(T, D, penalty[at[:, None], atoms], atoms, values, allowed)
        values, order = values.topk(int((values > 0).sum(1).amax()))
        atoms = atoms.gather(1, order)
    _put(Z, at, atoms, values)
    return len(at)


def _put(
    Z: Float[Tensor, "n m"], at: Int[Tensor, " t"], atoms: Int[Tensor, "t w"], values: Float[Tensor, "t w"]
) -> None:
    Z.index_put_((at[:, None], atoms), values, accumulate=True)  # what fills up adds 0 to an atom that may be taken


def warn_unsolved(left: int, targets: int) -> None:
    """Say that some targets are not optimal, if any are not."""
    if left:
        warnings.warn(f"{left} of {targets} targets are not optimal yet", ConvergenceWarning, stacklevel=3)


def residuals(
    T: Float[Tensor, "n d"], D: Float[Tensor, "m d"], atoms: Int[Tensor, "n w"], values: Float[Tensor, "n w"]
) -> Float[Tensor, "n d"]:
    """What the codes leave of each target."""
    return T - (values[:, None] @ D[atoms])[:, 0]


def restricted_codes(
    T: Float[Tensor, "n d"],
    D: Float[Tensor, "m d"],
    penalty: Float[Tensor, "n w"],
    atoms: Int[Tensor, "n w"],
    values: Float[Tensor, "n w"],
    allowed: Bool[Tensor, "n w"],
) -> Float[Tensor, "n w"]:
    """The non-negative lasso of each target over a few atoms of its own."""
    G, c = normal_equations(T, D, atoms)
    return nonnegative_minimum(G, c - penalty, values, allowed)


def normal_equations(
    T: Float[Tensor, "n d"], D: Float[Tensor, "m d"], atoms: Int[Tensor, "n w"]
) -> tuple[Float[Tensor, "n w w"], Float[Tensor, "n w"]]:
    """G and c of |t - zD|^2 / 2 = z G z / 2 - c z + constant, each target's over its own atoms."""
    chosen = D[atoms]
    return with_ridge(chosen @ chosen.mT), (chosen @ T[:, :, None])[..., 0]


def with_ridge(G: Float[Tensor, "n w w"]) -> Float[Tensor, "n w w"]:
    """G with a ridge of rounding's size: it decides between atoms that are equal (two spellings of a word may be)."""
    G.diagonal(dim1=1, dim2=2).mul_(1 + 16 * torch.finfo(G.dtype).eps)
    return G


def nonnegative_minimum(
    G: Float[Tensor, "n w w"], c: Float[Tensor, "n w"], z: Float[Tensor, "n w"], allowed: Bool[Tensor, "n w"]
) -> Float[Tensor, "n w"]:
    """argmin z G z / 2 - c z over z >= 0, many at once: an active set method, begun at z (Lawson & Hanson 1974).

    Goes towards the least squares solution over the unknowns that are free, as far as none of them passes 0; those in
    the way are fixed at 0. Arrived, it frees those that would lower the objective at more than half the fastest rate.
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
    """The solution of G z = c over the chosen unknowns of each system, the others 0: one Cholesky for each."""
    square = torch.where(chosen[:, :, None] & chosen[:, None, :], G, 0).double()
    square.diagonal(dim1=1, dim2=2).add_((~chosen).double())
    factor, _ = torch.linalg.cholesky_ex(square)
    return torch.cholesky_solve((c * chosen).double()[..., None], factor)[..., 0].to(c.dtype)
