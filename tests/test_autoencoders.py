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


OPEN = {  # what the tensors alone leave open, and what then closes it
    "AutoEncoderTopK": (r'may be TopK or BatchTopK.*kind="topk"', {"kind": "topk"}),
    "BatchTopKSAE": (r'may be TopK or BatchTopK.*kind="topk"', {"kind": "batchtopk"}),
    "AutoEncoderNew": (r'does not say how many.*kind="standard"', {"kind": "standard"}),
    "JumpReluAutoEncoder": (r"whether its encoder subtracts.*centred=True or centred=False", {"centred": False}),
}


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("name", DICTIONARIES)
def test_dictionary_learning(tmp_path, a, A, name, stated):
    tensors, expected = DICTIONARIES[name](a, A)
    torch.save(tensors, tmp_path / "ae.pt")
    if stated:
        trainer = {"dict_class": name, "lr": 1e-4, "activation_dim": U, "dict_size": K, "trainer_class": "x"}
        trainer |= {"k": 3} if "TopK" in name else {}
        (tmp_path / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {"d_submodule": U}}))
    elif name in OPEN:
        cause, said = OPEN[name]
        with pytest.raises(Refused, match=cause):
            Directions.load(tmp_path / "ae.pt")
        return same(Directions.sae(tmp_path / "ae.pt", **said), expected, A)
    return same(Directions.load(tmp_path if stated else tmp_path / "ae.pt", U), expected, A)


def test_sparsify_and_gemma_scope(tmp_path, a, A):
    sparsify = tmp_path / "sparsify"
    sparsify.mkdir()
    arrays = {
        "encoder.weight": a["W_enc"].T.copy(),
        "encoder.bias": a["b_enc"],
        "W_dec": a["W_dec"],
        "b_dec": a["b_dec"],
    }
    save_file(arrays, sparsify / "sae.safetensors")
    cfg = {"activation": "topk", "expansion_factor": 2, "normalize_decoder": True, "num_latents": K, "k": 4, "d_in": U,
           "multi_topk": False, "skip_connection": False, "transcode": False}  # fmt: skip
    (sparsify / "cfg.json").write_text(json.dumps(cfg))
    same(Directions.load(sparsify), largest(relu(pre(a, A, 1)), 4), A)
    (sparsify / "cfg.json").write_text(json.dumps({"d_in": U}))  # TopK always, so k is missing
    with pytest.raises(Refused, match="does not say how many of its latents are active"):
        Directions.load(sparsify)
    np.savez(tmp_path / "params.npz", **some(a, *BASE, "threshold"))
    same(Directions.load(tmp_path / "params.npz"), relu(pre(a, A, 0)) * (pre(a, A, 0) > a["threshold"]), A)


def openai(a, **more) -> dict[str, object]:
    """All that OpenAI's Autoencoder saves: its buffers, and its activation function as entries of the state dict."""
    held = {"pre_bias": a["b_dec"], "latent_bias": a["b_enc"], "encoder.weight": a["W_enc"].T,
            "decoder.weight": a["W_dec"].T, "stats_last_nonzero": np.zeros(K, np.int64),
            "latents_activation_frequency": np.ones(K, np.float32), "latents_mean_square": a["b_mag"]}  # fmt: skip
    return {name: torch.tensor(np.ascontiguousarray(array)) for name, array in held.items()} | more


@pytest.mark.parametrize(
    ("activation", "state", "normalised", "rule"),
    [
        (None, None, False, relu),
        ("ReLU", {}, False, relu),
        ("TopK", {"k": 3, "postact_fn": "ReLU"}, True, lambda Z: relu(largest(Z, 3))),
        ("TopK", {"k": 9, "postact_fn": "Identity"}, True, lambda Z: largest(Z, 9)),
    ],
)
def test_openai(tmp_path, a, A, activation, state, normalised, rule):
    entries = {} if activation is None else {"activation": activation, "activation_state_dict": state}
    torch.save(openai(a, **entries), tmp_path / "a.pt")
    found = Directions.load(tmp_path / "a.pt")
    same(found, rule(pre(a, layer_normed(A) if normalised else A, 1)), A)
    found.save(tmp_path / "saved.safetensors")
    np.testing.assert_array_equal(Directions.load(tmp_path / "saved.safetensors").activations(A), found.activations(A))


def saev(path, a, header, **more):
    stream = io.BytesIO()
    torch.save({name: torch.tensor(a[name]) for name in BASE} | more, stream)
    path.write_bytes(json.dumps(header).encode() + b"\n" + stream.getvalue())
    return path


