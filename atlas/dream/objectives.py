"""Objectives of feature visualisation: small functions of what the model does with an image, which add and scale.

An objective of a batch of images is made of others: `neuron_response(3) - 0.5 * neuron_response(7)`. Each has a value,
which optimisation raises, and a measure, which says in plain units what an image reached.

    A (n, u, h, w) maps of the layer, before its closing ReLU    E (n, e) embeddings, before normalisation    d (u,)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from atlas.errors import Refused
from atlas.model.clip import Clip

PIXELS = "pixels"  # stands for the images themselves among the paths of layers
LEAST_COSINE = 0.1  # lower bound of the cosine, so that the gradient does not vanish at first
_DAMPING = 0.01  # of the mean variance, added to the second moment before its inverse


@dataclass(frozen=True)
class ModelView:
    """What the model does with some images, in one pass, within the autograd graph."""

    A: Float[Tensor, "n u h w"]
    E: Float[Tensor, "n e"]
    maps: Mapping[str, Tensor]  # the raw tensors of lower layers
    rectified: bool = True  # whether the model applies a ReLU to A

    @property
    def passed(self) -> Float[Tensor, "n u h w"]:
        """The maps as the model passes them on."""
        return self.A.relu() if self.rectified else self.A

    def split(self, size: int) -> list["ModelView"]:
        """The view in parts of `size` images; lower layers stay with the whole."""
        parts = zip(self.A.split(size), self.E.split(size), strict=True)
        return [ModelView(A, E, {}, self.rectified) for A, E in parts]

    @classmethod
    def joined(cls, parts: Sequence["ModelView"]) -> "ModelView":
        """The views of several batches as one, without lower layers."""
        A, E = (torch.cat([getattr(part, name) for part in parts]) for name in ("A", "E"))
        return cls(A, E, {}, parts[0].rectified)


_OfImages = Callable[[ModelView], Tensor]  # a number for each image (n,)


@dataclass(frozen=True)
class ImageObjective:
    """`value`: what is raised, a number for each image. `measure`: what an image reached. `layers`: those they read.

    Objectives add, subtract and scale by numbers. A negative one asks what inhibits: it is measured before the ReLU,
    because after it nothing is below zero.
    """

    value: _OfImages
    measure: _OfImages
    layers: tuple[str, ...] = ()

    def __add__(self, other: "ImageObjective") -> "ImageObjective":
        layers = tuple(dict.fromkeys(self.layers + other.layers))
        return ImageObjective(
            lambda seen: self.value(seen) + other.value(seen),
            lambda seen: self.measure(seen) + other.measure(seen),
            layers,
        )

    def __mul__(self, weight: float | int) -> "ImageObjective":
        if not np.isfinite(weight):
            raise Refused(f"an objective is scaled by a finite number, not by {weight}")

        def below(seen: ModelView) -> ModelView:
            return replace(seen, rectified=False) if weight < 0 else seen

        return ImageObjective(
            lambda seen: weight * self.value(below(seen)),
            lambda seen: weight * self.measure(below(seen)),
            self.layers,
        )

    __rmul__ = __mul__

    def __neg__(self) -> "ImageObjective":
        return self * -1

    def __sub__(self, other: "ImageObjective") -> "ImageObjective":
        return self + -other


def neuron_response(number: int) -> ImageObjective:
    """Mean response of a neuron over positions, raised before the ReLU and measured after it."""
    return ImageObjective(lambda seen: seen.A[:, number].mean((1, 2)), lambda seen: seen.passed[:, number].mean((1, 2)))


def position_response(number: int, row: int | None = None, column: int | None = None) -> ImageObjective:
    """Response of a neuron at one position of the map, the middle by default."""

    def at(A: Float[Tensor, "n u h w"]) -> Float[Tensor, " n"]:
        return A[:, number, A.shape[2] // 2 if row is None else row, A.shape[3] // 2 if column is None else column]

    return ImageObjective(lambda seen: at(seen.A), lambda seen: at(seen.passed))


def direction_response(d: Float[np.ndarray, " u"], cosine_power: float | int = 1) -> ImageObjective:
    """Mean response of a direction over positions, times a power of the cosine (Carter et al. 2019).

    The cosine is that of the direction with the layer's mean activation: it penalises images that excite every unit.
    """
    return _each_direction(torch.from_numpy(np.asarray(d, np.float32))[None], cosine_power)


def direction_responses(D: Float[Tensor, "n u"], cosine_power: float | int = 1) -> ImageObjective:
    """The same for a batch in which every image has its own direction."""
    return _each_direction(D, cosine_power)


def _each_direction(D: Float[Tensor, "m u"], power: float | int) -> ImageObjective:
    inhibiting = not bool((D > 0).any())

    def response(A: Float[Tensor, "n u h w"]) -> Float[Tensor, " n"]:
        return torch.einsum("nuhw,nu->nhw", A, D.to(A.device).expand(len(A), -1)).mean((1, 2))

    def value(seen: ModelView) -> Float[Tensor, " n"]:
        found, held = response(seen.A), (seen.A if inhibiting else seen.passed).mean((2, 3))
        cosine = (normalize(held, dim=1) * normalize(D.to(held.device), dim=1)).sum(1)
        factor = cosine.clamp(min=LEAST_COSINE) ** power
        return torch.where(found > 0, found * factor, found * LEAST_COSINE**power)

    return ImageObjective(value, lambda seen: response(seen.A if inhibiting else seen.passed))


def whiten_directions(
    D: Float[np.ndarray, "k u"], moment: Float[np.ndarray, "u u"], damping: float = _DAMPING
) -> Float[np.ndarray, "k u"]:
    """Directions times the inverse of the second moment of activations (u, u), each with its former length.

    What many images share counts less in them. `damping`: a share of the mean variance, added to every variance.
    """
    ridge = damping * np.trace(moment) / len(moment) + np.finfo(np.float32).tiny
    white = np.linalg.solve(moment.astype(np.float64) + ridge * np.eye(len(moment)), D.T.astype(np.float64)).T
    lengths = np.linalg.norm(D, axis=1, keepdims=True) / np.linalg.norm(white, axis=1, keepdims=True)
    return (white * lengths).astype(np.float32)


def text_logit(clip: Clip, text: str) -> ImageObjective:
    """The logit of a text: the cosine of image and text times the model's logit scale."""
    if not text.strip():
        raise Refused("the text is empty; give a word or a sentence")
    t = torch.from_numpy(clip.encode_texts([text])[0]).to(clip.device)
    scale = float(clip.model.logit_scale.detach().exp())

    def logit(seen: ModelView) -> Float[Tensor, " n"]:
        return scale * normalize(seen.E.float(), dim=1) @ t

    return ImageObjective(logit, logit)


