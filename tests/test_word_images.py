"""Words fit their image, are centred, and are refused rather than drawn as boxes."""

import numpy as np
import pytest
from PIL import Image

from atlas.errors import Refused
from atlas.sources import word_images
from atlas.sources.builtin import WORD_FONTS
from atlas.sources.decoding import Unreadable


def inked(image, paper=255):
    """Rows and columns that hold ink: top, bottom, left, right (exclusive ends)."""
    rows, columns = np.nonzero((np.asarray(image, np.int16) != paper).any(-1))
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


@pytest.mark.parametrize("font", WORD_FONTS)
@pytest.mark.parametrize(
    "word", ["dog", "i", "gjpq", "Åland", "internationalization", "Saint Helena, Ascension and Cunha"]
)
def test_words_fit_and_are_centred(word, font):
    image = word_images.render_word(word, font)
    top, bottom, left, right = inked(image)
    assert (image.mode, image.size) == ("RGB", (96, 96))
    assert image.getpixel((0, 0)) == (255, 255, 255)
    assert abs(top - (96 - bottom)) <= 3
    assert abs(left - (96 - right)) <= 3
    assert min(top, left) >= 2


def test_size_is_the_largest_that_may_be_used():
    heights = [np.subtract(*inked(word_images.render_word("dog", size=size))[1::-1]) for size in (16, 32, 48)]
    assert heights[0] * 1.7 < heights[1] < heights[2]
    alone, shrunk = (inked(word_images.render_word(word)) for word in ("control", "out of control"))
    assert shrunk[3] - shrunk[2] > 0.9 * (alone[3] - alone[2])  # broken into lines, it hardly shrinks


def test_colours_and_side():
    image = word_images.render_word("dog", side=64, size=20, ink="white", paper="#102030")
    assert image.size == (64, 64)
    assert image.getpixel((0, 0)) == (16, 32, 48)
    assert np.asarray(image).max() > 240


def test_white_space_and_case_draw_what_they_say():
    assert word_images.render_word(" a \n b ").tobytes() == word_images.render_word("a b").tobytes()
    assert word_images.render_word("A").tobytes() != word_images.render_word("a").tobytes()
    assert word_images.render_word("dog", "Open Sans").tobytes() == word_images.render_word("dog").tobytes()


def test_missing_letters_are_no_boxes():
    with pytest.raises(Unreadable, match=r"open-sans has no glyph for U\+72AC"):
        word_images.render_word("犬 dog")
    with pytest.raises(Unreadable, match="no glyph"):
        word_images.sticker(Image.new("RGB", (96, 96)), "犬")


@pytest.mark.parametrize(("word", "reason"), [("", "empty word"), ("x" * 200, "too long to be legible")])
def test_words_that_cannot_be_shown(word, reason):
    with pytest.raises(Unreadable, match=reason):
        word_images.render_word(word)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"font": "open-san"}, "'open-san' is not installed; installed are open-sans"),
        ({"ink": "blakc"}, "'blakc' is no colour"),
        ({"size": 97}, "letters of 97 pixels on 96"),
        ({"size": 0}, "letters of 0 pixels"),
    ],
)
def test_requests_that_cannot_be_met(options, reason):
    with pytest.raises(Refused, match=reason) as refusal:
        word_images.render_word("dog", **options)
    assert "\n" not in str(refusal.value)


def test_fonts_are_those_installed():
    assert set(WORD_FONTS) <= set(word_images.installed_fonts())


@pytest.mark.parametrize("side", [192, 288])
def test_sticker_has_eight_copies_in_their_places(side):
    grey = Image.new("L", (side, side), 128)
    marked = word_images.sticker(grey, "iPod")
    changed = (np.asarray(marked) != 128).any(-1)
    scale = side / 288
    places = np.array(word_images.STICKER_PLACES) * scale
    for x, y in places:
        assert changed[int(y) : int(y + 25 * scale), int(x) : int(x + 40 * scale)].mean() > 0.3
    assert not changed[: int(20 * scale)].any()
    assert 0.03 < changed.mean() < 0.15  # the paper's stickers cover 7 % of the pixels
    assert np.asarray(marked).min() == 0
    assert np.asarray(marked).max() > 200
    assert np.asarray(grey).max() == 128  # the image itself stays as it is