@pytest.mark.parametrize(
    ("schema", "activation", "rule"),
    [
        (2, {"cls": "Relu", "params": {}}, relu),
        (2, {"cls": "TopK", "params": {"top_k": 9}}, lambda Z: largest(Z, 9)),  # no ReLU follows
        (4, {"cls": "TopK", "params": {"kind": "top-k", "top_k": 3, "sparsity": {"kind": "no-sparsity"}}}, None),
        (4, {"cls": "BatchTopK", "params": {"top_k": 3, "momentum": 0.1}}, lambda Z: relu(Z) * (Z > 0.7)),
    ],
)
def test_saev(tmp_path, a, A, schema, activation, rule):
    width = {"d_vit": U, "exp_factor": 2} if schema < 4 else {"d_model": U, "d_sae": K}
    cfg = {**width, "normalize_w_dec": True, "remove_parallel_grads": True, "activation": activation}
    more = {"activation.threshold": torch.tensor(0.7)} if activation["cls"] == "BatchTopK" else {}
    path = saev(tmp_path / "sae.pt", a, {"schema": schema, "cfg": cfg, "commit": "x", "lib": "0.1"}, **more)
    same(Directions.load(path), (rule or (lambda Z: largest(Z, 3)))(pre(a, A, 0)), A)


def test_saevs_first_versions_subtract_the_bias(tmp_path, a, A):
    cfg = {"d_vit": U, "exp_factor": 2, "n_reinit_samples": 9, "seed": 1}
    for header in ({**cfg, "sparsity_coeff": 1e-3, "ghost_grads": False}, {"schema": 1, "cls": "Relu", "cfg": cfg}):
        same(Directions.load(saev(tmp_path / "sae.pt", a, header)), relu(pre(a, A, 1)), A)
    cfg["activation"] = {"cls": "Relu", "params": {}}  # of schema 1 both are written so
    path = saev(tmp_path / "sae.pt", a, {"schema": 1, "cls": "SparseAutoencoderConfig", "cfg": cfg})
    with pytest.raises(Refused, match="whether its encoder subtracts the decoder's bias"):
        Directions.load(path)
    same(Directions.sae(path, centred=False), relu(pre(a, A, 0)), A)


TOPK = {"architecture": "topk", "k": 3, "d_in": U, "d_sae": K}


@pytest.mark.parametrize("name", ["layer5.safetensors", "sae_weights.safetensors"])
@pytest.mark.parametrize("beside", ["cfg.json", "config.json", "{stem}.json", "{stem}_cfg.json", "metadata"])
def test_a_configuration_is_found_wherever_it_lies(tmp_path, a, A, name, beside):
    said = {key: str(value) for key, value in TOPK.items()} if beside == "metadata" else None
    save_file(some(a, *BASE), tmp_path / name, said)
    if said is None:
        (tmp_path / beside.format(stem=name.partition(".")[0])).write_text(json.dumps(TOPK))
    for path in (tmp_path / name, tmp_path):
        same(Directions.load(path), relu(largest(pre(a, A, 1), 3)), A)


BARE = {
    "SAELens, Prisma": lambda a: {k: torch.tensor(a[k]) for k in BASE},
    "sparsify": lambda a: {k: v for k, v in linear(a, W_dec=a["W_dec"], b_dec=a["b_dec"]).items() if k[:3] != "dec"},
    "OpenMOSS": lambda a: linear(a, **{"decoder.bias": a["b_dec"]}),
    "MSAE": lambda a: {
        k: torch.tensor(a[v])
        for k, v in zip(
            ("encoder", "decoder", "latent_bias", "pre_bias"), ("W_enc", "W_dec", "b_enc", "b_dec"), strict=True
        )
    },
}


@pytest.mark.parametrize("layout", BARE)
def test_a_file_that_does_not_say_its_kind_is_refused(tmp_path, a, A, layout):
    torch.save(BARE[layout](a), tmp_path / "sae.pt")
    with pytest.raises(Refused, match=r'does not say how many of its latents are active.*kind="standard"'):
        Directions.load(tmp_path)
    (tmp_path / "cfg.json").write_text("{}")
    with pytest.raises(Refused, match="does not say how many"):
        Directions.load(tmp_path)
    same(Directions.sae(tmp_path, kind="standard"), relu(pre(a, A, layout != "OpenMOSS")), A)
    (tmp_path / "cfg.json").write_text('{"k": 2}')
    same(Directions.load(tmp_path), relu(largest(pre(a, A, layout != "OpenMOSS"), 2)), A)
    (tmp_path / "cfg.json").unlink()
    (tmp_path / "hyperparams.json").write_text('{"norm_activation": "dataset-wise"}')
    with pytest.raises(Refused, match=r"hyperparams.json: the entry norm_activation = 'dataset-wise'"):
        Directions.load(tmp_path / "sae.pt")


