"""What a Store knows about images, for feature visualisation: their style, and what lower layers do on real images.

An optimised image may activate a neuron in ways that no real image does. The prior compares the activations of lower
layers, sorted over positions, with those on the images that activate the neuron most (after VITAL, ICCV 2025). It says
what is in an image, and not where.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import torch
from jaxtyping import Float, Int
from open_clip.modified_resnet import ModifiedResNet
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from atlas.analysis.stats import strongest_rows
from atlas.dream.canvas import ImageStyle, affine_views
from atlas.dream.facets import lower_layers, view_through
from atlas.dream.objectives import PIXELS, ImageObjective, ModelView
from atlas.model.clip import Clip
from atlas.store.originals import original_pictures
from atlas.store.store import Store

FLOOR_TIMES = 2.2  # what a drawing should reach, relative to the best real image on the same views
REAL_IMAGES = 8  # images of each target that the prior is learnt from
_PUSH, _SHARPNESS = 1.0, 8.0  # weight of the objective far below its floor; how suddenly it ends there
_VIEWS_LEARNT, _SEED = 4, 1
_TINY = 1e-12

_STYLE_SAMPLE = 256  # thumbnails that the style is measured on
_FRAME = 4  # pixels along the edges of a thumbnail, whose median is the ground colour
_LEAST, _MOST = 0.05, 0.97  # of a ground colour: the logits of black and white are infinite


def image_style(store: Store) -> ImageStyle | None:
    """Ground colour, colours and spectrum of a Store's images, over a seeded sample of thumbnails; None without any."""
    if "image" not in store.counts:
        return None
    rows = store.positions("image")
    chosen = np.sort(np.random.default_rng(0).choice(rows, min(_STYLE_SAMPLE, len(rows)), replace=False))
    x = np.stack([_square(store.thumb(int(row)), store.request["thumb"]) for row in chosen])
    framed = np.ones(x.shape[1:3], bool)
    framed[_FRAME:-_FRAME, _FRAME:-_FRAME] = False
    ground = np.clip(np.median(x[:, framed].reshape(-1, 3), axis=0), _LEAST, _MOST)
    spread, axes = np.linalg.eigh(np.cov(x.reshape(-1, 3).T) + 1e-6 * np.eye(3))
    colours = (axes * np.sqrt(spread))[:, ::-1]
    frequencies, spectrum = _radial_spectrum(x.mean(3))
    scale = x.shape[1] / _side(store)
    red, green, blue = ground.tolist()
    found = tuple(tuple(row) for row in colours.tolist())
    return ImageStyle((red, green, blue), found, tuple((frequencies * scale).tolist()), tuple(spectrum.tolist()))


def store_prior(
    store: Store,
    clip: Clip,
    objective: Callable[[int], ImageObjective],
    rows: Int[np.ndarray, "k m"],
    style: ImageStyle | None = None,
    times: float | int = FLOOR_TIMES,
) -> "Prior":
    """The prior of k targets from m rows of the Store each; `objective(m)` is that of the batch with m images each."""
    pixels = original_pictures(store, clip, rows.ravel())
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(clip.device).float() / 255
    return Prior.learn(clip, objective(rows.shape[1]), x, len(rows), style, times)


def strongest_images(
    store: Store,
    D: Float[np.ndarray, "k d"],
    array: str = "mean",
    among: Int[np.ndarray, " r"] | None = None,
    m: int = REAL_IMAGES,
) -> Int[np.ndarray, "k m"]:
    """The m images with the largest products of an array of the Store (n, d) with each direction: rows (k, m).

    `among`: rows of images or words to choose from, in rising order; all images if None.
    """
    shards = store.of_kind("image") if among is None else store.of_kind(None)
    found = []
    for shard in shards:
        rows = shard.positions if among is None else np.intersect1d(shard.positions, among)
        if len(rows):
            found.append((rows, shard.array(array)[rows - shard.start].astype(np.float32) @ D.T))
    return strongest_rows(found, m)[0]


def _side(store: Store) -> int:
    size = store.request["model"]["preprocessing"]["size"]
    return int(size if isinstance(size, int) else size[0])


def _square(thumb: bytes, side: int) -> Float[np.ndarray, "s s 3"]:
    """A thumbnail as colours from 0 to 1, on a square."""
    return np.asarray(Image.open(BytesIO(thumb)).convert("RGB").resize((side, side)), np.float32) / 255


