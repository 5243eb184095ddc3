"""Words in the order that people put them; what changes a place adds is what the whole text gains."""

import sys

import numpy as np
import pytest

from atlas.errors import Refused
from decompose.fluency import Bigrams

pytest.importorskip("wordsegment")
WORDS = ("the", "happy", "face", "new", "york", "city", "zxqwvk")


@pytest.fixture(scope="module")
def bigrams() -> Bigrams:
    return Bigrams(WORDS)


def number(*words: str) -> tuple[int, ...]:
    return tuple(WORDS.index(word) for word in words)


@pytest.mark.slow
def test_what_people_say_is_more_fluent_than_the_same_words_turned_round(bigrams: Bigrams) -> None:
    said, turned = bigrams.fluency([number("new", "york", "city"), number("city", "york", "new")])
    assert said > turned + 0.5  # per word
    often, never = bigrams.fluency([number("the", "city"), number("the", "zxqwvk")])
    assert often > never + 3


def test_a_pair_that_was_never_counted_falls_back_on_the_word(bigrams: Bigrams) -> None:
    the, odd = WORDS.index("the"), WORDS.index("zxqwvk")
    assert bigrams.after(odd)[the] == pytest.approx(bigrams.alone[the] + np.log10(0.4))
    assert bigrams.after(None).shape == (len(WORDS),)
    assert (bigrams.known.data <= 0).all()


def test_before_and_after_are_two_views_of_one_table(bigrams: Bigrams) -> None:
    after = np.stack([bigrams.after(i) for i in range(len(WORDS))])
    before = np.stack([bigrams.before(i) for i in range(len(WORDS))], 1)
    np.testing.assert_allclose(after, before)
    assert (after > bigrams.alone + np.log10(0.4)).any()


def test_gains_are_differences_of_fluency(bigrams: Bigrams) -> None:
    text = number("the", "new", "city")
    gains = bigrams.gains(text)
    for place in range(3):
        others = [(*text[:place], word, *text[place + 1 :]) for word in range(len(WORDS))]
        whole = bigrams.fluency(others)
        np.testing.assert_allclose(gains[place] - gains[place].mean(), whole - whole.mean(), atol=1e-9)


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wordsegment", None)
    with pytest.raises(Refused, match="wordsegment"):
        Bigrams(WORDS)
