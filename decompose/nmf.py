"""SparseNMF: non-negative matrix factorisation with sparse codes, also streamed; its stability, and how many factors.

A activations (n, u), Z codes (n, k), D dictionary (k, u): A is approximated by Z @ D, all of them >= 0.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from atlas.arrays import accepts, given_number, readable_rows, refuse_masked
from atlas.errors import Refused
from atlas.vectors import Rows, scaled_rows
from decompose.responses import check_factorable, factorable_rows, picked_rows, refused_in_a_line
from decompose.solvers.hals import factorise, hals_codes, initial_factors, nmf_objective, sweep

_INITS = ("nndsvd", "nndsvda", "random")
STREAM_SAMPLE = 4096  # rows that initialise the factors of a stream
_FORGETTING = 3  # of a stream: block s of t has the weight (s / t)^3
_STABLE_WITHIN = 0.05  # in cosine: numbers of factors within this of the most stable one count as stable
_LARGE_INPUT = 10_000_000  # size of an input, in numbers, from which a GPU is faster


class SparseNMF(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """NMF with an L1 penalty on the codes: minimises |A - ZD|^2 / 2 + alpha u sum(Z) over Z >= 0 and D >= 0.

    With a penalty, rows of D stay within the unit ball; otherwise Z would shrink and D grow, and the penalty would have
    no effect (Hoyer 2002, "Non-negative sparse coding"). With alpha = 0, D is not bounded, and `fit` on an array is
    scikit-learn's `NMF`.

    `n_components`: the number of factors k. `alpha`: the penalty, scikit-learn's `alpha_W`.
    `init`: nndsvd, nndsvda (Boutsidis & Gallopoulos 2008) or random.
    `split`: "sign" factors [relu(A), relu(-A)] (n, 2u), for data of both signs; `signed_` joins the halves again.
    `max_iter`, `tol`: as scikit-learn's; on a stream, the number of passes and the relative decrease of the objective.
    `batch_size`: rows of one block of a stream. `device`: where torch computes; by default a GPU for large inputs.

    `fit` takes an array or a sparse matrix, or any object with a shape that is read by slices, such as a memory map or
    `store.array("mean", "image")`. The latter is streamed, in memory that does not grow with the rows (Mairal et al.
    2010, "Online learning for matrix factorization and sparse coding").

    >>> import numpy as np
    >>> from decompose import SparseNMF
    >>> A = np.repeat(np.eye(3), 4, axis=0) @ np.ones((3, 5)) + np.repeat(np.eye(3, 5), 4, axis=0)
    >>> model = SparseNMF(3, max_iter=500).fit(A)
    >>> model.components_.shape, model.transform(A).shape
    ((3, 5), (12, 3))
    >>> bool(np.abs(A - model.inverse_transform(model.transform(A))).max() < 0.1)
    True
    """

    components_: Float[np.ndarray, "k u"]
    n_features_in_: int

    @no_type_check  # scikit-learn's convention: parameters are stored as given, and `fit` checks them
    def __init__(
        self,
        n_components: int,
        alpha: float = 0.0,
        init: Literal["nndsvd", "nndsvda", "random"] = "nndsvd",
        split: Literal["sign"] | None = None,
        max_iter: int = 200,
        tol: float = 1e-4,
        random_state: int | np.random.RandomState | None = None,
        batch_size: int = 1024,
        device: str | None = None,
    ):
        self.n_components, self.alpha, self.init, self.split = n_components, alpha, init, split
        self.max_iter, self.tol, self.random_state = max_iter, tol, random_state
        self.batch_size, self.device = batch_size, device

    def fit(self, A: object, y: object = None) -> "SparseNMF":
        """Fit the dictionary `components_` (k, u), or (k, 2u) with split signs, to an array or a stream (n, u)."""
        if _streams(A):
            return self._fit_stream(A)
        self.fit_transform(A)
        return self

    def fit_transform(self, A: object, y: object = None) -> Float[np.ndarray, "n k"]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The codes (n, k) of the rows that the model is fitted to."""
        if _streams(A):
            return self._fit_stream(A).transform(A)
        A = self._read(A, reset=True)
        self._check(A.shape)
        where = self._where(A)
        if self.alpha == 0 and where == "cpu" and self.device is None:
            theirs = NMF(
                self.n_components, init=self.init, max_iter=self.max_iter, tol=self.tol, random_state=self.random_state
            )
            Z = theirs.fit_transform(A)
            self._keep(theirs.components_, theirs.n_iter_)
            self.reconstruction_err_ = float(theirs.reconstruction_err_)
            return Z
        Z, D = initial_factors(A, self.n_components, self.init, self.random_state)
        Z, D = torch.from_numpy(Z).to(where), torch.from_numpy(D).to(where)
        n_iter = factorise(torch.from_numpy(A).to(where), Z, D, self.alpha * A.shape[1], self.max_iter, self.tol)
        if n_iter == self.max_iter and self.tol > 0:
            warnings.warn(f"not converged after {n_iter} sweeps; raise max_iter", ConvergenceWarning, stacklevel=2)
        self._keep(D.cpu().numpy(), n_iter)
        self.reconstruction_err_ = float(np.linalg.norm(A - Z.cpu().numpy() @ self.components_))
        return Z.cpu().numpy()

    def score(self, A: object, y: object = None) -> float:
        """The share of the rows' squared size that their codes over `components_` explain: 1 at best."""
        left, whole = self._left(A)
        return 1 - left / whole if whole else 1.0

    def _left(self, A: Any) -> tuple[float, float]:
        """Squared size of what the codes leave of the rows, and of the rows; a stream is read in blocks."""
        check_is_fitted(self)
        if _streams(A):
            parts = [self._left(np.asarray(A[here])) for here in self._blocks(A)]
            return sum(left for left, _ in parts), sum(whole for _, whole in parts)
        X = self._read(A, reset=False)
        return float(np.linalg.norm(X - self.transform(A) @ self.components_) ** 2), float(np.linalg.norm(X) ** 2)

    def partial_fit(self, A: object, y: object = None) -> "SparseNMF":
        """Update the dictionary with a block of rows (b, u); the first block initialises it: k rows or more."""
        first = not hasattr(self, "components_")
        A = self._read(A, reset=first)
        if first:
            self._check(A.shape)
            self._begin_on(A)
        self._learn(A)
        return self

    def transform(self, A: object) -> Float[np.ndarray, "n k"]:
        """Codes of rows (n, u), an array or a stream, over `components_`."""
        check_is_fitted(self)
        if _streams(A):
            return np.concatenate([self.transform(np.asarray(A[here])) for here in self._blocks(A)])
        A = self._read(A, reset=False)
        D, rows = (torch.from_numpy(each).to(self._where(A)) for each in (self.components_.astype(A.dtype), A))
        return hals_codes(rows, D, self.alpha * A.shape[1], self.max_iter, self.tol).cpu().numpy()

    @accepts(Z=2)
    def inverse_transform(self, Z: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n u"]:
        """The rows that codes reconstruct: Z @ `signed_`."""
        check_is_fitted(self)
        return Z @ self.signed_

    @property
    def signed_(self) -> Float[np.ndarray, "k u"]:
        """The dictionary over the neurons: with split signs, the first half minus the second."""
        D = self.components_
        return D if self.split is None else D[:, : D.shape[1] // 2] - D[:, D.shape[1] // 2 :]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = self.split is None
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @property
    def _n_features_out(self) -> int:
        return self.components_.shape[0]

    def _keep(self, D: Float[np.ndarray, "k u"], n_iter: int) -> None:
        self.components_, self.n_iter_ = D, n_iter
        self._moments, self._seen = None, 0

    def _check(self, shape: tuple[int, int]) -> None:
        if self.init not in _INITS:
            raise Refused(f"no init {self.init!r}; inits are {', '.join(_INITS)}")
        if self.split not in (None, "sign"):
            raise Refused(f"no split {self.split!r}; there is 'sign', or None")
        if not 0 <= self.alpha < float("inf"):
            raise Refused(f"alpha is {self.alpha}; it must be 0 or more")
        (n, u), k = shape, given_number(self.n_components, "whole number", "n_components")
        if not 1 <= k <= min(n, u) and (self.init != "random" or k < 1):
            raise Refused(
                f"n_components={k} does not fit n_samples = {n}, n_features = {u}: "
                f"init={self.init!r} takes 1 to the lesser of the two; more take init='random'"
            )

    def _read(self, A: Any, reset: bool) -> Float[np.ndarray, "n u"]:
        asked = {"accept_sparse": ("csr", "csc"), "dtype": [np.float64, np.float32], "order": "C"}
        with refused_in_a_line("A cannot be factored"):
            A = validate_data(self, readable_rows(A, "A"), reset=reset, ensure_non_negative=self.split is None, **asked)
        dense = A.toarray() if sparse.issparse(A) else A
        A = dense if dense.flags.writeable else dense.copy()  # torch takes no read-only memory
        return A if self.split is None else np.hstack([A.clip(min=0), (-A).clip(min=0)])

    def _where(self, A: np.ndarray) -> str:
        return self.device or ("cuda" if A.size >= _LARGE_INPUT and torch.cuda.is_available() else "cpu")

    def _fit_stream(self, A: Rows) -> "SparseNMF":
        rng = check_random_state(self.random_state)
        rows = np.sort(rng.choice(len(A), min(STREAM_SAMPLE, len(A)), replace=False))
        sample = self._read(picked_rows(A, rows), reset=True)
        self._check(sample.shape)
        self._begin_on(sample)
        last = np.inf
        for n_iter in range(1, self.max_iter + 1):
            blocks = list(self._blocks(A))
            order = rng.permutation(len(blocks))
            loss = sum(self._learn(self._read(A[blocks[i]], reset=False)) for i in order)
            self.n_iter_ = n_iter
            if last - loss <= self.tol * abs(last) and n_iter > 1:
                break
            last = loss
        self.reconstruction_err_ = self._left(A)[0] ** 0.5
        return self

    def _blocks(self, A: Rows) -> Iterator[slice]:
        return (slice(at, min(at + self.batch_size, len(A))) for at in range(0, len(A), self.batch_size))

    def _begin_on(self, A: Float[np.ndarray, "n u"]) -> None:
        """Initialise the dictionary with the factors of a block, after at most 20 sweeps."""
        Z, D = (torch.from_numpy(x) for x in initial_factors(A, self.n_components, self.init, self.random_state))
        factorise(torch.from_numpy(A), Z, D, self.alpha * A.shape[1], 20, self.tol)
        self._keep(D.numpy(), 0)

    def _learn(self, A: Float[np.ndarray, "b u"]) -> float:
        """Update moments and dictionary with one block of rows; returns the block's objective before the update."""
        where, penalty = self._where(A), self.alpha * A.shape[1]
        A_, D = torch.from_numpy(A).to(where), torch.from_numpy(self.components_.astype(A.dtype)).to(where)
        Z = hals_codes(A_, D, penalty, self.max_iter, self.tol)
        loss = nmf_objective(A_, Z, D, penalty)
        self._seen += 1
        fresh = (Z.T @ Z, A_.T @ Z)
        if self._moments is not None:
            kept = (1 - 1 / self._seen) ** _FORGETTING
            fresh = tuple(
                new + kept * torch.from_numpy(old).to(new) for new, old in zip(fresh, self._moments, strict=True)
            )
        self._moments = tuple(moment.cpu().numpy() for moment in fresh)
        D = D.T.contiguous()
        for _ in range(5):
            sweep(D, *fresh, bounded=self.alpha > 0)
        self.components_ = np.ascontiguousarray(D.T.cpu().numpy())
        self.n_iter_ = max(self.n_iter_, 1)
        return loss


def _streams(A: object) -> TypeGuard[Rows]:
    """Whether A is streamed: a memory map, or read by slices and not an array, a sparse matrix or a data frame."""
    refuse_masked(A, "A")
    whole = type(A) is np.ndarray or sparse.issparse(A) or hasattr(A, "detach") or hasattr(A, "to_numpy")
    return not whole and hasattr(A, "shape") and hasattr(A, "__getitem__")


@dataclass(frozen=True)
class Stability:
    """The similarity of the components of many restarts: cosine 1 if every restart finds the same components."""

    components: Float[np.ndarray, "k u"]  # of the best restart, with rows of unit norm
    cosine: Float[np.ndarray, " k"]  # mean cosine of each component with its match in the other restarts

    @property
    def mean(self) -> float:
        """Average over the components."""
        return float(self.cosine.mean())


def matched_cosines(D: Float[np.ndarray, "k u"], E: Float[np.ndarray, "k u"]) -> Float[np.ndarray, " k"]:
    """Cosines of matched rows of D and E: the one-to-one assignment with the largest sum."""
    alike = scaled_rows(D) @ scaled_rows(E).T
    return alike[linear_sum_assignment(-alike)]


@accepts(A=2)
def stability(model: SparseNMF, A: Float[np.ndarray, "n u"], restarts: int = 8, seed: int = 0) -> Stability:
    """The stability of a model's components: copies are fitted from random starts, and matched with the best one."""
    A, fitted, errors = factorable_rows(A, model.split is not None), [], []  # all rows: a stream has other factors
    for i in range(restarts):
        again = _like(model, init="random", random_state=seed + i)
        Z = again.fit_transform(A)
        fitted.append(again.components_)
        errors.append(np.linalg.norm(A - again.inverse_transform(Z)) ** 2 / 2 + model.alpha * A.shape[1] * Z.sum())
    best = fitted.pop(int(np.argmin(errors)))
    cosine = np.mean([matched_cosines(best, other) for other in fitted], axis=0) if fitted else np.ones(len(best))
    return Stability(scaled_rows(best), cosine)


@dataclass(frozen=True)
class Choice:
    """The number of factors chosen, and the measures it was chosen by: one entry for each number tried."""

    n_components: int
    tried: tuple[int, ...]
    error: Float[np.ndarray, " t"]  # relative squared error on held-out rows and held-out neurons
    spread: Float[np.ndarray, " t"]  # its standard error over the folds
    stability: Float[np.ndarray, " t"]


@accepts(A=2, tried="whole numbers")
def choose_n_components(
    model: SparseNMF,
    A: Float[np.ndarray, "n u"],
    tried: Sequence[int] | Int[np.ndarray, " t"],
    folds: int = 4,
    restarts: int = 4,
    seed: int = 0,
) -> Choice:
    """The number of factors, chosen among `tried` by stability and held-out error.

    Numbers whose stability is within 0.05 of the most stable are candidates. The smallest candidate whose error is
    within one standard error of the best candidate's is chosen. Raises `Refused` for few rows or zeros.
    """
    check_factorable(A, tried := [int(k) for k in tried], folds)
    models = [_like(model, n_components=k) for k in tried]
    errors = np.stack([held_out(each, A, folds, seed) for each in models])
    error, spread = errors.mean(1), errors.std(1, ddof=1) / np.sqrt(folds)
    stable = np.array([stability(each, A, restarts, seed).mean for each in models])
    steady = stable >= stable.max() - _STABLE_WITHIN
    least = np.flatnonzero(steady)[error[steady].argmin()]
    good = steady & (error <= error[least] + spread[least])
    return Choice(min(k for k, kept in zip(tried, good, strict=True) if kept), tuple(tried), error, spread, stable)


@accepts(A=2)
def held_out(model: SparseNMF, A: Float[np.ndarray, "n u"], folds: int = 4, seed: int = 0) -> Float[np.ndarray, " f"]:
    """Held-out relative squared error, one number a fold (bi-cross-validation, Owen & Perry 2009).

    The dictionary is fitted to the other folds, codes to half of the neurons, and the error is that on the other half:
    codes fitted to the neurons they are judged by would always improve with more factors. All rows are read.
    """
    A, rng, errors = factorable_rows(A, model.split is not None), np.random.default_rng(seed), []
    check_factorable(A, [model.n_components], folds)
    for rows in np.array_split(rng.permutation(len(A)), folds):
        seen = rng.permutation(A.shape[1]) < A.shape[1] // 2
        errors.append(_unseen_error(_like(model).fit(np.delete(A, rows, axis=0)), A[rows], seen))
    return np.array(errors)


def _unseen_error(fitted: SparseNMF, A: Float[np.ndarray, "n u"], seen: np.ndarray) -> float:
    shown = _like(fitted)
    halves = seen if fitted.split is None else np.concatenate([seen, seen])
    shown.components_, shown.n_features_in_ = fitted.components_[:, halves], int(seen.sum())
    guess = fitted.inverse_transform(shown.transform(A[:, seen]))
    # in double precision: sums would overflow a Store's half precision
    left, whole = (np.square(X[:, ~seen], dtype=np.float64).sum() for X in (A - guess, A))
    return float(left / whole)


def _like(model: SparseNMF, **changes: object) -> SparseNMF:
    """An unfitted model with the same parameters, apart from the changes."""
    return SparseNMF(**{**model.get_params(), **changes})
