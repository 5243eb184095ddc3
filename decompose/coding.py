"""Sparse equations: each target written as a short sum of a dictionary's atoms, many targets at once.

T targets (n, d), D dictionary (m, d), Z codes (n, m): T is approximated by Z @ D, and k is the number of terms allowed.
Targets may be concepts and atoms neurons, or the other way round; d are the dimensions in which both are given. There
are five solvers, with one signature:

    lasso      |t - zD|^2 / (2d) + penalty |z|_1                  exact: working sets, checked on all of D
    nnls       |t - zD|^2 over z >= 0, at most k terms            the k largest of 4k terms, fitted again
    omp, iht   |t - zD|^2 over at most k terms                    greedy
    logistic   log loss of t in {0, 1} / d + penalty |z|_1        exact; signed, with an intercept; as in the paper
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import softplus

from atlas.arrays import accepts
from atlas.errors import Refused
from decompose.solvers.activeset import lasso
from decompose.solvers.logistic import logistic_codes
from decompose.solvers.pursuit import fitted_codes, iht, omp, pruned_codes

Method = Literal["lasso", "nnls", "omp", "iht", "logistic"]
CODING_METHODS = ("lasso", "nnls", "omp", "iht", "logistic")
_ATOMS_A_TERM = 4  # atoms that nnls uses for each term it keeps; the full solution would use hundreds
PENALTY_TRIALS = 16  # steps of the search for a penalty
_DESCENT = 0.6  # the penalty falls by this factor until there are too many terms; then the interval is halved
FEW_TARGETS = 64  # up to this many targets, a second thread costs more than it gains
_ENOUGH_DEVIANCE = 0.99  # share of the deviance explained beyond which smaller penalties only make codes larger

_Codes = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # (penalties, which targets) -> codes, which are good enough


@accepts(T=2, D=2)
def solve_sparse(
    T: Float[np.ndarray, "n d"],
    D: Float[np.ndarray, "m d"],
    method: str = "lasso",
    penalty: float | int | None = None,
    k: int | None = None,
    signed: bool = False,
    device: str | None = None,
) -> Float[np.ndarray, "n m"]:
    """Sparse codes Z of many targets over a dictionary, in double precision if T or D is, else in single precision.

    `method`: one of `CODING_METHODS`. `penalty`, for lasso and logistic: alpha of scikit-learn's `Lasso`, or 1 / (C d)
    of its `LogisticRegression`. `k`: terms of each target, at most. With k, lasso and logistic use about the smallest
    penalty that leaves at most k terms; lasso fits those again without a penalty, and logistic stops at the penalty
    that explains 99 % of the deviance. `signed`:
    whether codes may be negative (always for logistic, never for nnls). `device`: where torch computes; by default a
    GPU, if there is one.

    Raises `Refused` for shapes that do not fit, numbers that are not finite, and a penalty or k that does not fit the
    method.
    """
    _check(T, D, method, penalty, k, signed)
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    single = np.float64 not in (T.dtype, D.dtype) and method != "logistic"
    T_, D_ = (torch.from_numpy(np.ascontiguousarray(x, np.float32 if single else np.float64)).to(where) for x in (T, D))
    with _threads(1 if len(T) <= FEW_TARGETS else torch.get_num_threads()):
        if method in ("lasso", "logistic"):
            Z = _penalised(T_, D_, method, penalty, k, signed)
        else:
            norm = torch.linalg.norm(D_, dim=1).where(
                D_.any(1), 1
            )  # greedy choices must not depend on the atoms' lengths
            Z = _greedy(T_, D_ / norm[:, None], method, k or 1, signed) / norm
    return Z.cpu().numpy()


def discriminate(
    X: Float[np.ndarray, "n u"], labels: Sequence[Hashable], penalties: Sequence[float | int], device: str | None = None
) -> tuple[list[Hashable], Float[np.ndarray, "l c u"]]:
    """Concepts, and the signed sparse codes that tell the prompts of each from all others, at several penalties.

    For each concept there is one L1 logistic regression against the rest, over the vectors X of n prompts (Goh et al.
    2021, "Emotion composition"). `labels`: the concept of each prompt. `penalties`: the larger, the fewer neurons.
    Concepts are in the order in which they first appear.
    """
    concepts = list(dict.fromkeys(labels))
    T = np.array([[label == concept for label in labels] for concept in concepts], np.float64)
    return concepts, np.stack([solve_sparse(T, X.T, "logistic", penalty, device=device) for penalty in penalties])


def _check(T: np.ndarray, D: np.ndarray, method: str, penalty: float | int | None, k: int | None, signed: bool) -> None:
    if method not in CODING_METHODS:
        raise Refused(f"no method {method!r}; methods are {', '.join(CODING_METHODS)}")
    if T.shape[1] != D.shape[1]:
        raise Refused(f"targets have {T.shape[1]} dimensions, the dictionary has {D.shape[1]}; they must be the same")
    for name, array in (("T", T), ("D", D)):
        if not np.isfinite(array).all():
            raise Refused(f"{name} holds numbers that are not finite; leave those rows out")
    if k is not None and not 1 <= k <= len(D):
        raise Refused(f"k is {k}, but must be 1 to {len(D)}, the number of atoms")
    if method in ("lasso", "logistic"):
        if (penalty is None) == (k is None):
            raise Refused(f"{method} takes either a penalty or k, the number of terms")
        if penalty is not None and not penalty > 0:
            raise Refused(f"the penalty is {penalty}, but must be more than 0")
    elif penalty is not None:
        raise Refused(f"{method} has no penalty; give it k, the number of terms")
    elif k is None:
        raise Refused(f"{method} needs k, the number of terms")
    if method == "nnls" and signed:
        raise Refused("nnls has no signs; lasso, omp and iht can be signed")
    if method == "logistic" and not (((T == 0) | (T == 1)).all() and (T.any(1) & ~T.all(1)).all()):
        raise Refused("logistic takes targets of 0 and 1, and each of them must hold both")


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Context manager: torch uses this many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _penalised(
    T: Float[Tensor, "n d"],
    D: Float[Tensor, "m d"],
    method: str,
    penalty: float | int | None,
    k: int | None,
    signed: bool,
) -> Float[Tensor, "n m"]:
    """Lasso or logistic codes, for a penalty or for at most k terms; the solvers' penalties are d times larger."""
    g = (T - T.mean(1, keepdim=True) if method == "logistic" else T) @ D.T
    top = (g.abs() if signed or method == "logistic" else g).amax(1).clamp(min=0)

    def codes(at: Float[Tensor, " n"], some: Bool[Tensor, " t"]) -> tuple[Float[Tensor, "n m"], Bool[Tensor, " n"]]:
        if method == "logistic":
            Z, b = logistic_codes(T[some], D, at)
            return Z, _told_apart(T[some], Z @ D + b[:, None])
        atoms = torch.cat([D, -D]) if signed else D
        Z = lasso(T[some], atoms, at)
        Z = Z[:, : len(D)] - Z[:, len(D) :] if signed else Z
        return Z, torch.zeros_like(at, dtype=torch.bool)

    at = torch.full_like(top, (penalty or 0) * T.shape[1]) if k is None else _penalty_for(codes, top, k)
    Z = codes(at, torch.ones_like(at, dtype=torch.bool))[0]
    return Z if k is None or method == "logistic" else _refitted(T, D, Z, min(k, len(D)), signed)


