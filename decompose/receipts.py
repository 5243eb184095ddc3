"""Causal receipts: what a concept's logit does when a direction is raised, or silenced, in a real forward pass.

Goh et al. 2021 ("Multimodal Neurons", section 8) raised the top neuron of each equation by hand and saw the logit
rise. Here every direction is tried on real images, beside neurons that are matched with it: those whose basis row is
about as long and that vary about as much over the images. What those do by chance is what the p-value counts.

    A (n, u) activations    W (u, e) basis    X (q, e) text embeddings    effects (n, k, q), n images, k directions
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from atlas.clip import Clip, Pictures
from atlas.errors import Refused
from atlas.layers import edited
from atlas.progress import track
from decompose.attribution import Templates, concept_embeddings, hooked
from decompose.directions import Directions

Act = Literal["raise", "ablate"]
IMAGES_A_BATCH = 64
VARIANTS = 128  # edited maps that go through the rest of the tower at once
FIRING = 8  # a direction is silenced on one image in eight: those on which it is most active
RESAMPLES, INTERVAL = 2000, (2.5, 97.5)


@dataclass(frozen=True)
class Receipt:
    """What one direction did to one text's logit (the cosine of image and text), beside its matched controls."""

    direction: str
    text: str
    act: Act
    effect: float  # change of the logit, mean over the images
    low: float  # 95 % bootstrap interval of the effect, over the images
    high: float
    p: float  # share of controls (itself counted) whose effect is as large in the expected direction
    expected: int  # 1: the logit should rise; -1: fall
    images: int  # that it was tried on
    balance: float  # median of the controls' push (basis norm x step) over the direction's own: 1 is even
    controls: tuple[int, ...] = field(repr=False)  # neurons
    control_effects: tuple[float, ...] = field(repr=False)

    @property
    def confirmed(self) -> bool:
        """p <= .05, and the whole interval on the expected side of 0."""
        return self.p <= 0.05 and min(self.low * self.expected, self.high * self.expected) > 0


def receipt(
    clip: Clip,
    images: Pictures,
    texts: str | Sequence[str],
    directions: Directions,
    templates: Templates = "neutral",
    signs: Sequence[int] | None = None,
    controls: int = 64,
    amount: float = 3.0,
    seed: int = 0,
) -> list[Receipt]:
    """Raise each direction, and ablate it where it fires; two receipts a direction, in this order.

    images      real ones, that the directions were not chosen by; two at least, some 64 for narrow intervals
    texts       the concept, or one for each direction
    templates   prompts that the directions were not chosen by
    signs       1 or -1 for each direction: should raising it raise or lower the logit? 1 by default
    controls    neurons matched with each direction; p is never below 1 / (controls + 1)
    amount      how far to raise, at every position, in standard deviations of its activation over the images; one
                that varies less than the median of the layer's live neurons is raised by that

    Silenced means taken to 0 at every position, on the eighth of the images on which a direction is most active.
    """
    texts = [texts] if isinstance(texts, str) else list(texts)
    expected = np.ones(len(directions), int) if signs is None else np.sign(np.asarray(signs, int))
    _check(clip, directions, texts, expected, controls)
    X, W, A = concept_embeddings(clip, texts, templates), clip.basis(), mean_activations(clip, images)
    if len(A) < 2:
        raise Refused(f"{len(A)} image given; a receipt needs two at least, and some 64 for a narrow interval")
    matched = match_controls(W, A, directions, controls)
    others, place = np.unique(matched, return_inverse=True)
    tried = directions + replace(Directions.neurons(others, clip.neurons), rectified=directions.rectified)
    steps, firing = _steps(A, tried, amount), _firing(tried.activations(A))
    raised, ablated = _effects(clip, images, X, tried, steps, firing)
    push = np.linalg.norm(tried.basis(W), axis=1) * steps
    rng = np.random.default_rng(seed)
    receipts = []
    for i, own in enumerate(len(directions) + place.reshape(matched.shape)):
        q, sign = i if len(texts) > 1 else 0, int(expected[i])
        of = directions.names[i], texts[q]
        fair = float(np.median(push[own]) / max(push[i], 1e-12))
        neurons = tuple(matched[i].tolist())
        theirs = raised[:, own, q].mean(0)
        receipts.append(_receipt(*of, "raise", raised[:, i, q], theirs, sign, fair, neurons, rng))
        theirs = ablated[:, own, q].sum(0) / np.maximum(firing[:, own].sum(0), 1)
        receipts.append(_receipt(*of, "ablate", ablated[firing[:, i], i, q], theirs, -sign, fair, neurons, rng))
    return receipts


def match_controls(
    W: Float[np.ndarray, "u e"], A: Float[np.ndarray, "n u"], directions: Directions, controls: int
) -> Int[np.ndarray, "k c"]:
    """For each direction the neurons nearest to it in the norm of the basis row and in spread over A, by their logs.

    Neurons that never vary are left out, and those that hold most of one of the directions.
    """
    rows = np.abs(directions.write)
    itself = (rows**2 > (rows**2).sum(1, keepdims=True) / 2).any(0)
    pool = np.flatnonzero((A.std(0) > 0) & ~itself)
    if not len(pool):
        raise Refused("no neuron is left to compare with: none varies over these images; give other images")
    theirs = _norm_and_spread(W[pool], A[:, pool])
    mine = _norm_and_spread(directions.basis(W), directions.activations(A))
    scale = theirs.std(0) + 1e-6
    distance = (((mine[:, None] - theirs) / scale) ** 2).sum(2)
    return pool[np.argsort(distance, axis=1, kind="stable")[:, :controls]]


