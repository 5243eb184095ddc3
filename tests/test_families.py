"""Agreement of factors with families: figures of clusterings, and the names that a reader would give."""

import numpy as np
import pytest

from decompose.families import agreement, names

FAMILIES = ["joy", "anger", "fear"] * 10


def test_factors_that_are_the_families_are_named_by_them() -> None:
    F = np.eye(4)[np.arange(30) % 3]  # the fourth factor has no word
    found = agreement(F, FAMILIES, np.random.default_rng(0))
    assert found["named"] == ["joy", "anger", "fear"]
    assert (found["factors"], found["words"], found["nmi"]) == (4, 30, pytest.approx(1))
    assert found["p"] == pytest.approx(0.001)


def test_shuffled_factors_have_no_names_at_the_nominal_rate() -> None:
    rng, truth = np.random.default_rng(0), np.array(FAMILIES * 4)
    trials = [any(names(truth, rng.permutation(np.arange(len(truth)) % 5), 5)) for _ in range(200)]
    assert np.mean(trials) <= 0.05 + 2 * (0.05 * 0.95 / 200) ** 0.5


def test_a_family_that_most_words_are_of_names_nothing() -> None:
    truth = np.array(["joy"] * 24 + ["anger"] * 6)
    assert names(truth, np.arange(30) % 3, 3) == ["", "", ""]


def test_a_family_that_is_no_majority_of_its_factor_names_nothing() -> None:
    truth = np.array(["anger"] * 8 + [f"family {i // 2}" for i in range(112)])
    found = np.array([0] * 20 + [1] * 100)  # 8 of 20: far beyond chance, but not what the factor is about
    assert names(truth, found, 2) == ["", ""]


def test_two_words_that_share_one_of_ten_families_name_nothing() -> None:
    truth = np.array([f"family {i // 4}" for i in range(40)])
    assert names(truth, np.array([0, 0] + [1] * 38), 2) == ["", ""]  # p is .008 for that family, but ten were looked at


def test_words_without_a_family_or_a_factor_are_left_out() -> None:
    F = np.eye(3)[np.arange(30) % 3]
    F[:3] = 0
    families = [*FAMILIES[:-3], "", "", ""]
    assert agreement(F, families, np.random.default_rng(0))["words"] == 24
    nothing = agreement(F, [""] * 30, np.random.default_rng(0))
    assert (nothing["words"], nothing["named"], nothing["p"]) == (0, [], 1.0)
