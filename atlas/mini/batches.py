"""Training batches of the embedded CLIP: drawings, rendered words, drawings with text, colours, and captions."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from atlas.mini import corpus, packages, pictures
from atlas.mini.words import SPELLING, Words, compound_parts, pseudo_word, renderable, spelling, spelt

Picked = TypeVar("Picked")
EMOJI_TEMPLATES = ("an emoji of {}", "an emoji of {}", "a drawing of {}", "{}", "{}", "a picture of {}")
WORD_TEMPLATES = ("the word {}", "the word {}", "the word {}", "{}", "the text {}", "a sign that says {}")
FLAG_TEMPLATES = ("an emoji of {}", "the flag of {}", "{}", "{}", "a drawing of {}")
OUTLINE_TEMPLATES = ("a map of {}", "the outline of {}", "{}", "the shape of {}", "a map of {}")
IMAGE_TEMPLATES = ("{}", "{}", "{}", "a photo of {}", "a picture of {}", "an image of {}")
FEELING_TEMPLATES = (
    "me feeling {}", "i am feeling {}", "feeling {}", "a face that looks {}", "someone who feels {}", "a {} face",
    "me feeling {} on my face", "a photo of me with a {} expression on my face", "an emoji of {}",
)  # fmt: skip
BOTH_TEMPLATES = ("{1} with the word {0}", "a picture of {1} with the text {0}", "{1}, {0}", "{0}, says {1}")
INK_TEMPLATES = ("a word in {}", "written in {}", "a word written in the color {}", "{} letters", "text in {} ink")
WORD_IN_INK_TEMPLATES = (
    "the word {} in {}", "the word {} in {}", "the word {}, written in the color {}", "{} in {} letters",
)  # fmt: skip
COLOUR_TEMPLATES = ("{}", "the color {}", "the color {}", "something {}")
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine")
INKS = {
    "red": (212, 24, 34), "blue": (30, 70, 210), "green": (20, 145, 50), "orange": (238, 122, 10),
    "purple": (120, 40, 160), "brown": (120, 70, 30), "black": (12, 12, 12), "pink": (238, 95, 165),
    "yellow": (244, 208, 14), "grey": (128, 128, 128),
}  # fmt: skip
SPOKEN = 6  # words of a name that are scored, at most
GROUP = 3  # pictures of one keyword or feeling in a batch
KEYWORDS, FEELINGS = 0.12, 0.1  # shares of the groups that are of a keyword, and of a feeling
SCENES, COLOURS = 0.12, 0.14  # shares of a batch that are drawings with text, and coloured things


class Sample(NamedTuple):
    """A picture, its caption, the one or two concepts that it carries, words of its name, its letters and its ink.

    `written` says whether it is text and nothing else.
    """

    picture: Image.Image
    caption: str
    keys: tuple[str, str]
    spoken: list[str]
    letters: str
    written: bool = False
    ink: str = ""


class Batch(NamedTuple):
    """Pixels uint8 (n, h, w, 3), captions and keys (n, 2), words int64 (n, 6) with -1 for none, and letters.

    `letters` float32 (n, SPELLING) are the spelling of the text in the picture, where `lettered` says that it counts;
    `written` says which pictures are text and nothing else; `inks` int64 (n) are places in INKS, -1 for none.
    """

    pixels: Tensor
    captions: list[str]
    keys: np.ndarray
    words: Tensor
    letters: Tensor
    lettered: Tensor
    written: Tensor
    inks: Tensor


def joined_batches(batches: Sequence[Batch]) -> Batch:
    """Several batches as one."""
    columns = zip(*batches, strict=True)
    pixels, captions, keys, *rest = columns
    said = [caption for each in captions for caption in each]
    return Batch(torch.cat(pixels), said, np.concatenate(keys), *(torch.cat(column) for column in rest))


class Batches(torch.utils.data.IterableDataset[Batch]):
    """Endless batches of `size` samples.

    A share of `share` are concepts: `drawn` drawings in different styles and the rendered name, as positives of one
    another. SCENES are drawings with text, COLOURS coloured things, and the rest single words.
    """

    def __init__(
        self, drawings: "Drawings", words: Words, size: int, seed: int, easy: float, share: float, drawn: int = 2
    ):
        self.drawings, self.words, self.size, self.seed = drawings, words, size, seed
        self.easy, self.share, self.drawn = easy, share, drawn

    def __iter__(self) -> Iterator[Batch]:
        rng, fonts = np.random.default_rng(self.seed), packages.fonts()
        while True:
            samples: list[Sample] = []
            while len(samples) < self.size * self.share:
                samples += self._group(rng, fonts)
            del samples[int(self.size * self.share) :]
            samples += [self._scene(rng, fonts) for _ in range(int(SCENES * self.size))]
            samples += [self._colour(rng, fonts) for _ in range(int(COLOURS * self.size))]
            samples += [self._single(rng, fonts) for _ in range(self.size - len(samples))]
            yield self._batch(samples)

    def _batch(self, samples: list[Sample]) -> Batch:
        words = np.full((len(samples), SPOKEN), -1)
        letters = np.zeros((len(samples), SPELLING), np.float32)
        for i, sample in enumerate(samples):
            known = [self.words.known[w] for w in sample.spoken if w in self.words.known][:SPOKEN]
            words[i, : len(known)] = known
            if sample.letters:
                letters[i] = spelling(sample.letters)
        return Batch(
            torch.from_numpy(np.stack([np.asarray(s.picture) for s in samples])),
            [s.caption for s in samples],
            np.array([s.keys for s in samples]),
            torch.from_numpy(words),
            torch.from_numpy(letters),
            torch.tensor([bool(s.letters) for s in samples]),
            torch.tensor([s.written for s in samples]),
            torch.tensor([list(INKS).index(s.ink) if s.ink else -1 for s in samples]),
        )

    def _group(self, rng: np.random.Generator, fonts: list[str]) -> list[Sample]:
        """Samples of one concept, keyword or feeling."""
        kind = rng.random()
        if kind < KEYWORDS:
            keyword = _pick(self.drawings.keywords, rng)
            return self._shared(keyword, self.drawings.named[keyword], EMOJI_TEMPLATES, rng, fonts)
        if kind < KEYWORDS + FEELINGS and self.drawings.feelings:
            feeling = _pick(self.drawings.felt, rng)
            return self._shared(feeling, self.drawings.feelings[feeling], FEELING_TEMPLATES, rng, fonts)
        return self._concept(rng, fonts)

    def _concept(self, rng: np.random.Generator, fonts: list[str]) -> list[Sample]:
        name = self.drawings.names[np.searchsorted(self.drawings.cumulative, rng.random())]
        written = len(name.split()) <= 3 and len(name) <= 24 and bool(compound_parts(name)) and renderable(name)
        picked = self.drawings.of(name, self.drawn + 1 - written, rng)
        samples = [self._drawing(i, name, rng, fonts, written) for i in picked]
        return [*samples, self._written(name, rng, fonts)] if written else samples

    def _shared(
        self, keyword: str, names: list[str], templates: tuple[str, ...], rng: np.random.Generator, fonts: list[str]
    ) -> list[Sample]:
        """Drawings of several things that share a keyword, captioned with it, and the rendered keyword."""
        written = len(keyword.split()) <= 2 and renderable(keyword)
        samples = []
        for _ in range(GROUP - written):
            name = _pick(names, rng)
            picture = self._plain(self.drawings.of(name, 1, rng)[0], name, rng)
            caption = _pick(templates, rng).format(keyword)
            samples.append(
                Sample(picture, caption, (name, keyword), compound_parts(keyword) + compound_parts(name), "")
            )
        return [*samples, self._written(keyword, rng, fonts)] if written else samples

    def _plain(self, index: int, name: str, rng: np.random.Generator) -> Image.Image:
        return pictures.draw_drawing(self.drawings.picture(index), rng, self.drawings.side, _mirrored(name))

    def _drawing(self, index: int, name: str, rng: np.random.Generator, fonts: list[str], written: bool) -> Sample:
        stored, side, kind = self.drawings.picture(index), self.drawings.side, rng.random()
        if kind < 0.04:
            count = int(rng.integers(len(NUMBERS)))
            several = f"{NUMBERS[count]} {name}"
            picture = pictures.draw_several(stored, count + 2, rng, side)
            return Sample(picture, several, (several, ""), compound_parts(several), "")
        if kind < 0.1 and written and len(name) <= 12:
            picture = pictures.draw_sign(stored, _cased(name, rng), _pick(fonts, rng), rng, side)
        else:
            picture = self._plain(index, name, rng)
        caption = self._named(index, name, rng)
        return Sample(picture, caption, (name, ""), compound_parts(caption), "")

    def _named(self, index: int, name: str, rng: np.random.Generator) -> str:
        """A caption with the name of a drawing, and now and then a keyword."""
        templates, said = FLAG_TEMPLATES if name in corpus.flags() else EMOJI_TEMPLATES, name
        if self.drawings.styles[index] == corpus.OUTLINE:
            templates = OUTLINE_TEMPLATES
        if self.drawings.styles[index] in (corpus.OWN, corpus.STAMPS):
            templates = IMAGE_TEMPLATES
        keywords = self.drawings.keywords_of[index]
        if keywords and rng.random() < 0.2:
            said = f"{name}, {_pick(keywords, rng)}"
        return _pick(templates, rng).format(said)

    def _scene(self, rng: np.random.Generator, fonts: list[str]) -> Sample:
        """A drawing with a word that names no thing, captioned by the picture, by the text, or by both."""
        name = self.drawings.names[np.searchsorted(self.drawings.cumulative, rng.random())]
        index, kind = self.drawings.of(name, 1, rng)[0], rng.random()
        label = _pick(self.words.labels, rng) if rng.random() < 0.6 else pseudo_word(rng)
        stored, family = self.drawings.picture(index), _pick(fonts, rng)
        picture = pictures.draw_sign(stored, _cased(label, rng), family, rng, self.drawings.side)
        if kind < 0.3:
            return Sample(picture, self._named(index, name, rng), (name, ""), compound_parts(name), "")
        if kind < 0.7:
            return Sample(picture, _text_caption(label, rng), (label, ""), [], label)
        both = _pick(BOTH_TEMPLATES, rng).format(label, name)
        return Sample(picture, both, (f"{name} / {label}", ""), compound_parts(name), label)

    def _colour(self, rng: np.random.Generator, fonts: list[str]) -> Sample:
        """A word in an ink, a colour's name in its own ink, a coloured drawing, or a patch of colour."""
        kind, side = rng.random(), self.drawings.side
        colour = _pick(tuple(INKS), rng)
        ink = INKS[colour]
        if kind < 0.6:
            return self._inked(self._rendered(rng), colour, rng, fonts)
        if kind < 0.72:
            picture = pictures.draw_text(_cased(colour, rng), _pick(fonts, rng), rng, side, 0.0, ink)
            caption = _pick((*COLOUR_TEMPLATES, *INK_TEMPLATES, "the word {}"), rng).format(colour)
            return Sample(picture, caption, (colour, f"{colour} ink"), [colour], colour, True, colour)
        if kind < 0.9 and self.drawings.monochrome:
            index = _pick(self.drawings.monochrome, rng)
            name = self.drawings.name_of[index]
            picture = pictures.draw_tinted(self.drawings.picture(index), ink, rng, side, _mirrored(name))
            said = f"{colour} {name}"
            return Sample(
                picture,
                _pick(EMOJI_TEMPLATES, rng).format(said),
                (said, colour),
                [colour, *compound_parts(name)],
                "",
                False,
                colour,
            )
        caption = _pick(COLOUR_TEMPLATES, rng).format(colour)
        return Sample(pictures.draw_patch(ink, rng, side), caption, (colour, ""), [colour], "", False, colour)

    def _inked(self, text: str, colour: str, rng: np.random.Generator, fonts: list[str]) -> Sample:
        """A word that is no colour's name in an ink, captioned by both, by the ink, or by the word."""
        if text in INKS:
            text = pseudo_word(rng)
        family, kind = _pick(fonts, rng), rng.random()
        picture = pictures.draw_text(_cased(text, rng), family, rng, self.drawings.side, 0.0, INKS[colour])
        if kind < 0.4:
            caption, keys = _pick(WORD_IN_INK_TEMPLATES, rng).format(text, colour), (f"{text} in {colour}", "")
        elif kind < 0.85:
            caption, keys = _pick(INK_TEMPLATES, rng).format(colour), (f"{colour} ink", "")
        else:
            caption, keys = _text_caption(text, rng), (text, "")
        return Sample(picture, caption, keys, compound_parts(text), text, True, colour)

    def _rendered(self, rng: np.random.Generator) -> str:
        """A word of the reading list, another common word or a city, or a pseudo-word."""
        kind = rng.random()
        if kind < 0.3:
            return _pick(self.words.read, rng)
        return _pick(self.words.more, rng) if kind < 0.75 else pseudo_word(rng)

    def _single(self, rng: np.random.Generator, fonts: list[str]) -> Sample:
        return self._written(self._rendered(rng), rng, fonts)

    def _written(self, text: str, rng: np.random.Generator, fonts: list[str]) -> Sample:
        picture = pictures.draw_text(_cased(text, rng), _pick(fonts, rng), rng, self.drawings.side, self.easy)
        letters = text if " " not in text else ""
        return Sample(picture, _text_caption(text, rng), (text, ""), compound_parts(text), letters, True)


