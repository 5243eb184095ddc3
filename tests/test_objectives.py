"""Objectives: their gradients are right, they add and scale, and hand-made networks are drawn as their answers say."""

import numpy as np
import pytest
import torch

from atlas.dream.objectives import (
    ImageObjective,
    ModelView,
    direction_response,
    direction_responses,
    each_its_own,
    layer_energy,
    neuron_response,
    position_response,
    text_logit,
    whiten_directions,
)
from atlas.dream.visualisation import visualise
from atlas.errors import Refused
from tests.fakes import PlantedClip

U, E = 5, 4
d = np.array([0.5, -1.0, 0, 2.0, 0.1], np.float32)
OBJECTIVES = {
    "neuron": neuron_response(3),
    "position": position_response(1, 2, 0),
    "middle": position_response(1),
    "direction": direction_response(d),
    "power": direction_response(d, 4),
    "inhibits": direction_response(-np.eye(U)[2]),
    "energy": layer_energy(),
    "sum": neuron_response(0) * 0.5 - position_response(2) + -neuron_response(4),
}


def view(n: int = 3) -> ModelView:
    random = torch.Generator().manual_seed(0)
    A = torch.randn(n, U, 3, 3, generator=random, dtype=torch.float64, requires_grad=True)
    return ModelView(A, torch.randn(n, E, generator=random, dtype=torch.float64, requires_grad=True), {})


def in_double(seen: ModelView, objective: ImageObjective) -> torch.Tensor:
    """The value at these maps, for finite differences: directions are of single precision, so maps are rounded."""
    return objective.value(ModelView(seen.A.float(), seen.E.float(), {}, seen.rectified)).double()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_agree_with_finite_differences(name: str) -> None:
    seen, objective = view(), OBJECTIVES[name]
    gradient = torch.autograd.grad(in_double(seen, objective).sum(), seen.A, allow_unused=True)[0]
    step, numeric = 1e-2, torch.zeros_like(seen.A)
    with torch.no_grad():
        for i in range(seen.A.numel()):
            moved = [seen.A.flatten().clone() for _ in range(2)]
            moved[0][i] += step
            moved[1][i] -= step
            up, down = (in_double(ModelView(m.view_as(seen.A), seen.E, {}), objective).sum() for m in moved)
            numeric.view(-1)[i] = (up - down) / (2 * step)
    assert gradient.abs().max() > 1e-3
    torch.testing.assert_close(gradient, numeric, atol=2e-3, rtol=2e-2)


def test_values_are_those_of_the_formulas() -> None:
    seen = view()
    A = seen.A.detach().numpy()
    a, passed = A.mean((2, 3)), np.maximum(A, 0).mean((2, 3))
    cosine = passed @ d / np.linalg.norm(passed, axis=1) / np.linalg.norm(d)
    single = ModelView(seen.A.float(), seen.E.float(), {})
    expected = np.where(a @ d > 0, a @ d * np.maximum(cosine, 0.1) ** 4, a @ d * 0.1**4)
    assert OBJECTIVES["power"].value(single).detach().numpy() == pytest.approx(expected, rel=1e-4)
    assert OBJECTIVES["power"].measure(single).detach().numpy() == pytest.approx(passed @ d, rel=1e-4)
    assert OBJECTIVES["middle"].value(single).detach().numpy() == pytest.approx(A[:, 1, 1, 1], rel=1e-4)
    assert OBJECTIVES["energy"].value(single).detach().numpy() == pytest.approx((np.maximum(A, 0) ** 2).mean((1, 2, 3)))


def test_objectives_add_and_scale() -> None:
    seen = view()
    one, other = neuron_response(0), neuron_response(1)
    for way in ("value", "measure"):
        both = getattr(2 * one + other, way)(seen)
        torch.testing.assert_close(both, 2 * getattr(one, way)(seen) + getattr(other, way)(seen))
    torch.testing.assert_close((one - other).value(seen), one.value(seen) - other.value(seen))
    with pytest.raises(Refused, match="finite"):
        _ = one * float("nan")


def test_what_inhibits_is_measured_before_the_relu() -> None:
    seen = view()
    for objective in (-neuron_response(2), direction_response(-np.eye(U, dtype=np.float32)[2])):
        single = ModelView(seen.A.float(), seen.E.float(), {})
        torch.testing.assert_close(objective.measure(single), -single.A[:, 2].mean((1, 2)))
    assert (neuron_response(2).measure(seen) >= 0).all()


def test_a_batch_holds_objectives_of_its_own() -> None:
    seen = view(4)
    joined = each_its_own([neuron_response(0), -neuron_response(1)], repeats=2)
    a = seen.A.mean((2, 3))
    torch.testing.assert_close(joined.value(seen), torch.cat([a[:2, 0], -a[2:, 1]]))
    D = torch.eye(U)[[0, 0, 1, 1]]
    alike = direction_responses(D).measure(ModelView(seen.A.float(), seen.E.float(), {}))
    torch.testing.assert_close(alike.double(), seen.A.relu().mean((2, 3))[range(4), [0, 0, 1, 1]], rtol=1e-4, atol=1e-5)


