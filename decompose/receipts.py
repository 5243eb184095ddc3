"""Causal receipts: the change of a concept's logit when a direction is raised or ablated in a real forward pass.

Goh et al. 2021 ("Multimodal Neurons", section 8) raised the top neuron of each equation and saw the logit rise. Here
every direction is tested on real images, and so are control neurons matched with it: their basis rows are about as
long, and they vary about as much over the images. The p-value is the effect's rank among the control neurons.

A receipt needs the model itself (a Clip), because it runs forward passes that stored activations cannot replace.

    A (n, u) activations    W (u, e) basis    X (q, e) text embeddings    n images, k directions, c controls of each
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from atlas.analysis.significance import mean_interval, q_values
from atlas.console import track
from atlas.errors import Refused
from atlas.model.clip import Clip, Pictures
from atlas.model.directions import Directions
from atlas.model.layers import layer_replaced
from atlas.vectors import scaled_rows
from decompose.attribution import hooked_layer, silent_embedding
from decompose.defaults import CONCEPT_TEMPLATES, FALSE_RATE, MATCHED_CONTROLS
from decompose.matching import match_controls
from decompose.prompting import Templates, chosen_templates, concept_embeddings

Act = Literal["raise", "ablate"]
_ACTS: tuple[Act, Act] = ("raise", "ablate")
_IMAGES_A_PASS = 64
EDITS_A_PASS = 128  # edited activation maps that go through the rest of the tower at once
_ABLATED_SHARE = 8  # a direction is ablated on one image in eight: those on which it is most active
_ABLATED_LEAST = 8  # or on so many images, if that is more
LEAST_IMAGES = 5  # images below which nothing is confirmed
_CALIPER = 4.0  # a control counts if it pushes at most so many times as hard as the direction, or as little
_WIDEST = 2.0  # no cosine changes by more
RECEIPT_FIELDS = (  # of a receipt, shown in tables
    "effect", "low", "high", "control", "p", "confirmed", "predicted", "images", "balance", "q",
)  # fmt: skip


@dataclass(frozen=True)
class Receipt:
    """The effect of one direction on one text's logit (the cosine of image and text), with its matched controls."""

    direction: str
    text: str
    act: Act
    effect: float  # change of the logit, mean over the images
    low: float  # 95 % interval of the effect, over the images (`mean_interval`)
    high: float
    p: float  # share of controls, the direction counted too, whose effect is as large with the expected sign
    expected: int  # 1: the logit should rise; -1: it should fall
    images: int  # images that the effect was measured on
    balance: float  # median of the controls' push (basis norm x change of activation), over the direction's own push
    controls: tuple[int, ...] = field(repr=False)  # neurons
    control_effects: tuple[float, ...] = field(repr=False)
    templates: tuple[str, ...] = ()  # prompts that the logit was measured with
    predicted: float = 0.0  # the effect that the bilinear form expects on these images, before the direction is tried
    q: float = 1.0  # q-value over all receipts of the run

    @property
    def control(self) -> float:
        """Mean effect of the controls; 0 without any."""
        return float(np.mean(self.control_effects)) if self.control_effects else 0.0

    @property
    def confirmed(self) -> bool:
        """Whether q <= 0.05, the whole interval is on the expected side of 0, and the images are five or more."""
        beyond = min(self.low * self.expected, self.high * self.expected) > 0
        return self.q <= FALSE_RATE and beyond and self.images >= LEAST_IMAGES