def _refitted(
    T: Float[Tensor, "n d"], D: Float[Tensor, "m d"], Z: Float[Tensor, "n m"], k: int, signed: bool
) -> Float[Tensor, "n m"]:
    """The k largest codes of each target, fitted again without the penalty, which shrinks them."""
    values, atoms = Z.abs().topk(k)
    return torch.zeros_like(Z).scatter_(1, atoms, fitted_codes(T, D, atoms, values > 0, signed))


def _told_apart(T: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> Bool[Tensor, " n"]:
    """Whether the logits y explain 99 % of the deviance of a constant logit."""
    left, whole = ((softplus(x) - T * x).sum(1) for x in (y, T.mean(1, keepdim=True).logit().expand_as(T)))
    return left < (1 - _ENOUGH_DEVIANCE) * whole


def _penalty_for(codes: _Codes, top: Float[Tensor, " n"], k: int) -> Float[Tensor, " n"]:
    """About the smallest penalty of each target that leaves at most k terms; `top` is a penalty that leaves none.

    The search stops for targets that are explained well enough (as glmnet's `fdev` and `devmax`).
    """
    low, high = torch.zeros_like(top), top.clone()
    going = torch.ones_like(top, dtype=torch.bool)
    for _ in range(PENALTY_TRIALS):
        a, b = low[going], high[going]
        trial = torch.where(
            a > 0, torch.sqrt(a * b), _DESCENT * b
        )  # small penalties are slow to solve: approach them in steps
        Z, done = codes(trial, going)
        many = (Z != 0).sum(1) > k
        low[going], high[going] = torch.where(many, trial, a), torch.where(many, b, trial)
        going[going.clone()] = many | ~done
        if not going.any():
            break
    return high


def _greedy(
    T: Float[Tensor, "n d"], D: Float[Tensor, "m d"], method: str, k: int, signed: bool
) -> Float[Tensor, "n m"]:
    if method == "nnls":
        return pruned_codes(T, D, lasso(T, D, T.new_zeros(len(T)), enough=_ATOMS_A_TERM * k), k)
    return (omp if method == "omp" else iht)(T, D, k, signed)
