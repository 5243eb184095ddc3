"""Causal receipts: what a concept's logit does when a direction is raised, or silenced, in a real forward pass.

Goh et al. 2021 ("Multimodal Neurons", section 8) raised the top neuron of each equation by hand and saw the logit
rise. Here every direction is tried on real images, beside neurons that are matched with it: those whose basis row is
about as long and that vary about as much over the images. What those do by chance is what the p-value counts.

All this runs the model itself, and so takes a Clip: from activations and embeddings as arrays no one can tell what the
logit would have been.

    A (n, u) activations    W (u, e) basis    X (q, e) text embeddings    n images, k directions, c controls of each
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from atlas.analysis.significance import INTERVAL
from atlas.console import track
from atlas.errors import Refused
from atlas.model.clip import Clip, Pictures
from atlas.model.directions import Directions
from atlas.model.layers import edited
from decompose.attribution import Templates, chosen_templates, concept_embeddings, hooked_layer

Act = Literal["raise", "ablate"]
_ACTS: tuple[Act, Act] = ("raise", "ablate")
_IMAGES_A_PASS = 64
EDITS_A_PASS = 128  # edited maps that go through the rest of the tower at once
_ABLATED_SHARE = 8  # a direction is silenced on one image in eight: those on which it is most active
_RESAMPLES = 2000
RECEIPT_FIELDS = ("effect", "low", "high", "control", "p", "confirmed")  # of a receipt, in tables


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
    templates: tuple[str, ...] = ()  # of the prompts that it was tried with

    @property
    def control(self) -> float:
        """Mean effect of the controls."""
        return float(np.mean(self.control_effects))

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
    held: Bool[np.ndarray, "n k"] | None = None,
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
    held        images that count for each direction, those that it was not chosen by; all by default

    Silenced means taken to 0 at every position, on the eighth of the images on which a direction is most active. How
    active a direction is on an image is the mean of its activation over the positions of the map.
    """
    texts = [texts] if isinstance(texts, str) else list(texts)
    expected = np.ones(len(directions), int) if signs is None else np.sign(np.asarray(signs, int))
    _check(clip, directions, texts, expected, controls)
    different = list(dict.fromkeys(texts))
    X, W, A = concept_embeddings(clip, different, templates), clip.basis(), mean_activations(clip, images)
    if len(A) < 2:
        raise Refused(f"{len(A)} image given; a receipt needs two at least, and some 64 for a narrow interval")
    held = np.ones((len(A), len(directions)), bool) if held is None else held
    asked = np.resize([different.index(text) for text in texts], len(directions))
    matched = match_controls(W, A, directions, controls, asked, _activity(clip, images, A, directions))
    tried, self, own = _together(directions, matched)
    Z = _activity(clip, images, A, tried)
    steps, firing = _steps(A, Z, amount), _firing(Z)
    push = np.linalg.norm(tried.basis(W), axis=1) * steps
    fair = np.median(push[own], axis=1) / np.maximum(push[self], 1e-12)
    effects = _effects(clip, images, X, tried, steps, firing)
    tallies = _tally(effects, np.column_stack([self, own]), asked, held, firing)
    rng, receipts, said = np.random.default_rng(seed), [], chosen_templates(templates)
    for i, name in enumerate(directions.names):
        of, neurons = (name, texts[i % len(texts)]), tuple(matched[i].tolist())
        for act, sign, (mine, theirs, counted) in zip(_ACTS, (1, -1), tallies, strict=True):
            effects = mine[counted[:, i], i]
            receipts.append(
                _receipt(*of, act, effects, theirs[i], sign * int(expected[i]), float(fair[i]), neurons, said, rng)
            )
    return receipts


def side_by_side(receipts: Sequence[Receipt]) -> dict[str, list[Any]]:
    """Columns of a table with a row a direction: what raising it did (raise_effect, raise_low, ...) and what ablating
    it did (ablate_effect, ...), each beside what it did to the matched neurons (_control); ablate_images, on how many.
    """
    columns: dict[str, list[Any]] = {}
    for act in _ACTS:
        done = [each for each in receipts if each.act == act]
        columns |= {f"{act}_{name}": [getattr(each, name) for each in done] for name in RECEIPT_FIELDS}
    return columns | {"ablate_images": [each.images for each in receipts if each.act == "ablate"]}


