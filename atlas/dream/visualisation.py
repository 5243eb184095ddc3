"""Feature visualisation: pictures drawn to drive a neuron, or any direction of a layer.

For any tower that `Clip` reads. Faceted (Goh et al. 2021, appendix): a `Theme` draws the neuron as it answers to faces,
or to text. Diverse: several pictures of one neuron are kept from showing the same by the attribution of what they show.

    D (k, u) directions    A (n, u, h, w) the layer's maps    x (n, 3, h, w) pictures, 0 to 1
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
_LEARNING_RATE = 0.05  # Adam's
_COARSE, _SHARP = 0.05, 2 / 3  # detail of the first step, and the share of the steps after which all is drawn
_MARGIN = 7 / 6  # a canvas is this much wider than what the model reads
_LEAST_COSINE = 0.1  # the least share that the cosine leaves of the objective, lest it vanish at the start
_TINY = 1e-30  # a gradient as small as this is none
_VIEWS_JUDGED = 16  # views by which a drawing is judged
_AT_ONCE = 16  # pictures optimised together on a CPU; four times as many on a GPU


@dataclass(frozen=True)
class NeuronDrawing:
    """What was drawn to drive one direction: `images` (r, s, s, 3), and what the direction does on views of each."""

    images: UInt8[np.ndarray, "r s s 3"]
    reached: Float32[np.ndarray, " r"]  # mean over views and positions, after the ReLU where one closes the layer


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
    """Draw pictures that drive neurons, by number, or directions (k, u) of the clip's first hooked layer.

    repeats    pictures of each
    steps      of Adam; 200 shows shapes, the papers' own pictures took 4,096
    theme      draw each as it answers to this theme, so strongly as `strength` says (0: not at all)
    about      the colour to begin with, 0 to 1, as of the pictures that the model knows; None: its preprocessing's mean
    diversity  how much a direction's pictures lose by being alike (0: nothing)

    A picture is worth the mean of the direction over positions, before the closing ReLU, times its cosine with all
    that the layer does: what drives everything is worth less (Carter et al. 2019, "Activation Atlas"). The same seed
    draws the same pictures on the same device. Raises Refused for neurons that the layer has not, for a direction that
    is zero or not finite, for counts below 1, and for what is no number or colour.
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
    easel = _Easel(clip, clip.stand_in(), theme if strength else None, strength, diversity, about)
    return [
        one for part in D.split(directions_at_once(clip, repeats)) for one in easel.draw(part, repeats, steps, seed)
    ]


def directions_at_once(clip: Clip, repeats: int = 1) -> int:
    """How many directions are drawn side by side."""
    return max(1, _AT_ONCE * (1 if clip.device.type == "cpu" else 4) // repeats)


@dataclass(frozen=True)
class _Easel:
    """What all directions are drawn with."""

    clip: Clip
    tower: nn.Module
    theme: Theme | None
    strength: float | int
    diversity: float | int
    about: tuple[float, ...] | None

    def draw(self, D: Float[Tensor, "k u"], repeats: int, steps: int, seed: int) -> list[NeuronDrawing]:
        """Draw some directions side by side."""
        size = self.clip.image_size
        about = self.about or tuple(self.clip.preprocessing.mean)
        canvas = Canvas(len(D), repeats, round(size * _MARGIN), about, self.clip.device, seed)
        each = D.repeat_interleave(repeats, 0)
        optimiser, unit = torch.optim.Adam([canvas.leaf], _LEARNING_RATE), torch.ones(1)
        for step in range(steps):  # in units of the first gradient: Adam's epsilon would hold back small activations
            x = canvas.draw(_COARSE + (1 - _COARSE) * min(1.0, step / (_SHARP * steps)))
            worth = self._worth(canvas.views(x, size), each, repeats)
            gradient = torch.autograd.grad(-worth.sum(), canvas.leaf)[0]
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
        """What the layer passes on: its maps after the ReLU that closes it, if one does."""
        return A.relu() if self.clip.rectified() else A

    def _worth(self, x: Float[Tensor, "n 3 s s"], D: Float[Tensor, "n u"], repeats: int) -> Float[Tensor, " n"]:
        """What each picture is worth: that it drives its direction and little else, suits the theme, is another."""
        apart = repeats > 1 and self.diversity > 0
        below = list(self.theme.weights) if self.theme else lower_layers(self.clip) if apart else []
        with record_outputs(self.tower, below) as maps:
            A = self.clip.respond(x, self.tower)
        response = _response(A, D)
        shown = self._passed(A).mean((2, 3))
        cosine = (normalize(shown, dim=1) * normalize(D, dim=1)).sum(1)
        worth = torch.where(response > 0, response * cosine.clamp(min=_LEAST_COSINE), response * _LEAST_COSINE)
        if not below:
            return worth
        gradients = torch.autograd.grad(response.sum(), [maps[path] for path in below], retain_graph=True)
        attributed = {
            path: self.clip.layer_map(path, maps[path] * gradient.relu())
            for path, gradient in zip(below, gradients, strict=True)
        }
        if self.theme:
            for path, w in self.theme.weights.items():
                steered = torch.einsum("nchw,c->n", attributed[path], torch.from_numpy(w).to(x.device))
                worth = worth + self.strength / len(below) * steered
        if apart:
            likeness = _alike(attributed[below[-1]].sum((2, 3)), repeats)
            worth = worth - self.diversity * worth.detach().abs() * likeness
        return worth


def _response(A: Float[Tensor, "n u h w"], D: Float[Tensor, "n u"]) -> Float[Tensor, " n"]:
    return torch.einsum("nuhw,nu->nhw", A, D).mean((1, 2))


def _alike(a: Float[Tensor, "n c"], repeats: int) -> Float[Tensor, " n"]:
    """Mean cosine of each picture's attribution (n, c) with those of the other pictures of its direction."""
    a = normalize(a.unflatten(0, (-1, repeats)), dim=2)
    cosines = a @ a.transpose(1, 2)
    return ((cosines.sum(2) - cosines.diagonal(dim1=1, dim2=2)) / (repeats - 1)).flatten()


def _directions(clip: Clip, what: int | Sequence[int] | np.ndarray) -> Float[Tensor, "k u"]:
    """Neurons by number, or directions as they are, one a row."""
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
