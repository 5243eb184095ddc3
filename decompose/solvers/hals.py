"""Non-negative matrix factorisation by exact steps, one column at a time (HALS, Cichocki et al. 2007).

A activations (n, u), Z codes (n, k), D dictionary (k, u): |A - ZD|^2 / 2 + penalty sum(Z), all of them >= 0.
Each step is optimal for its column, so the objective never rises.
"""

import numpy as np
import torch
from jaxtyping import Float
from sklearn.utils import check_random_state
from sklearn.utils.extmath import randomized_svd
from torch import Tensor


def factorise(
    A: Float[Tensor, "n u"],
    Z: Float[Tensor, "n k"],
    D: Float[Tensor, "k u"],
    penalty: float | int,
    max_iter: int,
    tol: float | int,
) -> int:
    """Improve Z and D in place until a sweep changes them by less than tol times the first; returns the sweeps.

    Without a penalty, the steps are scikit-learn's; with one, the rows of D stay within the unit ball.
    """
    if penalty > 0:  # the same product, with D within the unit ball
        norm = torch.linalg.norm(D, dim=1).clamp(min=torch.finfo(D.dtype).tiny)
        D /= norm[:, None]
        Z *= norm
    first = None
    for n_iter in range(1, max_iter + 1):
        moved = sweep(Z, D @ D.T, A @ D.T - penalty)
        turned = D.T.contiguous()
        moved += sweep(turned, Z.T @ Z, A.T @ Z, bounded=penalty > 0)
        D.copy_(turned.T)
        first = moved if first is None else first
        if moved <= tol * first:
            return n_iter
    return max_iter


def hals_codes(
    A: Float[Tensor, "n u"], D: Float[Tensor, "k u"], penalty: float | int, max_iter: int, tol: float | int
) -> Float[Tensor, "n k"]:
    """The codes of A over a fixed dictionary, starting at 0."""
    Z, G, B = A.new_zeros(len(A), len(D)), D @ D.T, A @ D.T - penalty
    first = None
    for _ in range(max_iter):
        moved = sweep(Z, G, B)
        first = moved if first is None else first
        if moved <= tol * first:
            break
    return Z


def sweep(Z: Float[Tensor, "n k"], G: Float[Tensor, "k k"], B: Float[Tensor, "n k"], bounded: bool = False) -> float:
    """Minimise tr(Z G Z') / 2 - tr(B Z') over Z >= 0 by each column once, in place; how far it was from optimal.

    `bounded`: columns within the unit ball. (Projecting on the cone and then on the ball is projecting on both.)
    """
    moved = Z.new_zeros(())
    curvature = G.diagonal().clamp(min=torch.finfo(G.dtype).tiny)
    for j in range(Z.shape[1]):
        gradient = Z @ G[:, j] - B[:, j]
        was, now = Z[:, j].clone(), (Z[:, j] - gradient / curvature[j]).clamp(min=0)
        if bounded:
            now /= torch.linalg.norm(now).clamp(min=1)
            moved += ((now - was) * curvature[j]).abs().sum()
        else:  # scikit-learn's measure: the projected gradient
            moved += gradient[(was > 0) | (gradient < 0)].abs().sum()
        Z[:, j] = now
    return moved.item()


def nmf_objective(
    A: Float[Tensor, "n u"], Z: Float[Tensor, "n k"], D: Float[Tensor, "k u"], penalty: float | int
) -> float:
    """|A - ZD|^2 / 2 + penalty sum(Z)."""
    return (torch.linalg.norm(A - Z @ D) ** 2 / 2 + penalty * Z.sum()).item()


def initial_factors(
    A: Float[np.ndarray, "n u"], k: int, init: str, random_state: int | np.random.RandomState | None
) -> tuple[Float[np.ndarray, "n k"], Float[np.ndarray, "k u"]]:
    """Initial factors Z and D: absolute normal numbers on A's scale, or NNDSVD (Boutsidis & Gallopoulos 2008).

    NNDSVD takes, of each pair of singular vectors, the larger of the positive and the negative half; nndsvda replaces
    zeros by A's mean.
    """
    if init == "random":
        rng, size = check_random_state(random_state), np.sqrt(A.mean() / k)
        D, Z = (size * np.abs(rng.standard_normal(shape)).astype(A.dtype) for shape in ((k, A.shape[1]), (len(A), k)))
        return Z, D
    U, S, V = randomized_svd(A, k, random_state=random_state)
    halves = [(U.clip(min=0), V.clip(min=0)), ((-U).clip(min=0), (-V).clip(min=0))]
    lengths = [(np.linalg.norm(left, axis=0), np.linalg.norm(right, axis=1)) for left, right in halves]
    weights = np.stack([left * right for left, right in lengths])
    side = weights.argmax(0)
    each = np.arange(k)
    scale = np.sqrt(S * weights[side, each])
    Z, D = np.empty((len(A), k), A.dtype), np.empty((k, A.shape[1]), A.dtype)
    for which, ((left, right), (long, wide)) in enumerate(zip(halves, lengths, strict=True)):
        here = side == which
        Z[:, here] = left[:, here] * (scale[here] / long[here].clip(min=np.finfo(A.dtype).tiny))
        D[here] = right[here] * (scale[here] / wide[here].clip(min=np.finfo(A.dtype).tiny))[:, None]
    floor = A.mean() if init == "nndsvda" else 0
    for factor in (Z, D):
        factor[factor < 1e-6] = floor
    return Z, D