def test_what_many_images_share_counts_less_in_a_whitened_direction() -> None:
    random = np.random.default_rng(0)
    A = random.normal(size=(2000, 3)) * [1, 1, 0.3]
    A[:, 1] = A[:, 0] + 0.1 * A[:, 1]  # the first two nearly always agree
    D = np.array([[1.0, 0.9, 0], [0, 0, 2]])
    white = whiten_directions(D, A.T @ A / len(A), damping=1e-6)
    assert np.linalg.norm(white, axis=1) == pytest.approx(np.linalg.norm(D, axis=1), rel=1e-5)
    assert white[0, 1] < 0 < white[0, 0], "it asks for what tells the first from the second"
    assert abs(white[1, :2]).max() < 0.1 * white[1, 2]
    isotropic = whiten_directions(D, np.eye(3))
    assert isotropic == pytest.approx(D, rel=1e-5)


def gabors(angles: list[float], wavelength: float = 8, size: int = 21) -> torch.Tensor:
    """Grey filters (k, 3, size, size), each of one orientation (degrees of its stripes' normal)."""
    y, x = np.mgrid[:size, :size] - size // 2
    found = []
    for angle in np.radians(angles):
        along = x * np.cos(angle) + y * np.sin(angle)
        wave = np.exp(-(x**2 + y**2) / (2 * (size / 4) ** 2)) * np.cos(2 * np.pi * along / wavelength)
        found.append(np.repeat((wave - wave.mean())[None], 3, 0))
    return torch.tensor(np.array(found), dtype=torch.float32)


def main_wave(image: np.ndarray) -> tuple[float, float]:
    """Orientation (degrees, 0 to 180) and wavelength (pixels) of the strongest waves in the middle of an image."""
    middle = image[8:-8, 8:-8].mean(2)
    n = len(middle)
    window = np.hanning(n)[:, None] * np.hanning(n)
    power = np.abs(np.fft.fft2((middle - middle.mean()) * window)) ** 2
    fy, fx = np.meshgrid(np.fft.fftfreq(n), np.fft.fftfreq(n), indexing="ij")
    keep = power > power.max() / 4
    turned = np.angle((power * np.exp(2j * np.arctan2(fy, fx)))[keep].sum()) / 2
    return np.degrees(turned) % 180, 1 / np.average(np.hypot(fy, fx)[keep], weights=power[keep])


@pytest.mark.slow
def test_gabors_are_drawn_with_their_angle_and_wavelength() -> None:
    angles, lengths = [0.0, 60, 120], []
    found = visualise(PlantedClip(gabors(angles), 48), range(3), steps=160)
    for angle, drawing in zip(angles, found, strict=True):
        turned, wavelength = main_wave(drawing.images[0].astype(float))
        assert abs((turned - angle + 90) % 180 - 90) < 10
        assert drawing.reached[0] > 0
        lengths.append(wavelength)
    assert 0.8 < np.median(lengths) / 8 < 1.25, (
        "a little longer than asked, since views are also seen from farther away"
    )


def saturation(image: np.ndarray) -> np.ndarray:
    return image.max(-1).astype(float) - image.min(-1)


@pytest.mark.slow
def test_colours_are_drawn_in_full_and_edges_no_more_than_the_middle() -> None:
    filters = torch.zeros(3, 3, 5, 5)
    for channel in range(3):
        filters[channel, channel], filters[channel, (channel + 1) % 3] = 1 / 25, -0.5 / 25
        filters[channel, (channel + 2) % 3] = -0.5 / 25
    found = visualise(PlantedClip(filters, 48), range(3))
    for channel, drawing in enumerate(found):
        image = drawing.images[0]
        middle = image[14:-14, 14:-14].reshape(-1, 3).mean(0) / 255
        assert middle[channel] - np.delete(middle, channel).mean() > 0.7
        saturated = saturation(image)
        edges = np.concatenate([saturated[:6].ravel(), saturated[-6:].ravel(), saturated[:, :6].ravel()])
        assert edges.mean() <= saturated[14:-14, 14:-14].mean()


def test_a_text_is_drawn_by_its_logit() -> None:
    clip = PlantedClip(gabors([0.0, 90]), 48)
    across, down = visualise(clip, [text_logit(clip, "across"), text_logit(clip, "down")], steps=60)
    assert abs((main_wave(across.images[0].astype(float))[0] + 90) % 180 - 90) < 25
    assert abs(main_wave(down.images[0].astype(float))[0] - 90) < 25
    assert across.reached[0] > 0
    with pytest.raises(Refused, match="the text is empty"):
        text_logit(clip, " ")


def test_a_sum_of_objectives_draws_both_and_a_negative_one_what_inhibits() -> None:
    clip = PlantedClip(gabors([0.0, 90]), 48)
    both, less = visualise(clip, [neuron_response(0) + neuron_response(1), -neuron_response(0)], steps=60)
    reached = np.maximum(clip.activations(both.images), 0).mean((2, 3))[0]
    assert min(reached) > 0.3 * max(reached)
    assert less.reached[0] > 0, "after the ReLU it would be 0 at most"
