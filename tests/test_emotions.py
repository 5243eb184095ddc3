"""The emotion study: its recipe gives what the published tables give, and its parts do what they say."""

import json
from html import escape
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.decomposition import NMF

from atlas.errors import Refused
from atlas.model.clip import Clip
from decompose.emotions import (
    SPARSITY_LEVELS,
    codes_at_levels,
    disc_cells,
    factor_agreements,
    factor_codes,
    random_bases,
    study_emotions,
)
from decompose.families import verdict, verdict_in_figures
from decompose.pages import emotions_page
from decompose.pages.emotions import factor_hues

DATA = Path(__file__).parent / "data"
WORDS = ("sad", "happy", "angry", "afraid", "tired", "proud", "calm", "bored", "jealous", "loving")


def _planted(rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    """Attributions of 12 words in 3 prompts; word i is told by neuron i, through noise."""
    X = np.repeat(3 * np.eye(12, 40), 3, 0) + rng.normal(0, 1, (36, 40))
    return X, [f"word {i}" for i in range(12) for _ in range(3)]


def test_levels_have_about_the_terms_that_are_asked_for_and_the_right_ones() -> None:
    X, labels = _planted(np.random.default_rng(0))
    codes = codes_at_levels(X, labels, (1.0, 3.0))
    assert codes.shape == (2, 12, 40)
    counts = (codes != 0).sum(2).mean(1)
    assert counts == pytest.approx([1.0, 3.0], abs=1.0)
    assert counts[0] < counts[1]
    assert (codes[0].argmax(1) == np.arange(12)).all()


def test_the_recipe_squares_and_scales_the_loadings_of_sign_split_equations() -> None:
    rng = np.random.default_rng(1)
    codes = rng.normal(size=(30, 12)) * (rng.random((30, 12)) < 0.3)
    codes[3] = 0
    found = factor_codes(codes, 3)
    used = np.abs(codes).sum(1) > 0
    x = codes[used] / np.abs(codes[used]).sum(1, keepdims=True)
    halves = np.hstack([np.maximum(x, 0), np.maximum(-x, 0)])
    W = NMF(3, init="nndsvd", max_iter=1000, random_state=0).fit_transform(halves)
    assert found.words[used] == pytest.approx((W / W.max(0)) ** 2, abs=1e-4)
    assert (found.words[3] == 0).all()
    words = [f"word {i}" for i in range(30)]
    own, strongest = found.words.argmax(1), found.words.max(1)
    members = [sorted(np.flatnonzero(used & (own == i)), key=lambda t: -strongest[t]) for i in range(3)]
    assert found.names(words) == [", ".join(words[t] for t in rows[:3]) for rows in members]
    assert all(words[3] not in members for members in found.members(words))


def test_a_disc_has_a_cell_for_each_word_and_neighbours_are_alike() -> None:
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(3), 20)
    E = (3 * np.eye(3, 16)[groups] + rng.normal(0, 0.3, (60, 16))).astype(np.float32)
    places = disc_cells(E)
    assert len({tuple(place) for place in places.tolist()}) == 60
    apart = cdist(places, places)
    assert apart.max() < 12  # a disc, not a line
    same = groups[:, None] == groups[None]
    assert apart[same].mean() < 0.75 * apart[~same].mean()


