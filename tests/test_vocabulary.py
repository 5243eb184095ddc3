"""Word lists: what is in them, that nothing is twice, and that a missing package is named."""

import sys
import unicodedata

import pytest

from atlas.errors import Refused
from atlas.sources import vocabulary


@pytest.mark.parametrize(
    "name", ["english_words", "country_names", "emotion_words", "emoji_names", "emoji_phrases", "emoji_words"]
)
def test_lists_are_plain_and_without_repeats(name):
    words = getattr(vocabulary, name)()
    assert words == getattr(vocabulary, name)()
    assert len(words) == len(set(words))
    for word in words:
        assert word == " ".join(word.split())
        assert not any(unicodedata.category(letter) in ("Cc", "Cf", "Cs") for letter in word)


def test_english_is_ranked():
    words = vocabulary.english_words(10_000)
    assert len(words) == 10_000
    assert words[:3] == ("the", "to", "and")
    assert vocabulary.english_words(10) == words[:10]
    assert all(word.isascii() and word.isalpha() for word in words)
    assert {word for word in words if len(word) == 1} == {"a", "i"}


def test_countries_have_the_names_people_use():
    countries = vocabulary.country_names()
    assert len(countries) > 240
    named = {
        "Bolivia",
        "Democratic Republic of the Congo",
        "U.S. Virgin Islands",
        "State of Palestine",
        "Cocos Islands",
    }
    assert named <= set(countries)
    assert "Bonaire, Sint Eustatius and Saba" in countries  # a comma that turns nothing around
    assert not any("(" in country for country in countries)


def test_emotions_are_the_feeling_wheel():
    assert len(vocabulary.emotion_words()) == 126
    assert vocabulary.emotion_words()[:2] == ("fearful", "scared")
    assert {"happy", "let down", "out of control", "awe"} <= set(vocabulary.emotion_words())


def test_emoji_names():
    assert vocabulary.emoji_name("\U0001f600") == "grinning face"
    assert vocabulary.emoji_name("\u2764") == vocabulary.emoji_name("\u2764\ufe0f") == "red heart"
    assert vocabulary.emoji_name("x") is None
    assert 1800 < len(vocabulary.emoji_names()) < len(vocabulary.emoji_names(skin=True))
    assert not any("skin tone" in name for name in vocabulary.emoji_names())


@pytest.mark.parametrize(
    ("sequence", "aliases"),
    [
        ("\U0001f697", ("car", "red car")),
        ("\U0001f44d", ()),  # "+1" and "thumbsup" add no word
        ("\U0001f1ee\U0001f1f9", ()),  # nor do "it" and "flag for Italy"
        ("x", ()),
    ],
)
def test_aliases_add_something(sequence, aliases):
    assert vocabulary.emoji_aliases(sequence) == aliases


def test_emoji_words_are_single():
    words = vocabulary.emoji_words()
    assert {"dog", "car", "thumbs", "afghanistan"} <= set(words)
    assert all(len(word) > 1 and " " not in word and word == word.lower() for word in words)


@pytest.mark.parametrize(("name", "package"), [("english_words", "wordfreq"), ("country_names", "pycountry")])
def test_a_missing_package_is_named(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(Refused, match=rf'need {package}: pip install "multimodal-atlas\[demo\]"'):
        getattr(vocabulary, name)()
