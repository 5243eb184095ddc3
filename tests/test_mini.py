"""The embedded model's recipe: what is held out stays out, and the fast passes are open_clip's own."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from atlas import vocabulary
from atlas.clip import Clip
from atlas.mini import batches, corpus, pictures, words

pytest.importorskip("wordfreq")
REFERENCE = Path(__file__).parents[2] / "shared/reference/emotion_wheel.json"


@pytest.fixture(autouse=True)
def _a_font_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The training families come with the corpus; here any family does."""
    monkeypatch.setattr(corpus, "fonts", lambda: ["open-sans"])


@pytest.fixture(scope="module")
def drawings() -> batches.Drawings:
    """Four styles of a held-out noun, a noun, and a flag, with keywords of which one is held out."""
    out = BytesIO()
    Image.new("RGBA", (24, 24), (200, 30, 30, 255)).save(out, "PNG")
    named = {"pizza": ("slice", "jealous"), "dog": ("slice", "pet"), "spain": ("madrid",)}
    made = [corpus.Drawing(style, n, k, out.getvalue()) for n, k in named.items() for style in ("a", "b", "c", "d")]
    return batches.Drawings(made, 32)


def test_nothing_that_is_held_out_is_in_a_training_list() -> None:
    assert not set(corpus.TRAINING_FONTS) & set(corpus.HELD_OUT_FONTS)
    assert not set(corpus.VENDORS) & set(corpus.HELD_OUT_VENDORS)
    assert not {"dejavu", "liberation", "arimo", "tinos", "cousine"} & {f.split("-")[0] for f in corpus.TRAINING_FONTS}
    assert not words.HELD_OUT & set(words.reading_list())
    assert (len(words.HELD_OUT_NOUNS), len(words.HELD_OUT_COUNTRIES), len(words.HELD_OUT_FEELINGS)) == (50, 20, 20)
    assert len(words.HELD_OUT) == 90
    assert set(words.HELD_OUT_NOUNS) < set(vocabulary.emoji_names())
    assert set(words.HELD_OUT_COUNTRIES) < corpus.flags()
    assert set(words.HELD_OUT_FEELINGS) < set(vocabulary.emotions())


def test_a_held_out_word_is_never_rendered(drawings: batches.Drawings, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[str] = []

    def note(text: str, *_: object) -> Image.Image:
        rendered.append(text.lower())
        return Image.new("RGB", (32, 32))

    monkeypatch.setattr(pictures, "draw_text", note)
    monkeypatch.setattr(pictures, "draw_sign", lambda picture, *rest: note(*rest))
    known = words.Words(["dog", "cat"], ["zebu"], {"dog": 0, "pizza": 1, "slice": 2})
    source = iter(batches.Batches(drawings, known, 400, 0, 0.0, 0.8))
    said = set(next(source).captions + next(source).captions)
    assert {"dog", "slice", "madrid"} <= set(rendered)
    assert not [text for text in rendered if words.HELD_OUT & set(text.split())]
    assert any("pizza" in caption for caption in said)  # it is drawn, and spoken of


def test_plurals_and_phrases_of_a_held_out_word_are_held_out() -> None:
    assert not words.renderable("pizzas")
    assert not words.renderable("slice of Pizza")
    assert not words.renderable("lobsters")
    assert words.renderable("dogs")


def test_a_concept_comes_as_drawings_of_different_styles_and_its_name(drawings: batches.Drawings) -> None:
    rng = np.random.default_rng(0)
    for name in ("dog", "pizza"):
        assert len({drawings.styles[i] for i in drawings.of(name, 3, rng)}) == 3
    batch = next(iter(batches.Batches(drawings, words.Words(["cat"], ["zebu"], {"dog": 0}), 60, 0, 0.0, 0.9)))
    written = {name: batch.written[[name in keys for keys in batch.keys]].any() for name in ("dog", "pizza")}
    assert written == {"dog": True, "pizza": False}
    assert batch.pixels.shape == (60, 32, 32, 3)
    assert batch.letters[batch.written].any(1).all()


def test_names_that_sets_give_are_brought_to_unicodes_own() -> None:
    assert corpus.canonical("flag-for-flag-france") == corpus.canonical("franceflag") == "france"
    assert corpus.canonical("slotmachine") == "slot machine"
    assert corpus.canonical("bear face") == "bear"
    assert corpus.canonical("quarterly report") is None
    assert corpus.SKIN_TONE.search("man artist medium dark")
    assert not corpus.SKIN_TONE.search("light bulb")


def test_spelling_tells_letters_and_where_they_stand() -> None:
    bits = words.spelling("ab").reshape(sum(words.LEVELS), 26)
    assert bits[0, :2].tolist() == [1, 1]  # the whole
    assert bits[1:3, :2].tolist() == [[1, 0], [0, 1]]  # its halves
    assert not bits[:, 2:].any()
    assert (words.spelling("listen") != words.spelling("silent")).any()
    assert (words.spelling("Dog") == words.spelling("dog")).all()


def test_the_training_passes_are_open_clips_own() -> None:
    train = pytest.importorskip("atlas.mini.train")
    clip = Clip("mini")
    tokens = clip.tokenizer(["a cat", "the word dog is a longer text than the other"])
    pixels = train.normalise(torch.randint(0, 256, (3, 96, 96, 3), dtype=torch.uint8))
    with torch.no_grad():
        embedding, neurons = train.see(clip.model.visual, pixels)
        assert torch.allclose(embedding, clip.model.encode_image(pixels), atol=1e-5)
        assert torch.allclose(train.say(clip.model, tokens), clip.model.encode_text(tokens), atol=1e-4)
    assert neurons.shape == (3, clip.neurons)
    assert (neurons >= 0).all()


def test_muon_moves_the_kernels_themselves() -> None:
    train = pytest.importorskip("atlas.mini.train")
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    before = [p.detach().clone() for p in net.parameters()]
    optimiser = train.Matrices(list(net.named_parameters()), 0.1)
    net(torch.randn(2, 3, 8, 8)).square().mean().backward()
    optimiser.step(0.1)
    assert all((b != a.detach()).any() for b, a in zip(before[:1], list(net.parameters())[:1], strict=True))
    assert all(p.grad is None for p in net.parameters())


def test_losses_know_their_positives() -> None:
    train = pytest.importorskip("atlas.mini.train")
    same = torch.tensor([[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]])
    paired, mixed = torch.eye(2).repeat_interleave(2, 0), torch.eye(2).repeat(2, 1)
    assert train.between(paired, same, 0.1) < 0.01 < 5 < train.between(mixed, same, 0.1)
    lone = torch.eye(4)  # no row has a positive but itself: nothing to learn, and no division by none
    assert train.between(paired, lone, 0.1) == 0
    assert train.relational(paired, paired) < 1e-6 < train.relational(mixed, paired)


@pytest.mark.skipif(not REFERENCE.exists(), reason="the reference is not there")
def test_families_are_the_wheels() -> None:
    tree = json.loads(REFERENCE.read_text("utf-8"))["tree"]
    truth: dict[str, str] = {}

    def walk(node: dict, hub: str) -> None:
        truth.setdefault(node["name"].lower(), hub)
        for child in node.get("children", ()):
            walk(child, hub)

    for hub in tree:
        walk(hub, hub["name"].lower())
    assert vocabulary.emotion_families() == truth
