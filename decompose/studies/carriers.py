"""The neurons that carry a wrong answer: chosen by what they add to it, tested by ablation beside matched neurons.

before, after (n, u) mean activations without and with the text    W (u, e) basis    K (c, e) class weights
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8

from atlas.analysis.significance import p_values
from atlas.console import track
from atlas.errors import Refused
from atlas.model.clip import Clip
from atlas.model.directions import Directions
from atlas.model.layers import layer_replaced
from decompose.attribution import hooked_layer
from decompose.receipts import EDITS_A_PASS, match_controls
from decompose.studies.classifiers import LinearClassifier


@dataclass(frozen=True)
class Carriers:
    """Neurons, and how many answers are right when they are ablated, beside sets of matched neurons."""

    neurons: tuple[int, ...]
    contributions: tuple[float, ...]  # to the wrong answer's margin, mean over the images they were chosen on
    clean: float  # share right without the text
    attacked: float  # share right with the text
    ablated: float  # share right with the text and the neurons ablated
    matched: tuple[float, ...]  # the same for each set of matched neurons
    clean_ablated: float  # share right without the text, with the neurons ablated
    p: float  # rank of `ablated` among the matched sets
    wrong: float  # share of answers that are the wrong one, with the text
    wrong_ablated: float  # the same with the neurons ablated
    wrong_matched: tuple[float, ...]  # the same for each set of matched neurons
    p_wrong: float  # rank of `wrong_ablated` among the matched sets, where a smaller share ranks higher
    chosen_on: int  # wrong answers that the neurons were chosen on
    images: int  # other ones, on which all shares were measured; of attacks, pairs of an image and a text

    @property
    def regained(self) -> float | None:
        """The share of the lost answers that comes back; None if none was lost."""
        lost = self.clean - self.attacked
        return (self.ablated - self.attacked) / lost if lost > 0 else None


def flip_contributions(
    before: Float[np.ndarray, "n u"],
    after: Float[np.ndarray, "n u"],
    W: Float[np.ndarray, "u e"],
    classifier: LinearClassifier,
    wrong: Int[np.ndarray, " n"],
    right: Int[np.ndarray, " n"],
) -> Float[np.ndarray, "n u"]:
    """What each neuron's change adds to the margin of the wrong class over the right one, by the bilinear form."""
    K = classifier.weights
    return (after - before) * ((K[wrong] - K[right]) @ W.T)


def find_carriers(
    clip: Clip,
    clean: UInt8[np.ndarray, "n s s 3"],
    attacked: UInt8[np.ndarray, "n s s 3"],
    before: Float[np.ndarray, "n u"],
    after: Float[np.ndarray, "n u"],
    classifier: LinearClassifier,
    wrong: Int[np.ndarray, " n"],
    right: Int[np.ndarray, " n"],
    held: Bool[np.ndarray, " n"],
    k: int = 10,
    sets: int = 39,
    seed: int = 0,
) -> Carriers | None:
    """The k neurons that add most to the wrong answers, and their ablation, measured on the images `held`.

    `wrong`: the answer that is given with the text, or that the text names; where it equals `right` the image was not
    flipped, and nothing is chosen by it.
    Neurons are chosen on the flipped images outside `held`. p is never below 1 / (sets + 1). None if no image outside
    `held` was flipped, so that there is nothing to choose by.
    """
    flipped = ~held & (wrong != right)
    if not flipped.any() or not held.any():
        return None
    W = clip.basis()
    some = flip_contributions(before[flipped], after[flipped], W, classifier, wrong[flipped], right[flipped]).mean(0)
    top = np.argsort(-some, kind="stable")[:k]
    groups = [top, *matched_sets(W, after, top, sets, seed)]
    masks = np.ones((1 + len(groups), clip.neurons), bool)
    for row, group in zip(masks[1:], groups, strict=True):
        row[group] = False
    said = classifier.choose_classes(ablated_embeddings(clip, attacked[held], masks))
    shares = (said == right[held, None]).mean(0)
    lost = ((said == wrong[held, None]) & (wrong != right)[held, None]).mean(0)
    alone = (classifier.choose_classes(ablated_embeddings(clip, clean[held], masks[:2])) == right[held, None]).mean(0)
    return Carriers(
        tuple(top.tolist()),
        tuple(some[top].tolist()),
        clean=float(alone[0]),
        attacked=float(shares[0]),
        ablated=float(shares[1]),
        matched=tuple(shares[2:].tolist()),
        clean_ablated=float(alone[1]),
        p=float(p_values(shares[1:2], shares[2:])[0]),
        wrong=float(lost[0]),
        wrong_ablated=float(lost[1]),
        wrong_matched=tuple(lost[2:].tolist()),
        p_wrong=float(p_values(-lost[1:2], -lost[2:])[0]),
        chosen_on=int(flipped.sum()),
        images=int(held.sum()),
    )


def matched_sets(
    W: Float[np.ndarray, "u e"],
    A: Float[np.ndarray, "n u"],
    neurons: Int[np.ndarray, " k"],
    sets: int,
    seed: int = 0,
) -> list[Int[np.ndarray, " k"]]:
    """Sets as large as the neurons, of others with basis rows about as long that vary about as much over A.

    No neuron is twice in a set. Raises Refused if the layer has too few neurons.
    """
    near = match_controls(W, A, Directions.neurons(neurons, len(W)), 2 * sets + len(neurons))
    rng, found = np.random.default_rng(seed), []
    for _ in range(sets):
        taken: list[int] = []
        for i in range(len(neurons)):
            free = near[i][~np.isin(near[i], taken)]
            if not len(free):
                raise Refused(f"{len(W)} neurons are too few to match {len(neurons)} of them; ask for fewer")
            taken.append(int(rng.choice(free)))
        found.append(np.array(taken))
    return found


def ablated_embeddings(
    clip: Clip, pixels: UInt8[np.ndarray, "n s s 3"], masks: Bool[np.ndarray, "v u"]
) -> Float[np.ndarray, "n v e"]:
    """Embeddings of each image with the layer's neurons multiplied by each mask: false sets a neuron to 0."""
    layer, token = hooked_layer(clip)
    found = np.zeros((len(pixels), len(masks), clip.dim), np.float32)
    for i in track(range(len(pixels)), len(pixels), "ablation", "images"):
        for start in range(0, len(masks), EDITS_A_PASS):
            some = torch.from_numpy(masks[start : start + EDITS_A_PASS]).to(clip.device)[:, :, None, None]
            with layer_replaced(clip.model, layer, lambda x, some=some: x * some.to(x.dtype), token):
                found[i, start : start + EDITS_A_PASS] = clip.encode_images(pixels[i : i + 1])
    return found
