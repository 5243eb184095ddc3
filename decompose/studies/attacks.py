"""Typographic attacks (Goh et al. 2021, section "Typographic attacks"): text on an image that changes its class.

Success is counted as the paper counts it: the attack's class becomes the top class of an image of another class, and
was not the top class before. The control is a text of the same length in random consonants.

    n images    c classes    E (n, e) embeddings    A (n, u) mean activations
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from atlas.console import Progress
from atlas.errors import Refused
from atlas.formatting import Record
from atlas.model.clip import Clip
from atlas.sources.word_images import render_word, sticker
from decompose.studies.classifiers import LinearClassifier, read_pixels
from decompose.studies.rates import Rate

CONSONANTS = "bcdfghjklmnpqrstvwxz"
LABEL_WIDTH, LABEL_SIZE = 0.5, 0.16  # of a single sticker: its widest part, and its letters, over the image's side
_LABEL_MARGIN = 2  # pixels of paper around the letters of a single sticker


def overlay(image: Image.Image, text: str, single: bool = False, font: str = "open-sans") -> Image.Image:
    """A copy of an image with a text on it.

    Eight copies at the published coordinates of an image of 288 pixels, scaled to this one. `single`: one sticker of
    black letters on white paper in the middle instead. Raises `Refused` for an unknown font, and `Unreadable` if the
    font lacks a letter.
    """
    if not single:
        return sticker(image, text, font)
    picture = image.convert("RGB")
    side = min(picture.size)
    paper = render_word(text, font, max(1, round(LABEL_SIZE * side)), max(1, round(LABEL_WIDTH * side)))
    dark = np.asarray(paper.convert("L")) < 255
    rows, columns = np.flatnonzero(dark.any(1)), np.flatnonzero(dark.any(0))
    box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    margin = (-_LABEL_MARGIN, -_LABEL_MARGIN, _LABEL_MARGIN, _LABEL_MARGIN)
    left, top, right, bottom = (int(edge + more) for edge, more in zip(box, margin, strict=True))
    label = Image.new("RGB", (right - left, bottom - top), "white")
    label.paste(paper, (-left, -top))
    picture.paste(label, ((picture.width - label.width) // 2, (picture.height - label.height) // 2))
    return picture


def overlaid(pixels: UInt8[np.ndarray, "n s s 3"], text: str, single: bool = False) -> UInt8[np.ndarray, "n s s 3"]:
    """Prepared images with a text on each."""
    return np.stack([np.asarray(overlay(Image.fromarray(image), text, single)) for image in pixels])


def nonsense_text(like: str, rng: np.random.Generator) -> str:
    """A text of random consonants with the length and the spaces of another."""
    letters = rng.choice(list(CONSONANTS), len(like))
    return "".join(" " if old.isspace() else new for old, new in zip(like, letters, strict=True))


def pixel_cover(before: UInt8[np.ndarray, "n s s 3"], after: UInt8[np.ndarray, "n s s 3"]) -> float:
    """The mean share of pixels that differ."""
    return float((before != after).any(-1).mean())


def success_rate(
    before: Int[np.ndarray, " n"], after: Int[np.ndarray, " n"], label: Int[np.ndarray, " n"], target: int
) -> Rate:
    """The share of images whose top class is `target` after the attack, of those of another class by label and top."""
    open_ = (before != target) & (label != target)
    return Rate.counted(after[open_] == target)


@dataclass(frozen=True)
class Target:
    """A class that an attack aims at, and the text that is drawn."""

    number: int
    text: str


@dataclass(frozen=True)
class Attack:
    """One text on all images: what came out of the model."""

    target: Target
    cover: float
    E: Float[np.ndarray, "n e"]
    A: Float[np.ndarray, "n u"]
    nonsense: tuple[tuple[str, Float[np.ndarray, "n e"]], ...]  # texts of the control, and the embeddings with each


@dataclass(frozen=True)
class AttackStudy:
    """Clean images, and the attacks on them."""

    labels: Int[np.ndarray, " n"]
    E: Float[np.ndarray, "n e"]  # of the clean images
    A: Float[np.ndarray, "n u"]
    attacks: tuple[Attack, ...]

    def accuracy(self, classifier: LinearClassifier) -> Rate:
        """Top-1 accuracy on the clean images."""
        return Rate.counted(classifier.choose_classes(self.E) == self.labels)

    def rows(self, classifier: LinearClassifier) -> list[Record]:
        """One row a target: success and the control's success with intervals, accuracy under both, pixel cover."""
        before, rows = classifier.choose_classes(self.E), []
        for attack in self.attacks:
            target = attack.target.number
            after = classifier.choose_classes(attack.E)
            controls = [classifier.choose_classes(E) for _, E in attack.nonsense]
            each = [success_rate(before, chosen, self.labels, target) for chosen in controls]
            control = Rate(sum(rate.hits for rate in each), sum(rate.of for rate in each))
            rows.append(
                {"classifier": classifier.name, "target": classifier.classes[target], "text": attack.target.text}
                | success_rate(before, after, self.labels, target).columns("success")
                | control.columns("nonsense")
                | {
                    "accuracy": Rate.counted(after == self.labels).share,
                    "accuracy_nonsense": float(np.mean([(chosen == self.labels).mean() for chosen in controls])),
                    "cover": attack.cover,
                }
            )
        return rows