def mean_activations(clip: Clip, images: Pictures) -> Float[np.ndarray, "n u"]:
    """The hooked layer's mean over positions, of the rectified map: what the bilinear form sees."""
    rows = [np.zeros((0, clip.neurons), np.float32)]
    for batch in _batches(images, IMAGES_A_BATCH):
        maps = clip.activations(batch)
        rows.append((np.maximum(maps, 0) if clip.rectified() else maps).mean((2, 3)))
    return np.concatenate(rows)


def _check(clip: Clip, directions: Directions, texts: list[str], signs: np.ndarray, controls: int) -> None:
    if not len(directions) or directions.width != clip.neurons:
        got = f"{len(directions)} of a layer of {directions.width} neurons"
        raise Refused(f"receipts need directions of {clip.layer} ({clip.neurons} neurons), got {got}")
    if len(texts) not in (1, len(directions)):
        raise Refused(f"{len(texts)} texts for {len(directions)} directions: give one, or one for each")
    if len(signs) != len(directions) or not signs.all():
        raise Refused(f"signs are 1 or -1 for each of the {len(directions)} directions, got {signs.tolist()}")
    if controls < 1:
        raise Refused(f"controls={controls}: at least one neuron is needed to compare with")


def _batches(images: Pictures, size: int) -> Iterator[Pictures]:
    pictures = [images] if isinstance(images, str) or not isinstance(images, Sequence | np.ndarray) else images
    return (pictures[start : start + size] for start in range(0, len(pictures), size))


def _norm_and_spread(V: Float[np.ndarray, "k e"], Z: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "k 2"]:
    return np.log(np.stack([np.linalg.norm(V, axis=1), Z.std(0)], 1) + 1e-9)


def _steps(A: Float[np.ndarray, "n u"], tried: Directions, amount: float) -> Float[np.ndarray, " k"]:
    """How far each is raised: by its own spread, or the live neurons' median where that is more."""
    spread = A.std(0)
    return (amount * np.maximum(tried.activations(A).std(0), np.median(spread[spread > 0]))).astype(np.float32)


def _firing(Z: Float[np.ndarray, "n k"]) -> Bool[np.ndarray, "n k"]:
    """Where each direction is silenced: on the images on which it is most active, if it is at all."""
    rank = np.argsort(np.argsort(-Z, axis=0, kind="stable"), axis=0)
    return (rank < -(-len(Z) // FIRING)) & (Z > 0)


def _effects(
    clip: Clip,
    images: Pictures,
    X: Float[np.ndarray, "q e"],
    tried: Directions,
    steps: Float[np.ndarray, " k"],
    firing: Bool[np.ndarray, "n k"],
) -> tuple[Float[np.ndarray, "n k q"], Float[np.ndarray, "n k q"]]:
    """Changes of the logits when each direction is raised, and when it is ablated (0 where it was not).

    An image goes through the tower once for VARIANTS edits of it, which part at the layer.
    """
    layer, token = hooked(clip)
    read, write, bias = (torch.from_numpy(part).to(clip.device) for part in (tried.read, tried.write, tried.bias))
    push = write * torch.from_numpy(steps).to(clip.device)[:, None]

    def raise_them(x: Tensor, which: Tensor) -> Tensor:
        return x + push[which, :, None, None]

    def ablate_them(x: Tensor, which: Tensor) -> Tensor:
        active = torch.einsum("uhw,ku->khw", x[0].float(), read[which]) + bias[which, None, None]
        active = active.relu() if tried.rectified else active
        return x - active[:, None] * write[which, :, None, None]

    raised = np.zeros((len(firing), len(tried), len(X)), np.float32)
    ablated = np.zeros_like(raised)
    for i, picture in enumerate(track(_batches(images, 1), len(firing), "receipts", "images")):
        logit = clip.encode_images(picture) @ X.T
        for change, into, on in ((raise_them, raised, slice(None)), (ablate_them, ablated, firing[i])):
            chosen = np.arange(len(tried))[on]
            for which in np.split(chosen, range(VARIANTS, len(chosen), VARIANTS)):
                at = torch.from_numpy(which).to(clip.device)
                with edited(clip.model, layer, lambda x, change=change, at=at: change(x, at), token):
                    into[i, which] = clip.encode_images(picture) @ X.T - logit
    return raised, ablated


def _receipt(
    direction: str,
    text: str,
    act: Act,
    mine: Float[np.ndarray, " n"],
    theirs: Float[np.ndarray, " c"],
    expected: int,
    balance: float,
    controls: tuple[int, ...],
    rng: np.random.Generator,
) -> Receipt:
    """Effect, its interval, and its rank among the controls; a direction that was tried on no image shows nothing."""
    effect = low = high = float(mine.mean()) if len(mine) else 0.0
    if len(mine) > 1:
        resampled = mine[rng.integers(0, len(mine), (RESAMPLES, len(mine)))].mean(1)
        low, high = (float(edge) for edge in np.percentile(resampled, INTERVAL))
    beaten_by = int((theirs * expected >= effect * expected).sum()) if len(mine) else len(theirs)
    p = (1 + beaten_by) / (1 + len(theirs))
    effects = tuple(theirs.tolist())
    return Receipt(direction, text, act, effect, low, high, p, expected, len(mine), balance, controls, effects)
