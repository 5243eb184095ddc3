"""Agreement of factors with families: figures of clusterings, and the names that a reader would give."""

import numpy as np
import pytest

from atlas.formatting import Record, format_p
from decompose.families import factor_names, family_agreement, verdict, verdict_in_figures

FAMILIES = ["joy", "anger", "fear"] * 10


def test_factors_that_are_the_families_are_named_by_them() -> None:
    F = np.eye(4)[np.arange(30) % 3]  # the fourth factor has no word
    found = family_agreement(F, FAMILIES, np.random.default_rng(0))
    assert found["named"] == ["joy", "anger", "fear"]
    assert (found["factors"], found["words"], found["nmi"]) == (4, 30, pytest.approx(1))
    assert found["p"] == pytest.approx(0.001)


def test_shuffled_factors_have_no_names_at_the_nominal_rate() -> None:
    rng, truth = np.random.default_rng(0), np.array(FAMILIES * 4)
    trials = [any(factor_names(truth, rng.permutation(np.arange(len(truth)) % 5), 5)) for _ in range(200)]
    assert np.mean(trials) <= 0.05 + 2 * (0.05 * 0.95 / 200) ** 0.5


def test_a_family_that_most_words_are_of_names_nothing() -> None:
    truth = np.array(["joy"] * 24 + ["anger"] * 6)
    assert factor_names(truth, np.arange(30) % 3, 3) == ["", "", ""]


def test_a_family_that_is_no_majority_of_its_factor_names_nothing() -> None:
    truth = np.array(["anger"] * 8 + [f"family {i // 2}" for i in range(112)])
    found = np.array([0] * 20 + [1] * 100)  # 8 of 20: far beyond format_p, but not what the factor is about
    assert factor_names(truth, found, 2) == ["", ""]


def test_two_words_that_share_one_of_ten_families_name_nothing() -> None:
    truth = np.array([f"family {i // 4}" for i in range(40)])
    assert factor_names(truth, np.array([0, 0] + [1] * 38), 2) == [
        "",
        "",
    ]  # p is .008 for that family, but ten were looked at


def test_words_without_a_family_or_a_factor_are_left_out() -> None:
    F = np.eye(3)[np.arange(30) % 3]
    F[:3] = 0
    families = [*FAMILIES[:-3], "", "", ""]
    assert family_agreement(F, families, np.random.default_rng(0))["words"] == 24
    nothing = family_agreement(F, [""] * 30, np.random.default_rng(0))
    assert (nothing["words"], nothing["named"], nothing["p"]) == (0, [], 1.0)


def test_the_verdict_says_when_the_text_tower_does_as_well() -> None:
    sentence = said((0.3, 0.01), (0.1, 0.2), (0.5, 0.001))
    assert "the structure is the text tower's" in sentence
    assert "text embeddings (AMI 0.50, p 0.001)" in sentence


def said(*figures: tuple[float, float], words: int = 20, high: float | None = None) -> str:
    return verdict_in_figures(agreements(*figures, words=words, high=high))


def agreements(*figures: tuple[float, float], words: int = 20, high: float | None = None) -> list[Record]:
    """Of neurons, of the random basis (whose draws reach as far as `high`) and of the text embeddings: AMI and p."""
    names, rows = ("neurons", "random basis", "text embeddings"), []
    for name, (ami, p) in zip(names, figures, strict=True):
        rows.append({"method": name, "draws": 1, "words": words, "ami": ami, "low": ami, "high": ami, "p": p})
    rows[1] |= {"draws": 20, "low": 0.05, "high": figures[1][0] if high is None else high}
    return rows


@pytest.mark.parametrize(
    ("own", "random", "text", "says", "never"),
    [
        ((0.30, 0.40), (0.5, 0.01), (0.1, 0.50), "no better than chance", "beyond chance"),
        (
            (0.30, 0.01),
            (0.3, 0.04),
            (0.1, 0.50),
            "random basis (AMI 0.30, 0.05 to 0.30 in 20 draws, p 0.040) no less",
            "text embeddings",
        ),
        (
            (0.30, 0.01),
            (0.4, 0.02),
            (0.5, 0.03),
            "random basis (AMI 0.40, 0.05 to 0.40 in 20 draws, p 0.020) and the text embeddings",
            "more than",
        ),
        ((0.30, 0.01), (0.4, 0.20), (0.5, 0.03), "text embeddings (AMI 0.50, p 0.030) no less", "random basis"),
        ((0.30, 0.01), (0.4, 0.20), (0.1, 0.03), "neither is shown to be better", "text tower"),
        ((0.30, 0.01), (0.2, 0.20), (0.1, 0.03), "more than those of the random basis (AMI 0.20", "text tower"),
    ],
)
def test_the_verdict_is_true_of_its_figures(own, random, text, says, never) -> None:
    sentence = said(own, random, text)
    assert says in sentence
    assert never not in sentence
    assert f"AMI {own[0]:.2f}, p {format_p(own[1])}" in sentence
    if "more than" in sentence:
        assert sentence.endswith("the difference from the text embeddings was not tested.")


def test_a_random_basis_is_surpassed_where_its_draws_are() -> None:
    assert "and more than those of the random basis" in said((0.3, 0.01), (0.1, 0.2), (0.1, 0.2), high=0.29)
    assert "random basis (AMI 0.10, 0.05 to 0.31 in 20 draws, p 0.20) come as near" in said(
        (0.3, 0.01), (0.1, 0.2), (0.1, 0.2), high=0.31
    )


def test_without_families_nothing_is_claimed() -> None:
    assert "were not compared" in said((0.0, 1.0), (0.0, 1.0), (0.0, 1.0), words=0)


@pytest.mark.parametrize(
    ("own", "random", "text", "says"),
    [
        ((0.30, 0.40), (0.5, 0.01), (0.1, 0.50), " no better than chance."),
        ((0.09, 0.01), (0.0, 0.30), (0.05, 0.01), " weakly, but more than chance."),
        ((0.30, 0.01), (0.0, 0.30), (0.1, 0.50), " partly, and more than chance."),
        (
            (0.60, 0.01),
            (0.7, 0.30),
            (0.1, 0.50),
            " clearly, and more than chance, though the random basis may do so too.",
        ),
        ((0.09, 0.01), (0.0, 0.30), (0.1, 0.03), " weakly, and the text tower alone does no less."),
    ],
)
def test_the_verdict_is_one_line_without_figures(own, random, text, says) -> None:
    sentence = verdict(agreements(own, random, text))
    assert sentence == f"The neurons group these words by family{says}"
