"""Themes of faceted feature visualisations, learnt from images (Goh et al. 2021, appendix).

A theme is a set of linear probes, one at each of some lower layers, that tell images of the theme from others. The
images can be those of a Store that are nearest to a text, so no labelled data set is needed.

    A (n, c, h, w) a lower layer's maps, after its ReLU    w (c,) the probe's weights, the largest 1
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from open_clip.modified_resnet import ModifiedResNet
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from atlas.dream.objectives import PIXELS, ImageObjective, ModelView, attribute_layers
from atlas.errors import Refused
from atlas.model.clip import Clip, Pictures

FEWEST_PICTURES = 20  # least number of images of a theme, and of others
_PENALTY = 0.01  # C of the logistic regression; small, since there are more channels than images
_FOLDS = 5
_SHARPNESS = 8.0  # how suddenly steering ends at the floor
_TOWER_PARTS = (
    "visual.transformer.resblocks",
    "visual.trunk.blocks",
    "visual.trunk.stages",
)  # blocks or stages of a tower


@dataclass(frozen=True, eq=False)
class Theme:
    """Weights of the probes by layer, their mean cross-validated accuracy (0.5 is chance), and a held-out witness."""

    weights: Mapping[str, Float[np.ndarray, " c"]]
    accuracy: float
    witness: "Witness | None" = None

    @classmethod
    def learn(cls, clip: Clip, pictures: Pictures, others: Pictures, at: Sequence[str] | None = None) -> "Theme":
        """Fit probes that tell `pictures` of a theme from `others`, on every second image of each.

        The rest are held out: with them a witness is learnt, who says how well a drawing shows the theme. `at`: paths
        of layers; those of `lower_layers` if None. Raises `Refused` for fewer than 20 images of either kind, and for
        an unknown layer.
        """
        seen = [mean_over_positions(clip, each, at or lower_layers(clip)) for each in (pictures, others)]
        sizes = [len(next(iter(each.values()))) for each in seen]
        if min(sizes) < FEWEST_PICTURES:
            raise Refused(f"a theme is learnt from {FEWEST_PICTURES} pictures and as many others at least, got {sizes}")
        weights, right = {}, []
        for path in seen[0]:
            X, y = np.concatenate([each[path][::2] for each in seen]), _classes([each[path][::2] for each in seen])
            right.append(cross_val_score(_probe(), X, y, cv=_FOLDS, scoring="balanced_accuracy").mean())
            w = _weights(X, y)
            weights[path] = w / np.abs(w).max()
        halves = [{path: X[1::2] for path, X in each.items()} for each in seen]
        other = {path: X[::2] for path, X in seen[1].items()}
        return cls(weights, float(np.mean(right)), Witness.learn(halves, other))

    def seen_in(self, clip: Clip, images: UInt8[np.ndarray, "n h w 3"]) -> list[float | None]:
        """For each image, the share of other images that the witness finds less like the theme."""
        if self.witness is None:
            return [None] * len(images)
        return self.witness.shares(mean_over_positions(clip, images, list(self.witness.weights))).tolist()


@dataclass(frozen=True, eq=False)
class Witness:
    """Probes of a theme on images that the theme was not learnt from, and the sorted scores of other images."""

    weights: Mapping[str, Float[np.ndarray, " c"]]
    scores: Float[np.ndarray, " n"]

    @classmethod
    def learn(
        cls, halves: Sequence[Mapping[str, Float[np.ndarray, "_ _"]]], others: Mapping[str, Float[np.ndarray, "_ _"]]
    ) -> "Witness":
        """Fit on mean activations of the theme's images and of others; `others`: those whose scores are kept."""
        weights = {}
        for path in halves[0]:
            some = [each[path] for each in halves]
            X = np.concatenate(some)
            weights[path] = _weights(X, _classes(some))
        scorer = cls(weights, np.zeros(0, np.float32))
        return cls(weights, np.sort(scorer.judge(others)))

    def judge(self, seen: Mapping[str, Float[np.ndarray, "n c"]]) -> Float[np.ndarray, " n"]:
        """The sum of the probes' scores."""
        return np.sum([seen[path] @ w for path, w in self.weights.items()], axis=0)

    def shares(self, seen: Mapping[str, Float[np.ndarray, "n c"]]) -> Float[np.ndarray, " n"]:
        """The shares of other images with lower scores."""
        return np.searchsorted(self.scores, self.judge(seen)) / len(self.scores)