def receipt(
    clip: Clip,
    images: Pictures,
    texts: str | Sequence[str],
    directions: Directions,
    templates: Templates = CONCEPT_TEMPLATES,
    signs: Sequence[int] | None = None,
    controls: int = MATCHED_CONTROLS,
    amount: float = 3.0,
    held: Bool[np.ndarray, "n k"] | None = None,
    seed: int = 0,
) -> list[Receipt]:
    """Receipts of raising and of ablating each direction: two receipts a direction, in this order.

    `images`: images that the directions were not chosen by; at least two, some 64 for narrow intervals.
    `texts`: the concept, or one concept for each direction.
    `templates`: prompts that the directions were not chosen by.
    `signs`: 1 or -1 for each direction: whether raising it should raise or lower the logit; 1 by default.
    `controls`: control neurons for each direction; p is never below 1 / (controls + 1).
    `amount`: how far to raise, in standard deviations of the direction's activation over the images, at every position.
    The median deviation of the layer's live neurons is used instead if it is larger.
    `held`: which images count for which direction, for instance those that it was not chosen by; all by default.

    To ablate is to set the direction to 0 at every position, on the eighth of the images, eight at least, on which its
    mean over positions is largest. Controls that push more than four times as hard as the direction, or as little, do
    not count; the effect of one that pushes less is scaled up for p. `predicted` is what the bilinear form says of the
    same images and text before anything is edited.

    Raises Refused for directions of another layer, fewer than two images, and texts or signs that do not fit in number.
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
    Z, rows = _activity(clip, images, A, tried), tried.basis(W)
    steps, firing = _steps(A, Z, amount), _firing(Z, held, self)
    ratios = _ratios(rows, Z, steps, firing, self, own)
    near = np.abs(np.log(np.maximum(ratios[0], 1e-12))) <= np.log(_CALIPER)
    effects = _effects(clip, images, X, tried, steps, firing)
    tallies = _tally(effects, np.column_stack([self, own]), asked, held, firing)
    base, receipts, filled = A @ W + silent_embedding(clip), [], chosen_templates(templates)
    for i, name in enumerate(directions.names):
        of, inside = (name, texts[i % len(texts)]), near[i]
        for act, sign, ratio, (mine, theirs, counted) in zip(_ACTS, (1, -1), ratios, tallies, strict=True):
            on, should, others = counted[:, i], sign * int(expected[i]), theirs[i][inside]
            moved = np.full(len(A), steps[self[i]]) if act == "raise" else -Z[:, self[i]]
            foreseen = _predicted(base[on], rows[self[i]], moved[on], X[asked[i]])
            even = (float(np.median(ratio[i][inside])) if inside.any() else 0.0, tuple(matched[i][inside].tolist()))
            measured = _measured(mine[on, i], others / np.clip(ratio[i][inside], 1 / _CALIPER, 1), should, seed)
            did = tuple(others.tolist())
            receipts.append(Receipt(*of, act, *measured, should, int(on.sum()), *even, did, filled, foreseen))
    q = q_values(np.array([each.p for each in receipts])).tolist()
    return [replace(each, q=value) for each, value in zip(receipts, q, strict=True)]


def _ratios(
    rows: Float[np.ndarray, "m e"],
    Z: Float[np.ndarray, "n m"],
    steps: Float[np.ndarray, " m"],
    firing: Bool[np.ndarray, "n m"],
    self: Int[np.ndarray, " k"],
    own: Int[np.ndarray, "k c"],
) -> list[Float[np.ndarray, "k c"]]:
    """How much harder each control pushes the embedding than its direction: when raised, and when ablated."""
    norms = np.linalg.norm(rows, axis=1)
    pushes = norms * steps, norms * (Z * firing).sum(0) / np.maximum(firing.sum(0), 1)
    return [push[own] / np.maximum(push[self], 1e-12)[:, None] for push in pushes]


def predictions_that_hold(effects: Sequence[float], predicted: Sequence[float]) -> tuple[float, float]:
    """The share of predicted signs that hold, and the median ratio of the larger to the smaller size of those."""
    did, said = np.asarray(effects, float), np.asarray(predicted, float)
    hold = did * said > 0
    if not hold.any():
        return 0.0, float("inf")
    ratio = np.abs(np.log(did[hold] / said[hold]))
    return float(hold.mean()), float(np.exp(np.median(ratio)))


def side_by_side(receipts: Sequence[Receipt]) -> dict[str, list[object]]:
    """Columns of a table with one row a direction: raise_effect, raise_low, ..., ablate_effect, ..., ablate_images.

    The columns are `RECEIPT_FIELDS` of each act.
    """
    columns: dict[str, list[object]] = {}
    for act in _ACTS:
        done = [each for each in receipts if each.act == act]
        columns |= {f"{act}_{name}": [getattr(each, name) for each in done] for name in RECEIPT_FIELDS}
    return columns


def mean_activations(clip: Clip, images: Pictures) -> Float[np.ndarray, "n u"]:
    """Mean over positions of the hooked layer's rectified maps, which is what the bilinear form reads: (n, u)."""
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
        raise Refused(f"controls={controls}: at least one control neuron is needed")


def _batches(images: Pictures, size: int) -> Iterator[Pictures]:
    pictures = [images] if isinstance(images, str) or not isinstance(images, Sequence | np.ndarray) else images
    return (pictures[start : start + size] for start in range(0, len(pictures), size))


def _activity(
    clip: Clip, images: Pictures, A: Float[np.ndarray, "n u"], directions: Directions
) -> Float[np.ndarray, "n k"]:
    """Activation of each direction on each image, averaged over positions.

    Rectified directions are read from whole maps, because they may fire at few positions and not at the mean.
    """
    if not directions.rectified:
        return directions.activations(A)
    rows = []
    for batch in _batches(images, _IMAGES_A_PASS):
        maps = clip.activations(batch)
        for x in np.maximum(maps, 0) if clip.rectified() else maps:
            rows.append(directions.activations(x.reshape(len(x), -1).T).mean(0))
    return np.stack(rows)