OLD = (  # entries beside gpt2-small-res-jb
    "model_name", "hook_point", "hook_point_layer", "hook_point_head_index", "dataset_path",
    "is_dataset_tokenized", "context_size", "use_cached_activations", "cached_activations_path",
    "n_batches_in_buffer", "total_training_tokens", "store_batch_size", "seed", "b_dec_init_method",
    "expansion_factor", "from_pretrained_path", "l1_coefficient", "lp_norm", "lr", "lr_scheduler_name",
    "lr_warm_up_steps", "train_batch_size", "use_ghost_grads", "feature_sampling_window",
    "feature_sampling_method", "resample_batches", "feature_reinit_scale", "dead_feature_window",
    "dead_feature_estimation_method", "dead_feature_threshold", "log_to_wandb", "wandb_project", "wandb_entity",
    "wandb_log_frequency", "n_checkpoints", "checkpoint_path", "tokens_per_buffer", "run_name", "unique_id",
)  # fmt: skip


def test_saelens_before_it_named_architectures(tmp_path, a, A):
    found = saelens(tmp_path / "sae", some(a, *BASE), **dict.fromkeys(OLD, 1))
    same(Directions.load(found), relu(pre(a, A, 1)), A)
    found = saelens(tmp_path / "sae", some(a, *BASE), **dict.fromkeys(OLD, 1), architecture="standard",
                    activation_fn_str="topk", activation_fn_kwargs={"k": 3}, normalize_activations=False)  # fmt: skip
    same(Directions.load(found), relu(largest(pre(a, A, 1), 3)), A)


def test_saelens_subtracts_the_bias_unless_it_says_no(tmp_path, a, A):
    found = saelens(tmp_path / "sae", some(a, *BASE, "threshold"), architecture="jumprelu")
    same(Directions.load(found), relu(pre(a, A, 1)) * (pre(a, A, 1) > a["threshold"]), A)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "sae.module."])
@pytest.mark.parametrize("wrapper", ["", "state_dict", "model"])
def test_wrappers_prefixes_and_precision(tmp_path, a, A, wrapper, prefix, dtype):
    tensors = {f"{prefix}{name}": torch.tensor(a[name]).to(dtype) for name in BASE}
    tensors[f"{prefix}b_dec"] = tensors[f"{prefix}b_dec"][None]  # (1, u)
    torch.save({wrapper: tensors, "epoch": 3} if wrapper else tensors, tmp_path / "sae.pt")
    expected = relu(pre({name: torch.tensor(a[name]).to(dtype).float().numpy() for name in BASE}, A, 1))
    found = Directions.sae(tmp_path / "sae.pt", U, kind="standard")
    np.testing.assert_allclose(found.activations(A), expected, atol=1e-4)


NOT_UNDERSTOOD = [
    *(("standard", {name: 2}) for name in ("batch_norm", "batchnorm", "dataset_scale", "model_scale", "hook_scale",
      "init_scale", "decoder_norm_rescale", "image_mean", "min_activation", "leak", "input_scale", "total_scale",
      "train_scaling_factor", "log_domain", "normalize_input")),
    ("standard", {"dataset_average_activation_norm": {"in": 4.0}}),
    ("topk", {"activation_fn_kwargs": {"k": 5, "leak": 0.2}}),
    ("standard", {"activation_state_dict": {"slope": 1}}),
    ("topk", {"activation_state_dict": {"k": 5, "postact_fn": "Tanh"}}),
    ("standard", {"activation": {"cls": "Relu", "gain": 2}}),
    ("standard", {"cls": "TopK"}),
    ("standard", {"schema": 9}),
    ("standard", {"normalize_activations": "softly"}),
    ("standard", {"apply_b_dec_to_input": "no"}),
    ("standard", {"reshape_activations": "hook_z"}),
    ("temporal", {}),
    *(("topk", {"k": k}) for k in ("abc", 0, 2.5, True, [3])),
]  # fmt: skip


@pytest.mark.parametrize(("architecture", "entries"), NOT_UNDERSTOOD, ids=str)
def test_an_entry_that_is_not_understood_is_named(tmp_path, a, architecture, entries):
    folder = saelens(tmp_path / "sae", some(a, *BASE), architecture=architecture, **entries)
    with pytest.raises(Refused, match=rf"cfg.json: .*{next(iter(entries), 'architecture')}"):
        Directions.load(folder)


