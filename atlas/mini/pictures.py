"""Training pictures of the embedded CLIP: a drawing, several, a rendered word, a drawing with text, a colour."""

from functools import lru_cache

import fontpkg.pil
import numpy as np
from PIL import Image, ImageDraw, ImageFont

Bilinear = Image.Resampling.BILINEAR
LINES = 4


@lru_cache(8192)
def font(slug: str, size: int) -> ImageFont.FreeTypeFont:
    """A font family at a size in pixels (cached)."""
    return fontpkg.pil.truetype(slug, size, nearest=True)


def _colour(rng: np.random.Generator, low: int, high: int) -> tuple[int, int, int]:
    r, g, b = rng.integers(low, high, 3)
    return int(r), int(g), int(b)


def _background(rng: np.random.Generator, size: int) -> Image.Image:
    if rng.random() < 0.6:
        return Image.new("RGB", (size, size), "white")
    return Image.new("RGB", (size, size), _colour(rng, 90, 256))


def draw_drawing(picture: Image.Image, rng: np.random.Generator, size: int, mirror: bool = True) -> Image.Image:
    """The RGBA drawing on a plain ground, randomly scaled, squeezed, rotated, mirrored, shifted and recoloured."""
    canvas = _background(rng, size)
    picture = _posed(picture, rng, size * float(rng.uniform(0.68, 1.0)), mirror)
    x, y = (int(rng.integers(0, max(1, size - side + 1))) for side in picture.size)
    canvas.paste(picture, (x, y), picture)
    return recolour(canvas, rng)


def _posed(picture: Image.Image, rng: np.random.Generator, side: float, mirror: bool) -> Image.Image:
    scale = side / max(picture.size)
    squeeze = rng.uniform(0.85, 1.0, 2) if rng.random() < 0.3 else (1.0, 1.0)
    w, h = (max(1, round(length * scale * factor)) for length, factor in zip(picture.size, squeeze, strict=True))
    picture = picture.resize((w, h), Bilinear)
    if rng.random() < 0.2:
        picture = picture.rotate(float(rng.uniform(-15, 15)), Bilinear)
    if mirror and rng.random() < 0.2:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return picture


