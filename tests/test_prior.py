"""The prior: an objective counts below its floor and ends above it, and sorted activations say what, not where."""

import numpy as np
import pytest
import torch

from atlas.dream.facets import Theme, steering
from atlas.dream.objectives import PIXELS, ImageObjective, ModelView, neuron_response
from atlas.dream.prior import Prior, like_real, sort_maps
from tests.fakes import PlantedClip

CLIP = PlantedClip(torch.ones(1, 3, 1, 1), 8)
GROUND = torch.full((3, 1, 1), 0.5)


def view(level: float, x: torch.Tensor | None = None) -> ModelView:
    A = torch.full((2, 1, 3, 3), float(level), requires_grad=True)
    return ModelView(A, torch.zeros(2, 1), {PIXELS: torch.full((2, 3, 8, 8), 0.5) if x is None else x})


def prior_of(x: torch.Tensor, floor: float = 1.0) -> Prior:
    maps = sort_maps(CLIP, view(0, x), [PIXELS], GROUND)
    return Prior(maps, torch.ones(2), torch.full((2,), floor), GROUND)


def pull(objective: ImageObjective, level: float) -> float:
    """The gradient of an objective with respect to the neuron, at a level of its activation."""
    seen = view(level)
    return float(torch.autograd.grad(objective.value(seen).sum(), seen.A)[0].sum())


def test_an_objective_counts_below_its_floor_and_not_far_above_it() -> None:
    regular = like_real(CLIP, neuron_response(0), prior_of(torch.rand(2, 3, 8, 8)))
    below, at, above = (pull(regular, level) for level in (0.1, 1.0, 2.0))
    assert at == pytest.approx(below / 2, rel=0.01)
    assert 0 < above < below / 100
    assert regular.measure(view(0.7)).tolist() == pytest.approx([0.7, 0.7])


def test_the_same_pixels_in_other_places_are_as_near_and_other_pixels_are_not() -> None:
    random = torch.Generator().manual_seed(0)
    blocks = torch.rand(2, 3, 4, 4, generator=random)
    x = blocks.repeat_interleave(2, 2).repeat_interleave(2, 3)
    moved = blocks.flatten(2)[:, :, torch.randperm(16, generator=random)].unflatten(2, (4, 4))
    moved = moved.repeat_interleave(2, 2).repeat_interleave(2, 3)
    regular = like_real(CLIP, 0.0 * neuron_response(0), prior_of(x))
    assert regular.value(view(1, moved)).tolist() == pytest.approx([0, 0], abs=1e-6)
    assert regular.value(view(1, 1 - x)).max() < -0.05


def test_a_theme_ends_where_the_neuron_would_lose_too_much() -> None:
    weights = {PIXELS: np.ones(3, np.float32)}
    clip = PlantedClip(torch.ones(1, 3, 1, 1), 8)
    clip.layer_map = lambda path, raw: raw  # type: ignore[method-assign]

    def steered(level: float) -> float:
        x = torch.full((2, 3, 8, 8), level / 3 + 0.5, requires_grad=True)
        A, E = clip.respond_and_embed(x)
        seen = ModelView(A, E, {PIXELS: x})
        floor = torch.full((2,), 0.5)
        return float(
            (
                steering(clip, neuron_response(0), Theme(weights, 1.0), floor=floor).value(seen)[0] / x[0, 0, 0, 0]
            ).detach()
        )

    low, at, high = (steered(level) for level in (0.1, 0.51, 1.2))
    assert at == pytest.approx(high / 2, rel=0.1)
    assert 0 < low < high / 100
