"""Association tests: known answers, and a null in which p is flat."""

from itertools import combinations

import numpy as np
import pytest

import decompose
from atlas.errors import Refused
from decompose import association
from decompose.association import association_test


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def by_hand(X: np.ndarray, Y: np.ndarray, A: np.ndarray, B: np.ndarray) -> tuple[float, float]:
    """The definition, one target and one partition at a time."""
    s = [np.mean([cosine(w, a) for a in A]) - np.mean([cosine(w, b) for b in B]) for w in (*X, *Y)]
    n, spread = len(X), np.std(s, ddof=1)
    effect = (np.mean(s[:n]) - np.mean(s[n:])) / spread
    every = list(combinations(range(len(s)), n))
    means = [np.mean([s[i] for i in some]) - np.mean([s[i] for i in range(len(s)) if i not in some]) for some in every]
    return float(effect), float(np.mean([mean >= effect * spread - 1e-12 for mean in means]))


def test_a_test_that_can_be_done_in_the_head() -> None:
    """Associations of 1 and 0 in X, of -1 and 0 in Y; 2 of the 6 partitions are as extreme."""
    axis, between = np.eye(2), np.ones((1, 2))
    X, Y = np.concatenate([axis[:1], between]), np.concatenate([axis[1:], between])
    found = association_test(X, Y, axis[:1], axis[1:])
    assert (found.effect, found.p) == pytest.approx((np.sqrt(3 / 2), 1 / 3))


def test_equals_the_definition() -> None:
    rng = np.random.default_rng(1)
    for n, m in ((4, 4), (3, 5)):
        sets = [rng.normal(size=(size, 6)) for size in (n, m, 3, 2)]
        found = association_test(*sets)
        assert (found.effect, found.p) == pytest.approx(by_hand(*sets), abs=1e-9)
        assert found.exact


def test_a_planted_association_is_found_and_its_opposite_is_not() -> None:
    rng = np.random.default_rng(2)
    axis = np.eye(8)
    A, B = axis[:1] + 0.1 * rng.normal(size=(9, 8)), axis[1:2] + 0.1 * rng.normal(size=(9, 8))
    X, Y = axis[:1] + 0.3 * rng.normal(size=(6, 8)), axis[1:2] + 0.3 * rng.normal(size=(6, 8))
    found = association_test(X, Y, A, B)
    assert found.p == 1 / 924  # the division that is tested is the most extreme of all
    assert found.effect > 1.5
    swapped = association_test(Y, X, A, B)
    assert swapped.effect == pytest.approx(-found.effect)
    assert swapped.p == 1


@pytest.mark.parametrize("n", [5, 12])
def test_p_is_flat_where_nothing_is_planted(n: int) -> None:
    rng = np.random.default_rng(3)
    p = [association_test(*(rng.normal(size=(k, 10)) for k in (n, n, 4, 4)), draws=400, seed=i).p for i in range(400)]
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.08
    assert 0.44 <= np.mean(np.array(p) <= 0.5) <= 0.56


def test_draws_agree_with_the_exact_p(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    sets = [rng.normal(size=(k, 6)) for k in (7, 7, 3, 3)]
    exact = association_test(*sets)
    more = association_test(*(np.concatenate([s, s]) if i > 1 else s for i, s in enumerate(sets)))
    assert more == exact  # attributes given twice change nothing
    monkeypatch.setattr(association, "MOST_EXACT_PARTITIONS", 0)
    drawn = association_test(*sets)
    assert (drawn.exact, drawn.partitions, drawn.effect) == (False, 10_000, exact.effect)
    assert drawn.p == pytest.approx(exact.p, abs=0.02)  # four deviations of a share of 10,000


def test_refusals_say_which_set_is_wrong() -> None:
    rng = np.random.default_rng(5)
    X, Y, A, B = (rng.normal(size=(4, 5)) for _ in range(4))
    with pytest.raises(Refused, match="Y needs at least 2"):
        association_test(X, Y[:1], A, B)
    with pytest.raises(Refused, match="B needs at least 1 embeddings of length 5"):
        association_test(X, Y, A, B[:, :4])
    with pytest.raises(Refused, match="A holds numbers"):
        association_test(X, Y, A * np.nan, B)
    with pytest.raises(Refused, match="same association"):
        association_test(X, Y, A, A)


def test_is_exported() -> None:
    assert decompose.associations is decompose.association_test is association_test
