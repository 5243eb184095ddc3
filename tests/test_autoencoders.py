"""Published sparse autoencoders are read as their libraries read them: formulas written out, and refusals by name."""

import io
import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from atlas.errors import Refused
from atlas.model.directions import Directions

U, K, N = 6, 10, 40


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def A(rng):  # noqa: N802
    return rng.normal(1, 2, (N, U)).astype(np.float32)


@pytest.fixture
def a(rng):
    """W_enc and W_dec as SAELens has them, and the parts that some kinds add."""
    shapes = {
        "W_enc": (U, K),
        "W_dec": (K, U),
        "b_enc": K,
        "b_dec": U,
        "threshold": K,
        "b_gate": K,
        "b_mag": K,
        "r_mag": K,
    }
    found = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return found | {"threshold": np.abs(found["threshold"]), "r_mag": found["r_mag"] / 4}


def relu(x):
    return np.maximum(x, 0)


def largest(Z, k):
    cut = np.sort(Z, 1)[:, -k][:, None]
    return np.where(cut <= Z, Z, 0)


def some(a, *names):
    return {name: a[name] for name in names}


def saelens(folder, arrays, **cfg):
    folder.mkdir(exist_ok=True)
    save_file(arrays, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps({"d_in": U, "d_sae": K, "dtype": "float32", "device": "cpu", **cfg}))
    return folder


def same(found, expected, A):
    np.testing.assert_allclose(found.activations(A), expected, atol=1e-4)
    for picked in ([3], [7, 2]):  # latents compete with those that were not picked
        np.testing.assert_allclose(found[picked].activations(A), expected[:, picked], atol=1e-4)


BASE = ("W_enc", "W_dec", "b_enc", "b_dec")


def layer_normed(A):
    centred = A - A.mean(1, keepdims=True)
    return centred / (centred.std(1, ddof=1, keepdims=True) + 1e-5)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("standard", ["none", "expected_average_only_in", "layer_norm", "constant_norm_rescale"])
@pytest.mark.parametrize("kind", ["standard", "topk", "jumprelu", "gated", "batchtopk"])
def test_saelens(tmp_path, a, A, kind, standard, centred):
    x = {
        "layer_norm": layer_normed(A),
        "constant_norm_rescale": A * np.sqrt(U) / np.linalg.norm(A, axis=1, keepdims=True),
    }.get(standard, A) - centred * a["b_dec"]
    Z = x @ a["W_enc"] + a["b_enc"]
    arrays, cfg = some(a, *BASE), {"architecture": kind}
    if kind == "topk":
        cfg |= {"k": 3, "rescale_acts_by_decoder_norm": centred}
        norms = np.linalg.norm(a["W_dec"], axis=1) if centred else 1
        expected = relu(largest(Z * norms, 3))
    elif kind == "jumprelu":
        arrays, expected = arrays | some(a, "threshold"), relu(Z) * (a["threshold"] < Z)
    elif kind == "batchtopk":
        arrays |= {"topk_threshold": np.array(0.7, np.float32)}
        cfg["k"], expected = 3, relu(Z) * (Z > 0.7)
    elif kind == "gated":
        arrays = some(a, "W_enc", "W_dec", "b_dec", "b_gate", "b_mag", "r_mag")
        opened = x @ a["W_enc"] + a["b_gate"] > 0
        expected = opened * relu(x @ (a["W_enc"] * np.exp(a["r_mag"])) + a["b_mag"])
    else:
        expected = relu(Z)
    folder = saelens(
        tmp_path / "sae", arrays, **cfg, apply_b_dec_to_input=centred, normalize_activations=standard,
        metadata={"model_name": "x"}, reshape_activations="none",
    )  # fmt: skip
    found = Directions.load(folder, U)
    same(found, expected, A)
    found[[4, 1]].save(tmp_path / "some.safetensors")
    np.testing.assert_allclose(
        Directions.load(tmp_path / "some.safetensors", U).activations(A), expected[:, [4, 1]], atol=1e-4
    )


