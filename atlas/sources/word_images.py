"""Words as images, and words onto images.

Fonts are packages (fontpkg), so every machine draws the same pixels.
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

SMALLEST_LETTERS = 6  # pixels: below this no letter can be told from another
_NOT_A_CHARACTER = "\uffff"  # no font has it, so it draws the box that stands for a missing glyph

# The typographic attack of "Multimodal Neurons in Artificial Neural Networks": white letters of 20 pixels with a black
# edge of 2, eight times at these places of a 288-pixel image.
STICKER_SIDE, STICKER_SIZE, STICKER_EDGE = 288, 20, 2
STICKER_PLACES = ((22, 22), (72, 47), (22, 72), (72, 97), (122, 122), (172, 147), (122, 172), (172, 197))


def installed_fonts() -> tuple[str, ...]:
    """The installed font families, as `font` takes them."""
    return tuple(sorted(fontpkg.families()))


def render_word(
    word: str,
    font: str = "open-sans",
    size: int = 32,
    side: int = 96,
    ink: str = "black",
    paper: str = "white",
) -> Image.Image:
    """The word in the middle of a square RGB image.

    A word or phrase that is too wide is broken into lines at its spaces, then drawn smaller, until it fits.

    Args:
        word: what to write; white space counts as one space.
        font: family, one of `fonts()`.
        size: height of the letters in pixels (the em), the largest that may be used.
        side: width and height of the image in pixels.
        ink: colour of the letters, as Pillow names it ("black", "#102030").
        paper: colour of the ground.

    Raises:
        Refused: no such font or colour, or a size that cannot be drawn.
        Unreadable: the font lacks a letter of the word, or the word is too long to be legible.
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
    """A copy of the image with the text stuck on it eight times, as in the paper's typographic attack.

    The places, the edge and `size` are pixels of an image of 288 x 288 and scale with the image. The paper drew DejaVu
    Sans, which Open Sans resembles.

    Raises:
        Refused: no such font.
        Unreadable: the font lacks a letter of the text.
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
    """The family's own spelling of `name`; Refused, with the nearest installed families, where there is none."""
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
    """The word, broken into lines where that lets it be larger, and the largest font that holds it."""
    if not word:
        raise Unreadable("an empty word")
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
    """How letters are set. Basic is the same everywhere; scripts from Hebrew on join or reorder and need Raqm."""
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