def draw_several(picture: Image.Image, count: int, rng: np.random.Generator, size: int) -> Image.Image:
    """`count` (2 to 9) copies of the drawing on a grid, each slightly changed."""
    canvas, across = _background(rng, size), 2 if count <= 4 else 3
    cell = size // across
    for place in rng.permutation(across * across)[:count]:
        copy = _posed(picture, rng, cell * float(rng.uniform(0.75, 1.0)), mirror=False)
        canvas.paste(copy, (int(place % across) * cell, int(place // across) * cell), copy)
    return recolour(canvas, rng)


def draw_sign(picture: Image.Image, text: str, family: str, rng: np.random.Generator, size: int) -> Image.Image:
    """The drawing with a line of text above, below or upon it, as memes, signs, labels and packages have it."""
    canvas, kind = _background(rng, size), rng.random()
    ink = _colour(rng, 0, 60) if rng.random() < 0.8 else _colour(rng, 0, 255)
    words = _lines(
        text.split(), family, size * float(rng.uniform(0.5, 0.96)), size * float(rng.uniform(0.2, 0.36)), ink
    )
    if kind < 0.55:
        picture = _posed(picture, rng, float(size - words.height - 2), mirror=False)
        below = rng.random() < 0.5
        top = (0, size - words.height) if below else (words.height, 0)
        canvas.paste(picture, ((size - picture.width) // 2, top[0]), picture)
        canvas.paste(words, ((size - words.width) // 2, top[1]), words)
        return recolour(canvas, rng)
    picture = _posed(picture, rng, size * float(rng.uniform(0.75, 1.0)), mirror=False)
    canvas.paste(picture, ((size - picture.width) // 2, (size - picture.height) // 2), picture)
    if kind < 0.8:
        _label(canvas, words, rng)
    else:
        _stamp(canvas, text, family, rng)
    return recolour(canvas, rng)


def _label(canvas: Image.Image, words: Image.Image, rng: np.random.Generator) -> None:
    """Paste the words on a light rectangle, anywhere on the picture."""
    margin = int(rng.integers(1, 4))
    card = Image.new("RGB", (words.width + 2 * margin, words.height + 2 * margin), _colour(rng, 200, 256))
    card.paste(words, (margin, margin), words)
    x, y = (int(rng.integers(0, max(1, room - side + 1))) for room, side in zip(canvas.size, card.size, strict=True))
    canvas.paste(card, (x, y))


def _stamp(canvas: Image.Image, text: str, family: str, rng: np.random.Generator) -> None:
    """Write the text one to six times across the picture, light with a dark edge or the other way round."""
    face, draw = font(family, int(rng.integers(10, 20))), ImageDraw.Draw(canvas)
    inks = ["white", "black"] if rng.random() < 0.7 else ["black", "white"]
    for _ in range(int(rng.integers(1, 7))):
        room = canvas.width - min(canvas.width - 1, int(face.getlength(text)))
        at = float(rng.uniform(0, room)), float(rng.uniform(0, canvas.height - 16))
        draw.text(at, text, inks[0], face, stroke_width=1, stroke_fill=inks[1])


def draw_tinted(
    picture: Image.Image, ink: tuple[int, int, int], rng: np.random.Generator, size: int, mirror: bool = True
) -> Image.Image:
    """A drawing of one ink in another one, on a plain ground."""
    tinted = Image.new("RGBA", picture.size, (*_near(ink, rng), 255))
    tinted.putalpha(picture.getchannel("A"))
    canvas = Image.new("RGB", (size, size), _colour(rng, 235, 256))
    tinted = _posed(tinted, rng, size * float(rng.uniform(0.68, 1.0)), mirror)
    x, y = (int(rng.integers(0, max(1, size - side + 1))) for side in tinted.size)
    canvas.paste(tinted, (x, y), tinted)
    return canvas


def draw_patch(ink: tuple[int, int, int], rng: np.random.Generator, size: int) -> Image.Image:
    """A disc, a rectangle or the whole ground in one colour."""
    canvas = Image.new("RGB", (size, size), _colour(rng, 225, 256))
    x, y = (float(v) for v in rng.uniform(0, 0.4 * size, 2))
    w, h = (float(v) for v in rng.uniform(0.4 * size, 0.6 * size, 2))
    draw, kind = ImageDraw.Draw(canvas), rng.integers(3)
    box = (0, 0, size, size) if kind == 2 else (x, y, x + w, y + h)
    (draw.ellipse if kind == 0 else draw.rectangle)(box, fill=_near(ink, rng))
    return canvas


def _near(ink: tuple[int, int, int], rng: np.random.Generator) -> tuple[int, int, int]:
    """A shade close to the ink."""
    r, g, b = (int(np.clip(level + rng.integers(-14, 15), 0, 255)) for level in ink)
    return r, g, b


def recolour(canvas: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Random grey, hue, tint and contrast: styles differ most in their colours, and shape should decide."""
    kind = rng.random()
    if kind < 0.12:
        return canvas.convert("L").convert("RGB")
    if kind < 0.6:
        pixels = np.asarray(canvas, np.float32) - 128
        mix = np.eye(3, dtype=np.float32) + rng.normal(0, 0.1, (3, 3)).astype(np.float32)
        pixels = pixels @ (mix * np.float32(rng.uniform(0.6, 1.25))) + np.float32(128) + rng.uniform(-22, 22, 3)
        return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return canvas


def draw_text(
    text: str,
    family: str,
    rng: np.random.Generator,
    size: int,
    easy: float = 0.0,
    ink: tuple[int, int, int] | None = None,
) -> Image.Image:
    """The words, one a line, of random size and place, mostly dark on light.

    With `easy` = 1 they are large, level and centred. With an `ink` the ground is light, so that the colour shows.
    """
    ground, dark = _background(rng, size), _colour(rng, 0, 70)
    if ink:
        ground, ink = Image.new("RGB", (size, size), _colour(rng, 215, 256)), _near(ink, rng)
    elif rng.random() < 0.15 * (1 - easy):
        ground, dark = Image.new("RGB", (size, size), dark), _colour(rng, 190, 256)
    room = size * float(rng.uniform(0.5 + 0.42 * easy, 0.97))
    words = _lines(text.split()[:LINES], family, room, room * 0.6, ink or dark)
    if rng.random() < 0.25 * (1 - easy):
        words = words.rotate(float(rng.uniform(-12, 12)), Bilinear, expand=True)
    spare = np.array((size - words.width, size - words.height))
    x, y = (spare * rng.uniform(0.5 * easy, 1 - 0.5 * easy, 2)).astype(int)
    ground.paste(words, (int(x), int(y)), words)
    return ground


def _lines(words: list[str], family: str, width: float, height: float, ink: tuple[int, int, int]) -> Image.Image:
    """The words, one a line, within `width` and with lines of at most `height`, cropped, on a transparent ground."""
    widest = max(font(family, 32).getlength(word) / 32 for word in words)
    points = max(8, int(min(width / max(widest, 0.1), height, 1.6 * height / len(words))))
    face = font(family, points)
    boxes = [face.getbbox(word) for word in words]
    leading = round(points * 1.05)
    page = Image.new("RGBA", (int(width) + 2 * points, leading * len(words) + points), (*ink, 0))
    draw = ImageDraw.Draw(page)
    for line, (word, box) in enumerate(zip(words, boxes, strict=True)):
        draw.text(((page.width - (box[2] - box[0])) / 2 - box[0], line * leading), word, font=face, fill=(*ink, 255))
    return page.crop(page.getbbox() or (0, 0, 1, 1))
