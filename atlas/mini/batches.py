"""Batches to train the embedded CLIP on: concepts as drawings and as letters, single words, and their captions."""

from collections import defaultdict
from collections.abc import Iterator
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from atlas.mini import corpus, packages, pictures
from atlas.mini.words import SPELLING, Words, parts, renderable, spelling

EMOJI_TEMPLATES = ("an emoji of {}", "an emoji of {}", "a drawing of {}", "{}", "{}", "a picture of {}")
WORD_TEMPLATES = ("the word {}", "the word {}", "{}", "the text {}", "a sign that says {}")
FLAG_TEMPLATES = ("an emoji of {}", "the flag of {}", "{}", "{}", "a drawing of {}")
OUTLINE_TEMPLATES = ("a map of {}", "the outline of {}", "{}", "the shape of {}", "a map of {}")
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine")
INKS = {
    "red": (215, 30, 35), "blue": (30, 70, 210), "green": (20, 140, 50), "orange": (235, 120, 10),
    "purple": (120, 40, 160), "brown": (120, 70, 30), "black": (10, 10, 10), "pink": (235, 90, 160),
}  # fmt: skip
SPOKEN = 6  # words of a name that are scored, at most
KEYWORD = 3  # pictures of what a keyword stands for


class Sample(NamedTuple):
    """A picture, what is said of it, the one or two concepts it carries, its words, and its letters (or "")."""

    picture: Image.Image
    caption: str
    keys: tuple[str, str]
    spoken: list[str]
    letters: str


class Batch(NamedTuple):
    """pixels uint8 (n, h, w, 3); captions and keys n; words int64 (n, 6), -1 for none; letters float32 (n, 390)."""

    pixels: Tensor
    captions: list[str]
    keys: np.ndarray
    words: Tensor
    letters: Tensor
    written: Tensor