def test_the_largest_are_so_many_and_what_they_write_undoes_the_rescaling(tmp_path, a, A):
    folder = saelens(tmp_path / "sae", some(a, *BASE), architecture="topk", k=2, rescale_acts_by_decoder_norm=True)
    found = Directions.load(folder)
    Z = found.activations(A)
    assert ((Z > 0).sum(1) <= 2).all()
    assert (Z > 0).sum(1).max() == 2
    np.testing.assert_allclose(np.linalg.norm(found.write, axis=1), 1, rtol=1e-5)


def linear(a, **more):
    """The same weights as dictionary_learning and sparsify name them."""
    held = {"encoder.weight": a["W_enc"].T, "encoder.bias": a["b_enc"], "decoder.weight": a["W_dec"].T, **more}
    return {name: torch.tensor(np.ascontiguousarray(array)) for name, array in held.items()}


def pre(a, A, centred):
    return (A - centred * a["b_dec"]) @ a["W_enc"] + a["b_enc"]


DICTIONARIES = {
    "AutoEncoder": lambda a, A: (linear(a, bias=a["b_dec"]), relu(pre(a, A, 1))),
    "AutoEncoderNew": lambda a, A: (linear(a, **{"decoder.bias": a["b_dec"]}), relu(pre(a, A, 0))),
    "AutoEncoderTopK": lambda a, A: (
        linear(a, b_dec=a["b_dec"], k=np.int32(3), threshold=np.float32(0.4)),
        largest(relu(pre(a, A, 1)), 3),
    ),
    "BatchTopKSAE": lambda a, A: (
        linear(a, b_dec=a["b_dec"], k=np.int32(3), threshold=np.float32(0.4)),
        relu(pre(a, A, 1)) * (pre(a, A, 1) > 0.4),
    ),
    "GatedAutoEncoder": lambda a, A: (
        {
            **{k: v for k, v in linear(a).items() if k != "encoder.bias"},
            **{k: torch.tensor(a[v]) for k, v in (("decoder_bias", "b_dec"), ("r_mag", "r_mag"))},
            **{k: torch.tensor(a[v]) for k, v in (("gate_bias", "b_gate"), ("mag_bias", "b_mag"))},
        },
        ((A - a["b_dec"]) @ a["W_enc"] + a["b_gate"] > 0)
        * relu(np.exp(a["r_mag"]) * ((A - a["b_dec"]) @ a["W_enc"]) + a["b_mag"]),
    ),
    "JumpReluAutoEncoder": lambda a, A: (
        {k: torch.tensor(a[k]) for k in (*BASE, "threshold")},
        relu(pre(a, A, 0)) * (pre(a, A, 0) > a["threshold"]),
    ),
    "MatryoshkaBatchTopKSAE": lambda a, A: (
        {k: torch.tensor(a[k]) for k in BASE}
        | {"k": torch.tensor(3), "threshold": torch.tensor(0.4), "group_sizes": torch.tensor([4, 6])},
        relu(pre(a, A, 1)) * (pre(a, A, 1) > 0.4),
    ),
}


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("name", DICTIONARIES)
def test_dictionary_learning(tmp_path, a, A, name, stated):
    tensors, expected = DICTIONARIES[name](a, A)
    torch.save(tensors, tmp_path / "ae.pt")
    if stated:
        trainer = {"dict_class": name, "lr": 1e-4, "activation_dim": U, "dict_size": K, "trainer_class": "x", "k": 3}
        (tmp_path / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {"d_submodule": U}}))
    elif name in ("AutoEncoderTopK", "BatchTopKSAE"):
        with pytest.raises(Refused, match=r'may be TopK or BatchTopK.*kind="topk"'):
            Directions.load(tmp_path / "ae.pt")
        kind = "topk" if name == "AutoEncoderTopK" else "batchtopk"
        return same(Directions.sae(tmp_path / "ae.pt", kind=kind), expected, A)
    return same(Directions.load(tmp_path if stated else tmp_path / "ae.pt", U), expected, A)


