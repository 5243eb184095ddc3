import numpy as np
import pytest
import torch
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

from atlas.errors import Refused
from atlas.store.shards import Array
from decompose.nmf import SparseNMF, choose_n_components, held_out, matched_cosines, stability
from decompose.solvers import hals


def planted(n: int = 1500, u: int = 40, k: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Activations of k sparse factors with a tenth of noise, and the factors."""
    rng = np.random.default_rng(seed)
    D = rng.random((k, u)) * (rng.random((k, u)) < 0.3)
    A = (rng.exponential(size=(n, k)) * (rng.random((n, k)) < 0.5)) @ D
    return A + 0.1 * A.std() * rng.random(A.shape), D


def objective(model: SparseNMF, A: np.ndarray) -> float:
    Z = model.transform(A)
    return ((A - model.inverse_transform(Z)) ** 2).sum() / 2 + model.alpha * A.shape[1] * Z.sum()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore::UserWarning")
@parametrize_with_checks([SparseNMF(2)])
def test_it_is_a_scikit_learn_estimator(estimator, check) -> None:
    check(estimator)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize("init", ["nndsvd", "nndsvda"])
def test_without_a_penalty_it_is_scikit_learn_s(init, device) -> None:
    A, _ = planted(200)
    theirs = NMF(7, init=init, random_state=0).fit(A)
    ours = SparseNMF(7, alpha=0, init=init, random_state=0, device=device).fit(A)
    np.testing.assert_allclose(ours.components_, theirs.components_, atol=1e-8)
    np.testing.assert_allclose(ours.transform(A[:50]), theirs.transform(A[:50]), atol=1e-8)
    assert ours.n_iter_ == theirs.n_iter_


@pytest.mark.parametrize("alpha", [0, 1e-3, 1e-2])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_objective_never_rises(alpha) -> None:
    A, fell = torch.from_numpy(planted(150)[0]), []
    for sweeps in range(1, 30, 4):
        Z, D = (torch.from_numpy(x) for x in hals.initial_factors(A.numpy(), 4, "random", 0))
        hals.factorise(A, Z, D, alpha * 40, sweeps, 0)
        fell.append(hals.nmf_objective(A, Z, D, alpha * 40))
    assert np.diff(fell).max() <= 1e-12 * fell[0]
    assert fell[-1] < 0.9 * fell[0]


def test_the_penalty_makes_zeros_and_the_ball_holds() -> None:
    A, _ = planted(400)
    zeros = []
    for alpha in (0, 1e-3, 1e-2):
        model = SparseNMF(4, alpha, random_state=0).fit(A)
        zeros.append((model.transform(A) == 0).mean())
        assert alpha == 0 or np.linalg.norm(model.components_, axis=1).max() <= 1 + 1e-9
    assert zeros[0] < zeros[1] - 0.1 < zeros[2] - 0.2


@pytest.mark.parametrize("alpha", [0, 1e-3])
def test_planted_factors_come_back(alpha) -> None:
    A, D = planted()
    assert matched_cosines(D, SparseNMF(4, alpha, random_state=0).fit(A).components_).min() > 0.98


class Counted(Array):
    """A view that knows the most rows it was asked for at once."""

    most = 0

    def __getitem__(self, at):
        rows = super().__getitem__(at)
        self.most = max(self.most, len(rows))
        return rows

    def __array__(self, dtype=None, copy=None):
        raise MemoryError("the whole array was asked for")


@pytest.mark.parametrize("alpha", [0, 1e-3])
def test_a_stream_ends_where_the_whole_does(alpha, monkeypatch) -> None:
    A, D = planted(2000)
    seen, unseen = A[np.argsort(-A[:1500, 0])], A[1500:]  # sorted: no block is like the whole
    whole = SparseNMF(4, alpha, random_state=0).fit(seen)
    view = Counted(np.array_split(seen, 7))
    monkeypatch.setattr("decompose.nmf.STREAM_SAMPLE", 100)
    streamed = SparseNMF(4, alpha, random_state=0, batch_size=128).fit(view)
    assert view.most == 128
    assert objective(streamed, unseen) < 1.02 * objective(whole, unseen)
    assert matched_cosines(D, streamed.components_).min() > 0.98
    np.testing.assert_allclose(streamed.transform(view), streamed.transform(seen), atol=2e-3)


def test_blocks_one_by_one() -> None:
    A, D = planted()
    model = SparseNMF(4, random_state=0)
    for block in np.array_split(A.astype(np.float16), 10):
        model.partial_fit(block)
    assert matched_cosines(D, model.components_).min() > 0.98


def test_a_stream_forgets_what_it_saw_long_ago() -> None:
    before, after = planted(1000), planted(4000, seed=1)
    model = SparseNMF(4, random_state=0)
    for block in (*np.array_split(before[0], 10), *np.array_split(after[0], 40)):
        model.partial_fit(block)
    assert (
        matched_cosines(after[1], model.components_).min() > 0.95
    )  # 0.71 if the first blocks counted as much as the last


def test_split_signs() -> None:
    A, D = planted()
    sign = np.where(np.arange(40) % 3, 1, -1)
    model = SparseNMF(4, split="sign", random_state=0).fit(A * sign)
    assert model.components_.shape == (4, 80)
    assert matched_cosines(D * sign, model.signed_).min() > 0.98
    assert np.linalg.norm(A * sign - model.inverse_transform(model.transform(A * sign))) < 0.2 * np.linalg.norm(A)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_stability_is_seeded_and_falls_with_too_many_factors() -> None:
    A, D = planted(200)
    right, wrong = (stability(SparseNMF(k), A, restarts=4, seed=1) for k in (4, 9))
    assert right.mean > 0.99 > 0.95 > wrong.mean
    assert matched_cosines(D, right.components).min() > 0.95
    np.testing.assert_array_equal(right.cosine, stability(SparseNMF(4), A, restarts=4, seed=1).cosine)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_choose_finds_the_planted_number() -> None:
    A, _ = planted(300, seed=1)  # where more factors err less, but no two restarts find the same
    choice = choose_n_components(SparseNMF(2), A, range(2, 8))
    assert choice.n_components == 4
    assert choice.error[2] < 0.3 * choice.error[1]


def test_held_out_error_splits_signs_too() -> None:
    A, _ = planted(200)
    plain = held_out(SparseNMF(4), A)
    split = held_out(SparseNMF(4, split="sign"), A)
    np.testing.assert_allclose(split, plain, rtol=0.2)


def test_held_out_error_is_the_same_of_half_precision() -> None:
    A = 200 * planted(200)[0]
    assert (A**2).max() > np.finfo(np.float16).max
    half, whole = (held_out(SparseNMF(4, random_state=0), A.astype(kind)) for kind in (np.float16, np.float32))
    assert half.min() > 0
    np.testing.assert_allclose(half, whole, rtol=0.05)


def test_float32_and_float64_agree() -> None:
    A, _ = planted(300)
    wide, single = (SparseNMF(4, 1e-3, random_state=0).fit(A.astype(kind)) for kind in (np.float64, np.float32))
    assert single.components_.dtype == np.float32
    assert matched_cosines(wide.components_, single.components_.astype(float)).min() > 0.9999


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"n_components": 41}, "n_components=41"), ({"init": "svd"}, "no init"), ({"alpha": -1}, "alpha is -1")],
)
def test_what_cannot_be_is_refused(changed, said) -> None:
    for A in (planted(60)[0], Array([planted(60)[0]])):
        with pytest.raises(Refused, match=said):
            SparseNMF(**{"n_components": 3, **changed}).fit(A)
    with pytest.raises(ValueError, match="Negative values"):
        SparseNMF(2).fit(Array([-planted(60)[0]]))
    with pytest.raises(Refused, match="no numbers of factors"):
        choose_n_components(SparseNMF(2), planted(60)[0], [])


def test_too_few_sweeps_are_told() -> None:
    with pytest.warns(ConvergenceWarning, match="3 sweeps"):
        SparseNMF(4, 1e-3, max_iter=3).fit(planted(100)[0])


def test_score_and_error_are_the_reconstruction_s(tmp_path) -> None:
    from scipy import sparse

    A = np.random.default_rng(0).gamma(1, size=(60, 12))
    model = SparseNMF(3, random_state=0).fit(A)
    left = np.linalg.norm(A - model.inverse_transform(model.transform(A)))
    assert model.reconstruction_err_ == pytest.approx(left, rel=1e-2)
    assert model.score(A) == pytest.approx(1 - left**2 / np.linalg.norm(A) ** 2, rel=1e-6)
    for given in (sparse.csr_matrix(A), sparse.csr_array(A)):
        again = SparseNMF(3, random_state=0).fit(given)
        np.testing.assert_allclose(again.components_, model.components_)
        np.testing.assert_allclose(again.transform(given), model.transform(A))
    np.save(tmp_path / "A.npy", A)
    mapped = SparseNMF(3, random_state=0, batch_size=16)
    read = []
    mapped._read = lambda rows, reset, inner=mapped._read: read.append(len(rows)) or inner(rows, reset)
    mapped.fit(np.load(tmp_path / "A.npy", mmap_mode="r"))
    assert max(read[1:]) <= 16  # after the sample that the factors begin with
    assert mapped.score(np.load(tmp_path / "A.npy", mmap_mode="r")) > 0.9 * model.score(A)
