import numpy as np
import pytest
import torch
from torch import nn

from atlas.model import basis, layers
from atlas.model.clip import Clip
from tests.towers import noise


def pictures(clip: Clip) -> torch.Tensor:
    return clip._normalised(noise(clip))


def hold_scale(norm: nn.LayerNorm):
    """A layer norm whose scale counts as a constant for autograd."""

    def forward(_, args, __):
        (x,) = args
        sigma = (x.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt().detach()
        return (x - x.mean(-1, keepdim=True)) / sigma * norm.weight + norm.bias

    return norm.register_forward_hook(forward)


def test_the_attention_pool_is_exact_on_homogeneous_maps(towers):
    clip = towers("resnet")
    pool, W = clip.model.visual.attnpool, clip.basis()
    assert clip.basis_kind == "exact on homogeneous maps"
    assert W.shape == (clip.neurons, clip.dim)
    values = torch.rand(clip.neurons, generator=torch.Generator().manual_seed(0))
    maps = (values + torch.cat([torch.zeros(1, clip.neurons), torch.eye(clip.neurons)]))[:, :, None, None]
    pool.positional_embedding.zero_()
    embedding = pool(maps.expand(-1, -1, *clip.grid())).numpy()
    np.testing.assert_allclose(embedding[1:] - embedding[0], W, atol=1e-5)
    pool.positional_embedding.normal_(std=1.0)
    embedding = pool(maps.expand(-1, -1, *clip.grid())).numpy()
    assert np.abs(embedding[1:] - embedding[0] - W).max() > 1e-3  # the residual the positional embedding leaves


@pytest.mark.parametrize("name", ["vit", "vit-average", "vit-average-first", "timm-vit", "timm-vit-average"])
def test_the_direct_effect_is_the_gradient_with_the_norms_scale_held(towers, name):
    clip = towers(name)
    layer, images, visual = clip._layers[clip.layer], pictures(clip), clip.model.visual
    W = basis.bilinear_basis(clip.model, layer, images)
    assert clip.basis_kind == "direct effect"
    trunk = getattr(visual, "trunk", None)
    norms = [visual.ln_post] if trunk is None else [trunk.norm, trunk.fc_norm]
    held = [hold_scale(norm) for norm in norms if isinstance(norm, nn.LayerNorm)]
    expected = basis.averaged_jacobian(clip.model, layer, images)
    assert len(held) == 1
    held[0].remove()
    torch.testing.assert_close(W, expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(W, basis.averaged_jacobian(clip.model, layer, images), atol=1e-3)


def test_the_averaged_jacobian_against_autograd_by_hand(towers):
    clip = towers("resnet", layer="visual.layer3")
    layer, images, visual = clip._layers["visual.layer3"], pictures(clip), clip.model.visual
    assert clip.basis_kind == "averaged Jacobian"
    rectified = visual.layer3(visual.layer2(visual.layer1(visual.stem(images))))

    def tail(each: torch.Tensor):
        return lambda step: visual.attnpool(visual.layer4(each[None] + step[None, :, None, None]))[0]

    start = torch.zeros(layer.neurons)
    expected = torch.stack([torch.autograd.functional.jacobian(tail(each), start).T for each in rectified]).mean(0)
    torch.testing.assert_close(basis.averaged_jacobian(clip.model, layer, images), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("timm-convnext", None),
        ("vit-attention", None),
        ("vit", "visual.transformer.resblocks.0.mlp.gelu"),
        ("vit", "visual"),
    ],
)
def test_everything_else_is_an_averaged_jacobian(towers, name, layer):
    clip = towers(name, layer=layer)
    W = clip.basis()
    assert clip.basis_kind == "averaged Jacobian"
    assert W.shape == (clip.neurons, clip.dim)
    assert np.abs(W).max() > 0
    if layer == "visual":
        np.testing.assert_allclose(W, np.eye(clip.dim), atol=1e-6)
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in clip.model.modules())


@pytest.mark.parametrize("path", ["visual.layer4", "visual.layer4.0", "visual.layer4.0.act3"])
def test_the_pooled_map_is_known_under_each_of_its_names(towers, path):
    clip = towers("resnet", layer=path)
    assert clip.basis_kind == "exact on homogeneous maps"
    assert np.array_equal(clip.basis(), towers("resnet").basis())


def test_a_unit_stands_after_the_relu(towers):
    clip = towers("resnet")
    layer = clip._layers["visual.layer3"]
    seen = []
    hook = clip.model.visual.layer4.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    layers.tower_embeddings(clip.model, pictures(clip))
    with layers.step_added(clip.model, layer, torch.ones(layer.neurons)):
        layers.tower_embeddings(clip.model, pictures(clip))
    hook.remove()
    torch.testing.assert_close(seen[1] - seen[0], torch.ones_like(seen[0]))


def test_the_basis_follows_the_weights_and_carries_the_attribution(towers):
    clip = towers("resnet")
    before = clip.basis()
    clip.model.visual.attnpool.v_proj.weight.mul_(2)
    np.testing.assert_allclose(clip.basis(), 2 * before, rtol=1e-6)
    texts = ["a cat", "a dog"]
    assert np.array_equal(clip.attribution(texts), clip.encode_texts(texts) @ clip.basis().T)
    assert clip.attribution([]).shape == (0, clip.neurons)


def test_equal_calls_give_equal_bases(towers):
    clip = towers("vit")
    assert np.array_equal(clip.basis(), clip.basis())
