"""Random weights: what adds up, and what does not mix, depends on no training."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from atlas.errors import Refused
from atlas.model.clip import Clip
from atlas.model.directions import Directions
from atlas.store.shards import ROW_SCHEMA
from atlas.store.store import Store
from decompose import attribution
from decompose.attribution import attribute, completeness, explained
from decompose.prompting import PROMPT_TEMPLATES, concept_embeddings, prompts
from tests.fakes import fake_store, write_array, write_rows
from tests.towers import adopt, noise

NAMES = ("resnet", "vit", "vit-average", "timm-vit", "RN50x4-like")


@pytest.fixture(scope="module")
def clips(towers) -> dict[str, Clip]:
    return {name: towers(name) for name in NAMES}


@pytest.fixture(scope="module")
def resnet(clips) -> Clip:
    return clips["resnet"]


@pytest.fixture
def store(tmp_path, resnet) -> Store:
    made = fake_store(tmp_path / "store", images=60, words=4, texts=4, neurons=resnet.neurons, dim=12, derived=False)
    return adopt(made, resnet)


# -- prompts -----------------------------------------------------------------------------------------------------------


def test_templates_are_averaged_for_each_concept(resnet):
    texts, templates = ["cat", "dog", "red {} sun", "قطة"], ["a {}", "{}, drawn", "the {}"]
    assert prompts(texts, templates)[2] == ["a red {} sun", "red {} sun, drawn", "the red {} sun"]
    for text, found in zip(texts, concept_embeddings(resnet, texts, templates), strict=True):
        each = np.concatenate([resnet.encode_texts(template.replace("{}", text)) for template in templates])
        mean = each.mean(0)
        np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=1e-6)


@pytest.mark.parametrize("name", [*PROMPT_TEMPLATES, None, "a {} hat"])
def test_every_set_of_templates_holds_the_text(name):
    for prompt in prompts("zebra", name)[0]:
        assert prompt.count("zebra") == 1
        assert "{}" not in prompt


@pytest.mark.parametrize(
    ("texts", "templates", "message"),
    [
        ([], None, "no text given"),
        ("", None, "the text is empty"),
        (["cat", " \n"], None, "text 1 is empty"),
        ("x" * 10_000, None, "has 10,000 characters; 1,000 are the most"),
        ("cat", "nosuch", "no templates 'nosuch': the sets are plain"),
        ("cat", ["a cat"], "has no {} where the text belongs"),
        ("cat", [], "no template given"),
    ],
)
def test_prompts_that_cannot_be_read_are_refused_in_a_line(texts, templates, message):
    with pytest.raises(Refused, match=message) as refused:
        prompts(texts, templates)
    assert "\n" not in str(refused.value)


# -- attribution -------------------------------------------------------------------------------------------------------


def test_attribution_is_the_basis_times_the_text(resnet):
    texts = ["cat", "a sad dog"]
    found = attribute(resnet, texts)
    assert found.shape == (2, resnet.neurons)
    np.testing.assert_allclose(found, resnet.encode_texts(texts) @ resnet.basis().T, atol=1e-6)
    np.testing.assert_allclose(attribute(resnet, "cat"), found[:1], atol=1e-6)
    assert (found < 0).any()


def test_directions_are_attributed_like_neurons(resnet):
    some = Directions.neurons([5, 2], resnet.neurons)
    np.testing.assert_allclose(attribute(resnet, "cat", directions=some), attribute(resnet, "cat")[:, [5, 2]], 1e-6)
    both = Directions.components(np.abs(some.write) * [[2], [3]])
    twice = attribute(resnet, "cat")[:, [5, 2]] * [2, 3]
    np.testing.assert_allclose(attribute(resnet, "cat", directions=both), twice, rtol=1e-5)


def rewrite(store: Store, kind: str, change) -> np.ndarray:
    """Mean activations of a kind as `change` makes them; and what they then are."""
    for shard in store.of_kind(kind):
        write_array(store, shard, "mean", change(np.array(shard.array("mean"))).astype(np.float16))
    return np.asarray(store.array("mean", kind)[:], np.float64)


def silenced(A: np.ndarray) -> np.ndarray:
    """Neuron 3 never fires, neuron 4 is the same everywhere."""
    A = np.abs(A)
    A[:, 3], A[:, 4] = 0, 0.7
    return A


def test_a_neuron_that_never_fires_has_no_share(store, resnet, monkeypatch):
    A = rewrite(store, "image", silenced)
    assert np.ptp(np.asarray(store.array("max", "image"))[:, 3]) > 0  # its largest activation varies, below 0 or not
    monkeypatch.setattr("decompose.responses.RESPONSE_BLOCK", 7)
    found = attribute(resnet, "cat", store=store)[0]
    np.testing.assert_allclose(found, attribute(resnet, "cat")[0] * A.std(0), rtol=1e-4, atol=1e-7)
    assert (found[[3, 4]] == 0).all()
    spread = attribution.response_spread(store, resnet)
    np.testing.assert_array_equal(
        attribution.response_spread(store, resnet, Directions.neurons(range(resnet.neurons), resnet.neurons)), spread
    )
    A = A.astype(np.float32)
    some = Directions.components(np.abs(np.random.default_rng(0).normal(size=(3, resnet.neurons))))
    spread = attribution.response_spread(store, resnet, some)
    np.testing.assert_allclose(spread, some.activations(A).std(0), rtol=1e-4)


def test_one_thing_in_many_drawings_counts_once_for_what_a_neuron_varies_by(store, resnet):
    A = rewrite(store, "image", silenced)
    (shard,) = store.of_kind("image")
    couples = np.arange(len(A)) % 4 > 0  # three in four are one couple, in several tones
    table = shard.table(ROW_SCHEMA.names)
    names = [f"couple{' dark skin tone' * (i % 2)}" if couple else f"thing {i}" for i, couple in enumerate(couples)]
    groups = [f"vendor {i}" for i in range(len(A))]
    for name, values in (("label", names), ("group", groups)):
        table = table.set_column(ROW_SCHEMA.names.index(name), name, pa.array(values))
    write_rows(store, shard, table)
    weights = np.where(couples, 1 / couples.sum(), 1)
    mean = np.average(A, axis=0, weights=weights)
    expected = np.sqrt(np.average((A - mean) ** 2, axis=0, weights=weights))
    np.testing.assert_allclose(attribution.response_spread(store, resnet), expected, rtol=1e-4, atol=1e-6)
    assert np.abs(expected / A.std(0).clip(1e-9) - 1).max() > 0.1


def test_a_store_of_words_alone_is_judged_by_them(tmp_path, resnet):
    made = fake_store(tmp_path / "w", images=0, words=20, texts=0, neurons=resnet.neurons, dim=12, derived=False)
    store = adopt(made, resnet)
    A = rewrite(store, "word", silenced)
    np.testing.assert_allclose(attribution.response_spread(store, resnet), A.std(0), rtol=1e-4, atol=1e-6)
    texts = adopt(fake_store(tmp_path / "t", images=0, words=0, neurons=resnet.neurons, dim=12, derived=False), resnet)
    with pytest.raises(Refused, match="neither images nor words"):
        attribute(resnet, "cat", store=texts)


def test_a_store_of_other_tokens_is_refused(tmp_path, clips):
    store = adopt(fake_store(tmp_path / "a", images=4, words=2, texts=2, derived=False), clips["vit"])
    with pytest.raises(Refused, match=r"is of token patches, the model reads cls: Clip\(token='patches'\)"):
        attribution.check_model(store, clips["vit"])
    named = Clip(clips["vit"].name, token="patches", device="cpu")
    named.model.load_state_dict(clips["vit"].model.state_dict())
    attribution.check_model(store, named)


def test_a_store_of_another_model_is_refused(tmp_path, resnet, clips):
    foreign = fake_store(tmp_path / "a", images=4, words=2, texts=2)
    with pytest.raises(Refused, match=r"was made by fake \(weights 000000000000\), not by small-resnet-12"):
        attribute(resnet, "cat", store=foreign)
    store = adopt(foreign, resnet)
    other = Clip(resnet.name, layer="visual.layer3", device="cpu")
    other.model = resnet.model
    with pytest.raises(Refused, match=r"is of layer visual.layer4, the model reads visual.layer3"):
        explained(store, other, "cat")


# -- completeness ------------------------------------------------------------------------------------------------------


def homogeneous(clip: Clip):
    """Make the last stage's map the same at every position: each map is its own mean."""
    layer = clip.model.visual.layer4
    return layer.register_forward_hook(lambda _, __, out: out.mean((2, 3), keepdim=True).expand_as(out))


