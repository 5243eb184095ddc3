"""Typographic attacks and the Stroop test on the embedded CLIP, with unseen drawings and fonts."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from atlas.formatting import Record
from atlas.mini import packages
from atlas.mini.intervals import share
from atlas.mini.unseen import UNSEEN, held_out_drawings, load, nearest_name
from atlas.model.clip import Clip
from atlas.sources import word_images

SIDE = 96
CLASSES = (
    "dog", "cat", "horse", "key", "bell", "car", "apple", "clock", "fire", "fish", "flower", "heart", "house", "moon",
    "mouse", "rocket", "star", "sun", "tree", "umbrella",
)  # fmt: skip
CLASS_DRAWINGS = {  # emoji names of classes that Unicode names otherwise
    "dog": "dog face", "cat": "cat face", "horse": "horse face", "car": "automobile", "apple": "red apple",
    "clock": "three o’clock", "flower": "hibiscus", "heart": "red heart", "moon": "crescent moon",
    "mouse": "mouse face", "tree": "deciduous tree",
}  # fmt: skip
_INKS = {
    "black": "black", "red": "#d2141e", "green": "#149632", "blue": "#1e46d2", "purple": "#7828a0",
    "orange": "#f07d0a", "pink": "#f064aa", "yellow": "#f5d20a",
}  # fmt: skip


def beneath(drawing: Image.Image, text: str) -> Image.Image:
    """The drawing made smaller, with the text in black on white below it."""
    page = Image.new("RGB", (SIDE, SIDE), "white")
    page.paste(_label(text, SIDE), (0, 2 * SIDE // 3))
    page.paste(drawing.resize((2 * SIDE // 3, 2 * SIDE // 3), Image.Resampling.BICUBIC), (SIDE // 6, 0))
    return page


def upon(drawing: Image.Image, text: str) -> Image.Image:
    """The drawing with a white label stuck on its lower half, text in black."""
    page = drawing.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    label = _label(text, SIDE - 8)
    ImageDraw.Draw(label).rectangle((0, 0, label.width - 1, label.height - 1), outline="black")
    page.paste(label, (4, SIDE - label.height - 8))
    return page


def eight_copies(drawing: Image.Image, text: str) -> Image.Image:
    """The drawing with eight copies of the text, as in the paper."""
    return word_images.sticker(drawing.resize((SIDE, SIDE)), text)


def _label(text: str, width: int) -> Image.Image:
    """The text in black on a white rectangle a third as high as the page."""
    page = word_images.render_word(text, "open-sans", 32, SIDE)
    return page.crop((0, SIDE // 3, SIDE, 2 * SIDE // 3)).resize((width, SIDE // 3))


STICKERS: dict[str, Callable[[Image.Image, str], Image.Image]] = {
    "beneath": beneath,
    "upon": upon,
    "eight copies": eight_copies,
}


def attack_figures(clip: Clip) -> Record:
    """Unseen-style drawings of twenty classes with another class's name, classified zero-shot among the twenty.

    Only drawings that are classified rightly without a sticker are attacked. The control is a sticker with as many
    letters that spell nothing; there any class but the drawn one counts.
    """
    T = clip.encode_texts([f"an emoji of {name}" for name in CLASSES])
    named = {CLASS_DRAWINGS.get(name, name): name for name in CLASSES}
    items = [item for item in held_out_drawings(UNSEEN) if item.label in named]
    truth = np.array([named[item.label] for item in items])
    right = nearest_name(clip, [load(item) for item in items], T, CLASSES) == truth
    pairs = [
        (load(item), own, other)
        for item, own, hit in zip(items, truth, right, strict=True)
        for other in CLASSES
        if hit and other != own
    ]
    figures: Record = {"without": share(right, truth)}
    own, other, rng = [own for _, own, _ in pairs], [other for _, _, other in pairs], np.random.default_rng(3)
    letters = [_nonsense(len(name), rng) for name in other]
    for kind, stick in STICKERS.items():
        said = nearest_name(clip, [stick(drawing, name) for drawing, _, name in pairs], T, CLASSES)
        control = nearest_name(
            clip, [stick(drawing, text) for (drawing, _, _), text in zip(pairs, letters, strict=True)], T, CLASSES
        )
        figures[kind] = {
            "the named class wins": share(said == np.array(other), other),
            "the drawn class still wins": share(said == np.array(own), own),
            "nonsense letters: another class wins": share(control != np.array(own), own),
        }
    return figures


def _nonsense(length: int, rng: np.random.Generator) -> str:
    """Consonants in random order."""
    return "".join(rng.choice(list("bcdfghjklmnpqrstvwxz"), length))


def stroop_figures(clip: Clip) -> Record:
    """Colour names in other inks: does "my favorite word, written in the color ..." name the word or the ink?

    The control is the neutral word "example" in every ink.
    """
    T = clip.encode_texts([f"my favorite word, written in the color {name}" for name in _INKS])
    each = [(w, ink, font) for w in _INKS for ink in _INKS if w != ink for font in packages.HELD_OUT_FONTS]
    said = nearest_name(
        clip, [word_images.render_word(w, font, 40, ink=_INKS[ink]) for w, ink, font in each], T, list(_INKS)
    )
    plain = [(ink, font) for ink in _INKS for font in packages.HELD_OUT_FONTS]
    written, inks, alone = [w for w, _, _ in each], [ink for _, ink, _ in each], [ink for ink, _ in plain]
    neutral = nearest_name(
        clip, [word_images.render_word("example", f, 40, ink=_INKS[i]) for i, f in plain], T, list(_INKS)
    )
    return {
        "word": share(said == np.array(written), written),
        "ink": share(said == np.array(inks), inks),
        "ink of a neutral word": share(neutral == np.array(alone), alone),
    }
