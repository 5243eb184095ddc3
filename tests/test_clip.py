"""Random weights throughout: what is read, from where and in which order does not depend on training."""

import json
import pickle
import zipfile

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import image_transform_v2
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from atlas.errors import Refused
from atlas.model import weights
from atlas.model.clip import Clip
from atlas.model.layers import Layer

TINY_TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}


def redraw(clip: Clip) -> Clip:
    """New scales and biases for every norm: open_clip starts each block's last scale at 0, which hides wrong hooks."""
    random = torch.Generator().manual_seed(0)
    for module in clip.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.normal_(1, 0.5, generator=random)
            module.bias.normal_(0, 0.5, generator=random)
        if hasattr(module, "gamma") and isinstance(module.gamma, nn.Parameter):
            module.gamma.normal_(1, 0.5, generator=random)
    return clip


def noise(clip: Clip, n: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, clip.image_size, clip.image_size, 3), np.uint8)


def outputs(clip: Clip, pixels: np.ndarray, *paths: str) -> list[torch.Tensor]:
    """Reference: what modules really return, each asked in a pass of its own, copied before anything can change it."""
    found = []
    for path in paths:
        kept: list[torch.Tensor] = []
        hook = clip.model.get_submodule(path).register_forward_hook(
            lambda _, __, out, kept=kept: kept.append(out.clone())
        )
        with torch.no_grad():
            clip.model.encode_image(clip._normalised(pixels))
        hook.remove()
        found += kept
    return found


def hooks(clip: Clip) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in clip.model.modules())


@pytest.fixture(scope="module")
def rn50() -> Clip:
    return redraw(Clip("RN50", layer=["visual.layer4", "visual.layer3.4", "visual.layer2"]))


@pytest.fixture(scope="module")
def vit() -> Clip:
    return Clip("ViT-B-32-quickgelu")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The embedded model's shape with random weights, as a half-precision file."""
    weights.register_mini()
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "mini.safetensors"
    save_file(
        {k: v.half() if v.is_floating_point() else v for k, v in open_clip.create_model("mini").state_dict().items()},
        path,
    )
    return path


@pytest.fixture(scope="module")
def mini(checkpoint) -> Clip:
    return redraw(Clip("mini", pretrained=checkpoint))


@pytest.fixture(scope="module")
def tiny_timm(tmp_path_factory):
    """timm's own miniature towers under names open_clip knows."""
    folder = tmp_path_factory.mktemp("configs")
    for name in ("test_vit", "test_convnext", "test_resnet"):
        vision = {"timm_model_name": name, "timm_pool": "", "timm_proj": "linear", "image_size": 160}
        config = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": TINY_TEXT}
        (folder / f"atlas-{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    return lambda name, **options: redraw(Clip(f"atlas-{name}", **options))


def test_a_resnet_stage_or_block_is_its_sum_before_the_relu(rn50):
    pixels = noise(rn50)
    maps = rn50.read(pixels).maps
    assert list(maps) == list(rn50.hooked)
    for true, (path, read) in zip(outputs(rn50, pixels, *rn50.hooked), maps.items(), strict=True):
        assert read.min() < 0, path
        assert torch.equal(read.relu(), true), path
        assert rn50.rectified(path)
        assert rn50.grid(path) == tuple(read.shape[2:])
    assert hooks(rn50) == 0


@pytest.mark.slow
def test_the_papers_model_reads_its_papers_layer():
    clip = redraw(Clip("RN50x4-quickgelu"))
    assert (clip.layer, clip.neurons, clip.dim, clip.image_size) == ("visual.layer4", 2560, 640, 288)
    pixels = noise(clip, 1)
    read = clip.read(pixels).maps["visual.layer4"]
    assert read.shape == (1, 2560, 9, 9)
    assert read.min() < 0
    assert torch.equal(read.relu(), outputs(clip, pixels, "visual.layer4")[0])


@pytest.mark.parametrize("path", ["visual.bn1", "visual.conv2", "visual.layer3.0.act1", "visual.layer4.0.bn3"])
def test_other_paths_are_the_modules_own_output_whatever_overwrites_it_later(mini, path):
    pixels = noise(mini)
    (true,) = outputs(mini, pixels, path)
    assert np.array_equal(mini.activations(pixels, path), true.numpy())
    assert (true.min() < 0) == (not path.endswith("act1"))
    assert not mini.rectified(path)


def test_several_layers_in_one_pass_equal_single_ones(checkpoint):
    paths = ["visual.layer1", "visual.layer2.0.act2", "visual.layer4"]
    several = Clip("mini", pretrained=checkpoint, layer=paths)
    pixels = noise(several)
    passes = []
    counter = several.model.visual.conv1.register_forward_pre_hook(lambda *_: passes.append(1))
    maps = several.read(pixels).maps
    counter.remove()
    assert len(passes) == 1
    for path in paths:
        assert np.array_equal(several.activations(pixels, path), maps[path].numpy())


def test_hooks_are_gone_after_an_error(mini):
    def fail(*_):
        raise RuntimeError("no")

    handle = mini.model.visual.attnpool.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="no"):
        mini.read(noise(mini))
    handle.remove()
    assert hooks(mini) == 0


