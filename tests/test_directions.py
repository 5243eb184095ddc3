import numpy as np
import pytest
from safetensors.numpy import save_file
from sklearn.decomposition import NMF

from atlas.errors import Refused
from atlas.model.directions import Directions
from decompose.nmf import SparseNMF

U = 6


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_neurons_are_directions_of_one(rng):
    A, W = rng.normal(size=(5, U)).astype(np.float32), rng.normal(size=(U, 3)).astype(np.float32)
    some = Directions.neurons([4, 1], U)
    assert (len(some), some.names) == (2, ("neuron 4", "neuron 1"))
    assert np.array_equal(some.activations(A), A[:, [4, 1]])
    assert np.array_equal(some.basis(W), W[[4, 1]])


@pytest.mark.parametrize("ids", [[6], [-1], [0, 99]])
def test_a_neuron_out_of_range_is_refused(ids):
    with pytest.raises(Refused, match="out of range: the layer has neurons 0 to 5"):
        Directions.neurons(ids, U)


def test_some_of_them_and_both_together():
    whole = Directions.neurons([0, 1, 2], U)
    assert whole[1].names == ("neuron 1",)
    assert whole[[2, 0]].names == ("neuron 2", "neuron 0")
    assert (whole[:1] + whole[2]).names == ("neuron 0", "neuron 2")
    with pytest.raises(Refused, match="out of range"):
        whole[3]
    with pytest.raises(Refused, match="of one layer"):
        whole + Directions.neurons([0], U + 1)


def test_arrays_that_do_not_fit_are_refused():
    row, zero = np.ones((2, U), np.float32), np.zeros(2, np.float32)
    with pytest.raises(Refused, match=r"need read and write \(k, u\)"):
        Directions(row, row, ("a",), zero)
    with pytest.raises(Refused, match="not finite"):
        Directions(row, row * np.float32(np.nan), ("a", "b"), zero)
    with pytest.raises(Refused, match="a layer of 6 neurons, the model's has 7"):
        Directions(row, row, ("a", "b"), zero).basis(np.ones((7, 2), np.float32))
    with pytest.raises(Refused, match="scale the directions down"):
        Directions(row, 3e38 * row, ("a", "b"), zero).basis(np.ones((U, 2), np.float32))


def test_components_are_read_as_they_are_written(rng):
    D, Z = rng.random((3, U)).astype(np.float32), rng.random((9, 3)).astype(np.float32)
    parts = Directions.components(D, ["x", "y", "z"])
    np.testing.assert_allclose(parts.activations(Z @ D), Z, atol=1e-4)
    np.testing.assert_allclose(parts.activations(np.zeros((1, U), np.float32) - D[:1]), 0, atol=1e-5)
    fitted = NMF(2, init="nndsvd").fit(rng.random((20, U)))
    assert Directions.components(fitted.components_).names == ("component 0", "component 1")


def test_components_of_both_signs_are_directions_too(rng):
    D, Z = rng.normal(size=(3, U)), rng.random((9, 3)).astype(np.float32)
    found = Directions.components(D)
    np.testing.assert_allclose(found.activations((Z @ D).astype(np.float32)), Z, atol=1e-4)
    signed = SparseNMF(2, split="sign", random_state=0).fit(rng.normal(size=(40, U)))
    assert Directions.components(signed.signed_).width == U


def test_directions_are_in_single_precision_whatever_they_are_made_of(rng):
    rows = rng.normal(size=(2, U))
    found = Directions(rows, rows, ("a", "b"), np.zeros(2))
    assert {part.dtype for part in (found.read, found.write, found.bias)} == {np.dtype(np.float32)}


def test_directions_are_saved_and_loaded(tmp_path, rng, autoencoder):
    some = Directions.components(rng.normal(size=(3, U)), ["x", "élan", "z"])
    for each in (some, Directions.neurons([4, 1], U), some[:1]):
        each.save(tmp_path / "a.safetensors")
        found = Directions.load(tmp_path / "a.safetensors", U)
        assert (found.names, found.rectified) == (each.names, each.rectified)
        for part in ("read", "write", "bias"):
            np.testing.assert_array_equal(getattr(found, part), getattr(each, part))
    with pytest.raises(Refused, match="of a layer of 6 neurons, not of 7"):
        Directions.load(tmp_path / "a.safetensors", 7)
    save_file(autoencoder, tmp_path / "sae.safetensors", STANDARD)
    assert Directions.load(tmp_path / "sae.safetensors").names[0] == "latent 0"
    arrays = {"read": some.read, "write": some.write, "bias": some.bias}
    save_file(arrays, tmp_path / "bare.safetensors")
    assert Directions.load(tmp_path / "bare.safetensors").names == ("0", "1", "2")
    save_file(arrays, tmp_path / "bad.safetensors", {"names": "x, y, z"})
    with pytest.raises(Refused, match="names are not a JSON list"):
        Directions.load(tmp_path / "bad.safetensors")


STANDARD = {"architecture": "standard"}