def checked(clip: Clip, n: int = 3) -> attribution.Completeness:
    images, texts = noise(clip, n), ["a cat", "dog"]
    found = completeness(clip, images, texts)
    assert found.contributions.shape == (n, 2, clip.neurons)
    whole = clip.activations(images, layer="visual", token="patches")[:, :, 0, 0]
    np.testing.assert_allclose(found.logit, whole @ concept_embeddings(clip, texts).T, atol=1e-4)
    np.testing.assert_allclose(found.contributions.sum(2) + found.constant + found.residual, found.logit, atol=1e-5)
    assert np.abs(found.contributions.sum(2)).min() > 1e-3
    return found


@pytest.mark.parametrize("name", ["resnet", "RN50x4-like"])
def test_a_resnet_without_positions_adds_up_on_homogeneous_maps(clips, name):
    clip = clips[name]
    pool, flat = clip.model.visual.attnpool, homogeneous(clip)
    positions = pool.positional_embedding.clone()
    try:
        pool.positional_embedding.zero_()
        found = checked(clip, 2)
        assert np.abs(found.residual).max() < 1e-4 * max(np.abs(found.logit).max(), 1)
        constant = pool.c_proj(pool.v_proj.bias).numpy() @ concept_embeddings(clip, ["a cat", "dog"]).T
        np.testing.assert_allclose(found.constant, np.tile(constant, (2, 1)), atol=1e-4)
        pool.positional_embedding.normal_(std=1.0, generator=torch.Generator().manual_seed(0))
        assert np.abs(checked(clip, 1).residual).max() > 1e-2  # what the positions leave
    finally:
        flat.remove()
        pool.positional_embedding.copy_(positions)


