"""Edits of a layer in a forward pass: against hooks written out by hand, on every family of towers."""

import numpy as np
import pytest
import torch

from atlas.model import layers
from atlas.model.clip import Clip
from tests.towers import noise

PATHS = {
    "resnet": ["visual.layer4", "visual.layer3", "visual.layer3.0.conv2"],
    "vit": [None, "visual.transformer.resblocks.0.mlp.gelu", "visual.transformer.resblocks.0"],
    "vit-average": [None],
    "vit-attention": [None],
    "timm-vit": [None],
    "timm-convnext": [None],
}
CASES = [(name, path) for name, paths in PATHS.items() for path in paths]


@pytest.fixture
def build(towers):
    def build(name: str, layer: str | None = None) -> tuple[Clip, layers.Layer, torch.Tensor]:
        clip = towers(name, layer=layer)
        read = next(each for each in clip.layers() if each.path == clip.layer)
        return clip, read, clip._normalised(noise(clip, 2))

    return build


def embed(clip: Clip, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return layers.tower_embeddings(clip.model, images)


@pytest.mark.parametrize(("name", "path"), CASES)
def test_one_image_meets_every_edit_in_one_pass(build, name, path):
    clip, layer, images = build(name, path)
    token = "cls" if layer.cls and clip.token == "cls" else "patches"
    steps = torch.randn(3, layer.neurons, generator=torch.Generator().manual_seed(1))
    steps[1] = 0
    with layers.layer_replaced(clip.model, layer, lambda x: x + steps[:, :, None, None], token):
        together = embed(clip, images[:1])
    for step, found in zip(steps, together, strict=True):
        with layers.layer_replaced(clip.model, layer, lambda x, step=step: x + step[:, None, None], token):
            alone = embed(clip, images[:1])[0]
        torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together[1], embed(clip, images)[0], atol=1e-5, rtol=1e-4)
    assert (together[0] - together[1]).abs().max() > 1e-3
    assert all(not m._forward_hooks for m in clip.model.modules())


@pytest.mark.parametrize("path", PATHS["resnet"])
def test_an_addition_is_a_push(build, path):
    clip, layer, images = build("resnet", path)
    step = torch.randn(layer.neurons, generator=torch.Generator().manual_seed(1))
    with layers.layer_replaced(clip.model, layer, lambda x: x + step[:, None, None]):
        edited = embed(clip, images)
    with layers.step_added(clip.model, layer, step):
        torch.testing.assert_close(edited, embed(clip, images))


def test_what_is_edited_is_rectified_and_replaced_whole(build):
    clip, layer, images = build("resnet", "visual.layer4")
    seen: list[torch.Tensor] = []

    def silence(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.clone())
        return torch.zeros_like(x)

    with layers.layer_replaced(clip.model, layer, silence):
        embedding = embed(clip, images)
    assert seen[0].min() == 0
    expected = clip.model.visual.attnpool(torch.zeros(2, layer.neurons, *clip.grid()))
    torch.testing.assert_close(embedding, expected.detach())
    assert not np.allclose(embedding, embed(clip, images), atol=1e-3)


def test_an_edit_of_the_cls_token_leaves_the_patches(build):
    clip, layer, images = build("vit", "visual.transformer.resblocks.1")
    kept: list[torch.Tensor] = []
    hook = clip.model.visual.ln_post.register_forward_pre_hook(lambda _, args: kept.append(args[0].clone()))
    embed(clip, images)
    with layers.layer_replaced(clip.model, layer, lambda x: x + 1, "cls"):
        embed(clip, images)
    with layers.layer_replaced(clip.model, layer, lambda x: x + 1, "patches"):
        embed(clip, images)
    hook.remove()
    plain, cls, patches = kept
    torch.testing.assert_close(cls - plain, torch.cat([torch.ones(2, 1, 32), torch.zeros(2, 16, 32)], 1))
    torch.testing.assert_close(patches - plain, torch.cat([torch.zeros(2, 1, 32), torch.ones(2, 16, 32)], 1))