def match_controls(
    W: Float[np.ndarray, "u e"],
    A: Float[np.ndarray, "n u"],
    directions: Directions,
    controls: int,
    asked: Int[np.ndarray, " k"] | None = None,
    Z: Float[np.ndarray, "n k"] | None = None,
) -> Int[np.ndarray, "k c"]:
    """For each direction the neurons nearest to it in the norm of the basis row and in spread over A, by their logs.

    Neurons that never vary are left out, and those that hold most of a direction that is asked for the same text
    (`asked`: each one's, by number; all the same by default). Each has as many as the one that has fewest. `Z`: how
    active the directions are; as A has it by default.
    """
    asked = np.zeros(len(directions), int) if asked is None else asked
    rows = directions.write**2
    itself = rows > rows.sum(1, keepdims=True) / 2
    taken = np.zeros((asked.max() + 1, len(W)), bool)
    np.logical_or.at(taken, asked, itself)
    pool = np.flatnonzero((A.std(0) > 0) & ~taken.all(0))
    left = ~taken[asked][:, pool]
    if not left.any(1).all():
        raise Refused("no neuron is left to compare with: none varies over these images; give other images")
    theirs = _norm_and_spread(W[pool], A[:, pool])
    mine = _norm_and_spread(directions.basis(W), directions.activations(A) if Z is None else Z)
    scale = theirs.std(0) + 1e-6
    distance = np.where(left, (((mine[:, None] - theirs) / scale) ** 2).sum(2), np.inf)
    return pool[np.argsort(distance, axis=1, kind="stable")[:, : min(controls, left.sum(1).min())]]


def mean_activations(clip: Clip, images: Pictures) -> Float[np.ndarray, "n u"]:
    """The hooked layer's mean over positions, of the rectified map: what the bilinear form sees."""
    rows = [np.zeros((0, clip.neurons), np.float32)]
    for batch in _batches(images, _IMAGES_A_PASS):
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


def _activity(
    clip: Clip, images: Pictures, A: Float[np.ndarray, "n u"], directions: Directions
) -> Float[np.ndarray, "n k"]:
    """How active each direction is on each image: the mean of its activation over positions.

    Of one that ends in a ReLU the maps are asked: it may fire at a few positions, and not at their mean.
    """
    if not directions.rectified:
        return directions.activations(A)
    read, bias, rows = torch.from_numpy(directions.read), torch.from_numpy(directions.bias)[:, None, None], []
    for batch in _batches(images, _IMAGES_A_PASS):
        maps = torch.from_numpy(clip.activations(batch))
        for x in maps.relu() if clip.rectified() else maps:
            rows.append((torch.einsum("uhw,ku->khw", x, read) + bias).relu().mean((1, 2)).numpy())
    return np.stack(rows)


def _steps(A: Float[np.ndarray, "n u"], Z: Float[np.ndarray, "n k"], amount: float) -> Float[np.ndarray, " k"]:
    """How far each is raised: by its own spread, or the live neurons' median where that is more."""
    spread = A.std(0)
    return (amount * np.maximum(Z.std(0), np.median(spread[spread > 0]))).astype(np.float32)