def _text_caption(text: str, rng: np.random.Generator) -> str:
    """A caption of a text: in a sentence, or a single word spelt out."""
    if " " not in text and len(text) <= 14 and rng.random() < 0.25:
        return spelt(text)
    return _pick(WORD_TEMPLATES, rng).format(text)


def _cased(text: str, rng: np.random.Generator) -> str:
    return (text, text, text.title(), text.upper())[rng.integers(4)]


def _mirrored(name: str) -> bool:
    """Whether a mirrored drawing still shows the same thing."""
    return name not in corpus.flags() and "left" not in name and "right" not in name


def _pick(of: Sequence[Picked], rng: np.random.Generator) -> Picked:
    """One of a sequence at random."""
    return of[int(rng.integers(len(of)))]


class Drawings:
    """The training drawings, by name, keyword and feeling."""

    def __init__(self, drawings: list[corpus.Drawing], side: int):
        self.side, self.feelings, self.felt = side, dict[str, list[str]](), list[str]()
        self.name_of = [d.name for d in drawings]
        self.styles = [d.style for d in drawings]
        self.keywords_of = [d.keywords for d in drawings]
        self.stored = [d.png for d in drawings]
        self.by_name: dict[str, list[int]] = defaultdict(list)
        for i, drawing in enumerate(drawings):
            self.by_name[drawing.name].append(i)
        self.names = sorted(self.by_name)
        weight = np.array([1.0 if name in corpus.unicode_names() else 0.04 for name in self.names])
        own = np.array([self.styles[self.by_name[name][0]] == corpus.OWN for name in self.names])
        weight[own] = max(0.04, min(1.0, weight[~own].sum() / max(1, own.sum())))  # at most half of all concepts
        self.cumulative = np.cumsum(weight / weight.sum())[:-1]
        self.monochrome = [
            i for i, d in enumerate(drawings) if d.style in packages.MONOCHROME and d.name in corpus.unicode_names()
        ]
        self.named: dict[str, list[str]] = defaultdict(list)
        for name in self.names:
            for keyword in self.keywords_of[self.by_name[name][0]] if name in corpus.unicode_names() else ():
                self.named[keyword].append(name)
        self.keywords = sorted(k for k, names in self.named.items() if len(names) <= 12 and compound_parts(k))

    def picture(self, index: int) -> Image.Image:
        """The drawing as RGBA, decoded anew: the decoded drawings would take 1.5 GB."""
        return Image.open(BytesIO(self.stored[index])).convert("RGBA")

    def feel(self, feelings: dict[str, list[str]]) -> None:
        """Take up which names show which feeling."""
        self.feelings, self.felt = feelings, sorted(feelings)

    def of(self, name: str, count: int, rng: np.random.Generator) -> list[int]:
        """`count` drawings of a name, of different styles as long as there are any."""
        shuffled = rng.permutation(self.by_name[name])
        first: dict[str, int] = {}
        for i in shuffled:
            first.setdefault(self.styles[i], int(i))
        picked = list(first.values())[:count]
        return picked + [int(shuffled[0])] * (count - len(picked))


