"""Sparse equations: each target written as a short sum of a dictionary's atoms, many targets at once.

T targets (n, d), D dictionary (m, d), Z codes (n, m): T is about Z @ D, and k is the number of terms allowed. Targets
may be concepts and atoms neurons, or the other way round; d are the dimensions both are known in. Five solvers of one
shape:

    lasso      |t - zD|^2 / (2d) + penalty |z|_1                  exact: working sets, and a check on all of D
    nnls       |t - zD|^2 over z >= 0, at most k terms            of four times as many the largest, fitted again
    omp, iht   |t - zD|^2 over at most k terms                    greedy
    logistic   log loss of t in {0, 1} / d + penalty |z|_1        exact; signed, with an intercept; the paper's
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import sparse
from torch import Tensor
from torch.nn.functional import softplus

from atlas.errors import Refused
from decompose.solvers.activeset import lasso
from decompose.solvers.logistic import logistic_codes
from decompose.solvers.pursuit import iht, omp, pruned_codes

Method = Literal["lasso", "nnls", "omp", "iht", "logistic"]
CODING_METHODS = ("lasso", "nnls", "omp", "iht", "logistic")
_ATOMS_A_TERM = 4  # atoms in use for each term that nnls keeps: to the end there would be hundreds
PENALTY_TRIALS = 16  # of the search for a penalty
_DESCENT = 0.6  # down by this factor until there are too many terms, then halved
FEW_TARGETS = (
    64  # targets whose steps are so small that a second thread only waits: for seconds, where others want the cores
)
_ENOUGH_DEVIANCE = (
    0.99  # of the deviance: where prompts are told apart, ever fainter penalties only make codes ever larger
)

_Codes = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # (penalties, of which targets) -> their codes, good enough


def solve_sparse(
    T: Float[np.ndarray, "n d"],
    D: Float[np.ndarray, "m d"],
    method: str = "lasso",
    penalty: float | int | None = None,
    k: int | None = None,
    signed: bool = False,
    device: str | None = None,
) -> Float[np.ndarray, "n m"]:
    """Sparse codes Z of many targets over a dictionary; in single precision if T and D are (or half), else in double.

    `penalty`: for lasso and logistic, scikit-learn's alpha of `Lasso`, 1 / (C d) of `LogisticRegression`.
    `k`: at most so many terms. Lasso and logistic then take for each target about the smallest penalty that leaves
    that few; logistic none smaller than explains 99 % of the deviance. `signed`: codes of both signs (always so for
    logistic; nnls has none). `device`: a GPU by default, if there is one. Raises `Refused` where shapes do not fit,
    numbers are not finite, or penalty and k do not fit the method.
    """
    _check(T, D, method, penalty, k, signed)
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    single = np.float64 not in (T.dtype, D.dtype) and method != "logistic"
    T_, D_ = (torch.from_numpy(np.ascontiguousarray(x, np.float32 if single else np.float64)).to(where) for x in (T, D))
    with _threads(1 if len(T) <= FEW_TARGETS else torch.get_num_threads()):
        if method in ("lasso", "logistic"):
            Z = _penalised(T_, D_, method, penalty, k, signed)
        else:
            norm = torch.linalg.norm(D_, dim=1).where(D_.any(1), 1)  # what is greedy must not care how long an atom is
            Z = _greedy(T_, D_ / norm[:, None], method, k or 1, signed) / norm
    return Z.cpu().numpy()


def discriminate(
    X: Float[np.ndarray, "n u"], labels: Sequence[Hashable], penalties: Sequence[float | int], device: str | None = None
) -> tuple[list[Hashable], Float[np.ndarray, "l c u"]]:
    """Which neurons tell each concept's prompts from all others': signed and sparse, at several levels.

    One L1 logistic regression a concept against the rest over the vectors of n prompts (Goh et al. 2021, "Emotion
    composition"). `labels`: the concept of each prompt. `penalties`: the levels; the larger, the fewer neurons.
    Returns the concepts in the order they come in, and their codes at each level.
    """
    concepts = list(dict.fromkeys(labels))
    T = np.array([[label == concept for label in labels] for concept in concepts], np.float64)
    return concepts, np.stack([solve_sparse(T, X.T, "logistic", penalty, device=device) for penalty in penalties])


def kkt_violation(
    T: Float[np.ndarray, "n d"],
    D: Float[np.ndarray, "m d"],
    Z: Float[np.ndarray, "n m"],
    penalty: float | int,
    signed: bool = False,
) -> float:
    """How far the worst target is from being optimal for the lasso (penalty 0: NNLS), on the whole dictionary.

    In the units of the penalty: the correlation g = (t - zD) D' / d of an atom with what is left is the penalty where
    z > 0, minus the penalty where z < 0, and not beyond it elsewhere. Infinite where codes below 0 are not allowed.
    """
    if not signed and (Z < 0).any():
        return float("inf")
    worst, codes = 0.0, sparse.csr_array(Z)
    for start in range(0, len(T), 1024):
        here = slice(start, start + 1024)
        g = (T[here] - codes[here] @ D) @ D.T / T.shape[1]
        beyond = (np.abs(g) if signed else g) - penalty
        worst = max(worst, beyond.max(initial=0))
        taken = Z[here] != 0
        worst = max(worst, np.abs(g - penalty * np.sign(Z[here]))[taken].max(initial=0))
    return float(worst)


def _check(T: np.ndarray, D: np.ndarray, method: str, penalty: float | int | None, k: int | None, signed: bool) -> None:
    if method not in CODING_METHODS:
        raise Refused(f"no method {method!r}; methods are {', '.join(CODING_METHODS)}")
    if T.shape[1] != D.shape[1]:
        raise Refused(f"targets have {T.shape[1]} dimensions, the dictionary has {D.shape[1]}; they must be the same")
    for name, array in (("targets", T), ("the dictionary", D)):
        if not np.isfinite(array).all():
            raise Refused(f"{name} hold numbers that are not finite; leave those rows out")
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
    """So many threads of torch in the body."""
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
    """Lasso or logistic codes, at a penalty or at most k; penalties of the solvers are d times ours."""
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
    return codes(at, torch.ones_like(at, dtype=torch.bool))[0]


def _told_apart(T: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> Bool[Tensor, " n"]:
    """Whether the logits y explain all but a hundredth of the deviance of a logit that is the same everywhere."""
    left, whole = ((softplus(x) - T * x).sum(1) for x in (y, T.mean(1, keepdim=True).logit().expand_as(T)))
    return left < (1 - _ENOUGH_DEVIANCE) * whole


def _penalty_for(codes: _Codes, top: Float[Tensor, " n"], k: int) -> Float[Tensor, " n"]:
    """About the smallest penalty of each target that leaves at most k terms; `top` leaves none.

    Targets that are told apart well enough (glmnet's `fdev` and `devmax`) go no further: below, codes only grow.
    """
    low, high = torch.zeros_like(top), top.clone()
    going = torch.ones_like(top, dtype=torch.bool)
    for _ in range(PENALTY_TRIALS):
        a, b = low[going], high[going]
        trial = torch.where(a > 0, torch.sqrt(a * b), _DESCENT * b)  # faint penalties are dear: not too far
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