def test_vit_positions_against_a_forward_by_hand(vit):
    assert (vit.layer, vit.token, vit.grid()) == ("visual.transformer.resblocks.11.mlp.gelu", "cls", (1, 1))
    pixels, visual = noise(vit), vit.model.visual
    with torch.no_grad():
        x = visual._embeds(vit._normalised(pixels))
        for block in visual.transformer.resblocks[:-1]:
            x = block(x)
        last = visual.transformer.resblocks[-1]
        x = x + last.attention(last.ln_1(x))
        hidden = last.mlp.c_fc(last.ln_2(x))
        hidden = (hidden * torch.sigmoid(1.702 * hidden)).numpy()  # (n, 1 + 7 * 7, u)
    cls, patches = vit.activations(pixels), vit.activations(pixels, token="patches")
    assert cls.shape == (2, 3072, 1, 1)
    assert patches.shape == (2, 3072, 7, 7)
    np.testing.assert_allclose(cls[:, :, 0, 0], hidden[:, 0], atol=1e-5)
    np.testing.assert_allclose(patches[:, :, 2, 5], hidden[:, 1 + 2 * 7 + 5], atol=1e-5)


@pytest.mark.slow
def test_a_registered_timm_tower_reads_patches_in_order():
    clip = redraw(Clip("vit_medium_patch16_gap_256"))
    assert (clip.layer, clip.neurons, clip.token) == ("visual.trunk.blocks.11.mlp.act", 2048, "patches")
    pixels = noise(clip, 1)
    with torch.no_grad():  # timm's own reading of a block's tokens as a map
        options = {"indices": [3], "intermediates_only": True, "output_fmt": "NCHW"}
        (true,) = clip.model.visual.trunk.forward_intermediates(clip._normalised(pixels), **options)
    np.testing.assert_allclose(clip.activations(pixels, "visual.trunk.blocks.3"), true.numpy(), atol=1e-4)
    assert clip.activations(pixels).shape == (1, 2048, 16, 16)
    with pytest.raises(Refused, match="no CLS token"):
        clip.activations(pixels, token="cls")


def test_timm_towers_by_family(tiny_timm):
    vit = tiny_timm("test_vit")
    pixels = noise(vit)
    (true,) = outputs(vit, pixels, vit.layer)
    assert vit.token == "cls"
    assert np.array_equal(vit.activations(pixels)[:, :, 0, 0], true[:, 0].numpy())
    resnet = tiny_timm("test_resnet")
    read = resnet.read(pixels).maps[resnet.layer]
    assert resnet.layer == "visual.trunk.layer4"
    assert read.min() < 0
    assert torch.equal(read.relu(), outputs(resnet, pixels, resnet.layer)[0])
    convnext = tiny_timm("test_convnext")
    assert convnext.layer == "visual.trunk.stages.3"
    (inner,) = outputs(convnext, pixels, "visual.trunk.stages.1.blocks.0.mlp.act")  # (n, h, w, u)
    assert np.array_equal(
        convnext.activations(pixels, "visual.trunk.stages.1.blocks.0.mlp.act"), inner.permute(0, 3, 1, 2)
    )