CONTRADICTORY = [
    ({"architecture": "standard", "k": 4}, (), "is standard, and its configuration says k = 4"),
    ({"architecture": "jumprelu", "k": 4}, ("threshold",), "is jumprelu, and its configuration says k = 4"),
    (
        {"architecture": "standard"},
        ("threshold",),
        "is standard, and holds a tensor threshold that this kind does not use",
    ),
    (
        {"architecture": "topk", "k": 4},
        ("threshold",),
        "is topk, and holds a tensor threshold that this kind does not use",
    ),
    ({"architecture": "standard"}, ("b_gate",), "is standard, and holds a tensor b_gate that this kind does not use"),
    ({"architecture": "gated"}, ("b_gate",), "is gated, and holds a tensor b_enc that this kind does not use"),
    ({"architecture": "gated", "activation_fn": "topk"}, (), "gated contradicts the activation function topk"),
    ({"architecture": "topk", "k": 4, "top_k": 5}, (), "by top_k = 5 k is 5, by another entry 4"),
    ({"architecture": "topk", "k": 11}, (), "k = 11, and there are 10 latents"),
    ({"architecture": "standard", "d_in": 9}, (), "says 9 neurons, and its tensors have 6"),
    ({"architecture": "standard", "dict_size": 20, "d_sae": 20}, (), "says 20 latents, and its tensors have 10"),
    ({"architecture": "jumprelu"}, (), "said to be jumprelu, and has no threshold"),
    ({"architecture": "standard", "rescale_acts_by_decoder_norm": True}, (), "rescale_acts_by_decoder_norm"),
]


@pytest.mark.parametrize(("entries", "more", "cause"), CONTRADICTORY, ids=lambda value: str(value)[:50])
def test_what_contradicts_is_refused(tmp_path, a, entries, more, cause):
    with pytest.raises(Refused, match=cause):
        Directions.load(saelens(tmp_path / "sae", some(a, *BASE, *more), **entries))


def test_what_is_not_understood_is_named(tmp_path, a):
    with pytest.raises(Refused, match=r"the tensor W_skip is not understood"):
        Directions.load(saelens(tmp_path / "a", some(a, *BASE) | {"W_skip": a["W_enc"]}, architecture="standard"))
    save_file(some(a, *BASE), tmp_path / "c.safetensors")
    (tmp_path / "c.json").write_text("[1]")
    with pytest.raises(Refused, match=r"c.json holds no JSON object"):
        Directions.load(tmp_path / "c.safetensors")
    save_file(some(a, *BASE), tmp_path / "d.safetensors")
    with pytest.raises(Refused, match=r"holds several files of weights, c.safetensors, d.safetensors: name one"):
        Directions.load(tmp_path)
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


@pytest.mark.parametrize(
    ("made", "cause"),
    [
        (lambda each: (each * 9).to(torch.int8), "W_enc holds int8 where fractions are needed"),
        (lambda each: each.to(torch.complex64), "W_enc holds complex64 where fractions are needed"),
        (lambda each: each.to("meta"), "W_enc holds no values"),
    ],
)
def test_tensors_of_other_numbers_are_refused(tmp_path, a, made, cause):
    torch.save({name: made(torch.from_numpy(a[name])) for name in BASE}, tmp_path / "x.pt")
    with pytest.raises(Refused, match=rf"x.pt: the tensor {cause}"):
        Directions.sae(tmp_path / "x.pt", kind="standard")


def test_a_configuration_may_begin_with_a_byte_order_mark(tmp_path, a, A):
    torch.save({name: torch.from_numpy(a[name]) for name in BASE}, tmp_path / "sae.pt")
    (tmp_path / "cfg.json").write_text(json.dumps({"architecture": "topk", "k": 2}), "utf-8-sig")
    assert (Directions.sae(tmp_path).activations(A) > 0).sum(1).max() == 2


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
    with pytest.raises(Refused, match="does not say how many of its latents are active"):
        Directions.load(tmp_path / "sae.pt")
    found = Directions.sae(tmp_path / "sae.pt", U, kind="standard")
    same(found, relu(encode(A)), A)
    np.testing.assert_allclose(found.write, a["W_dec"] * np.exp(0.5), rtol=1e-6)
    (tmp_path / "cfg.json").write_text('{"k": 3}')
    same(Directions.load(tmp_path, U), largest(relu(encode(A)), 3), A)
    torch.save(tensors | {"mlp_blocks": torch.zeros(2)}, tmp_path / "sae.pt")
    with pytest.raises(Refused, match="the tensor mlp_blocks is not understood"):
        Directions.load(tmp_path)
    (tmp_path / "cfg.json").unlink()
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
