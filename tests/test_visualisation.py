"""Drawings drive what they are drawn for, on every family of towers, and leave the model as it was."""

import numpy as np
import pytest
import torch
from PIL import Image

from atlas.dream.canvas import ImageStyle
from atlas.dream.facets import Theme, lower_layers, record_outputs
from atlas.dream.objectives import direction_responses
from atlas.dream.prior import Prior
from atlas.dream.visualisation import directions_at_once, visualise
from atlas.errors import Refused
from atlas.model.clip import Clip

LIGHT = ImageStyle((0.78, 0.73, 0.69))
NEURONS = [380, 353, 632, 813]
STEPS = 40
SLOW_TOWERS = [
    pytest.param(name, marks=pytest.mark.slow) for name in ("resnet", "vit-average", "timm-vit", "timm-convnext")
]
EARLY = 4  # steps after which roundings have not grown yet


@pytest.fixture(scope="module")
def plain(clip):
    return visualise(clip, NEURONS, steps=STEPS, style=LIGHT)


@pytest.fixture(scope="module")
def build(towers):
    return lambda name: towers(name, redrawn=False)


def responses(clip: Clip, images: np.ndarray) -> np.ndarray:
    return np.maximum(clip.activations(images), 0).mean((2, 3))


def test_each_drawing_drives_its_own_neuron_most(clip, plain):
    images = np.concatenate([one.images for one in plain])
    assert images.shape == (4, 112, 112, 3)
    drawn = responses(clip, images)[:, NEURONS]
    assert (drawn.argmax(0) == np.arange(4)).all()
    assert (drawn.diagonal() > 3 * responses(clip, np.full((1, 96, 96, 3), 190, np.uint8))[0, NEURONS]).all()
    reached = np.array([one.reached[0] for one in plain])
    assert reached == pytest.approx(drawn.diagonal(), rel=0.6), "views turn and shrink it, but it is the same picture"
    assert reached.min() > 0.02


def alike(one, other) -> float:
    """Correlation of two drawings' first pictures, a little blurred: roundings grow as an optimisation goes on."""
    small = (Image.fromarray(each.images[0]).resize((28, 28), Image.Resampling.BOX) for each in (one, other))
    return float(np.corrcoef([np.asarray(each, float).ravel() for each in small])[0, 1])


def test_a_drawing_is_the_same_again_and_beside_others(clip):
    few = {"steps": 2 * EARLY, "style": LIGHT}
    alone, again = (visualise(clip, NEURONS[1], **few)[0] for _ in range(2))
    beside = visualise(clip, [7, NEURONS[1], 9], **few)[1]
    for found in (again, beside):
        np.testing.assert_array_equal(alone.images, found.images)
        np.testing.assert_array_equal(alone.reached, found.reached)
    assert alike(alone, visualise(clip, NEURONS[1], **few, seed=1)[0]) < 0.92


def test_what_a_prior_knows_of_a_target_does_not_depend_on_the_others(clip):
    x = torch.from_numpy(np.random.default_rng(0).random((9, 3, 112, 112), np.float32))
    D = torch.eye(clip.neurons)[[5, 12, 700]]
    whole = Prior.learn(clip, direction_responses(D.repeat_interleave(3, 0)), x, 3)
    alone = Prior.learn(clip, direction_responses(D[2:].repeat_interleave(3, 0)), x[6:], 1)
    for path, maps in alone.sorted_maps.items():
        torch.testing.assert_close(whole.part([2]).sorted_maps[path], maps, rtol=0, atol=0)
    torch.testing.assert_close(whole.part([2]).floor, alone.floor, rtol=0, atol=0)


@pytest.mark.slow
def test_a_direction_of_any_length_is_drawn_as_its_neuron_is(clip):
    few = {"steps": 3 * EARLY, "style": LIGHT}
    D = np.zeros((1, clip.neurons), np.float32)
    D[0, NEURONS[1]] = 1e-6
    one, found = visualise(clip, NEURONS[1], **few)[0], visualise(clip, D, **few)[0]
    early = few | {"steps": EARLY}
    assert alike(visualise(clip, D, **early)[0], visualise(clip, NEURONS[1], **early)[0]) > 0.95
    assert 0.3e-6 < found.reached[0] / one.reached[0] < 3e-6


@pytest.mark.parametrize("name", ["vit", *SLOW_TOWERS])
def test_every_tower_is_drawn_for_and_left_as_it_was(build, name):
    clip = build(name)
    before = {path: tensor.clone() for path, tensor in clip.model.state_dict().items()}
    few, many = (visualise(clip, [0, 1, 2, 3], steps=steps) for steps in (1, 60))
    assert sum(one.reached[0] for one in many) > 1.1 * abs(sum(one.reached[0] for one in few))
    assert many[0].images.dtype == np.uint8
    assert all(torch.equal(before[path], tensor) for path, tensor in clip.model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in clip.model.modules())
    assert not any(parameter.requires_grad for parameter in clip.model.parameters())


