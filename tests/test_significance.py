import numpy as np
import pytest
from scipy.stats import false_discovery_control, kstest, norm

from atlas.analysis.significance import (
    enrichment_p_values,
    mean_interval,
    moderated_scores,
    p_values,
    q_values,
    random_texts,
    selected_q_values,
    tail_p_values,
)
from atlas.sources import vocabulary


def test_p_values_count_the_draws_at_least_as_large() -> None:
    null = np.array([[0.0, 1.0], [2.0, 3.0]])
    np.testing.assert_allclose(p_values(np.array([-1.0, 1.0, 3.0, 9.0]), null), [1, 4 / 5, 2 / 5, 1 / 5])


def test_under_the_null_p_values_are_uniform() -> None:
    random = np.random.default_rng(0)
    p = p_values(random.gamma(1, size=2000), random.gamma(1, size=5000))
    assert kstest(p, "uniform").pvalue > 0.01


def test_q_of_one_claim_a_family_is_benjamini_and_hochberg_s() -> None:
    p = np.random.default_rng(0).uniform(size=50) ** 3
    np.testing.assert_allclose(selected_q_values(p, p), false_discovery_control(p))
    np.testing.assert_allclose(q_values(p), false_discovery_control(p))
    assert q_values(np.empty(0)).shape == (0,)
    assert selected_q_values(np.empty((0, 3)), np.empty(0)).shape == (0, 3)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
def test_q_of_further_claims_keeps_what_the_selected_families_allow(rate: float) -> None:
    p = np.sort(np.random.default_rng(1).uniform(size=(40, 3)) ** 3, axis=1)
    selected = int((false_discovery_control(p[:, 0]) <= rate).sum())
    np.testing.assert_array_equal(selected_q_values(p, p[:, 0]) <= rate, p <= rate * selected / len(p))


@pytest.mark.parametrize(("skewed", "least"), [(False, 0.93), (True, 0.86)])
@pytest.mark.parametrize("n", [4, 8, 16])
def test_intervals_of_few_values_cover(n: int, skewed: bool, least: float) -> None:
    random, hits, mean = np.random.default_rng(0), [], np.exp(0.5) if skewed else 0.0
    for values in np.exp(random.normal(size=(400, n))) if skewed else random.normal(size=(400, n)):
        low, high = mean_interval(values)
        hits.append(low <= mean <= high)
    assert np.mean(hits) >= least


def test_a_tail_goes_below_one_in_the_number_of_draws() -> None:
    random = np.random.default_rng(0)
    null, far = np.sort(random.normal(size=2000)), np.array([1.0, 2.0, 4.5, 5.5])
    p = tail_p_values(far, null)
    np.testing.assert_allclose(p[:2], p_values(far[:2], null))
    assert (p[2:] >= norm.sf(far[2:])).all()  # an exponential tail is heavier than the normal one
    assert p[3] < 1e-5


def test_moderated_scores_leave_out_what_never_changes_and_damp_what_hardly_does() -> None:
    null = np.array([[1.0, 5.0], [3.0, 5.0]])
    np.testing.assert_allclose(moderated_scores(np.array([[4.0, 9.0]]), null), [[1.0, 0.0]])
    random = np.random.default_rng(0)
    null = random.normal(size=(500, 40)) * np.where(np.arange(40) < 2, 0.01, 1)
    scores = np.where(np.arange(40) < 2, 0.05, 2.0)
    found = moderated_scores(scores, null)  # five deviations of a column that hardly changes, two of one that does
    assert found[:2].max() < 0.1
    assert found[2:].min() > 0.8
    np.testing.assert_allclose(moderated_scores(7 * scores, 7 * null), found)


def test_enrichment_is_what_permutations_give() -> None:
    random = np.random.default_rng(0)
    carries = np.arange(60) < 9  # 9 of 60 rows carry the label, 12 are drawn
    counts = np.array([random.permutation(carries)[:12].sum() for _ in range(20_000)])
    for carried in (0, 2, 4):
        exact = enrichment_p_values(np.array([carried]), np.array([9]), rows=60, drawn=12)[0]
        assert exact == pytest.approx((counts >= carried).mean(), abs=0.01)


def test_random_texts_are_of_like_length_and_frequency() -> None:
    pytest.importorskip("wordfreq")
    ranked = vocabulary.english_words(30_000)
    rank = ranked.index("pizza")
    texts = random_texts("the pizza", 200)
    assert texts == random_texts("the pizza", 200) != random_texts("the pizza", 200, seed=1)
    for first, second in map(str.split, texts):
        assert ranked.index(first) < 100
        assert rank // 2 <= ranked.index(second) <= 2 * rank
        assert "pizza" not in (first, second)


@pytest.mark.parametrize("like", ["שלום", "!!!", "x" * 10_000, "a very long text " * 600])
def test_random_texts_of_anything(like: str) -> None:
    pytest.importorskip("wordfreq")
    texts = random_texts(like, 50)
    assert len(set(texts)) > 20
    assert all(0 < len(text.split()) <= 24 for text in texts)


@pytest.mark.parametrize("like", ["the", "time", "good", "pizza"])
def test_random_texts_are_different(like: str) -> None:
    pytest.importorskip("wordfreq")
    assert len({*random_texts(like, 500)}) == 500
