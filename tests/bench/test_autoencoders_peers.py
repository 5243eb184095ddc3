"""Published autoencoders beside the libraries that wrote them: each one's own encoder, to 1e-4.

Needs sae-lens, dictionary-learning, eai-sparsify, saev and overcomplete, with what they import (pip install --no-deps
--target DIR ...; PYTHONPATH=DIR). Libraries that are not installed are skipped.
"""

import json
from dataclasses import fields

import numpy as np
import pytest
import torch

from atlas.errors import Refused
from atlas.model.directions import Directions

U, K, N = 48, 200, 64


def agree(found, encode, A):
    with torch.no_grad():
        expected = encode(torch.from_numpy(A)).numpy()
    difference = np.abs(found.activations(A) - expected).max()
    print(f"largest difference {difference:.1e}, {(expected > 0).sum(1).mean():.1f} latents active of {K}")
    assert difference < 1e-4
    assert (expected > 0).any()


@pytest.fixture
def A():  # noqa: N802
    return np.random.default_rng(0).normal(0.5, 2, (N, U)).astype(np.float32)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def shaken(module):
    """The module with random weights and biases in place of those it begins with."""
    for name, each in module.named_parameters():
        each.data = torch.randn_like(each) * (0.3 if each.ndim == 2 else 0.5)
        if "threshold" in name:
            each.data.abs_()
    return module


@pytest.mark.parametrize("name", ["AutoEncoder", "AutoEncoderNew", "GatedAutoEncoder", "JumpReluAutoEncoder"])
@pytest.mark.parametrize("stated", [True, False])
def test_dictionary_learning(tmp_path, A, name, stated):
    library = pytest.importorskip("dictionary_learning.dictionary")
    made = shaken(getattr(library, name)(U, K))
    torch.save(made.state_dict(), tmp_path / "ae.pt")
    if stated:
        (tmp_path / "config.json").write_text(json.dumps({"trainer": {"dict_class": name}}))
    said = {"AutoEncoderNew": {"kind": "standard"}, "JumpReluAutoEncoder": {"centred": False}}
    agree(Directions.sae(tmp_path / "ae.pt", U, **({} if stated else said.get(name, {}))), made.encode, A)


@pytest.mark.parametrize("name", ["AutoEncoderTopK", "BatchTopKSAE", "MatryoshkaBatchTopKSAE"])
def test_dictionary_learning_with_k(tmp_path, A, name):
    module = {"A": "top_k", "B": "batch_top_k", "M": "matryoshka_batch_top_k"}[name[0]]
    library = pytest.importorskip(f"dictionary_learning.trainers.{module}")
    more = ([K // 2, K // 2],) if name.startswith("Matryoshka") else ()
    made = shaken(getattr(library, name)(U, K, 9, *more))
    made.threshold.fill_(1.5)
    torch.save(made.state_dict(), tmp_path / "ae.pt")
    (tmp_path / "config.json").write_text(json.dumps({"trainer": {"dict_class": name, "k": 9}}))
    agree(Directions.load(tmp_path, U), made.encode, A)


@pytest.mark.parametrize("kind", ["standard", "topk", "jumprelu", "gated"])
@pytest.mark.parametrize("standard", ["none", "layer_norm", "constant_norm_rescale", "expected_average_only_in"])
@pytest.mark.parametrize("centred", [True, False])
def test_saelens(tmp_path, A, kind, standard, centred):
    library = pytest.importorskip("sae_lens")
    made_class, cfg_class = library.registry.get_sae_class(kind)
    asked = {"d_in": U, "d_sae": K, "apply_b_dec_to_input": centred, "normalize_activations": standard, "k": 9}
    asked["rescale_acts_by_decoder_norm"] = centred
    known = {each.name for each in fields(cfg_class)}
    made = shaken(made_class(cfg_class(**{name: value for name, value in asked.items() if name in known})))
    made.save_model(tmp_path)
    agree(Directions.load(tmp_path, U), made.encode, A)


@pytest.mark.parametrize("activation", ["topk", "groupmax"])
@pytest.mark.parametrize("transcode", [False, True])
def test_sparsify(tmp_path, A, activation, transcode):
    library = pytest.importorskip("sparsify.sparse_coder")
    cfg = library.SparseCoderConfig(num_latents=K, k=8, activation=activation, transcode=transcode)
    made = shaken(library.SparseCoder(U, cfg))
    made.save_to_disk(tmp_path)
    if activation != "topk" or transcode:
        with pytest.raises(Refused, match=activation if activation != "topk" else "transcode"):
            Directions.load(tmp_path, U)
        return

    def encode(x):
        top = made.encode(x)
        return torch.zeros(len(x), K).scatter(1, top.top_indices, top.top_acts)

    agree(Directions.load(tmp_path, U), encode, A)


def test_saev(tmp_path, A):
    library = pytest.importorskip("saev.nn")
    from saev.config import SparseAutoencoder

    made = shaken(library.SparseAutoencoder(SparseAutoencoder(d_vit=U, exp_factor=4, seed=1)))
    library.dump(str(tmp_path / "sae.pt"), made)
    agree(Directions.load(tmp_path / "sae.pt", U), lambda x: made(x)[1], A)


@pytest.mark.parametrize("name", ["SAE", "TopKSAE", "JumpSAE", "QSAE", "BatchTopKSAE"])
def test_overcomplete(tmp_path, A, name):
    library = pytest.importorskip("overcomplete.sae")
    made = getattr(library, name)(U, K, **({"top_k": 9} if name == "TopKSAE" else {"q": 4} if name == "QSAE" else {}))
    made.encoder.requires_grad_(False)
    for each in made.encoder.state_dict().values():
        if each.is_floating_point():
            each.copy_(torch.rand_like(each) - (0 if each.ndim == 1 else 0.5))
    torch.save(made.state_dict(), tmp_path / "sae.pt")
    if name in ("QSAE", "BatchTopKSAE"):
        with pytest.raises(Refused, match="the tensor Q is not understood" if name == "QSAE" else "has no threshold"):
            Directions.sae(tmp_path / "sae.pt", U, kind="batchtopk")
        return
    if name != "JumpSAE":
        with pytest.raises(Refused, match="does not say how many of its latents are active"):
            Directions.load(tmp_path / "sae.pt", U)
        (tmp_path / "cfg.json").write_text(json.dumps({"k": 9} if name == "TopKSAE" else {"architecture": "standard"}))
    made.eval()
    agree(Directions.load(tmp_path, U), lambda x: made.encode(x)[1], A)
