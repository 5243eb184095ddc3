"""The Stroop test of Goh et al. 2021: the name of a colour, written in another colour.

The model is asked for the ink. Every word is written in every ink and several fonts: congruent (the word names the
ink), incongruent (it names another colour), neutral (it names none), and nonsense letters as long as each colour word.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from atlas.formatting import Record
from atlas.model.clip import Clip
from atlas.sources.word_images import render_word
from decompose.studies.attacks import nonsense_text
from decompose.studies.carriers import Carriers, find_carriers
from decompose.studies.classifiers import LinearClassifier, read_pixels, zero_shot
from decompose.studies.rates import Rate

STROOP_INKS = ("black", "red", "green", "blue", "purple", "orange", "pink", "yellow")
COLOUR_WORDS, NEUTRAL_WORD = STROOP_INKS[1:], "example"  # the paper wrote no "black"
STROOP_PROMPT = "my favorite word, written in the color {}"
STROOP_FONTS = ("open-sans", "pt-serif", "roboto-slab", "fira-code")
_SIZE = 1 / 3  # largest height of the letters, over the side of the image


@dataclass(frozen=True)
class StroopStudy:
    """Every image by its ink, what was written, and the ink that the model says."""

    inks: tuple[str, ...]
    prompt: str
    subset: tuple[str, ...]  # of each image: congruent, incongruent, neutral, nonsense
    ink: Int[np.ndarray, " n"]
    word: Int[np.ndarray, " n"]  # the ink that the word names; of nonsense, that of the word as long; -1 for neutral
    font: Int[np.ndarray, " n"]
    said: Int[np.ndarray, " n"]
    P: Float[np.ndarray, "n c"]
    carriers: Carriers | None  # neurons that carry the word where it is incongruent

    def counts(self) -> list[Record]:
        """One row a subset: the rates at which the model says the ink, and the word."""
        rows = []
        for name in dict.fromkeys(self.subset):
            here = np.array([each == name for each in self.subset])
            says_word = self.word[here] >= 0
            rows.append(
                {"subset": name, "ink": Rate.counted(self.said[here] == self.ink[here])}
                | {"word": Rate.counted((self.said[here] == self.word[here])[says_word])}
            )
        return rows

    def rows(self) -> list[Record]:
        """One row a subset: how often the model says the ink, and the word, and the mean probability of the ink."""
        found = []
        for name in dict.fromkeys(self.subset):
            here = np.array([each == name for each in self.subset])
            ink, word, said = self.ink[here], self.word[here], self.said[here]
            says_word = Rate.counted(said == word) if (word >= 0).all() else Rate(0, 0)
            found.append(
                {"subset": name, "images": int(here.sum())}
                | Rate.counted(said == ink).columns("says_ink")
                | says_word.columns("says_word")
                | {"p_of_ink": float(self.P[here, ink].mean())}
            )
        return [{name: value for name, value in row.items() if not name.endswith("_of")} for row in found]


def study_stroop(
    clip: Clip,
    prompt: str = STROOP_PROMPT,
    fonts: Sequence[str] = STROOP_FONTS,
    k: int = 10,
    seed: int = 0,
    carried: bool = True,
) -> StroopStudy:
    """Render all words in all inks and fonts, and ask the model for the ink.

    The neurons that carry the word are chosen on every second font, and ablated on the others. `carried`: whether to
    choose and ablate them at all.
    """
    asked, rng = zero_shot(clip, STROOP_INKS, prompt), np.random.default_rng(seed)
    written = [(word, STROOP_INKS.index(word), "") for word in COLOUR_WORDS] + [(NEUTRAL_WORD, -1, "neutral")]
    written += [(nonsense_text(word, rng), STROOP_INKS.index(word), "nonsense") for word in COLOUR_WORDS]
    pixels, facts = [], []
    for font, face in enumerate(fonts):
        for ink, colour in enumerate(STROOP_INKS):
            for text, word, kind in written:
                pixels.append(_drawn(clip, text, face, colour))
                facts.append((kind or ("congruent" if word == ink else "incongruent"), ink, word, font))
    images = np.stack(pixels)
    E, A = read_pixels(clip, images)
    subset, (ink, word, font) = tuple(fact[0] for fact in facts), np.array([fact[1:] for fact in facts]).T
    said, P = asked.choose_classes(E), asked.probabilities(E)
    given = clip, images, A, asked, subset, ink, word, font, k, seed
    carriers = _word_carriers(*given) if carried else None
    return StroopStudy(STROOP_INKS, prompt, subset, ink, word, font, said, P, carriers)


def _drawn(clip: Clip, text: str, font: str, ink: str) -> UInt8[np.ndarray, "s s 3"]:
    side = clip.image_size
    return np.asarray(render_word(text, font, round(_SIZE * side), side, ink=ink))


def _word_carriers(
    clip: Clip,
    images: UInt8[np.ndarray, "n s s 3"],
    A: Float[np.ndarray, "n u"],
    asked: LinearClassifier,
    subset: tuple[str, ...],
    ink: Int[np.ndarray, " n"],
    word: Int[np.ndarray, " n"],
    font: Int[np.ndarray, " n"],
    k: int,
    seed: int,
) -> Carriers | None:
    """The neurons that add most to the word's name over the ink's, against the neutral word in that ink and font."""
    here = np.flatnonzero([name == "incongruent" for name in subset])
    neutral = {(ink[i], font[i]): i for i, name in enumerate(subset) if name == "neutral"}
    plain = np.array([neutral[ink[i], font[i]] for i in here])
    held = font[here] % 2 == 1
    pair = images[plain], images[here], A[plain], A[here]
    return find_carriers(clip, *pair, asked, word[here], ink[here], held, k, seed=seed)