def test_axes_of_token_sequences():
    raw = torch.arange(2 * 7 * 3.0).reshape(2, 7, 3)  # (n, 1 + 2 * 3, u)
    first = Layer("x", neurons=3, height=2, width=3, rectified=False, axes="NLD", prefix=1, cls=True)
    turned = Layer("x", neurons=3, height=2, width=3, rectified=False, axes="LND", prefix=1, cls=True)
    assert first.map(raw)[1, 2, 1, 0] == raw[1, 1 + 3, 2]
    assert torch.equal(first.map(raw, "cls")[..., 0, 0], raw[:, 0])
    for token in ("cls", "patches"):
        assert torch.equal(turned.map(raw.transpose(0, 1), token), first.map(raw, token))


def test_layers_are_listed_with_the_shapes_they_are_read_with(mini):
    listed = {layer.path: (layer.neurons, layer.height, layer.width) for layer in mini.layers()}
    assert listed["visual.layer4"] == (1024, 3, 3)
    assert listed["visual.layer1"] == (128, 24, 24)
    assert listed["visual"] == (mini.dim, 1, 1) == (256, 1, 1)
    for path in ("visual.conv1", "visual.layer2.0.downsample.0", "visual.attnpool"):
        assert mini.activations(noise(mini, 1), path).shape[1:] == listed[path]


def test_images_are_read_as_open_clip_reads_them(mini, tmp_path):
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (150, 210, 3), np.uint8))
    image.save(tmp_path / "photo.png")
    transform = image_transform_v2(mini.preprocessing, is_train=False)
    with torch.no_grad():
        own = mini.model.encode_image(transform(image)[None], normalize=True).numpy()
    for images in ([image], image, tmp_path / "photo.png", [str(tmp_path / "photo.png")], np.asarray(image)[None]):
        read = mini.encode_images(images)
        assert read.dtype == np.float32
        np.testing.assert_allclose(read, own, atol=1e-6)
    prepared = mini.prepare(image)
    assert prepared.shape == (96, 96, 3)
    np.testing.assert_allclose(mini.encode_images(prepared[None]), own, atol=1e-6)
    assert mini.encode_images([]).shape == (0, 256)
    assert mini.activations([]).shape == (0, 1024, 3, 3)


def test_batches_do_not_change_the_result(mini, monkeypatch):
    pixels = noise(mini, 5)
    whole = mini.encode_images(pixels)
    monkeypatch.setattr("atlas.model.clip._IMAGES_A_BATCH", 2)
    np.testing.assert_allclose(mini.encode_images(pixels), whole, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-5)


def test_texts(mini):
    long = "a very long prompt " * 200
    read = mini.encode_texts(["a cat", "", long])
    assert read.shape == (3, 256)
    assert read.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(read, axis=1), 1, atol=1e-5)
    assert mini.encode_texts([]).shape == (0, 256)
    np.testing.assert_allclose(mini.encode_texts("a cat")[0], read[0], atol=1e-5)


def test_the_description_is_json_and_follows_the_weights(checkpoint):
    clip, again = Clip("mini", pretrained=checkpoint), Clip("mini", pretrained=checkpoint)
    description = clip.describe()
    assert json.loads(json.dumps(description)) == description == again.describe()
    assert "cannot be checked" in description["origin"]
    assert str(checkpoint.parent) not in json.dumps(description)
    next(again.model.parameters()).data[0] += 1
    assert again.describe()["weights_sha256"] != description["weights_sha256"]


