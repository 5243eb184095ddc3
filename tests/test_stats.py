from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import skew

from atlas.analysis import stats
from atlas.analysis.stats import (
    ActivationChunk,
    Extremes,
    Monosemanticity,
    Summary,
    average_runs,
    summarise_activations,
)


def draw(n: int, u: int = 5, seed: int = 0) -> ActivationChunk:
    """Activations with ties (rounded), one neuron that is always negative and one that never changes."""
    rng = np.random.default_rng(seed)
    A = np.round(rng.standard_normal((n, u)), 1).astype(np.float32)
    A[:, 1] = -np.abs(A[:, 1]) - 1
    A[:, 2] = 0.5
    E = rng.standard_normal((n, 3)).astype(np.float32)
    E /= np.linalg.norm(E, axis=1, keepdims=True)
    return ActivationChunk(np.arange(n), A, E, rng.integers(0, 2**63, n).astype(np.uint64))


def split(chunk: ActivationChunk, cuts: list[int]) -> list[ActivationChunk]:
    bounds = [0, *cuts, len(chunk.rows)]
    return [
        ActivationChunk(chunk.rows[a:b], chunk.A[a:b], chunk.E[a:b], chunk.hashes[a:b]) for a, b in pairwise(bounds)
    ]


@pytest.fixture(scope="module")
def whole() -> tuple[ActivationChunk, Summary]:
    chunk = draw(400)
    return chunk, summarise_activations(lambda: [chunk])


@pytest.mark.parametrize("cuts", [[1], [200], [7, 9, 300, 399]])
def test_any_split_gives_the_same(whole: tuple[ActivationChunk, Summary], cuts: list[int]) -> None:
    chunk, once = whole
    parts = split(chunk, cuts)
    for order in (parts, parts[::-1]):
        again = summarise_activations(lambda order=order: order)
        np.testing.assert_array_equal(once.extremes.top[0], again.extremes.top[0])
        np.testing.assert_array_equal(once.extremes.bottom[1], again.extremes.bottom[1])
        np.testing.assert_array_equal(once.histogram.counts, again.histogram.counts)
        assert once.reservoir.rows == again.reservoir.rows
        for name in ("mean", "std", "skew", "low", "high"):
            np.testing.assert_allclose(getattr(once.moments, name), getattr(again.moments, name), rtol=0, atol=1e-9)
        np.testing.assert_allclose(once.monosemanticity, again.monosemanticity, rtol=0, atol=1e-9)
        np.testing.assert_allclose(once.covariance.correlation(), again.covariance.correlation(), rtol=0, atol=1e-9)


def test_moments_are_numpy_s_and_scipy_s(whole: tuple[ActivationChunk, Summary]) -> None:
    chunk, summary = whole
    wide = chunk.A.astype(np.float64)
    np.testing.assert_allclose(summary.moments.mean, wide.mean(0))
    np.testing.assert_allclose(summary.moments.std, wide.std(0), atol=1e-12)
    changing = [0, 1, 3, 4]
    np.testing.assert_allclose(summary.moments.skew[changing], skew(wide[:, changing]))
    np.testing.assert_allclose(summary.covariance.correlation()[0, 3], np.corrcoef(wide[:, 0], wide[:, 3])[0, 1])


def test_extremes_are_exact_with_ties_to_the_earlier_row(whole: tuple[ActivationChunk, Summary]) -> None:
    chunk, summary = whole
    for tail, sign in ((summary.extremes.top, -1), (summary.extremes.bottom, 1)):
        rows, values = tail
        for neuron in range(chunk.A.shape[1]):
            expected = np.argsort(sign * chunk.A[:, neuron], kind="stable")[: stats.TOP_ROWS]
            np.testing.assert_array_equal(rows[neuron], expected)
            np.testing.assert_array_equal(values[neuron], chunk.A[expected, neuron])


def test_fewer_rows_than_k_name_no_row_that_is_not_there() -> None:
    chunk = draw(3)
    rows, values = Extremes.of(chunk.A, chunk.rows).top
    assert rows.shape == (5, 3)
    assert set(rows.ravel()) == {0, 1, 2}
    assert (values[1] < 0).all()


def test_monosemanticity_equals_the_loop_over_pairs() -> None:
    chunk = draw(40)
    pairs = Monosemanticity.of(chunk.A, chunk.E)
    closed = pairs.score(chunk.A.min(0).astype(np.float64))
    E = chunk.E.astype(np.float64) / np.linalg.norm(chunk.E.astype(np.float64), axis=1, keepdims=True)
    for neuron in (0, 1, 3, 4):
        a = chunk.A[:, neuron].astype(np.float64)
        a = (a - a.min()) / (a.max() - a.min())
        ij = [(i, j) for i in range(40) for j in range(i)]
        expected = sum(a[i] * a[j] * (E[i] @ E[j]) for i, j in ij) / sum(a[i] * a[j] for i, j in ij)
        assert closed[neuron] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(closed[2])


def test_histogram_holds_every_row_and_both_ends(whole: tuple[ActivationChunk, Summary]) -> None:
    chunk, summary = whole
    np.testing.assert_array_equal(summary.histogram.counts.sum(1), 400)
    assert summary.histogram.counts[0, -1] >= (chunk.A[:, 0] == chunk.A[:, 0].max()).sum()
    expected, _ = np.histogram(chunk.A[:, 4], summary.edges[4])
    assert np.abs(np.cumsum(expected) - np.cumsum(summary.histogram.counts[4])).max() <= 40  # float edges: neighbours


def test_reservoir_holds_rows_of_the_right_bucket(whole: tuple[ActivationChunk, Summary]) -> None:
    chunk, summary = whole
    bucket = stats.bin_numbers(chunk.A, summary.moments.low, summary.moments.high, stats._BUCKETS)
    for neuron in (0, 1, 3, 4):
        for b, rows in enumerate(summary.reservoir.rows[neuron]):
            members = np.flatnonzero(bucket[:, neuron] == b)
            assert len(rows) == min(len(members), stats.PER_BUCKET)
            assert set(rows) <= set(members.tolist())


@pytest.mark.parametrize("cuts", [[], [2], [3, 4, 8]])
def test_runs_are_averaged_across_chunks(cuts: list[int]) -> None:
    chunk = draw(9)
    labels = list("aaabbcccc")
    bounds = [0, *cuts, 9]
    parts = [(part, labels[a:b]) for part, a, b in zip(split(chunk, cuts), bounds[:-1], bounds[1:], strict=True)]
    out = list(average_runs(parts))
    np.testing.assert_array_equal(np.concatenate([c.rows for c in out]), [0, 3, 5])
    expected = [chunk.A[:3].mean(0), chunk.A[3:5].mean(0), chunk.A[5:].mean(0)]
    np.testing.assert_allclose(np.concatenate([c.A for c in out]), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("size", [1, 7, 50])
def test_the_strongest_rows_are_the_same_however_they_come(size: int) -> None:
    rng = np.random.default_rng(0)
    A = np.round(rng.normal(size=(50, 6)), 1).astype(np.float16)  # with ties
    rows = np.arange(100, 150)
    found, values = stats.strongest_rows(((rows[i : i + size], A[i : i + size]) for i in range(0, 50, size)), 9)
    order = np.argsort(-A.astype(np.float32), axis=0, kind="stable")[:9].T
    np.testing.assert_array_equal(found, rows[order])
    np.testing.assert_array_equal(values, np.take_along_axis(A.T, order, 1))
    assert stats.strongest_rows([(rows, A)], 80)[0].shape == (6, 50)
