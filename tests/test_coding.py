import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso, LogisticRegression, orthogonal_mp

from atlas.errors import Refused
from decompose import coding
from decompose.coding import CODING_METHODS, discriminate, solve_sparse
from tests.optimality import kkt_violation


def unit(X: np.ndarray) -> np.ndarray:
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def planted(
    n: int = 60, m: int = 600, d: int = 256, k: int = 4, noise: float = 0.5, signed: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mixtures of k of m neurons with weights from 0.5 to 1.5, and noise of half the mixture's norm: T, D, Z."""
    rng = np.random.default_rng(0)
    D = unit(rng.standard_normal((m, d)))
    Z = np.zeros((n, m))
    for row in Z:
        row[rng.choice(m, k, replace=False)] = rng.uniform(0.5, 1.5, k) * (rng.choice([-1, 1], k) if signed else 1)
    T = Z @ D
    return T + noise * np.linalg.norm(T, axis=1, keepdims=True) * unit(rng.standard_normal(T.shape)), D, Z


def f1(Z: np.ndarray, found: np.ndarray) -> float:
    return 2 * ((Z != 0) & (found != 0)).sum() / ((Z != 0).sum() + (found != 0).sum())


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("method", ["lasso", "nnls", "omp", "iht"])
def test_mixtures_of_known_neurons_are_recovered(method, signed) -> None:
    if method == "nnls" and signed:
        pytest.skip("nnls has no signs")
    T, D, Z = planted(signed=signed)
    found = solve_sparse(T, D, method, k=4, signed=signed)
    assert ((found != 0).sum(1) <= 4).all()
    assert f1(Z, found) >= 0.95
    assert (np.sign(found)[(Z != 0) & (found != 0)] == np.sign(Z)[(Z != 0) & (found != 0)]).all()


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("penalty", [3e-4, 1e-3])
def test_lasso_is_scikit_learn_s_and_optimal(penalty, signed) -> None:
    T, D, _ = planted(n=12, m=300, d=64)
    Z = solve_sparse(T, D, penalty=penalty, signed=signed)

    def objective(z: np.ndarray, t: np.ndarray) -> float:
        return ((t - z @ D) ** 2).sum() / (2 * D.shape[1]) + penalty * np.abs(z).sum()

    theirs = Lasso(penalty, positive=not signed, tol=1e-6, fit_intercept=False, max_iter=100_000)
    for t, z in zip(T, Z, strict=True):
        assert objective(z, t) <= 1.001 * objective(theirs.fit(D.T, t).coef_, t)
    assert kkt_violation(T, D, Z, penalty, signed) < 1e-3 * penalty


def test_kkt_sees_what_is_not_optimal() -> None:
    T, D, _ = planted(n=5)
    Z = solve_sparse(T, D, penalty=1e-3)
    largest = (T @ D.T / D.shape[1]).max()
    np.testing.assert_allclose(kkt_violation(T, D, 0 * Z, 1e-3), largest - 1e-3)  # an atom that should be taken
    np.testing.assert_allclose(kkt_violation(T, D, Z, 1.2e-3), 2e-4, rtol=1e-5)  # codes that are too large
    assert kkt_violation(T, D, -Z, 1e-3) == np.inf
    assert kkt_violation(T, D, Z, 1e-3) < 1e-9


def test_equal_and_empty_atoms_do_no_harm() -> None:
    T, D, _ = planted(n=20)
    twice = np.concatenate([D, D[:300], np.zeros((3, D.shape[1]))])
    for method in ("lasso", "nnls", "omp", "iht"):
        found = solve_sparse(T, twice, method, k=8)
        assert np.isfinite(found).all()
        assert (found[:, -3:] == 0).all()
    found = solve_sparse(T.astype(np.float32), twice.astype(np.float32), penalty=1e-3)
    assert found.dtype == np.float32
    assert kkt_violation(T, twice, found, 1e-3) < 1e-5
    np.testing.assert_allclose(found @ twice, solve_sparse(T, D, penalty=1e-3) @ D, atol=1e-3)


def test_a_target_of_nothing_has_no_terms() -> None:
    T, D, _ = planted(n=3)
    T[1] = 0
    for method in ("lasso", "nnls", "omp", "iht"):
        Z = solve_sparse(T, D, method, k=4)
        assert (Z[1] == 0).all()
        assert (Z[0] != 0).any()


def test_omp_is_scikit_learn_s() -> None:
    T, D, _ = planted(n=10, signed=True)
    np.testing.assert_allclose(
        solve_sparse(T, D, "omp", k=6, signed=True), orthogonal_mp(D.T, T.T, n_nonzero_coefs=6).T, atol=1e-8
    )


@pytest.mark.parametrize("method", ["lasso", "nnls", "omp", "iht"])
def test_codes_are_below_0_only_if_signed(method) -> None:
    rng = np.random.default_rng(0)
    D = unit(rng.standard_normal((60, 30)) + 1.5 * rng.standard_normal(30))  # atoms that have much in common
    T = D[:20] - 0.7 * D[20:40] + 0.5 * D[40:]
    assert solve_sparse(T, D, method, k=6).min() == 0
    assert method == "nnls" or solve_sparse(T, D, method, k=6, signed=True).min() < 0


def test_iht_goes_on_until_mixtures_are_found() -> None:
    rng = np.random.default_rng(0)
    D = unit(rng.standard_normal((200, 64)))
    T = (rng.uniform(0.5, 1.5, (40, 10, 1)) * D[rng.integers(0, 200, (40, 10))]).sum(1)
    left = T - solve_sparse(T, D, "iht", k=10, signed=True) @ D
    assert (np.abs(left).max(1) < 1e-8).mean() > 0.8  # after one step: an eighth


@pytest.mark.parametrize("method", ["nnls", "omp", "iht"])
def test_an_atom_s_length_changes_nothing_but_its_code(method) -> None:
    T, D, _ = planted(n=20, k=6)
    length = np.random.default_rng(1).uniform(0.1, 10, (len(D), 1))
    np.testing.assert_allclose(
        solve_sparse(T, length * D, method, k=4) * length.T, solve_sparse(T, D, method, k=4), atol=1e-8
    )


def test_chunks_do_not_show(monkeypatch) -> None:
    T, D, _ = planted(n=20)
    for method in ("lasso", "omp", "iht"):
        whole = solve_sparse(T, D, method, k=4)
        for module in ("activeset", "pursuit"):
            monkeypatch.setattr(f"decompose.solvers.{module}.TARGETS_AT_ONCE", 7)
        np.testing.assert_allclose(solve_sparse(T, D, method, k=4), whole, atol=1e-10)
        monkeypatch.undo()


def prompts(concepts: int = 12, u: int = 300) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Vectors of three prompts a concept on u neurons, their means far from 0; each concept has two of its own."""
    rng = np.random.default_rng(0)
    own = rng.permutation(u)[: 2 * concepts].reshape(-1, 2)
    X = 5 * rng.random(u) + 0.3 * rng.standard_normal((3 * concepts, u))
    for i, (more, less) in enumerate(own):
        X[3 * i : 3 * i + 3, more] += 3
        X[3 * i : 3 * i + 3, less] -= 3
    return X, [f"concept {i // 3}" for i in range(3 * concepts)], own


def test_logistic_is_scikit_learn_s_or_better() -> None:
    X, labels, _ = prompts()
    T, penalty = np.array([[label == "concept 3" for label in labels]], float), 1 / 36
    Z = solve_sparse(T, X.T, "logistic", penalty=penalty)[0]
    theirs = LogisticRegression(C=1, l1_ratio=1, solver="saga", tol=1e-4, max_iter=5000).fit(X - X.mean(0), T[0])

    def objective(z: np.ndarray) -> float:
        y = (X - X.mean(0)) @ z + np.linspace(-10, 10, 20_001)[:, None]  # whatever the intercept
        return (np.logaddexp(0, y) - T[0] * y).sum(1).min() + np.abs(z).sum()

    assert objective(Z) <= 1.001 * objective(theirs.coef_[0])
    assert objective(Z) > 0.9 * objective(theirs.coef_[0])


def test_discriminating_neurons_are_the_concept_s_own() -> None:
    X, labels, own = prompts()
    concepts, levels = discriminate(X, labels, [0.03, 0.01])
    assert concepts == [f"concept {i}" for i in range(12)]
    assert levels.shape == (2, 12, 300)
    faint, strong = levels
    assert (faint != 0).sum() <= (strong != 0).sum()
    for i, (more, less) in enumerate(own):
        assert strong[i, more] - strong[i, less] > 0.9 * np.abs(strong[i]).sum() > 0


def test_logistic_keeps_to_its_terms() -> None:
    X, labels, _ = prompts()
    T = np.array([[label == f"concept {i}" for label in labels] for i in range(12)], float)
    terms = (solve_sparse(T, X.T, "logistic", k=2) != 0).sum(1)
    assert terms.max() <= 2
    assert terms.mean() > 1


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"method": "ridge"}, "no method 'ridge'"),
        ({}, "either a penalty or k"),
        ({"penalty": 0.0}, "more than 0"),
        ({"penalty": 0.1, "k": 3}, "either a penalty or k"),
        ({"method": "omp"}, "needs k"),
        ({"method": "iht", "k": 0}, "k is 0"),
        ({"method": "omp", "k": 601}, "1 to 600"),
        ({"method": "omp", "k": 2, "penalty": 0.1}, "has no penalty"),
        ({"method": "nnls", "k": 2, "signed": True}, "no signs"),
        ({"method": "logistic", "penalty": 0.1}, "0 and 1"),
    ],
)
def test_what_cannot_be_is_refused(asked, said) -> None:
    T, D, _ = planted(n=2)
    with pytest.raises(Refused, match=said):
        solve_sparse(T, D, **asked)


def test_shapes_and_numbers_that_do_not_fit_are_refused() -> None:
    T, D, _ = planted(n=2)
    with pytest.raises(Refused, match="D holds numbers"):
        solve_sparse(T, np.where(np.arange(len(D))[:, None] == 3, np.nan, D), k=2)
    assert CODING_METHODS == ("lasso", "nnls", "omp", "iht", "logistic")


def test_few_targets_are_solved_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, seen = np.random.default_rng(0), []
    greedy = coding._greedy
    monkeypatch.setattr(coding, "_greedy", lambda *a: (seen.append(torch.get_num_threads()), greedy(*a))[1])
    D, before = rng.normal(size=(20, 8)), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for targets in (coding.FEW_TARGETS, coding.FEW_TARGETS + 1):
            solve_sparse(rng.normal(size=(targets, 8)), D, "omp", k=2)
        assert (seen, torch.get_num_threads()) == ([1, 2], 2)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("signed", [False, True])
def test_lasso_with_k_is_fitted_again_on_its_support(signed: bool) -> None:
    random = np.random.default_rng(0)
    D = random.normal(size=(40, 30))
    T = random.normal(size=(5, 40)) @ D
    Z = solve_sparse(T, D, "lasso", k=6, signed=signed)
    for t, z in zip(T, Z, strict=True):
        on = np.flatnonzero(z)
        assert 0 < len(on) <= 6
        np.testing.assert_allclose(D[on] @ (t - z @ D), 0, atol=1e-6)  # least squares: no penalty left in it