def _radial_spectrum(x: Float[np.ndarray, "n s s"]) -> tuple[Float[np.ndarray, " f"], Float[np.ndarray, " f"]]:
    """Mean amplitude of the waves of images, by frequency (cycles a pixel)."""
    side = x.shape[1]
    amplitude = np.sqrt((np.abs(np.fft.fft2(x - x.mean((1, 2), keepdims=True))) ** 2).mean(0))
    number = np.round(np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side))) * side).astype(int)
    kept = (number >= 1) & (number <= side // 2)
    sums = np.bincount(number[kept], amplitude[kept]) / np.maximum(np.bincount(number[kept]), 1)
    return np.arange(1, len(sums)) / side, np.maximum(sums[1:], 1e-6)


@dataclass(frozen=True, eq=False)
class Prior:
    """What lower layers do on real images of each of k targets, and the measure that the best of these reaches.

    `sorted_maps`: {path: (k, c, positions)}, every channel sorted over positions and averaged over images and views.
    `floor`: the measure below which a drawing is raised towards its target.
    """

    sorted_maps: Mapping[str, Float[Tensor, "k c p"]]
    best: Float[Tensor, " k"]
    floor: Float[Tensor, " k"]
    ground: Float[Tensor, "3 1 1"]

    @classmethod
    def learn(
        cls,
        clip: Clip,
        objective: ImageObjective,
        x: Float[Tensor, "n 3 s s"],
        k: int,
        style: ImageStyle | None = None,
        times: float | int = FLOOR_TIMES,
    ) -> "Prior":
        """Learn from real images `x` (0 to 1), the same number for each of k targets, seen in random views.

        What is learnt of a target does not depend on the others. `objective`: of this batch. `times`: the floor,
        relative to the image on which the measure is largest.
        """
        random, found = torch.Generator().manual_seed(_SEED), dict[str, Tensor]()
        paths = [PIXELS, *prior_layers(clip)]
        tower, measured = clip.stand_in(), []
        ground = torch.tensor((style or ImageStyle()).ground, device=x.device).view(3, 1, 1)
        with torch.no_grad():
            for _ in range(_VIEWS_LEARNT):
                random_view, seen = torch.rand(4, len(x) // k, generator=random), []
                # each target by itself, because numbers differ with the size of a batch
                for i, own in enumerate(x.unflatten(0, (k, -1))):
                    views = affine_views(own, x.shape[-1], ground, random_view)
                    seen.append(view_through(clip, views, tower, paths))
                    for path, maps in sort_maps(clip, seen[-1], paths, ground).items():
                        found.setdefault(path, maps.new_zeros(k, *maps.shape[1:]))[i] += maps.mean(0) / _VIEWS_LEARNT
                measured.append(objective.measure(ModelView.joined(seen)))
        best = torch.stack(measured).mean(0).unflatten(0, (k, -1)).amax(1)
        return cls(found, best, (times * best).clamp(min=_TINY), ground)

    def part(self, targets: Sequence[int]) -> "Prior":
        """The prior of some of the targets, by their positions."""
        maps = {path: each[targets] for path, each in self.sorted_maps.items()}
        return Prior(maps, self.best[targets], self.floor[targets], self.ground)


def like_real(clip: Clip, objective: ImageObjective, prior: Prior, repeats: int = 1) -> ImageObjective:
    """An objective with a prior: the distance to real images falls, and the objective counts below its floor.

    So the prior's weight finds itself: it is as large as the floor allows.
    """
    floor = prior.floor.repeat_interleave(repeats)
    real = {path: each.repeat_interleave(repeats, 0) for path, each in prior.sorted_maps.items()}
    scale = {path: each.square().mean((1, 2)).clamp(min=_TINY) for path, each in real.items()}

    def value(seen: ModelView) -> Float[Tensor, " n"]:
        needed = _PUSH * torch.sigmoid(_SHARPNESS * (1 - objective.measure(seen).detach() / floor))
        found = sort_maps(clip, seen, list(real), prior.ground)
        apart = [(found[path] - each).square().mean((1, 2)) / scale[path] for path, each in real.items()]
        return needed * objective.value(seen) / floor - torch.stack(apart).mean(0)

    return ImageObjective(value, objective.measure, tuple(dict.fromkeys((*objective.layers, *real))))


def sort_maps(
    clip: Clip, seen: ModelView, paths: Sequence[str], ground: Float[Tensor, "3 1 1"]
) -> dict[str, Float[Tensor, "n c p"]]:
    """The maps of lower layers, every channel sorted over positions; of pixels, how they differ from the ground.

    Pixels have six channels: three colours, and their three differences.
    """
    found = {}
    for path in paths:
        if path == PIXELS:
            x = avg_pool2d(seen.maps[path] - ground, 2)
            raw = torch.cat([x, x - x.roll(1, 1)], 1)
        else:
            raw = clip.layer_map(path, seen.maps[path])
        found[path] = raw.flatten(2).sort(2).values
    return found


def prior_layers(clip: Clip) -> list[str]:
    """The layers that the prior compares: the first stages of a ResNet, and the first and last block of the third.

    In other towers: every second block or stage below the layer of the neurons.
    """
    visual = clip.model.visual
    if isinstance(visual, ModifiedResNet):
        paths = ["visual.layer1", "visual.layer2", "visual.layer3.0", f"visual.layer3.{len(visual.layer3) - 1}"]
    else:
        paths = lower_layers(clip)
    return [path for path in dict.fromkeys(paths) if clip.precedes(path)]