class Batches(torch.utils.data.IterableDataset[Batch]):
    """Endless batches of `size`: `share` of them concepts (`drawn` drawings, one rendering), the rest single words.

    A concept comes in a group so that drawings of different styles and the rendered name stand in one batch, as
    positives of one another.
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
                samples += self._keyword(rng, fonts) if rng.random() < 0.15 else self._concept(rng, fonts)
            while len(samples) < self.size:
                samples.append(self._single(rng, fonts))
            yield self._batch(samples[: self.size])

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
        )

    def _concept(self, rng: np.random.Generator, fonts: list[str]) -> list[Sample]:
        name = self.drawings.names[rng.choice(len(self.drawings.names), p=self.drawings.weight)]
        written = len(name.split()) <= 3 and len(name) <= 24 and bool(parts(name)) and renderable(name)
        picked = self.drawings.of(name, self.drawn + 1 - written, rng)
        samples = [self._drawing(i, name, rng, fonts, written) for i in picked]
        return [*samples, self._written(name, rng, fonts)] if written else samples

    def _keyword(self, rng: np.random.Generator, fonts: list[str]) -> list[Sample]:
        keyword = self.drawings.keywords[rng.integers(len(self.drawings.keywords))]
        names = self.drawings.named[keyword]
        written = len(keyword.split()) <= 2 and renderable(keyword)
        samples = []
        for _ in range(KEYWORD - written):
            name = names[rng.integers(len(names))]
            picture = self._plain(self.drawings.of(name, 1, rng)[0], name, rng)
            caption = EMOJI_TEMPLATES[rng.integers(len(EMOJI_TEMPLATES))].format(keyword)
            samples.append(Sample(picture, caption, (name, keyword), parts(keyword) + parts(name), ""))
        return [*samples, self._written(keyword, rng, fonts)] if written else samples

    def _plain(self, index: int, name: str, rng: np.random.Generator) -> Image.Image:
        mirror = name not in corpus.flags() and "left" not in name and "right" not in name
        return pictures.draw_drawing(self.drawings.pictures[index], rng, self.drawings.side, mirror)

    def _drawing(self, index: int, name: str, rng: np.random.Generator, fonts: list[str], written: bool) -> Sample:
        stored, side, kind = self.drawings.pictures[index], self.drawings.side, rng.random()
        if kind < 0.04:
            count = int(rng.integers(len(NUMBERS)))
            several = f"{NUMBERS[count]} {name}"
            picture = pictures.draw_several(stored, count + 2, rng, side)
            return Sample(picture, several, (several, ""), parts(several), "")
        if kind < 0.08 and written and len(name) <= 12:
            family = fonts[rng.integers(len(fonts))]
            picture = pictures.draw_sign(stored, self._cased(name, rng), family, rng, side)
        else:
            picture = self._plain(index, name, rng)
        templates, said = FLAG_TEMPLATES if name in corpus.flags() else EMOJI_TEMPLATES, name
        if self.drawings.styles[index] == corpus.OUTLINE:
            templates = OUTLINE_TEMPLATES
        keywords = self.drawings.keywords_of[index]
        if keywords and rng.random() < 0.2:
            said = f"{name}, {keywords[rng.integers(len(keywords))]}"
        return Sample(picture, templates[rng.integers(len(templates))].format(said), (name, ""), parts(said), "")

    def _single(self, rng: np.random.Generator, fonts: list[str]) -> Sample:
        often = rng.random() < 0.6
        words = self.words.read if often else self.words.rare
        return self._written(words[rng.integers(len(words))], rng, fonts)

    def _written(self, text: str, rng: np.random.Generator, fonts: list[str]) -> Sample:
        template, ink = WORD_TEMPLATES[rng.integers(len(WORD_TEMPLATES))], None
        caption = template.format(text)
        if rng.random() < 0.08 * (1 - self.easy):
            colour = list(INKS)[rng.integers(len(INKS))]
            ink = INKS[colour]
            caption = f"the word {text} in {colour}" if rng.random() < 0.5 else caption
        family = fonts[rng.integers(len(fonts))]
        cased = self._cased(text, rng)
        picture = pictures.draw_text(cased, family, rng, self.drawings.side, self.easy, ink)
        return Sample(picture, caption, (text, ""), parts(text), text if " " not in text else "")

    @staticmethod
    def _cased(text: str, rng: np.random.Generator) -> str:
        return (text, text, text.title(), text.upper())[rng.integers(4)]


class Drawings:
    """The training drawings, decoded once, by name and by keyword; `weight` is how often a name is drawn."""

    def __init__(self, drawings: list[corpus.Drawing], side: int):
        self.side = side
        self.styles = [d.style for d in drawings]
        self.keywords_of = [d.keywords for d in drawings]
        self.pictures = [Image.open(BytesIO(d.png)).convert("RGBA") for d in drawings]
        self.by_name: dict[str, list[int]] = defaultdict(list)
        for i, drawing in enumerate(drawings):
            self.by_name[drawing.name].append(i)
        self.names = sorted(self.by_name)
        weight = np.array([1.0 if name in corpus.unicode_names() else 0.08 for name in self.names])
        self.weight = weight / weight.sum()
        self.named: dict[str, list[str]] = defaultdict(list)
        for name in self.names:
            for keyword in self.keywords_of[self.by_name[name][0]] if name in corpus.unicode_names() else ():
                self.named[keyword].append(name)
        self.keywords = sorted(k for k, names in self.named.items() if len(names) <= 12 and parts(k))

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


def unseen_words(words: list[str], count: int, side: int) -> tuple[Tensor, list[Any]]:
    """A seeded sample of the words, large and level, in the held-out fonts that are meant for reading."""
    rng = np.random.default_rng(0)
    picked = [words[i] for i in rng.integers(len(words), size=count)]
    fonts = rng.choice([f for f in packages.HELD_OUT_FONTS if f != "caveat"], count)
    pages = [pictures.draw_text(w, str(f), rng, side, 1.0) for w, f in zip(picked, fonts, strict=True)]
    return torch.from_numpy(np.stack([np.asarray(page) for page in pages])), picked