def layer_energy() -> ImageObjective:
    """Mean square of the layer's map: what excites the layer as a whole (DeepDream)."""

    def energy(seen: ModelView) -> Float[Tensor, " n"]:
        return seen.passed.square().mean((1, 2, 3))

    return ImageObjective(energy, energy)


def each_its_own(objectives: Sequence[ImageObjective], repeats: int = 1) -> ImageObjective:
    """One objective for a batch: the first `repeats` images belong to the first of `objectives`, and so on."""
    if any(each.layers for each in objectives):
        raise Refused("an objective that reads lower layers is of a whole batch; draw it by itself")

    def joined(way: str, seen: ModelView) -> Float[Tensor, " n"]:
        parts = zip(objectives, seen.split(repeats), strict=True)
        return torch.cat([getattr(objective, way)(part) for objective, part in parts])

    return ImageObjective(lambda seen: joined("value", seen), lambda seen: joined("measure", seen))


def attribute_layers(
    clip: Clip, seen: ModelView, value: Float[Tensor, " n"], paths: Sequence[str]
) -> dict[str, Tensor]:
    """What lower layers add to a value: {path: map times rectified gradient (n, c, h, w)}; the gradient is constant."""
    gradients = torch.autograd.grad(value.sum(), [seen.maps[path] for path in paths], retain_graph=True)
    pairs = zip(paths, gradients, strict=True)
    return {path: clip.layer_map(path, seen.maps[path] * gradient.relu()) for path, gradient in pairs}


def diverse(clip: Clip, objective: ImageObjective, path: str, repeats: int, weight: float | int = 1) -> ImageObjective:
    """An objective, less a penalty on images of one target that are alike.

    Alike are images whose attributions to the layer `path` point the same way (Goh et al. 2021, appendix). `repeats`
    consecutive images of the batch are of one target.
    """

    def value(seen: ModelView) -> Float[Tensor, " n"]:
        found = objective.value(seen)
        shares = attribute_layers(clip, seen, found, [path])[path].sum((2, 3))
        return found - weight * found.detach().abs() * _likeness(shares, repeats)

    return ImageObjective(value, objective.measure, tuple(dict.fromkeys((*objective.layers, path))))


def _likeness(a: Float[Tensor, "n c"], repeats: int) -> Float[Tensor, " n"]:
    """Mean cosine of each image's attribution (n, c) with those of the other images of its target."""
    a = normalize(a.unflatten(0, (-1, repeats)), dim=2)
    cosines = a @ a.transpose(1, 2)
    return ((cosines.sum(2) - cosines.diagonal(dim1=1, dim2=2)) / (repeats - 1)).flatten()