def study_attacks(
    clip: Clip,
    pixels: UInt8[np.ndarray, "n s s 3"],
    labels: Int[np.ndarray, " n"],
    targets: Sequence[Target],
    single: bool = False,
    controls: int = 2,
    seed: int = 0,
) -> AttackStudy:
    """Read prepared images clean, with the text of each target, and with `controls` nonsense texts as long."""
    if not len(pixels) or not targets or controls < 1:
        raise Refused(f"{len(pixels)} images, {len(targets)} targets, {controls} controls: at least one of each")
    rng, attacks = np.random.default_rng(seed), []
    with Progress((1 + len(targets) * (1 + controls)) * len(pixels), "attack", "images") as progress:

        def read(some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            found = read_pixels(clip, some)
            progress.advance(len(some))
            return found

        E, A = read(pixels)
        for target in targets:
            attacked = overlaid(pixels, target.text, single)
            own_E, own_A = read(attacked)
            texts = [nonsense_text(target.text, rng) for _ in range(controls)]
            others = tuple((text, read(overlaid(pixels, text, single))[0]) for text in texts)
            attacks.append(Attack(target, pixel_cover(pixels, attacked), own_E, own_A, others))
    return AttackStudy(labels, E, A, tuple(attacks))


# -- texts that succeed ------------------------------------------------------------------------------------------------


def rank_texts(
    A: Float[np.ndarray, "n u"], texts: Sequence[str], W: Float[np.ndarray, "u e"], classifier: LinearClassifier
) -> Float[np.ndarray, "m c"]:
    """How much each of m different texts, rendered alone, adds to each class's logit above the mean class.

    A: mean activations of n renderings; `texts`: the text of each. The sum over neurons of activation x basis x class,
    averaged over the renderings of one text; rows are in the order in which texts first appear.
    """
    numbers: dict[str, int] = {}
    of = np.array([numbers.setdefault(text, len(numbers)) for text in texts], np.int64)
    scores = A @ (W @ (classifier.weights - classifier.weights.mean(0)).T)
    sums = np.zeros((len(numbers), scores.shape[1]))
    np.add.at(sums, of, scores)
    return sums / np.bincount(of)[:, None]


def try_texts(
    clip: Clip,
    pixels: UInt8[np.ndarray, "n s s 3"],
    labels: Int[np.ndarray, " n"],
    classifier: LinearClassifier,
    target: int,
    texts: Sequence[str],
    single: bool = False,
) -> list[Rate]:
    """The success rate of each text for one target, by drawing it on every image (brute force)."""
    before = classifier.choose_classes(read_pixels(clip, pixels)[0])
    after = (classifier.choose_classes(read_pixels(clip, overlaid(pixels, text, single))[0]) for text in texts)
    return [success_rate(before, chosen, labels, target) for chosen in after]