def _firing(Z: Float[np.ndarray, "n k"]) -> Bool[np.ndarray, "n k"]:
    """Where each direction is silenced: on the images on which it is most active, if it is at all."""
    rank = np.argsort(np.argsort(-Z, axis=0, kind="stable"), axis=0)
    return (rank < -(-len(Z) // _ABLATED_SHARE)) & (Z > 0)


def _together(
    directions: Directions, matched: Int[np.ndarray, "k c"]
) -> tuple[Directions, Int[np.ndarray, " k"], Int[np.ndarray, "k c"]]:
    """Directions and controls, each different one once; where among them the directions are, and their controls."""
    others, place = np.unique(matched, return_inverse=True)
    both = directions + replace(Directions.neurons(others, directions.width), rectified=directions.rectified)
    rows = np.column_stack([both.read, both.write, both.bias])
    first, back = np.unique(rows, axis=0, return_index=True, return_inverse=True)[1:]
    back = back.reshape(-1)
    return both[first], back[: len(directions)], back[len(directions) :][place.reshape(matched.shape)]


_Tally = tuple[Float[np.ndarray, "n k"], Float[np.ndarray, "k c"], Bool[np.ndarray, "n k"]]


def _tally(
    effects: Iterator[tuple[Float[np.ndarray, "m q"], Float[np.ndarray, "m q"]]],
    places: Int[np.ndarray, "k b"],
    asked: Int[np.ndarray, " k"],
    held: Bool[np.ndarray, "n k"],
    firing: Bool[np.ndarray, "n m"],
) -> tuple[_Tally, _Tally]:
    """Of raising, and of ablating: each direction's effect on its text by image, its controls' means, what counts.

    `places`: each direction's among those tried, then its controls'. Effects of all on all texts are many; of each
    image only those asked for are kept.
    """
    n, (k, b) = len(held), places.shape
    mine, sums, count = np.zeros((2, n, k), np.float32), np.zeros((2, k, b)), np.zeros((2, k, b))
    for i, each in enumerate(effects):
        for act, tried in enumerate((held[i, :, None], held[i, :, None] & firing[i, places])):
            changes = each[act][places, asked[:, None]]
            mine[act, i] = changes[:, 0]
            sums[act] += changes * tried
            count[act] += tried
    means = (sums / np.maximum(count, 1))[:, :, 1:]
    return (mine[0], means[0], held), (mine[1], means[1], held & firing[:, places[:, 0]])


def _effects(
    clip: Clip,
    images: Pictures,
    X: Float[np.ndarray, "q e"],
    tried: Directions,
    steps: Float[np.ndarray, " m"],
    firing: Bool[np.ndarray, "n m"],
) -> Iterator[tuple[Float[np.ndarray, "m q"], Float[np.ndarray, "m q"]]]:
    """Image by image, changes of the logits when each direction is raised, and when it is ablated (0 if it is not).

    An image goes through the tower once for VARIANTS edits of it, which part at the layer.
    """
    layer, token = hooked_layer(clip)
    read, write, bias = (torch.from_numpy(part).to(clip.device) for part in (tried.read, tried.write, tried.bias))
    push = write * torch.from_numpy(steps).to(clip.device)[:, None]

    def raise_them(x: Tensor, which: Tensor) -> Tensor:
        return x + push[which, :, None, None]

    def ablate_them(x: Tensor, which: Tensor) -> Tensor:
        active = torch.einsum("uhw,ku->khw", x[0].float(), read[which]) + bias[which, None, None]
        active = active.relu() if tried.rectified else active
        return x - active[:, None] * write[which, :, None, None]

    for i, picture in enumerate(track(_batches(images, 1), len(firing), "receipts", "images")):
        whole = clip.encode_images(picture)
        found = np.zeros((2, len(tried), len(X)), np.float32)
        for into, change, on in zip(found, (raise_them, ablate_them), (slice(None), firing[i]), strict=True):
            chosen = np.arange(len(tried))[on]
            for which in np.split(chosen, range(EDITS_A_PASS, len(chosen), EDITS_A_PASS)):
                at = torch.from_numpy(which).to(clip.device)
                with edited(clip.model, layer, lambda x, change=change, at=at: change(x, at), token):
                    into[which] = (clip.encode_images(picture) - whole) @ X.T
        yield found[0], found[1]


def _receipt(
    direction: str,
    text: str,
    act: Act,
    mine: Float[np.ndarray, " n"],
    theirs: Float[np.ndarray, " c"],
    expected: int,
    balance: float,
    controls: tuple[int, ...],
    templates: tuple[str, ...],
    rng: np.random.Generator,
) -> Receipt:
    """Effect, its interval, and its rank among the controls; a direction that was tried on no image shows nothing."""
    effect = low = high = float(mine.mean()) if len(mine) else 0.0
    if len(mine) > 1:
        resampled = mine[rng.integers(0, len(mine), (_RESAMPLES, len(mine)))].mean(1)
        low, high = (float(edge) for edge in np.percentile(resampled, INTERVAL))
    beaten_by = int((theirs * expected >= effect * expected).sum()) if len(mine) else len(theirs)
    p = (1 + beaten_by) / (1 + len(theirs))
    effects = tuple(theirs.tolist())
    tried = len(mine), balance, controls, effects, templates
    return Receipt(direction, text, act, effect, low, high, p, expected, *tried)