def test_others(tmp_path, a, A):
    sparsify = tmp_path / "sparsify"
    sparsify.mkdir()
    arrays = {
        "encoder.weight": a["W_enc"].T.copy(),
        "encoder.bias": a["b_enc"],
        "W_dec": a["W_dec"],
        "b_dec": a["b_dec"],
    }
    save_file(arrays, sparsify / "sae.safetensors")
    same(Directions.load(sparsify), relu(pre(a, A, 1)), A)
    cfg = {"activation": "topk", "expansion_factor": 2, "normalize_decoder": True, "num_latents": K, "k": 4, "d_in": U,
           "multi_topk": False, "skip_connection": False, "transcode": False}  # fmt: skip
    (sparsify / "cfg.json").write_text(json.dumps(cfg))
    same(Directions.load(sparsify), largest(relu(pre(a, A, 1)), 4), A)
    openai = {
        "pre_bias": a["b_dec"],
        "latent_bias": a["b_enc"],
        "encoder.weight": a["W_enc"].T,
        "decoder.weight": a["W_dec"].T,
    }
    openai = {name: torch.tensor(np.ascontiguousarray(array)) for name, array in openai.items()}
    openai["stats_last_nonzero"] = torch.zeros(K, dtype=torch.long)
    torch.save(openai, tmp_path / "a.pt")
    same(Directions.load(tmp_path / "a.pt"), relu(pre(a, A, 1)), A)
    torch.save(openai | {"activation": "TopK", "activation_state_dict": {"k": 2}}, tmp_path / "b.pt")
    same(Directions.load(tmp_path / "b.pt"), largest(relu(pre(a, A, 1)), 2), A)
    stream = io.BytesIO()
    torch.save({name: torch.tensor(a[name]) for name in BASE}, stream)
    header = json.dumps({"d_vit": U, "exp_factor": 2, "sparsity_coeff": 1e-3, "n_reinit_samples": 9, "seed": 1})
    (tmp_path / "sae.pt").write_bytes(header.encode() + b"\n" + stream.getvalue())
    same(Directions.load(tmp_path / "sae.pt"), relu(pre(a, A, 1)), A)
    np.savez(tmp_path / "params.npz", **some(a, *BASE, "threshold"))
    same(Directions.load(tmp_path / "params.npz"), relu(pre(a, A, 0)) * (pre(a, A, 0) > a["threshold"]), A)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "sae.module."])
@pytest.mark.parametrize("wrapper", ["", "state_dict", "model"])
def test_wrappers_prefixes_and_precision(tmp_path, a, A, wrapper, prefix, dtype):
    tensors = {f"{prefix}{name}": torch.tensor(a[name]).to(dtype) for name in BASE}
    tensors[f"{prefix}b_dec"] = tensors[f"{prefix}b_dec"][None]  # (1, u)
    torch.save({wrapper: tensors, "epoch": 3} if wrapper else tensors, tmp_path / "sae.pt")
    expected = relu(pre({name: torch.tensor(a[name]).to(dtype).float().numpy() for name in BASE}, A, 1))
    np.testing.assert_allclose(Directions.load(tmp_path / "sae.pt", U).activations(A), expected, atol=1e-4)