def _steps(A: Float[np.ndarray, "n u"], Z: Float[np.ndarray, "n k"], amount: float) -> Float[np.ndarray, " k"]:
    """The step of each direction: `amount` times its deviation, or the live neurons' median deviation if larger."""
    spread = A.std(0)
    return (amount * np.maximum(Z.std(0), np.median(spread[spread > 0]))).astype(np.float32)


def _firing(
    Z: Float[np.ndarray, "n m"], held: Bool[np.ndarray, "n k"], self: Int[np.ndarray, " k"]
) -> Bool[np.ndarray, "n m"]:
    """The images on which each direction is ablated: those on which it is most active, above 0, and that count for it.

    They are an eighth of the images, and eight at least.
    """
    counts = np.ones(Z.shape, bool)
    counts[:, self] = False
    for i, place in enumerate(self.tolist()):
        counts[:, place] |= held[:, i]
    Z = np.where(counts, Z, 0)
    rank = np.argsort(np.argsort(-Z, axis=0, kind="stable"), axis=0)
    return (rank < max(-(-len(Z) // _ABLATED_SHARE), _ABLATED_LEAST)) & (Z > 0)


def _together(
    directions: Directions, matched: Int[np.ndarray, "k c"]
) -> tuple[Directions, Int[np.ndarray, " k"], Int[np.ndarray, "k c"]]:
    """Directions and controls without repeats, the places of the directions among them, and those of the controls."""
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
    """For raising and for ablating: effects of each direction by image, mean effects of its controls, what counts.

    `places`: the place of each direction among those tried, then the places of its controls. Only the effects on the
    direction's own text are kept, image by image, because all effects on all texts would not fit into memory.
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
    """Yields for each image the changes of all logits when each direction is raised, and when it is ablated, else 0.

    `EDITS_A_PASS` edits of an image share one pass: the image is encoded up to the layer, and repeated from there.
    """
    layer, token = hooked_layer(clip)
    write = torch.from_numpy(tried.write).to(clip.device)
    push = write * torch.from_numpy(steps).to(clip.device)[:, None]

    def raise_them(x: Tensor, which: Tensor) -> Tensor:
        return x + push[which, :, None, None]

    def ablate_them(x: Tensor, which: Tensor) -> Tensor:
        positions = x[0].float().flatten(1).T.cpu().numpy()
        active = torch.from_numpy(tried[which.cpu().numpy()].activations(positions).T).to(x)
        return x - active.unflatten(1, x.shape[2:])[:, None] * write[which, :, None, None]

    for i, picture in enumerate(track(_batches(images, 1), len(firing), "receipts", "images")):
        whole = clip.encode_images(picture)
        found = np.zeros((2, len(tried), len(X)), np.float32)
        for into, change, on in zip(found, (raise_them, ablate_them), (slice(None), firing[i]), strict=True):
            chosen = np.arange(len(tried))[on]
            for which in np.split(chosen, range(EDITS_A_PASS, len(chosen), EDITS_A_PASS)):
                at = torch.from_numpy(which).to(clip.device)
                with layer_replaced(clip.model, layer, lambda x, change=change, at=at: change(x, at), token):
                    into[which] = (clip.encode_images(picture) - whole) @ X.T
        yield found[0], found[1]


def _measured(
    mine: Float[np.ndarray, " n"], theirs: Float[np.ndarray, " c"], expected: int, seed: int
) -> tuple[float, float, float, float]:
    """Effect, the ends of its 95 % interval, and p.

    `mine`: the direction's effect on each image that counts; without any, the effect is 0 and p is 1. `theirs`: the
    mean effect of each control. Of fewer than two images the interval holds every change that a cosine can have.
    """
    effect = float(mine.mean()) if len(mine) else 0.0
    low, high = mean_interval(mine, seed) if len(mine) > 1 else (-_WIDEST, _WIDEST)
    beaten_by = int((theirs * expected >= effect * expected).sum()) if len(mine) else len(theirs)
    return effect, low, high, (1 + beaten_by) / (1 + len(theirs))


def _predicted(
    base: Float[np.ndarray, "n e"], row: Float[np.ndarray, " e"], amount: Float[np.ndarray, " n"], x: np.ndarray
) -> float:
    """The mean change of the cosines of embeddings with a text x if `amount` of a basis row is added to each."""
    if not len(base):
        return 0.0
    moved = base + amount[:, None] * row
    return float(((scaled_rows(moved) - scaled_rows(base)) @ x).mean())
