"""Render words as images, and draw words onto images.

Fonts are Python packages (fontpkg), so that every machine draws the same pixels.
"""

import difflib
import hashlib
import textwrap
from functools import lru_cache

import fontpkg
import fontpkg.pil
from PIL import Image, ImageColor, ImageDraw, ImageFont, features

from atlas.errors import Refused
from atlas.sources.decoding import Unreadable

SMALLEST_LETTERS = 6  # pixels: smaller letters cannot be told apart
_LONGEST_TEXT = 500  # characters of one rendered text
_NOT_A_CHARACTER = "\uffff"  # no font has this character, so it is drawn as the missing glyph

# The typographic attack of Goh et al. 2021: white letters of 20 pixels with a black edge of 2 pixels, eight times, at
# these positions of an image of 288 pixels.
STICKER_SIDE, STICKER_SIZE, STICKER_EDGE = 288, 20, 2
STICKER_PLACES = ((22, 22), (72, 47), (22, 72), (72, 97), (122, 122), (172, 147), (122, 172), (172, 197))


def installed_fonts() -> tuple[str, ...]:
    """Names of the installed font families."""
    return tuple(sorted(fontpkg.families()))


def render_word(
    word: str,
    font: str = "open-sans",
    size: int = 32,
    side: int = 96,
    ink: str = "black",
    paper: str = "white",
) -> Image.Image:
    """Draw a word in the middle of a square RGB image.

    Text that is too wide is broken into lines at its spaces and then drawn smaller until it fits. `word`: a word or
    phrase. `font`: one of `installed_fonts()`. `size`: largest height of the letters (the em) in pixels. `side`: width
    and height of the image in pixels. `ink`, `paper`: colours of the letters and the background, named as in Pillow
    ("black", "#102030").

    Raises `Refused` for an unknown font or colour and for a size that cannot be drawn, and `Unreadable` if the font
    lacks a letter of the word or the word is too long to be legible.
    """
    if not 0 < size <= side:
        raise Refused(f"letters of {size} pixels on {side}: give a size from 1 to the side of the image")
    colours = [_colour(name) for name in (paper, ink)]
    text, face = _fit(" ".join(word.split()), check_font(font), size, side)
    image = Image.new("RGB", (side, side), colours[0])
    draw = ImageDraw.Draw(image)
    left, top, right, bottom = draw.multiline_textbbox((0, 0), text, font=face, align="center")
    at = round((side - right - left) / 2), round((side - bottom - top) / 2)
    draw.multiline_text(at, text, font=face, fill=colours[1], align="center")
    return image


def sticker(image: Image.Image, text: str, font: str = "open-sans", size: int = STICKER_SIZE) -> Image.Image:
    """A copy of the image with the text drawn onto it eight times, as in the typographic attack of Goh et al. 2021.

    Positions, edge and `size` are pixels of an image of 288 x 288 and scale with the image. The paper used DejaVu
    Sans, which resembles Open Sans. Raises `Refused` for an unknown font, and `Unreadable` if the font lacks a letter.
    """
    picture = image.convert("RGB")  # a copy, also of an RGB image
    wide, high = (length / STICKER_SIDE for length in picture.size)
    scale = min(wide, high)
    face = _face(check_font(font), max(SMALLEST_LETTERS, round(size * scale)), _layout(text))
    _check_letters(text, font)
    draw = ImageDraw.Draw(picture)
    edge = max(1, round(STICKER_EDGE * scale))
    for x, y in STICKER_PLACES:
        draw.text((x * wide, y * high), text, "white", face, stroke_width=edge, stroke_fill="black")
    return picture


def check_font(name: str) -> str:
    """The family name of a font as fontpkg spells it. Raises `Refused` with similar families if it is not there."""
    slug = fontpkg.slugify(name)
    if slug not in fontpkg.families():
        near = difflib.get_close_matches(slug, installed_fonts(), 3, 0.4) or installed_fonts()[:3]
        raise Refused(
            f"font {name!r} is not installed; installed are {', '.join(near)}, ..., or: pip install fontpkg-{slug}"
        )
    return slug


def _colour(name: str) -> tuple[int, ...]:
    try:
        return ImageColor.getcolor(name, "RGB")  # type: ignore[return-value] - RGB is a tuple
    except ValueError:
        raise Refused(f"{name!r} is no colour: give a name such as black, or #102030") from None


def _fit(word: str, font: str, size: int, side: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """The word, broken into lines where that allows larger letters, and the largest font in which it fits."""
    if not word:
        raise Unreadable("an empty word")
    if len(word) > _LONGEST_TEXT:
        raise Unreadable(f"too long to be legible: {len(word):,} characters, the limit is {_LONGEST_TEXT}")
    _check_letters(word, font)
    room = side - 2 * max(1, side // 32)
    layout = _layout(word)
    draw = ImageDraw.Draw(Image.new("L", (1, 1)))

    def extent(text: str, points: int) -> float:
        """The longer side of the drawn text, in pixels."""
        left, top, right, bottom = draw.multiline_textbbox((0, 0), text, font=_face(font, points, layout))
        return float(max(right - left, bottom - top))

    if extent(word, size) <= room:
        return word, _face(font, size, layout)
    narrowest = max(map(len, word.split()))
    broken = [textwrap.fill(word, width, break_on_hyphens=False) for width in range(len(word), narrowest - 1, -1)]
    text = min(broken, key=lambda lines: extent(lines, size))
    points = min(size, int(size * room / extent(text, size)) + 1)
    while points >= SMALLEST_LETTERS and extent(text, points) > room:
        points -= 1
    if points < SMALLEST_LETTERS:
        raise Unreadable(f"too long to be legible on {side} pixels")
    return text, _face(font, points, layout)


def _layout(word: str) -> ImageFont.Layout:
    """The layout engine of a word. Basic gives the same pixels everywhere; scripts from Hebrew on need Raqm."""
    if all(letter < "\u0590" or "\u1e00" <= letter < "\u2100" for letter in word):
        return ImageFont.Layout.BASIC
    if not features.check("raqm"):
        raise Unreadable("its script needs Pillow with Raqm")
    return ImageFont.Layout.RAQM


def _check_letters(word: str, font: str) -> None:
    missing = [letter for letter in dict.fromkeys(word) if not letter.isspace() and not _has(font, letter)]
    if missing:
        codes = " ".join(f"U+{ord(letter):04X}" for letter in missing[:4])
        raise Unreadable(f"{font} has no glyph for {codes}")


def _has(font: str, letter: str) -> bool:
    return _glyph(font, letter) != _glyph(font, _NOT_A_CHARACTER)


@lru_cache(65536)
def _glyph(font: str, letter: str) -> bytes:
    image = Image.new("L", (48, 48))
    ImageDraw.Draw(image).text((12, 6), letter, fill=255, font=_face(font, 24, ImageFont.Layout.BASIC))
    return hashlib.blake2b(image.tobytes(), digest_size=8).digest()


@lru_cache(1024)
def _face(font: str, size: int, layout: ImageFont.Layout) -> ImageFont.FreeTypeFont:
    return fontpkg.pil.truetype(font, size, nearest=True, layout_engine=layout)
