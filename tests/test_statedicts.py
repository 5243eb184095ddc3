"""Checkpoints are read for what they hold, whatever is wrapped around it; else the cause is one line."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file

from atlas.errors import Refused
from atlas.model import weights
from atlas.model.clip import Clip
from atlas.model.statedicts import fitting_weights

MINI = weights._EMBEDDED / "mini.safetensors"


@pytest.fixture(scope="module")
def held():
    return weights.tensor_file(MINI)


@pytest.fixture(scope="module")
def model():
    weights.register_mini()
    return weights._create("mini", None)


def renamed(tensors, prefix):
    return {f"{prefix}{key}": each for key, each in tensors.items()}


WAYS = {
    "lightning": lambda t: {"state_dict": renamed(t, "model."), "epoch": 3, "global_step": 9},
    "compiled": lambda t: renamed(t, "_orig_mod."),
    "parallel, compiled": lambda t: {"state_dict": renamed(t, "module._orig_mod.")},
    "model": lambda t: {"model": t, "optimizer": {"state": {}}},
    "averaged": lambda t: renamed(t, "module.") | {"n_averaged": torch.tensor(4)},
    "ema": lambda t: {"model_ema": renamed(t, "module."), "step": 4},
    "inside another model": lambda t: {"state_dict": renamed(t, "clip.") | {"head.weight": torch.zeros(2, 2)}},
    "shadow": lambda t: {"ema": {"shadow": t, "decay": 0.9}},
    "nested": lambda t: {"state_dict": {"model": t}},
    "any name": lambda t: {"network": renamed(t, "net.clip."), "lr": torch.tensor(0.1)},
    "far inside": lambda t: {
        "checkpoint": {"state": {"the model": t}},
        "optimizer": {"state": {0: {"exp_avg": t["logit_scale"]}}},
    },
    "wrapped inside": lambda t: {
        key.replace("visual.", "visual._fsdp_wrapped_module.").replace(
            "layer", "_checkpoint_wrapped_module.layer"
        ): each
        for key, each in t.items()
    },
    "a text tower of its own": lambda t: {
        key if key.startswith(("visual.", "logit_")) else f"text.{key}": each for key, each in t.items()
    },
    "a scale of one axis": lambda t: t | {"logit_scale": t["logit_scale"][None]},
}


@pytest.mark.parametrize("way", WAYS)
def test_wrappers_are_undone(held, model, way):
    found, left = fitting_weights(WAYS[way](dict(held)), model, "it")
    assert left == ""
    assert set(found) == set(model.state_dict())
    assert all(torch.equal(found[key], each) for key, each in held.items())


def test_a_checkpoint_of_a_trainer_gives_the_same_model(tmp_path, held):
    torch.save(WAYS["lightning"](held), tmp_path / "last.ckpt")
    found = Clip("mini", pretrained=tmp_path / "last.ckpt", device="cpu")
    assert found.describe()["weights_sha256"] == Clip("mini", device="cpu").describe()["weights_sha256"]


def test_of_several_sets_of_weights_one_is_taken_and_said(tmp_path, held, model, capsys):
    averaged = {key: each * 2 for key, each in held.items()}
    for both in ({"model": dict(held), "model_ema": averaged}, {"model_ema": averaged, "model": dict(held)}):
        found, left = fitting_weights(both, model, "it")
        assert torch.equal(found["visual.conv1.weight"], held["visual.conv1.weight"])
        assert left == "the weights in model, not those in model_ema"
    torch.save(both, tmp_path / "both.pt")
    assert "not those in model_ema" in Clip("mini", pretrained=tmp_path / "both.pt", device="cpu").describe()["origin"]
    assert "both.pt holds several sets of weights: the weights in model, not those in" in capsys.readouterr().err


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(("first", "second"), [("model.", "model_ema."), ("student.module.", "teacher."), ("", "ema.")])
def test_several_sets_of_weights_may_lie_side_by_side_under_prefixes(held, model, first, second, order):
    sets = [renamed(held, first), renamed({key: each * 2 for key, each in held.items()}, second)]
    found, left = fitting_weights(dict(pair for each in sets[::order] for pair in each.items()), model, "it")
    assert torch.equal(found["visual.conv1.weight"], held["visual.conv1.weight"])
    names = [each.removesuffix(".") or "the checkpoint itself" for each in (first, second)]
    assert left == f"the weights in {names[0]}, not those in {names[1]}"


@pytest.mark.parametrize(
    ("made", "cause"),
    [
        (lambda each: (each * 100).to(torch.int8), "holds int8 where fractions are needed"),
        (lambda each: each.to(torch.complex64), "holds complex64 where fractions are needed"),
        (lambda each: each.to("meta"), "holds no values"),
    ],
)
def test_tensors_of_other_numbers_are_refused(tmp_path, held, made, cause):
    torch.save({key: made(each) if each.is_floating_point() else each for key, each in held.items()}, tmp_path / "x.pt")
    with pytest.raises(Refused, match=rf"^cannot load mini: .*x.pt: [\w.]+ {cause}"):
        Clip("mini", pretrained=tmp_path / "x.pt", device="cpu")


def test_what_is_no_file_of_weights_is_named(tmp_path, held):
    np.savez(tmp_path / "w.npz", **{key: each.float().numpy() for key, each in held.items()})
    with pytest.raises(Refused, match=r"of \.npz, big_vision's SigLIP alone is read: give safetensors or a torch file"):
        Clip("mini", pretrained=tmp_path / "w.npz", device="cpu")
    (tmp_path / "w.pt").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99))
    with pytest.raises(Refused, match="it is a picture, no file of tensors"):
        weights.tensor_file(tmp_path / "w.pt")


class Trap:
    """An object whose unpickling would run code."""

    def __reduce__(self):
        return open, ("trap", "w")


def test_objects_beside_the_weights_are_left_unread(tmp_path, held, monkeypatch):
    monkeypatch.chdir(tmp_path)
    objects = {"args": Namespace(lr=1e-3, out=tmp_path, best=np.float64(0.7)), "trap": Trap(), "epoch": 3}
    torch.save({"state_dict": renamed(held, "model."), "hyper_parameters": objects}, "last.ckpt")
    assert len(weights.tensor_file(Path("last.ckpt"))["state_dict"]) == len(held)
    torch.save({"model": torch.nn.Linear(2, 2), "trap": Trap()}, "whole.pt")
    with pytest.raises(Refused, match="a pickle of objects"):
        weights.tensor_file(Path("whole.pt"))
    assert not Path("trap").exists()


def test_what_does_not_fit_has_a_cause(held, model):
    other = dict(held) | {"visual.conv1.weight": torch.zeros(3, 3)}
    with pytest.raises(Refused, match=r"the architecture differs, visual.conv1.weight \(3, 3\) for \("):
        fitting_weights(other, model, "it")
    half = dict(list(held.items())[::2])
    with pytest.raises(Refused, match=r"\d+ of \d+ tensors are missing, such as"):
        fitting_weights(half, model, "it")
    with pytest.raises(Refused, match=r"1 of its \d+ tensors are not the model's, such as extra"):
        fitting_weights(dict(held) | {"extra": torch.zeros(1)}, model, "it")
    with pytest.raises(Refused, match="tensors without their names, in the list shadow_params"):
        fitting_weights({"decay": 0.9, "shadow_params": list(held.values())}, model, "it")
    with pytest.raises(Refused, match="holds no tensors: its entries are epoch"):
        fitting_weights({"epoch": 3}, model, "it")
    moments = {"optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}}
    with pytest.raises(Refused, match=r"tensors in its entry optimizer.state.0: exp_avg, none of which is named as in"):
        fitting_weights(moments, model, "it")


def test_files_that_are_none(tmp_path, held):
    (tmp_path / "lfs.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pt")
    (tmp_path / "page.pt").write_text("<!doctype html><html>")
    for name, reason in (
        ("lfs.safetensors", "a Git LFS pointer, not the weights"),
        ("empty.pt", "it is empty, 0 bytes"),
        ("folder", "holds no checkpoint that can be read"),
        ("whole.pt", "a pickle of objects"),
        ("page.pt", "an HTML page, not the weights"),
    ):
        with pytest.raises(Refused, match=reason) as refusal:
            weights.load_model("mini", tmp_path / name)
        assert "\n" not in str(refusal.value)
        assert "\x1b" not in str(refusal.value)
    save_file(dict(held), tmp_path / "folder" / "model.safetensors")
    weights.load_model("mini", tmp_path / "folder")
    broken = {key: each.clone() for key, each in held.items()}
    broken["visual.conv1.weight"][0, 0, 0, 0] = torch.nan
    save_file(broken, tmp_path / "nan.safetensors")
    with pytest.raises(Refused, match=r"visual.conv1.weight holds numbers that are not finite"):
        weights.load_model("mini", tmp_path / "nan.safetensors")


FORMATS = [
    (b"GGUF\x03\0\0\0", "it is GGUF, no file of tensors"),
    (b"\x89HDF\r\n\x1a\n" + b"\0" * 99, "it is HDF5, no file of tensors"),
    (b"\x08\x07\x12\x07pytorch", "it is ONNX, no file of tensors"),
    (b"\x82\xa6params\x81", "it is msgpack, as Flax writes it, no file"),
    (b'{"a": 1}', "it is JSON, no file of tensors"),
    (b"\x93NUMPY\x01\0v\0", "it is a NumPy array, no file of tensors"),
]


@pytest.mark.parametrize(("start", "reason"), FORMATS)
def test_formats_that_are_not_read_are_named(tmp_path, start, reason):
    (tmp_path / "x.pt").write_bytes(start)
    with pytest.raises(Refused, match=reason):
        weights.tensor_file(tmp_path / "x.pt")


def test_a_file_that_was_cut_and_a_tokenizer_that_is_missing_are_one_line(tmp_path, held, monkeypatch):
    torch.save(dict(held), tmp_path / "x.pt")
    (tmp_path / "x.pt").write_bytes((tmp_path / "x.pt").read_bytes()[:9999])
    with pytest.raises(Refused, match=r"the file was not written to the end$"):
        weights.tensor_file(tmp_path / "x.pt")

    def offline(*_):
        raise OSError("We couldn't connect to 'https://huggingface.co' to load the files. Check your")

    monkeypatch.setattr(open_clip, "get_tokenizer", offline)
    with pytest.raises(Refused, match=r"or in the hub's cache$"):
        weights.find_tokenizer("ViT-B-16-SigLIP", None)


@pytest.mark.slow  # transformers takes seconds to import
def test_the_files_of_a_tokenizer_lie_beside_the_checkpoint(tmp_path):
    tokenizers, transformers = pytest.importorskip("tokenizers"), pytest.importorskip("transformers")
    ids = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", "a", "photo", "of", "cat", "dog"])}
    own = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token="<unk>"))
    own.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=own, **special).save_pretrained(tmp_path)
    (tmp_path / "weights.safetensors").touch()
    for pretrained in (tmp_path, tmp_path / "weights.safetensors"):
        found = weights.find_tokenizer("ViT-B-16-SigLIP", pretrained)(["a photo of a dog", "cat"])
        assert found.shape == (2, 64)
        assert [row[row > 2].tolist() for row in found] == [[3, 4, 5, 3, 7], [6]]
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(Refused, match="no tokenizer for ViT-B-16-SigLIP"):
        weights.find_tokenizer("ViT-B-16-SigLIP", tmp_path)


@pytest.mark.parametrize("length", [0x0288, 0x4B50, 0x0280])  # the first bytes of msgpack, a zip and a pickle
def test_a_safetensors_file_is_told_by_its_header_whatever_its_length_begins_with(tmp_path, length):
    header = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
    (tmp_path / "x.bin").write_bytes(length.to_bytes(8, "little") + header + b"\0\0\x80?")
    assert weights.tensor_file(tmp_path / "x.bin") == {"x": torch.ones(1)}


def test_a_torch_file_is_told_by_its_content(tmp_path, held):
    torch.save(dict(held), tmp_path / "x.safetensors")
    assert weights.tensor_file(tmp_path / "x.safetensors").keys() == held.keys()
    for wrapped in ({"w": np.ones(3)}, {"state_dict": {"w": np.ones(3)}, "epoch": 3}):
        torch.save(wrapped, tmp_path / "x.pt")
        with pytest.raises(Refused, match="holds NumPy arrays, such as w: save them as tensors"):
            weights.tensor_file(tmp_path / "x.pt")


def test_the_only_file_of_a_folder_is_taken(tmp_path, held):
    torch.save({"state_dict": dict(held)}, tmp_path / "epoch_3.pt")
    weights.load_model("mini", tmp_path)
    torch.save({}, tmp_path / "epoch_1.pt")
    with pytest.raises(Refused, match=r"holds several checkpoints, epoch_1.pt, epoch_3.pt: name one"):
        weights.load_model("mini", tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(Refused, match="its weights are in several files"):
        weights.load_model("mini", tmp_path)


def test_sound_and_other_shapes_are_refused_at_once():
    for name in ("naflex_ViT-B-32", "CLAP-HTSAT-tiny"):
        with pytest.raises(Refused, match=r"NaFlex|a model of sound"):
            weights.load_model(name, None)


# -- Hugging Face ------------------------------------------------------------------------------------------------------

SIDE, PATCH, WIDTH, WORDS, LENGTH = 32, 8, 64, 99, 12


def test_a_clip_of_transformers_is_the_same_model(monkeypatch):
    transformers = pytest.importorskip("transformers")
    text = {"vocab_size": WORDS, "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": 2}
    text |= {
        "num_attention_heads": 1,
        "max_position_embeddings": LENGTH,
        "hidden_act": "gelu",
        "eos_token_id": WORDS - 1,
    }
    image = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": 2, "num_attention_heads": 1}
    image |= {"image_size": SIDE, "patch_size": PATCH, "hidden_act": "gelu"}
    torch.manual_seed(0)
    config = transformers.CLIPConfig(text_config=text, vision_config=image, projection_dim=32)
    theirs = transformers.CLIPModel(config).eval()
    ours = open_clip.CLIP(
        32,
        {"image_size": SIDE, "patch_size": PATCH, "width": WIDTH, "layers": 2, "head_width": WIDTH},
        {"context_length": LENGTH, "vocab_size": WORDS, "width": WIDTH, "layers": 2, "heads": 1},
    ).eval()
    ours.load_state_dict(fitting_weights({"model": theirs.state_dict()}, ours, "it")[0])
    x, words = torch.randn(2, 3, SIDE, SIDE), torch.randint(1, WORDS - 1, (2, LENGTH))
    words[:, -1] = WORDS - 1
    with torch.no_grad():
        out = theirs(pixel_values=x, input_ids=words)
        image_rows, text_rows = ours.encode_image(x, normalize=True), ours.encode_text(words, normalize=True)
    torch.testing.assert_close(image_rows, out.image_embeds, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(text_rows, out.text_embeds, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_a_siglip_of_transformers_is_the_same_model():
    transformers = pytest.importorskip("transformers")
    text = {"vocab_size": WORDS, "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 1, "max_position_embeddings": LENGTH}
    image = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": 2, "num_attention_heads": 1}
    image |= {"image_size": SIDE, "patch_size": PATCH}
    torch.manual_seed(0)
    theirs = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=image)).eval()
    for each in theirs.parameters():
        each.data = torch.randn_like(each) * 0.05 + (each.data if each.ndim == 1 else 0)
    name = "vit_base_patch16_siglip_224"
    tower = {"image_size": SIDE, "timm_model_name": name, "timm_pool": "map", "timm_proj": "none"}
    words = {"context_length": LENGTH, "vocab_size": WORDS, "width": WIDTH, "layers": 2, "heads": 1}
    words |= {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
    words |= {"norm_kwargs": {"eps": 1e-6}, "act_kwargs": {"approximate": "tanh"}}
    ours = open_clip.CustomTextCLIP(WIDTH, tower, words, init_logit_bias=-10).eval()
    ours.visual.trunk = timm.create_model(
        name, img_size=SIDE, patch_size=PATCH, embed_dim=WIDTH, depth=2, num_heads=1,
        num_classes=0, act_layer="gelu_tanh",
    ).eval()  # fmt: skip
    ours.load_state_dict(fitting_weights(theirs.state_dict(), ours, "it")[0])
    x, words = torch.randn(2, 3, SIDE, SIDE), torch.randint(1, WORDS, (2, LENGTH))
    with torch.no_grad():
        out = theirs(pixel_values=x, input_ids=words)
        image_rows, text_rows = ours.encode_image(x, normalize=True), ours.encode_text(words, normalize=True)
    torch.testing.assert_close(image_rows, out.image_embeds, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(text_rows, out.text_embeds, atol=1e-4, rtol=1e-3)