def test_random_weights_are_the_same_each_time_and_leave_the_seed_alone():
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    first = weights.weights_sha256(weights.load_model("ViT-S-32", None)[0])
    assert torch.equal(torch.rand(1), expected)
    assert weights.weights_sha256(weights.load_model("ViT-S-32", None)[0]) == first


def test_half_precision_files_are_read_as_float32(mini, checkpoint):
    assert {p.dtype for p in mini.model.parameters()} == {torch.float32}
    assert mini.read(noise(mini)).maps["visual.layer4"].dtype == torch.float32


def test_a_clip_travels_to_another_process(mini):
    pixels = noise(mini)
    assert np.array_equal(pickle.loads(pickle.dumps(mini)).encode_images(pixels), mini.encode_images(pixels))


class Trap:
    def __reduce__(self):
        return (exec, ("raise SystemExit('a checkpoint ran code')",))


def files(folder) -> dict[str, str]:
    torch.save({"state_dict": Trap()}, folder / "trap.pt")
    with zipfile.ZipFile(folder / "RN50.pt", "w") as archive:
        archive.writestr("RN50/code/__torch__.py", "")
        archive.writestr("RN50/data.pkl", "")
    (folder / "noise.safetensors").write_bytes(b"\x00" * 64)
    return {name: str(folder / name) for name in ("trap.pt", "RN50.pt", "noise.safetensors", "absent.safetensors")}


@pytest.mark.parametrize(
    ("name", "pretrained", "line"),
    [
        ("RN5", None, "near: RN50"),
        ("quite unlike anything", None, "list_models"),
        ("RN50-quickgelu", "openia", "near: openai"),
        ("RN50", "openai", "ask for 'RN50-quickgelu'"),
        ("ViT-B-32-quickgelu", "laion2b_s34b_b79k", "ask for 'ViT-B-32'"),
        ("ViT-S-32", "absent.safetensors", "neither a file nor a tag"),
        ("ViT-S-32", "trap.pt", "cannot load"),
        ("ViT-S-32", "noise.safetensors", "cannot load"),
        ("RN50-quickgelu", "RN50.pt", "huggingface.co/timm/resnet50_clip.openai"),
        ("local-dir:nowhere", "openai", "leave pretrained out"),
    ],
)
def test_models_that_cannot_be_had_are_refused_in_one_line(tmp_path, name, pretrained, line):
    with pytest.raises(Refused, match=line) as refused:
        Clip(name, files(tmp_path).get(pretrained, pretrained))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"layer": "layer4"}, r"near: visual.layer4\)"),
        ({"layer": ["visual.layer4", "visual.layr3"]}, "near: visual.layer3"),
        ({"token": "cls"}, "no CLS token"),
        ({"device": "tpu9"}, "no device 'tpu9'"),
        ({"name": "ViT-S-32"}, "cannot load ViT-S-32"),  # weights of another model
    ],
)
def test_options_that_cannot_be_met_are_refused_in_one_line(checkpoint, options, line):
    with pytest.raises(Refused, match=line) as refused:
        Clip(**{"name": "mini", "pretrained": checkpoint, **options})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("images", "line"),
    [
        (np.zeros((2, 96, 96, 3), np.float32), "uint8"),
        (np.zeros((96, 96, 3), np.uint8), r"\(n, h, w, 3\)"),
        (["nothing.png"], "cannot read nothing.png: no such file"),
    ],
)
def test_images_that_cannot_be_read_are_refused_in_one_line(mini, images, line):
    with pytest.raises(Refused, match=line):
        mini.encode_images(images)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_agrees_with_the_cpu(checkpoint):
    cpu, cuda = (Clip("mini", pretrained=checkpoint, device=device) for device in ("cpu", "cuda"))
    pixels = noise(cpu, 4)
    read = cuda.encode_images(pixels)
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, cpu.encode_images(pixels), atol=5e-3)
    assert cpu.describe()["weights_sha256"] == cuda.describe()["weights_sha256"]