def test_what_is_not_understood_is_named(tmp_path, a):
    with pytest.raises(Refused, match=r"the tensor W_skip is not understood"):
        Directions.load(saelens(tmp_path / "a", some(a, *BASE) | {"W_skip": a["W_enc"]}, architecture="standard"))
    for entry, value in (("leak", 0.1), ("architecture", "temporal"), ("normalize_activations", "softly")):
        cfg = {"architecture": "standard", entry: value}
        with pytest.raises(Refused, match=entry):
            Directions.load(saelens(tmp_path / "b", some(a, *BASE), **cfg))
    with pytest.raises(Refused, match="of a layer of 6 neurons, not of 9"):
        Directions.load(saelens(tmp_path / "c", some(a, *BASE), architecture="standard"), 9)
    with pytest.raises(Refused, match="neither a tensor nor its configuration says k"):
        Directions.load(saelens(tmp_path / "d", some(a, *BASE), architecture="topk"))
    with pytest.raises(Refused, match="said to be gated, and has no b_gate"):
        Directions.load(saelens(tmp_path / "e", some(a, *BASE), architecture="gated"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refused, match="holds no autoencoder"):
        Directions.load(tmp_path / "empty")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pt")
    with pytest.raises(Refused, match="a pickle of objects"):
        Directions.load(tmp_path / "whole.pt")
    (tmp_path / "lfs.pt").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(Refused, match=r"cannot read .* a Git LFS pointer, not the weights"):
        Directions.load(tmp_path / "lfs.pt")


def test_latents_are_joined_with_neurons(tmp_path, a, A):
    found = Directions.load(saelens(tmp_path / "sae", some(a, *BASE), architecture="topk", k=2))
    neurons = Directions(np.eye(U)[:2], np.eye(U)[:2], ("x", "y"), np.zeros(2), rectified=True)
    both = found[[5, 1]] + neurons
    expected = np.column_stack([found.activations(A)[:, [5, 1]], relu(A[:, :2])])
    np.testing.assert_allclose(both.activations(A), expected, atol=1e-6)
    np.testing.assert_allclose(both[[3, 0]].activations(A), expected[:, [3, 0]], atol=1e-6)


def overcomplete(a, rng, **more):
    """Weights with batch normalisation, by Overcomplete's names, and what its encoder gives before the ReLU."""
    norm = {
        name: rng.uniform(0.5, 2, K).astype(np.float32) for name in ("weight", "bias", "running_mean", "running_var")
    }
    tensors = {f"encoder.final_block.1.{name}": each for name, each in norm.items()} | {
        "encoder.final_block.0.weight": a["W_enc"].T, "encoder.final_block.0.bias": a["b_enc"],
        "encoder.final_block.1.num_batches_tracked": np.int64(3), "dictionary._weights": a["W_dec"],
        "dictionary.multiplier": np.float32(0.5), **more,
    }  # fmt: skip

    def encode(A):
        Z = A @ a["W_enc"] + a["b_enc"]
        return (Z - norm["running_mean"]) / np.sqrt(norm["running_var"] + 1e-5) * norm["weight"] + norm["bias"]

    return {name: torch.tensor(np.ascontiguousarray(each)) for name, each in tensors.items()}, encode


def test_overcomplete(tmp_path, a, A, rng):
    tensors, encode = overcomplete(a, rng)
    torch.save(tensors, tmp_path / "sae.pt")
    with pytest.raises(Refused, match="SAE or TopKSAE, which are written alike"):
        Directions.load(tmp_path / "sae.pt")
    found = Directions.sae(tmp_path / "sae.pt", U, kind="standard")
    same(found, relu(encode(A)), A)
    np.testing.assert_allclose(found.write, a["W_dec"] * np.exp(0.5), rtol=1e-6)
    (tmp_path / "cfg.json").write_text('{"k": 3}')
    same(Directions.load(tmp_path, U), largest(relu(encode(A)), 3), A)
    torch.save(tensors | {"mlp_blocks": torch.zeros(2)}, tmp_path / "sae.pt")
    with pytest.raises(Refused, match="the tensor mlp_blocks is not understood"):
        Directions.load(tmp_path)
    tensors, encode = overcomplete(a, rng, thresholds=np.log(a["threshold"]))
    torch.save(tensors, tmp_path / "jump.pt")
    same(Directions.load(tmp_path / "jump.pt", U), relu(encode(A)) * (encode(A) > a["threshold"]), A)


class Cfg:
    """The configuration of Prisma and PatchSAE: an object, pickled beside the tensors."""

    def __init__(self, **entries):
        self.__dict__.update(entries, d_in=U, dtype=torch.float32, device=torch.device("cpu"), module_name="resid")


@pytest.mark.parametrize("top", [0, 3])
def test_a_configuration_that_is_an_object(tmp_path, a, A, top):
    cfg = Cfg(gated_sae=False) if not top else Cfg(activation_fn_str="topk", activation_fn_kwargs={"k": top})
    torch.save({"cfg": cfg, "state_dict": {name: torch.tensor(a[name]) for name in BASE}}, tmp_path / "sae.pt")
    Z = pre(a, A, 1)
    same(Directions.load(tmp_path / "sae.pt", U), relu(largest(Z, top)) if top else relu(Z), A)
    cfg.gated_sae = True
    torch.save({"cfg": cfg, "state_dict": {name: torch.tensor(a[name]) for name in BASE}}, tmp_path / "sae.pt")
    with pytest.raises(Refused, match="gated_sae = True of its configuration is not supported"):
        Directions.load(tmp_path / "sae.pt", U)