@pytest.mark.parametrize("factors", [2, 7, 20])
def test_letters_stand_out_from_every_hue(factors: int) -> None:
    for hues in (factor_hues(i, factors) for i in range(factors)):
        for hue, letters in zip(hues, ("#1d1c1a", "#f2f1ee"), strict=True):
            light, dark = sorted((_luminance(hue), _luminance(letters)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5
        assert _luminance(hues[1]) < 0.15  # no glare on a dark page


def _luminance(colour: str) -> float:
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.slow
def test_agreement_is_with_the_families_and_beyond_chance() -> None:
    rng = np.random.default_rng(3)
    families = ["a", "b", "c"] * 10
    clear = np.eye(3)[np.arange(30) % 3] @ np.abs(rng.normal(size=(3, 12))) + 1e-6
    rows = factor_agreements({"clear": clear, "noise": rng.normal(size=(30, 12))}, [*families[:-1], ""], 3).to_pylist()
    assert rows[0]["nmi"] > 0.95
    assert rows[0]["p"] < 0.01
    assert rows[1]["nmi"] < 0.5
    assert all(row["words"] <= 29 for row in rows)


def test_a_random_basis_is_as_long_as_the_neurons_and_of_several_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("decompose.families._PERMUTATIONS", 199)
    W = np.random.default_rng(0).normal(size=(9, 4)) * np.arange(9)[:, None]
    draws = list(random_bases(W, 3))
    for R in draws:
        np.testing.assert_allclose(np.linalg.norm(R, axis=1), np.linalg.norm(W, axis=1))
    assert np.abs(draws[0] - draws[1]).max() > 0.1
    np.testing.assert_array_equal(draws[2], list(random_bases(W, 3))[2])
    families = ["a", "b", "c"] * 10
    clear = np.eye(3)[np.arange(30) % 3] @ np.abs(np.random.default_rng(1).normal(size=(3, 12))) + 1e-6
    noise = np.random.default_rng(2).normal(size=(3, 30, 12))
    both = np.concatenate([clear[None], noise])
    one, many = factor_agreements({"clear": clear, "both": both}, families, 3).to_pylist()
    assert (one["draws"], one["low"], one["high"]) == (1, one["ami"], one["ami"])
    assert many["draws"] == 4
    assert many["low"] < many["ami"] < many["high"] <= 1
    assert many["p"] > 0.02 > one["p"]


@pytest.mark.slow
def test_a_study_of_any_words_and_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("decompose.emotions.RANDOM_BASES", 2)
    monkeypatch.setattr("decompose.families._PERMUTATIONS", 99)
    monkeypatch.setattr(
        "decompose.emotions.word_norms", lambda: {word: (i / 1, i % 3.0) for i, word in enumerate(WORDS)}
    )
    words = [*WORDS, "<b>&</b>"]
    found = study_emotions(
        Clip("mini"), words, ("i am {}", "{} people"), families=dict.fromkeys(WORDS[:5], "one"), factors=(2, 3)
    )
    assert found.codes.shape[:2] == (len(SPARSITY_LEVELS), len(words))
    assert [each.concept for each in found.equations] == words
    assert found.templates == ("i am {}", "{} people")
    assert found.agreements["draws"].to_pylist() == [1, 2, 1]
    assert found.affect is not None
    beside = [(row["factors"], row["draws"], row["name"]) for row in found.affect.to_pylist()]
    assert beside == [
        *(("neurons", 1, name) for name in found.factors[2].names(words)),
        ("random basis", 2, "the strongest of each of 2 draws"),
        ("text embeddings", 1, "0"),
        ("text embeddings", 1, "1"),
    ]
    page = emotions_page(found, "mini")
    drawn = found.affect.to_pylist()[2]
    assert f"{drawn['valence']:.2f} <small>{drawn['valence_low']:.2f} to {drawn['valence_high']:.2f}</small>" in page
    assert "random basis, mean of 2 draws" in page
    assert page.count('<a href="#e') == page.count('<tr id="e') == len(words)
    assert "<b>&" not in page
    assert "i am {}" in page
    assert f'<p class="lead">{escape(verdict(found.agreements.to_pylist()))}</p>' in page
    assert escape(verdict_in_figures(found.agreements.to_pylist())) in page
    assert "textLength" not in page, "no word is squeezed"


def test_too_few_words_are_refused_in_a_line() -> None:
    with pytest.raises(Refused, match="too few to tell apart"):
        study_emotions(Clip("mini"), ["sad", "sad", "happy"])
    with pytest.raises(Refused, match="0 different words"):  # and not the wheel's in their place
        study_emotions(Clip("mini"), [])
    with pytest.raises(Refused, match="10 factors of 10 words"):
        study_emotions(Clip("mini"), WORDS, factors=(2, 10))


def test_the_published_weights_give_the_published_factors() -> None:
    published = json.loads((DATA / "emotion_weights.json").read_text("utf-8"))
    codes = np.zeros((126, 2560))
    for row, terms in zip(codes, published["levels"]["30"].values(), strict=True):
        for weight, unit in terms:
            if unit not in published["text_neurons"]:
                row[unit] = weight
    found = factor_codes(codes, 7)
    assert ((np.abs(codes).sum(1) > 0).sum(), (np.abs(codes).sum(0) > 0).sum()) == (121, 96)
    happy, sick, crying, grumpy, shocked, evil, heart = 1512, 119, 1193, 1430, 2478, 1739, 2003
    strongest = found.neurons.argmax(1).tolist()
    assert sorted(strongest) == sorted((happy, sick, crying, grumpy, shocked, evil, heart))
    assert found.neurons[strongest.index(evil), happy] < 0  # "minus happy"
    assert found.neurons[strongest.index(sick), grumpy] < 0
