"""Feature visualisation: images optimised to activate a neuron, or any direction of a layer.

Works with every tower that `Clip` reads. With a `Theme` the visualisation is faceted (Goh et al. 2021, appendix): it
shows how the neuron responds to faces, for example, or to text. Several images of one neuron are kept different by a
penalty on the similarity of their attributions.

    D (k, u) directions    A (n, u, h, w) maps of the layer    x (n, 3, h, w) images, 0 to 1
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn
from torch.nn.functional import normalize

from atlas.dream.canvas import Canvas
from atlas.dream.facets import Theme, lower_layers, record_outputs
from atlas.errors import Refused
from atlas.model.clip import Clip

DREAM_STEPS = 200
_LEARNING_RATE = 0.05  # of Adam
_COARSE, _SHARP = 0.05, 2 / 3  # detail at the first step; fraction of the steps after which detail is full
_MARGIN = 7 / 6  # side of the canvas, relative to the side that the model reads
_LEAST_COSINE = 0.1  # lower bound of the cosine, so that the gradient does not vanish at first
_TINY = 1e-30  # lower bound of the gradient's norm, against division by zero
_VIEWS_JUDGED = 16  # random views over which the activation reached is averaged
_AT_ONCE = 16  # images optimised together on a CPU; four times as many on a GPU


@dataclass(frozen=True)
class NeuronDrawing:
    """The feature visualisations of one direction: `images` (r, s, s, 3), and the mean activation that each reaches."""

    images: UInt8[np.ndarray, "r s s 3"]
    reached: Float32[np.ndarray, " r"]  # mean over views and positions, after the closing ReLU if there is one


def visualise(
    clip: Clip,
    what: int | Sequence[int] | Float[np.ndarray, "k u"],
    repeats: int = 1,
    steps: int = DREAM_STEPS,
    theme: Theme | None = None,
    strength: float | int = 1.0,
    diversity: float | int = 3.0,
    about: tuple[float, float, float] | None = None,
    seed: int = 0,
) -> list[NeuronDrawing]:
    """Optimise images that activate neurons (given by number) or directions (k, u) of the clip's first hooked layer.

    `repeats`: images of each. `steps`: of Adam; 200 show shapes, the papers used 4,096. `theme`: steer the images to a
    theme (faceted visualisation), weighted by `strength`. `diversity`: weight of the penalty on similar images of one
    direction. `about`: mean colour (0 to 1) to begin with; the mean of the model's preprocessing if None.

    Objective: mean response over positions, before the closing ReLU, times the cosine with the layer's mean activation
    (Carter et al. 2019, "Activation Atlas"); the cosine penalises images that excite every unit. The same seed gives
    the same images on the same device. Raises `Refused` for an unknown neuron, for a direction that is zero or not
    finite, for counts below 1, and for a strength or colour out of range.

    >>> import atlas
    >>> drawing = visualise(atlas.Clip("mini", device="cpu"), [12], steps=2)[0]
    >>> drawing.images.shape, drawing.reached.shape
    ((1, 112, 112, 3), (1,))
    """
    D = _directions(clip, what)
    for name, value in (("repeats", repeats), ("steps", steps)):
        if value < 1:
            raise Refused(f"{name} is {value}; ask for 1 at least")
    for name, value in (("strength", strength), ("diversity", diversity)):
        if not np.isfinite(value):
            raise Refused(f"{name} is {value}; give a number")
    if about is not None and not all(0 < each < 1 for each in about):
        raise Refused(f"about is {about}; a colour is red, green and blue between 0 and 1, neither included")
    if below := [path for path in (theme.weights if theme else ()) if not clip.precedes(path)]:
        raise Refused(f"the theme was learnt at {below[0]}, which does not lie below {clip.layer}")
    run = _Optimisation(clip, clip.stand_in(), theme if strength else None, strength, diversity, about)
    return [one for part in D.split(directions_at_once(clip, repeats)) for one in run.draw(part, repeats, steps, seed)]


def directions_at_once(clip: Clip, repeats: int = 1) -> int:
    """How many directions are optimised together."""
    return max(1, _AT_ONCE * (1 if clip.device.type == "cpu" else 4) // repeats)


@dataclass(frozen=True)
class _Optimisation:
    """The settings shared by all directions of a call."""

    clip: Clip
    tower: nn.Module
    theme: Theme | None
    strength: float | int
    diversity: float | int
    about: tuple[float, ...] | None

    def draw(self, D: Float[Tensor, "k u"], repeats: int, steps: int, seed: int) -> list[NeuronDrawing]:
        """Optimise images of some directions together."""
        size = self.clip.image_size
        about = self.about or tuple(self.clip.preprocessing.mean)
        canvas = Canvas(len(D), repeats, round(size * _MARGIN), about, self.clip.device, seed)
        each = D.repeat_interleave(repeats, 0)
        optimiser, unit = torch.optim.Adam([canvas.leaf], _LEARNING_RATE), torch.ones(1)
        for step in range(steps):  # gradients are divided by the norm of the first one, against Adam's epsilon
            x = canvas.draw(_COARSE + (1 - _COARSE) * min(1.0, step / (_SHARP * steps)))
            objective = self._objective(canvas.views(x, size), each, repeats)
            gradient = torch.autograd.grad(-objective.sum(), canvas.leaf)[0]
            unit = unit if step else gradient.flatten(1).norm(dim=1).clamp(min=_TINY).view(-1, 1, 1, 1, 1)
            canvas.leaf.grad = gradient / unit
            optimiser.step()
        with torch.no_grad():
            x = canvas.draw()
            tried = [
                _response(self._passed(self.clip.respond(canvas.views(x, size), self.tower)), each)
                for _ in range(_VIEWS_JUDGED)
            ]
        images = (x * 255).round().byte().permute(0, 2, 3, 1).unflatten(0, (len(D), repeats)).cpu().numpy()
        reached = torch.stack(tried).mean(0).unflatten(0, (len(D), repeats)).cpu().numpy()
        return [NeuronDrawing(*one) for one in zip(images, reached, strict=True)]

    def _passed(self, A: Float[Tensor, "n u h w"]) -> Float[Tensor, "n u h w"]:
        """The maps after the closing ReLU, if there is one."""
        return A.relu() if self.clip.rectified() else A

    def _objective(self, x: Float[Tensor, "n 3 s s"], D: Float[Tensor, "n u"], repeats: int) -> Float[Tensor, " n"]:
        """Response times cosine, plus the theme's attribution, minus the penalty on similarity."""
        apart = repeats > 1 and self.diversity > 0
        below = list(self.theme.weights) if self.theme else lower_layers(self.clip) if apart else []
        with record_outputs(self.tower, below) as maps:
            A = self.clip.respond(x, self.tower)
        response = _response(A, D)
        shown = self._passed(A).mean((2, 3))
        cosine = (normalize(shown, dim=1) * normalize(D, dim=1)).sum(1)
        objective = torch.where(response > 0, response * cosine.clamp(min=_LEAST_COSINE), response * _LEAST_COSINE)
        if not below:
            return objective
        gradients = torch.autograd.grad(response.sum(), [maps[path] for path in below], retain_graph=True)
        attributed = {
            path: self.clip.layer_map(path, maps[path] * gradient.relu())
            for path, gradient in zip(below, gradients, strict=True)
        }
        if self.theme:
            for path, w in self.theme.weights.items():
                steered = torch.einsum("nchw,c->n", attributed[path], torch.from_numpy(w).to(x.device))
                objective = objective + self.strength / len(below) * steered
        if apart:
            likeness = _alike(attributed[below[-1]].sum((2, 3)), repeats)
            objective = objective - self.diversity * objective.detach().abs() * likeness
        return objective


def _response(A: Float[Tensor, "n u h w"], D: Float[Tensor, "n u"]) -> Float[Tensor, " n"]:
    return torch.einsum("nuhw,nu->nhw", A, D).mean((1, 2))


def _alike(a: Float[Tensor, "n c"], repeats: int) -> Float[Tensor, " n"]:
    """Mean cosine of each picture's attribution (n, c) with those of the other pictures of its direction."""
    a = normalize(a.unflatten(0, (-1, repeats)), dim=2)
    cosines = a @ a.transpose(1, 2)
    return ((cosines.sum(2) - cosines.diagonal(dim1=1, dim2=2)) / (repeats - 1)).flatten()


def _directions(clip: Clip, what: int | Sequence[int] | np.ndarray) -> Float[Tensor, "k u"]:
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