@pytest.mark.parametrize("name", ["vit", "timm-vit", pytest.param("ViT-B-32-quickgelu", marks=pytest.mark.slow)])
def test_a_vit_adds_up_on_the_hidden_units_of_its_cls_token(clips, name):
    clip = Clip(name, device="cpu") if name not in clips else clips[name]
    found = checked(clip, 1 if name not in clips else 3)
    assert (clip.grid(), clip.basis_kind) == ((1, 1), "direct effect")
    assert np.abs(found.residual).max() < 1e-4 * max(np.abs(found.logit).max(), 1)
    assert np.ptp(found.constant, 0).max() > 1e-3 or len(found.constant) == 1  # each image's own residual stream
    assert all(not m._forward_hooks for m in clip.model.modules())


def test_a_token_that_was_named_is_taken_apart_alike(clips):
    named = Clip(clips["vit"].name, token="cls", device="cpu")
    named.model.load_state_dict(clips["vit"].model.state_dict())
    np.testing.assert_allclose(checked(named).logit, checked(clips["vit"]).logit, atol=1e-6)


def test_elsewhere_the_residual_is_reported(clips):
    for name in ("resnet", "vit-average"):
        assert np.abs(checked(clips[name]).residual).max() > 1e-3
    with pytest.raises(Refused, match="no image given"):
        completeness(clips["vit"], noise(clips["vit"], 0), "cat")


# -- R^2 ---------------------------------------------------------------------------------------------------------------


def planted(store: Store, clip: Clip, share: float) -> np.ndarray:
    """Write embeddings that are the bilinear form's, but for noise; returns how much of each logit is the form's."""
    A = np.asarray(store.array("mean", "image")[:], np.float32)
    Y = A @ clip.basis() + attribution.silent_embedding(clip)
    Y /= np.linalg.norm(Y, axis=1, keepdims=True)
    rng = np.random.default_rng(0)
    E = np.sqrt(share) * (Y - Y.mean(0)) + np.sqrt(1 - share) * rng.normal(size=Y.shape) * Y.std(0) + Y.mean(0)
    start = 0
    for shard in store.of_kind("image"):
        write_array(store, shard, "embedding", E[start : start + shard.rows].astype(np.float16))
        start += shard.rows
    x = concept_embeddings(clip, ["cat", "dog"])
    return np.array([np.corrcoef(a, b)[0, 1] ** 2 for a, b in zip((Y @ x.T).T, (E @ x.T).T, strict=True)])


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_what_the_form_explains_of_a_stores_logits(store, resnet, share, monkeypatch):
    expected = planted(store, resnet, share)
    monkeypatch.setattr("decompose.responses.RESPONSE_BLOCK", 7)
    found = explained(store, resnet, ["cat", "dog"])
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert ((found > 0.98) if share == 1 else (found < 0.9)).all()


def test_the_silent_embedding_is_the_pools_own(resnet, clips):
    pool = resnet.model.visual.attnpool
    expected = pool(torch.zeros(1, resnet.neurons, *resnet.grid()))[0]
    np.testing.assert_allclose(attribution.silent_embedding(resnet), expected.numpy(), atol=1e-5)
    assert not attribution.silent_embedding(clips["vit"]).any()
