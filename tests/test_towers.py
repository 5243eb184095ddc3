"""The two towers that most of the literature is about, at their full size, with random weights: every analysis runs."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

import decompose
from atlas import collect
from atlas.analysis.derivation import relate_neurons, summarise_neurons
from atlas.model.clip import Clip
from atlas.model.directions import Directions
from atlas.store.store import Store
from decompose import equations
from decompose.cli import main
from decompose.components import factor_activations
from decompose.confirmation import RECEIPT_COLUMNS
from decompose.prompting import concept_embeddings

pytestmark = pytest.mark.slow
SHAPES = {"RN50x4": (2560, 640), "ViT-B-32": (3072, 512)}
WORDS = ("cat", "dog", "sun", "moon", "red", "blue")
IMAGES = 6


class Remembering(Clip):
    """Towers of this size embed a few texts a second: each text is embedded once."""

    seen: dict[str, np.ndarray]

    def encode_texts(self, texts: Sequence[str] | str) -> np.ndarray:
        texts = [texts] if isinstance(texts, str) else list(texts)
        self.seen = getattr(self, "seen", {})
        if new := [text for text in dict.fromkeys(texts) if text not in self.seen]:
            self.seen |= dict(zip(new, super().encode_texts(new), strict=True))
        return np.stack([self.seen[text] for text in texts])


@pytest.fixture(scope="module", params=SHAPES)
def clip(request: pytest.FixtureRequest) -> Clip:
    torch.manual_seed(0)
    return Remembering(request.param, device="cpu")


@pytest.fixture(scope="module")
def pixels(clip: Clip) -> np.ndarray:
    """Noise in patches of its own colour: what is the same everywhere drives a random tower to one answer."""
    coarse = np.random.default_rng(0).integers(0, 256, (IMAGES, 4, 4, 3), np.uint8)
    side = clip.image_size
    return np.stack([np.asarray(Image.fromarray(each).resize((side, side))) for each in coarse])


@pytest.fixture(scope="module")
def store(clip: Clip, pixels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Six images in two folders and four rendered words, with statistics and basis."""
    place = tmp_path_factory.mktemp("towers")
    for number, each in enumerate(pixels):
        file = place / "drawings" / WORDS[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(each).save(file)
    (place / "words.txt").write_text("\n".join(WORDS[:4]), "utf-8")
    sources = [f"folder:{place / 'drawings'}", f"words:{place / 'words.txt'}?fonts=open-sans&sizes=48"]
    store = collect(sources, clip, place / "out")
    summarise_neurons(store)
    relate_neurons(store, clip)
    return store


@pytest.fixture(autouse=True)
def few_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dozen texts stand for the vocabularies."""
    texts = (*WORDS, "ship", "train", "tree", "rain", "king", "gold")
    monkeypatch.setattr(equations, "_vocabulary", lambda: texts)
    monkeypatch.setattr("decompose.lookup.random_texts", lambda like, count, seed=0: list(texts))
    monkeypatch.setattr("decompose.lookup.default_texts", lambda: texts)


def finite(table: pa.Table, *nullable: str) -> None:
    for name in set(table.column_names) - set(nullable):
        if pa.types.is_floating(table.schema.field(name).type):
            assert np.isfinite(table[name].to_numpy()).all(), name
    for name in {"p", "q"} & set(table.column_names):
        assert 0 < min(table[name].to_pylist()) <= max(table[name].to_pylist()) <= 1, name


def test_attribution_is_the_embedding_read_by_the_basis(clip: Clip, store: Store) -> None:
    u, e = SHAPES[clip.name]
    X, W = clip.encode_texts(["cat", "dog"]), clip.basis()
    assert (W.shape, X.shape) == ((u, e), (2, e))
    found = decompose.attribute(clip, ["cat", "dog"])
    np.testing.assert_allclose(found, X @ W.T, rtol=1e-4, atol=1e-6)
    assert np.abs(found).max() > 0
    A = np.asarray(store.array("mean", "image"), np.float32)
    heard = decompose.attribute(clip, ["cat", "dog"], store=store)
    np.testing.assert_allclose(heard, found * A.std(0), rtol=1e-3, atol=1e-6)
    assert 0 <= decompose.explained(store, clip, "cat")[0] <= 1


def test_the_parts_of_a_logit_add_up(clip: Clip, pixels: np.ndarray) -> None:
    found = decompose.completeness(clip, pixels[:1], ["cat", "dog"])
    assert found.contributions.shape == (1, 2, clip.neurons)
    whole = found.contributions.sum(2) + found.constant + found.residual
    np.testing.assert_allclose(whole, found.logit, rtol=1e-4, atol=1e-5)
    E = clip.activations(pixels[:1], layer="visual", token="patches")[:, :, 0, 0]
    np.testing.assert_allclose(found.logit, E @ concept_embeddings(clip, ["cat", "dog"]).T, rtol=1e-4, atol=1e-5)
    if clip.basis_kind == "direct effect":  # of the CLS token, whose hidden units are read by what follows alone
        assert np.abs(found.residual).max() < 1e-4 * max(np.abs(found.logit).max(), 1)


def test_an_equation_keeps_what_its_terms_do(clip: Clip) -> None:
    found = decompose.equation(clip, "cat", k=3)
    assert 1 <= len(found.terms) <= 3
    assert max(abs(term.weight) for term in found.terms) == pytest.approx(1)
    assert 0 < found.kept <= 1
    assert found.kept > decompose.equation(clip, "cat", k=1).kept


def test_neurons_are_found_and_tried(clip: Clip, store: Store, pixels: np.ndarray) -> None:
    for table in (decompose.neurons_of_text(clip, "cat", 5), decompose.neurons_of_text(clip, "cat", 5, store)):
        assert len({*table["neuron"].to_pylist()}) == 5
        assert table["score"].to_pylist() == sorted(table["score"].to_pylist(), reverse=True)
        finite(table)
    one = Directions.neurons([int(store.array("mean", "image")[:].std(0).argmax())], clip.neurons)
    raised, ablated = decompose.receipt(clip, pixels[:2], "cat", one, controls=4)
    assert (raised.act, ablated.act) == ("raise", "ablate")
    assert len(raised.controls) == 4
    assert raised.low <= raised.effect <= raised.high
    assert raised.effect != 0
    assert 1 / 5 <= raised.p <= 1


def test_texts_of_a_neuron_are_by_cosine(clip: Clip) -> None:
    found = decompose.texts_of_neuron(clip, 7, 3, WORDS)
    assert set(found["text"].to_pylist()) < {*WORDS}
    assert found["score"].to_pylist() == sorted(found["score"].to_pylist(), reverse=True)
    finite(found)


def test_neurons_alike_are_those_of_the_arrays(clip: Clip, store: Store) -> None:
    neuron = int(store.array("max", "image")[:].std(0).argmax())
    found, A = decompose.similar_neurons(store, neuron, 4), store.array("max", "image")
    plain = decompose.compare_neurons(A[:], neuron, 4, W=clip.basis())
    for name in ("response", "basis"):
        np.testing.assert_allclose(found[name], plain[name], atol=1e-2)
    finite(found)
    assert neuron not in found["neuron"].to_pylist()


def test_labels_are_given_and_tried(clip: Clip, store: Store) -> None:
    table = decompose.label_neurons(store, clip, draws=200)
    assert {*table["neuron"].to_pylist()} == {*range(clip.neurons)}
    finite(table)
    given = pa.table({"neuron": [int(store.array("mean", "image")[:].std(0).argmax())], "label": ["cat"]})
    receipts = decompose.confirm_labels(store, clip, given, images=2, chosen_by=1, controls=4)
    assert receipts.schema.equals(RECEIPT_COLUMNS)
    assert receipts["act"].to_pylist() == ["raise", "ablate"]
    finite(receipts)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # all but one answer, over and over
def test_activations_are_factored(clip: Clip, store: Store) -> None:
    made, found = factor_activations(store, 2)
    assert (made.width, len(made), len(found)) == (clip.neurons, 2, 2)
    assert sum(each.share for each in found) == pytest.approx(1)
    assert (made.write >= 0).all() == clip.rectified()  # hidden units of a ViT have two signs
    A = np.asarray(store.array("mean", "image"), np.float32)
    model = decompose.SparseNMF(2, split=None if clip.rectified() else "sign", random_state=0)
    Z = model.fit_transform(A)
    assert Z.shape == (IMAGES, 2)
    assert (Z >= 0).all()
    assert np.linalg.norm(A - model.inverse_transform(Z)) < np.linalg.norm(A)


def test_commands_run(clip: Clip, store: Store, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr("atlas.analysis.derivation.clip_of", lambda *_: clip)
    own = ["--store", str(store.path), "--json"]
    for command in (
        ["search", "cat", "-k", "2", *own],
        ["equation", "cat", "-k", "2", *own],
        ["texts", "5", "-k", "2", *own],
        ["nearest", str(store.path), "5", "-k", "2", "--json"],
        ["nmf", str(store.path), "-k", "2", "--json"],
    ):
        assert main(command) == 0, command
        assert json.loads(capsys.readouterr().out), command
    assert (Path(store.path) / "site-fragments/equations/page.html").exists()