@pytest.fixture
def autoencoder(rng):
    k = 4
    arrays = {"W_enc": rng.normal(size=(U, k)), "W_dec": rng.normal(size=(k, U))}
    arrays |= {"b_enc": rng.normal(size=k), "b_dec": rng.normal(size=U)}
    return {key: array.astype(np.float32) for key, array in arrays.items()}


def latents(a: dict[str, np.ndarray], A: np.ndarray) -> np.ndarray:
    return np.maximum((A - a["b_dec"]) @ a["W_enc"] + a["b_enc"], 0)


@pytest.mark.parametrize("turned", [False, True])
def test_an_autoencoder_is_read_however_it_lies(tmp_path, rng, autoencoder, turned):
    a, A = autoencoder, rng.normal(size=(7, U)).astype(np.float32)
    keys = ("encoder.weight", "decoder.weight", "encoder.bias", "decoder.bias") if turned else tuple(a)
    arrays = [each.T.copy() if turned and each.ndim == 2 else each for each in a.values()]
    save_file(dict(zip(keys, arrays, strict=True)), tmp_path / "sae.safetensors", STANDARD)
    found = Directions.sae(tmp_path / "sae.safetensors")
    read = {**a, "b_dec": 0 * a["b_dec"]} if turned else a  # a linear decoder's own bias is no part of the encoder
    np.testing.assert_allclose(found.activations(A), latents(read, A), atol=1e-5)
    np.testing.assert_allclose(found.write, a["W_dec"])
    raw = Directions.sae(tmp_path / "sae.safetensors", centred=False)
    np.testing.assert_allclose(raw.activations(A), np.maximum(A @ a["W_enc"] + a["b_enc"], 0), atol=1e-5)


def test_a_square_autoencoder_goes_by_its_keys(tmp_path, rng):
    enc, dec = (rng.normal(size=(U, U)).astype(np.float32) for _ in range(2))
    save_file({"W_enc": enc, "W_dec": dec}, tmp_path / "a.safetensors")
    save_file({"encoder.weight": enc.T.copy(), "decoder.weight": dec.T.copy()}, tmp_path / "b.safetensors")
    for name in "ab":
        found = Directions.sae(tmp_path / f"{name}.safetensors", kind="standard")
        assert np.array_equal(found.read, enc.T)
        assert np.array_equal(found.write, dec)


def test_other_files_are_refused(tmp_path, autoencoder):
    file = tmp_path / "a.safetensors"
    save_file({"weight": autoencoder["W_enc"]}, file)
    with pytest.raises(Refused, match="no encoder and decoder: it holds weight"):
        Directions.sae(file)
    save_file({**autoencoder, "leak": np.zeros(4, np.float32)}, file)
    with pytest.raises(Refused, match="the tensor leak is not understood"):
        Directions.sae(file)
    save_file(autoencoder, file, STANDARD)
    with pytest.raises(Refused, match="a layer of 6 neurons, not of 9"):
        Directions.sae(file, u=9)
    file.write_bytes(b"no tensors")
    with pytest.raises(Refused, match="cannot read"):
        Directions.sae(file)
    with pytest.raises(Refused, match="cannot read"):
        Directions.sae(tmp_path / "absent.safetensors")


def test_a_difference_of_means_points_from_the_others_to_the_group(rng):
    A, mask = rng.normal(size=(400, U)).astype(np.float32), np.arange(400) < 100
    A[mask, 2] += 3
    found = Directions.difference(A, mask, "two")
    assert found.names == ("two",)
    assert np.linalg.norm(found.write) == pytest.approx(1)
    assert found.write[0].argmax() == 2
    assert found.write[0, 2] > 0.98
    with pytest.raises(Refused, match="two: give 400 labels"):
        Directions.difference(A, np.ones(400, bool), "two")
    with pytest.raises(Refused, match="are equal"):
        Directions.difference(np.ones((400, U), np.float32), mask, "two")


def test_a_probe_reads_the_filter_and_writes_the_pattern(rng):
    """Neuron 1 carries the class, and a distractor with neuron 0: the filter subtracts that, the pattern has none."""
    y = rng.random(2000) < 0.5
    distractor = rng.normal(size=2000)
    distractor -= np.where(y, distractor[y].mean(), distractor[~y].mean())
    A = 0.05 * rng.normal(size=(2000, U)).astype(np.float32)
    A[:, 0] += distractor
    A[:, 1] += distractor + 0.3 * y
    found = Directions.probe(A, y, "signal")
    assert found.read[0, 0] < 0 < found.read[0, 1]
    assert (found.read @ found.write.T)[0, 0] == pytest.approx(1, abs=1e-3)
    assert abs(found.write[0, 0]) < 0.2 * found.write[0, 1]
    assert ((found.activations(A)[:, 0] > 0) == y).mean() > 0.9
    with pytest.raises(Refused, match="tells the two groups apart"):
        Directions.probe(np.ones((10, U), np.float32), np.arange(10) < 5, "nothing")