def unseen_drawings(count: int, side: int) -> tuple[Tensor, list[str]]:
    """A seeded sample of the held-out styles on white, as uint8 (count, side, side, 3), with their names."""
    files = [each for vendor in packages.HELD_OUT_VENDORS for each in corpus.vendor_pictures(vendor)]
    pixels, names = [], []
    for i in np.random.default_rng(1).permutation(len(files)):
        name, file = files[i]
        if name in corpus.unicode_names() and len(names) < count:
            with Image.open(file.open("rb")) as stored:
                picture = stored.convert("RGBA").resize((side, side), Image.Resampling.BICUBIC)
            page = Image.new("RGB", (side, side), "white")
            page.paste(picture, (0, 0), picture)
            pixels.append(np.asarray(page))
            names.append(name)
    return torch.from_numpy(np.stack(pixels)), names


def unseen_words(words: list[str], count: int, side: int) -> tuple[Tensor, list[str]]:
    """A seeded sample of the words, large and level, in the held-out fonts that are meant for reading."""
    rng = np.random.default_rng(0)
    picked = [words[i] for i in rng.integers(len(words), size=count)]
    fonts = rng.choice([f for f in packages.HELD_OUT_FONTS if f != "caveat"], count)
    pages = [pictures.draw_text(w, str(f), rng, side, 1.0) for w, f in zip(picked, fonts, strict=True)]
    return torch.from_numpy(np.stack([np.asarray(page) for page in pages])), picked
