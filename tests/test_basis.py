import json

import numpy as np
import open_clip
import pytest
import torch
from torch import nn

from atlas.model import basis, layers
from atlas.model.clip import Clip

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16, "ls_init_value": 0.5}
TIMM = {"timm_pool": "", "timm_proj": "linear", "image_size": 160}
CONFIGS = {
    "resnet": {
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64, "patch_size": None}
    },
    "vit": {"vision_cfg": VIT, "quick_gelu": True},
    "vit-average": {"vision_cfg": {**VIT, "pool_type": "avg"}},
    "vit-average-first": {"vision_cfg": {**VIT, "pool_type": "avg", "final_ln_after_pool": True}},
    "vit-attention": {"vision_cfg": {**VIT, "attentional_pool": True, "attn_pooler_heads": 2}},
    "timm-vit": {"vision_cfg": {"timm_model_name": "test_vit", **TIMM}},
    "timm-vit-average": {"vision_cfg": {"timm_model_name": "test_vit", **TIMM, "timm_pool": "avg"}},
    "timm-convnext": {"vision_cfg": {"timm_model_name": "test_convnext", **TIMM}},
}


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Clips of a few layers, every scale, bias and layer scale redrawn: what is 1 or 0 at the start hides errors."""
    folder = tmp_path_factory.mktemp("configs")
    for name, config in CONFIGS.items():
        (folder / f"basis-{name}.json").write_text(json.dumps({"embed_dim": 12, "text_cfg": TEXT, **config}))
    open_clip.add_model_config(folder)

    def build(name: str, **options) -> Clip:
        clip = Clip(f"basis-{name}", device="cpu", **options)
        random = torch.Generator().manual_seed(0)
        for path, parameter in clip.model.visual.named_parameters():
            if parameter.ndim == 1:
                parameter.normal_(1 if path.endswith("weight") or "gamma" in path else 0, 0.5, generator=random)
        return clip

    return build


def noise(clip: Clip, n: int = 3) -> torch.Tensor:
    pixels = np.random.default_rng(1).integers(0, 256, (n, clip.image_size, clip.image_size, 3), np.uint8)
    return clip._normalised(pixels)


def hold_scale(norm: nn.LayerNorm):
    """A layer norm whose scale counts as a constant for autograd."""

    def forward(_, args, __):
        (x,) = args
        sigma = (x.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt().detach()
        return (x - x.mean(-1, keepdim=True)) / sigma * norm.weight + norm.bias

    return norm.register_forward_hook(forward)


def test_the_attention_pool_is_exact_on_homogeneous_maps(build):
    clip = build("resnet")
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
def test_the_direct_effect_is_the_gradient_with_the_norms_scale_held(build, name):
    clip = build(name)
    layer, images, visual = clip._layers[clip.layer], noise(clip), clip.model.visual
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


def test_the_averaged_jacobian_against_autograd_by_hand(build):
    clip = build("resnet", layer="visual.layer3")
    layer, images, visual = clip._layers["visual.layer3"], noise(clip), clip.model.visual
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
def test_everything_else_is_an_averaged_jacobian(build, name, layer):
    clip = build(name, layer=layer)
    W = clip.basis()
    assert clip.basis_kind == "averaged Jacobian"
    assert W.shape == (clip.neurons, clip.dim)
    assert np.abs(W).max() > 0
    if layer == "visual":
        np.testing.assert_allclose(W, np.eye(clip.dim), atol=1e-6)
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in clip.model.modules())


@pytest.mark.parametrize("path", ["visual.layer4", "visual.layer4.0", "visual.layer4.0.act3"])
def test_the_pooled_map_is_known_under_each_of_its_names(build, path):
    clip = build("resnet", layer=path)
    assert clip.basis_kind == "exact on homogeneous maps"
    assert np.array_equal(clip.basis(), build("resnet").basis())


def test_a_unit_stands_after_the_relu(build):
    clip = build("resnet")
    layer = clip._layers["visual.layer3"]
    seen = []
    hook = clip.model.visual.layer4.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    layers.tower_embeddings(clip.model, noise(clip))
    with layers.step_added(clip.model, layer, torch.ones(layer.neurons)):
        layers.tower_embeddings(clip.model, noise(clip))
    hook.remove()
    torch.testing.assert_close(seen[1] - seen[0], torch.ones_like(seen[0]))


def test_the_basis_follows_the_weights_and_carries_the_attribution(build):
    clip = build("resnet")
    before = clip.basis()
    clip.model.visual.attnpool.v_proj.weight.mul_(2)
    np.testing.assert_allclose(clip.basis(), 2 * before, rtol=1e-6)
    texts = ["a cat", "a dog"]
    assert np.array_equal(clip.attribution(texts), clip.encode_texts(texts) @ clip.basis().T)
    assert clip.attribution([]).shape == (0, clip.neurons)


def test_equal_calls_give_equal_bases(build):
    clip = build("vit")
    assert np.array_equal(clip.basis(), clip.basis())
