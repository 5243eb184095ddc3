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
from jaxtyping import Float
from open_clip.modified_resnet import ModifiedResNet
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from atlas.errors import Refused
from atlas.model.clip import Clip, Pictures

FEWEST_PICTURES = 20  # least number of images of a theme, and of others
_PENALTY = 0.01  # C of the logistic regression; small, since there are more channels than images
_FOLDS = 5
_TOWER_PARTS = (
    "visual.transformer.resblocks",
    "visual.trunk.blocks",
    "visual.trunk.stages",
)  # blocks or stages of a tower


@dataclass(frozen=True, eq=False)
class Theme:
    """Weights of the probes by layer, and their mean cross-validated accuracy (0.5 is chance)."""

    weights: Mapping[str, Float[np.ndarray, " c"]]
    accuracy: float

    @classmethod
    def learn(cls, clip: Clip, pictures: Pictures, others: Pictures, at: Sequence[str] | None = None) -> "Theme":
        """Fit probes that tell `pictures` of a theme from `others`.

        `at`: paths of layers; those of `lower_layers` if None. Raises `Refused` for fewer than 20 images of either
        kind, and for an unknown layer.
        """
        seen = [mean_over_positions(clip, each, at or lower_layers(clip)) for each in (pictures, others)]
        sizes = [len(next(iter(each.values()))) for each in seen]
        if min(sizes) < FEWEST_PICTURES:
            raise Refused(f"a theme is learnt from {FEWEST_PICTURES} pictures and as many others at least, got {sizes}")
        y, weights, right = np.repeat([1, 0], sizes), {}, []
        for path in seen[0]:
            X = np.concatenate([each[path] for each in seen])
            probe = make_pipeline(StandardScaler(), LogisticRegression(C=_PENALTY, class_weight="balanced"))
            right.append(cross_val_score(probe, X, y, cv=_FOLDS, scoring="balanced_accuracy").mean())
            scale, fitted = (step for _, step in probe.fit(X, y).steps)
            w = (fitted.coef_[0] / scale.scale_).astype(np.float32)
            weights[path] = w / np.abs(w).max()
        return cls(weights, float(np.mean(right)))


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