def test_more_than_fit_at_once_come_in_order(build):
    size = directions_at_once(build("vit"))
    found = visualise(build("vit"), range(size + 2), steps=2)
    assert len(found) == size + 2
    np.testing.assert_array_equal(found[-1].images, visualise(build("vit"), size + 1, steps=2)[0].images)


@pytest.mark.slow
def test_diverse_drawings_are_less_alike(clip):
    def likeness(diversity: float) -> float:
        one = visualise(clip, NEURONS[1], repeats=3, steps=STEPS, diversity=diversity, style=LIGHT)[0]
        assert one.images.shape[0] == len(one.reached) == 3
        shown = np.maximum(clip.activations(one.images, lower_layers(clip)[-1]), 0).mean((2, 3))
        return np.corrcoef(shown)[np.triu_indices(3, 1)].mean()

    assert likeness(10.0) < likeness(0.0) - 0.2


@pytest.mark.slow
def test_a_theme_shows_in_what_is_drawn(clip, plain):
    random = np.random.default_rng(0)
    stripes = np.repeat(random.integers(0, 256, (30, 12, 1, 1), np.uint8), 8, 1).repeat(96, 2).repeat(3, 3)
    blots = random.integers(0, 256, (30, 12, 12, 1), np.uint8).repeat(8, 1).repeat(8, 2).repeat(3, 3)
    theme = Theme.learn(clip, stripes, blots)
    assert theme.accuracy > 0.9
    assert np.mean(theme.seen_in(clip, stripes)) > 0.9 > 0.7 > np.mean(theme.seen_in(clip, blots))
    path, w = next(iter(theme.weights.items()))

    def suits(drawings) -> float:
        images = np.concatenate([one.images for one in drawings])
        return float((np.maximum(clip.activations(images, path), 0).mean((2, 3)) @ w).mean())

    themed = visualise(clip, NEURONS, steps=STEPS, theme=theme, strength=1, style=LIGHT)
    assert suits(themed) > suits(plain)
    none, without = (visualise(clip, 0, steps=2, theme=each, strength=0)[0] for each in (theme, None))
    np.testing.assert_array_equal(none.images, without.images)


def test_a_theme_of_nothing_tells_nothing(clip):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 96, 96, 3), np.uint8)
    theme = Theme.learn(clip, pixels[:30], pixels[30:])
    assert 0.2 < theme.accuracy < 0.8
    assert all(np.abs(w).max() == pytest.approx(1) for w in theme.weights.values())
    with pytest.raises(Refused, match="20 pictures"):
        Theme.learn(clip, pixels[:10], pixels[30:])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet", "layer3.0"),
        ("vit", "transformer.resblocks.0"),
        ("timm-vit", "trunk.blocks.2"),
        ("timm-convnext", "trunk.stages.1"),
    ],
)
def test_themes_are_told_at_lower_layers(build, name, expected):
    clip, path = build(name), f"visual.{expected}"
    assert lower_layers(clip)[0] == path
    with record_outputs(clip.model, [path]) as maps:
        x = torch.rand(2, 3, clip.image_size, clip.image_size, requires_grad=True)
        out = clip.respond(x)
    gradient = torch.autograd.grad(out.sum(), maps[path])[0]
    assert gradient.abs().sum() > 0, "what is kept must lie on the way to the neurons"
    assert visualise(clip, 0, repeats=2, steps=2)[0].images.shape[0] == 2


def test_a_theme_above_the_neurons_is_refused(clip):
    low = Clip("mini", layer="visual.layer2")
    with pytest.raises(Refused, match=r"learnt at visual.layer3.0, which does not lie below visual.layer2"):
        visualise(low, 0, theme=Theme({"visual.layer3.0": np.ones(512, np.float32)}, 1.0))
    with pytest.raises(Refused, match="no layers below"):
        lower_layers(low)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (1024, "neuron 1024 is out of range: visual.layer4 has neurons 0 to 1023"),
        ([3, -1], "neuron -1 is out of range"),
        (np.ones((1, 3)), r"directions of visual.layer4 are \(k, 1024\), got \(1, 3\)"),
        (np.zeros((1, 1024)), "zero or not finite"),
        (np.full((1, 1024), np.nan), "zero or not finite"),
    ],
)
def test_what_cannot_be_drawn_is_refused(clip, what, message):
    with pytest.raises(Refused, match=message):
        visualise(clip, what)


def test_counts_below_one_are_refused(clip):
    with pytest.raises(Refused, match="steps is 0"):
        visualise(clip, 0, steps=0)
    with pytest.raises(Refused, match="repeats is 0"):
        visualise(clip, 0, repeats=0)


@pytest.mark.parametrize(
    "options", [{"strength": np.nan}, {"diversity": np.inf}, {"style": ImageStyle(ground=(0.0, 0.5, 0.5))}]
)
def test_what_is_no_number_or_colour_is_refused(clip, options):
    with pytest.raises(Refused, match=r"(strength|diversity|ground) is"):
        visualise(clip, 0, **options)
