"""A folded tower says what the model says, wherever it may stand in for it, and nowhere else."""

import numpy as np
import pytest
import torch
from torch import nn

from atlas.model.clip import _IMAGES_A_BATCH, Clip
from atlas.model.folding import fold_batch_norms


@pytest.fixture
def clip() -> Clip:
    """Trained weights: their norms do something, where open_clip's new ones are the identity."""
    return Clip("mini")


def noise(clip: Clip, n: int = 2 * _IMAGES_A_BATCH) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, clip.image_size, clip.image_size, 3), np.uint8)


def test_many_images_are_read_as_few_are(clip):
    pixels = noise(clip)
    few = np.concatenate([clip.encode_images(pixels[:2]), clip.encode_images(pixels[2:4])])
    assert np.abs(clip.encode_images(pixels)[:4] - few).max() < 1e-4
    assert np.ptp(few, axis=0).max() > 0.01, "the pictures' embeddings must differ, or nothing is compared"


@pytest.mark.parametrize("layer", ["visual.layer4", "visual.layer2.0", "visual.layer3.1.bn2", "visual.layer3.1.conv2"])
def test_every_layer_is_read_as_it_is(clip, layer):
    pixels = noise(clip)
    many, few = clip.activations(pixels, layer)[:2], clip.activations(pixels[:2], layer)
    assert np.abs(many - few).max() < 1e-3 * np.abs(few).max()


def test_a_folded_tower_has_no_norms_left_and_leaves_the_model_as_it_was(clip):
    before = {name: tensor.clone() for name, tensor in clip.model.state_dict().items()}
    tower = fold_batch_norms(clip.model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in tower.modules())
    after = clip.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert tower.visual.attnpool.k_proj.weight is clip.model.visual.attnpool.k_proj.weight, "shared, not copied"


def test_edited_weights_are_read(clip):
    pixels = noise(clip)
    before = clip.encode_images(pixels)
    clip.model.visual.layer4[1].conv2.weight.data.mul_(-3)  # .data: PyTorch's version counters do not see it
    edited = clip.encode_images(pixels)
    assert np.abs(edited - before).max() > 1e-3
    assert np.abs(edited[:2] - clip.encode_images(pixels[:2])).max() < 1e-4


def test_a_hook_is_obeyed(clip):
    pixels = noise(clip)
    hook = clip.model.visual.layer3[0].conv1.register_forward_hook(lambda _, __, output: torch.zeros_like(output))
    many, few = clip.encode_images(pixels), clip.encode_images(pixels[:2])
    hook.remove()
    assert np.abs(many[:2] - few).max() < 1e-5
    assert fold_batch_norms(clip.model) is not clip.model


def test_towers_that_do_not_fold_stay_themselves():
    vit = Clip("ViT-B-32")
    assert fold_batch_norms(vit.model) is vit.model
    training = Clip("mini").model.train()
    assert fold_batch_norms(training) is training