def _probe() -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=_PENALTY, class_weight="balanced"))


def _weights(X: Float[np.ndarray, "n c"], y: Int[np.ndarray, " n"]) -> Float[np.ndarray, " c"]:
    """A probe's weights for activations that are not standardised."""
    scale, fitted = (step for _, step in _probe().fit(X, y).steps)
    return (fitted.coef_[0] / scale.scale_).astype(np.float32)


def _classes(some: Sequence[Float[np.ndarray, "_ c"]]) -> Int[np.ndarray, " n"]:
    return np.repeat([1, 0], [len(each) for each in some])


def steering(
    clip: Clip,
    objective: ImageObjective,
    theme: Theme,
    strength: float | int = 1,
    floor: Float[Tensor, " n"] | None = None,
) -> ImageObjective:
    """What lower layers add to an objective by channels that the probes of a theme weigh; add it to the objective.

    `floor`: the measure of the objective at which steering ends, so that the strength lowers itself.
    """
    paths = list(theme.weights)
    weights = {path: torch.from_numpy(w).to(clip.device) for path, w in theme.weights.items()}

    def value(seen: ModelView) -> Float[Tensor, " n"]:
        shares = attribute_layers(clip, seen, objective.value(seen), paths)
        steered = torch.stack([torch.einsum("nchw,c->n", shares[path], weights[path]) for path in paths]).mean(0)
        if floor is None:
            return strength * steered
        return strength * torch.sigmoid(_SHARPNESS * (objective.measure(seen).detach() / floor - 1)) * steered / floor

    layers = tuple(dict.fromkeys((*objective.layers, *paths)))
    return ImageObjective(value, lambda seen: torch.zeros_like(objective.measure(seen)), layers)


def lower_layers(clip: Clip) -> list[str]:
    """The layers at which themes are probed, all below the first hooked layer.

    In a ResNet: every second block of the third stage, as in the paper. In other towers: every second block or stage of
    the later half. Raises `Refused` if there are none.
    """
    visual = clip.model.visual
    if isinstance(visual, ModifiedResNet):
        paths = [f"visual.layer3.{i}" for i in range(0, len(visual.layer3), 2)]
    else:
        paths = next((each for each in map(partial(_later, clip), _TOWER_PARTS) if each), [])
    if found := [path for path in paths if clip.precedes(path)]:
        return found
    raise Refused(f"no layers below {clip.layer} of {clip.name} are known to probe for themes; name some of layers()")


def _later(clip: Clip, parts: str) -> list[str]:
    """Every second block in the later half of a tower, without the last, which holds the neurons."""
    try:
        n = len(list(clip.model.get_submodule(parts).children()))
    except AttributeError:
        return []
    return [f"{parts}.{i}" for i in range((n - 1) // 2, n - 1, 2)]


def mean_over_positions(clip: Clip, pictures: Pictures, paths: Sequence[str]) -> dict[str, Float[np.ndarray, "n c"]]:
    """Activations of layers, averaged over positions, after the closing ReLU if there is one: {path: (n, c)}."""
    found = {}
    for path in paths:
        maps = clip.activations(pictures, path, "patches")
        found[path] = (np.maximum(maps, 0) if clip.rectified(path) else maps).mean((2, 3))
    return found


@contextmanager
def record_outputs(tower: nn.Module, paths: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Context that records the outputs of modules during a forward pass, within the autograd graph: {path: tensor}."""
    found: dict[str, Tensor] = {}

    def keep(path: str, output: Tensor) -> None:
        found[path] = output[0] if isinstance(output, tuple) else output

    with ExitStack() as hooks:
        for path in paths:
            hook = tower.get_submodule(path).register_forward_hook(lambda *call, path=path: keep(path, call[2]))
            hooks.callback(hook.remove)
        yield found


def view_through(
    clip: Clip, x: Float[Tensor, "n 3 s s"], tower: nn.Module | None = None, paths: Sequence[str] = ()
) -> ModelView:
    """What the model does with images (0 to 1), and the raw tensors of some lower layers; PIXELS are the images."""
    with record_outputs(tower or clip.model, [path for path in paths if path != PIXELS]) as maps:
        A, E = clip.respond_and_embed(x, tower)
    return ModelView(A, E, {PIXELS: x, **maps}, clip.rectified())
