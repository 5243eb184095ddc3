"""Feature visualisation: images optimised to activate a neuron, a direction of a layer, or any objective.

Works with every tower that `Clip` reads. With a `Theme` the visualisation is faceted (Goh et al. 2021, appendix): it
shows how the neuron responds to faces, for example, or to text. Several images of one target are kept different by a
penalty on the similarity of their attributions.

    D (k, u) directions    A (n, u, h, w) maps of the layer    x (n, 3, h, w) images, 0 to 1
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from atlas.dream.canvas import Canvas, ImageStyle
from atlas.dream.facets import Theme, lower_layers, steering, view_through
from atlas.dream.objectives import ImageObjective, direction_responses, diverse, each_its_own
from atlas.dream.prior import Prior, like_real
from atlas.errors import Refused
from atlas.model.clip import Clip

DREAM_STEPS = 200
_LEARNING_RATE = 0.05  # of Adam
_COARSE, _SHARP = 0.05, 2 / 3  # detail at the first step; fraction of the steps after which detail is full
_TINY = 1e-30  # lower bound of the gradient's norm, against division by zero
_VIEWS_JUDGED = 16  # random views over which the activation reached is averaged
_AT_ONCE = {"cpu": 4, "cuda": 64}  # images optimised together; a CPU is a fifth faster with 16, but one takes as long

DreamTarget = int | Sequence[int] | Float[np.ndarray, "k u"] | ImageObjective | Sequence[ImageObjective]


@dataclass(frozen=True)
class NeuronDrawing:
    """The feature visualisations of one target: `images` (r, s, s, 3), and what each reaches."""

    images: UInt8[np.ndarray, "r s s 3"]
    reached: Float32[np.ndarray, " r"]  # the objective's measure, mean over views; of a neuron its mean activation


def visualise(
    clip: Clip,
    what: DreamTarget,
    repeats: int = 1,
    steps: int = DREAM_STEPS,
    theme: Theme | None = None,
    strength: float | int = 1.0,
    diversity: float | int = 3.0,
    style: ImageStyle | None = None,
    prior: Prior | None = None,
    seed: int = 0,
) -> list[NeuronDrawing]:
    """Optimise images that activate neurons (by number), directions (k, u) or objectives of the first hooked layer.

    `repeats`: images of each. `steps`: of Adam; 200 show shapes, the papers used 4,096. `theme`: steer the images to a
    theme (faceted visualisation), weighted by `strength`. `diversity`: weight of the penalty on similar images of one
    target. `style`: ground colour, colours and spectrum to begin with; those of photographs if None.

    Neurons and directions have the objective `direction_response`; `atlas.dream.objectives` has others, which add and
    scale. The same seed gives the same images on the same device, whatever is drawn beside them. Raises `Refused` for
    an unknown neuron, for a direction that is zero or not finite, for counts below 1, and for a strength or colour out
    of range.

    >>> import atlas
    >>> drawing = visualise(atlas.Clip("mini", device="cpu"), [12], steps=2)[0]
    >>> drawing.images.shape, drawing.reached.shape
    ((1, 112, 112, 3), (1,))
    """
    targets = _targets(clip, what)
    for name, value in (("repeats", repeats), ("steps", steps)):
        if value < 1:
            raise Refused(f"{name} is {value}; ask for 1 at least")
    for name, value in (("strength", strength), ("diversity", diversity)):
        if not np.isfinite(value):
            raise Refused(f"{name} is {value}; give a number")
    if style is not None and not all(0 < each < 1 for each in style.ground):
        raise Refused(
            f"the ground is {style.ground}; a colour is red, green and blue between 0 and 1, neither included"
        )
    if below := [path for path in (theme.weights if theme else ()) if not clip.precedes(path)]:
        raise Refused(f"the theme was learnt at {below[0]}, which does not lie below {clip.layer}")
    run = _Optimisation(clip, clip.stand_in(), theme if strength else None, strength, diversity, style or ImageStyle())
    size, drawn = directions_at_once(clip, repeats), list[NeuronDrawing]()
    for start in range(0, len(targets), size):  # the last batch is filled up: numbers differ with the size of a batch
        part = [min(i, len(targets) - 1) for i in range(start, start + size)]
        some = targets[part] if isinstance(targets, Tensor) else [targets[i] for i in part]
        drawn += run.draw(some, prior.part(part) if prior else None, repeats, steps, seed)
    return drawn[: len(targets)]


def directions_at_once(clip: Clip, repeats: int = 1) -> int:
    """How many targets are optimised together."""
    return max(1, _AT_ONCE.get(clip.device.type, _AT_ONCE["cuda"]) // repeats)


@dataclass(frozen=True)
class _Optimisation:
    """The settings shared by all targets of a call."""

    clip: Clip
    tower: nn.Module
    theme: Theme | None
    strength: float | int
    diversity: float | int
    style: ImageStyle

    def draw(
        self,
        targets: Float[Tensor, "k u"] | Sequence[ImageObjective],
        prior: Prior | None,
        repeats: int,
        steps: int,
        seed: int,
    ) -> list[NeuronDrawing]:
        """Optimise images of some targets together."""
        k = len(targets)
        canvas = Canvas(k, repeats, self.clip.image_size, self.style, self.clip.device, seed)
        objective = self._objective(targets, prior, repeats)
        optimiser, unit = torch.optim.Adam([canvas.leaf], _LEARNING_RATE), torch.ones(1)
        for step in range(steps):  # gradients are divided by the norm of the first one, against Adam's epsilon
            x = canvas.draw(_COARSE + (1 - _COARSE) * min(1.0, step / (_SHARP * steps)))
            value = objective.value(view_through(self.clip, canvas.views(x), self.tower, objective.layers))
            gradient = torch.autograd.grad(-value.sum(), canvas.leaf)[0]
            unit = unit if step else gradient.flatten(1).norm(dim=1).clamp(min=_TINY).view(-1, 1, 1, 1, 1)
            canvas.leaf.grad = gradient / unit
            optimiser.step()
        with torch.no_grad():
            x = canvas.draw()
            views = (canvas.views(x) for _ in range(_VIEWS_JUDGED))
            tried = [objective.measure(view_through(self.clip, each, self.tower)) for each in views]
        images = (x * 255).round().byte().permute(0, 2, 3, 1).unflatten(0, (k, repeats)).cpu().numpy()
        reached = torch.stack(tried).mean(0).unflatten(0, (k, repeats)).cpu().numpy()
        return [NeuronDrawing(*one) for one in zip(images, reached, strict=True)]

    def _objective(
        self, targets: Float[Tensor, "k u"] | Sequence[ImageObjective], prior: Prior | None, repeats: int
    ) -> ImageObjective:
        """The objective of the whole batch, with theme and diversity."""
        if isinstance(targets, Tensor):
            plain = direction_responses(targets.repeat_interleave(repeats, 0))
        else:
            plain = each_its_own(targets, repeats)
        found = like_real(self.clip, plain, prior, repeats) if prior else plain
        if self.theme:
            floor = prior.floor.repeat_interleave(repeats) if prior else None
            found = found + steering(self.clip, plain, self.theme, self.strength, floor)
        if repeats > 1 and self.diversity > 0:
            found = diverse(self.clip, found, lower_layers(self.clip)[-1], repeats, self.diversity)
        return found


def _targets(clip: Clip, what: DreamTarget) -> Float[Tensor, "k u"] | list[ImageObjective]:
    given = [what] if isinstance(what, ImageObjective) else what if isinstance(what, Sequence) else []
    if given and len(objectives := [each for each in given if isinstance(each, ImageObjective)]) == len(given):
        return objectives
    return _directions(clip, what)


def _directions(clip: Clip, what: object) -> Float[Tensor, "k u"]:
    """Directions (k, u) from numbers of neurons or from directions. Raises `Refused` for those that do not fit."""
    given = np.atleast_1d(np.asarray(what))
    if given.ndim == 1:
        if out := [n for n in given.tolist() if n != int(n) or not 0 <= n < clip.neurons]:
            raise Refused(f"neuron {out[0]} is out of range: {clip.layer} has neurons 0 to {clip.neurons - 1}")
        given = np.eye(clip.neurons, dtype=np.float32)[given.astype(int)]
    if given.shape[1:] != (clip.neurons,):
        raise Refused(f"directions of {clip.layer} are (k, {clip.neurons}), got {given.shape}")
    given = given.astype(np.float32)
    if not np.isfinite(given).all() or not given.any(1).all():
        raise Refused("a direction is zero or not finite; leave it out")
    return torch.from_numpy(given).to(clip.device)
