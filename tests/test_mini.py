"""The embedded model's training set: what is held out stays out, and captions fit the pictures."""

import json
import sys
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atlas.errors import Refused
from atlas.mini import batches, corpus, feelings, packages, pictures, unseen, words
from atlas.sources import vocabulary

pytest.importorskip("wordfreq")
WHEEL = Path(__file__).parent / "data/emotion_wheel.json"


@pytest.fixture(autouse=True)
def _a_font_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The training families come with the corpus; here any family does."""
    monkeypatch.setattr(packages, "fonts", lambda: ["open-sans"])


@pytest.fixture(scope="module")
def drawings() -> batches.Drawings:
    """Four styles of a held-out noun, a noun, and a flag, with keywords of which one is held out."""
    out = BytesIO()
    Image.new("RGBA", (24, 24), (200, 30, 30, 255)).save(out, "PNG")
    named = {"pizza": ("slice", "jealous"), "dog": ("slice", "pet"), "spain": ("madrid",)}
    made = [corpus.Drawing(style, n, k, out.getvalue()) for n, k in named.items() for style in ("a", "b", "c", "d")]
    return batches.Drawings(made, 32)


def test_nothing_that_is_held_out_is_in_a_training_list() -> None:
    assert not set(packages.TRAINING_FONTS) & set(packages.HELD_OUT_FONTS)
    assert not set(packages.VENDORS) & set(packages.HELD_OUT_VENDORS)
    assert not {"dejavu", "liberation", "arimo", "tinos", "cousine"} & {
        f.split("-")[0] for f in packages.TRAINING_FONTS
    }
    assert not words.HELD_OUT & set(words.reading_list())
    assert (len(words.HELD_OUT_NOUNS), len(words.HELD_OUT_COUNTRIES), len(words.HELD_OUT_FEELINGS)) == (50, 20, 20)
    assert len(words.HELD_OUT) == 90
    assert set(words.HELD_OUT_NOUNS) < set(vocabulary.emoji_names())
    assert set(words.HELD_OUT_COUNTRIES) < corpus.flags()
    assert set(words.HELD_OUT_FEELINGS) < set(vocabulary.emotion_words())


def test_a_held_out_word_is_never_rendered(drawings: batches.Drawings, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[str] = []

    def note(text: str, *_: object) -> Image.Image:
        rendered.append(text.lower())
        return Image.new("RGB", (32, 32))

    monkeypatch.setattr(pictures, "draw_text", note)
    monkeypatch.setattr(pictures, "draw_sign", lambda picture, *rest: note(*rest))
    known = words.Words(["dog", "cat"], ["zebu"], {"dog": 0, "pizza": 1, "slice": 2}, ["hello"])
    source = iter(batches.Batches(drawings, known, 400, 0, 0.0, 0.6))
    said = set(next(source).captions + next(source).captions)
    assert {"dog", "slice", "madrid"} <= set(rendered)
    assert not [text for text in rendered if words.HELD_OUT & set(text.split())]
    assert any("pizza" in caption for caption in said)  # it is drawn, and spoken of


def test_plurals_and_phrases_of_a_held_out_word_are_held_out() -> None:
    assert not words.renderable("pizzas")
    assert not words.renderable("slice of Pizza")
    assert not words.renderable("lobsters")
    assert words.renderable("dogs")
    assert not words.renderable("sliceofpizza")  # icons have such names
    assert words.renderable("armchair")


def test_a_concept_comes_as_drawings_of_different_styles_and_its_name(drawings: batches.Drawings) -> None:
    rng = np.random.default_rng(0)
    for name in ("dog", "pizza"):
        assert len({drawings.styles[i] for i in drawings.of(name, 3, rng)}) == 3
    batch = next(
        iter(batches.Batches(drawings, words.Words(["cat"], ["zebu"], {"dog": 0}, ["hello"]), 60, 0, 0.0, 0.7))
    )
    written = {name: batch.written[[name in keys for keys in batch.keys]].any() for name in ("dog", "pizza")}
    assert written == {"dog": True, "pizza": False}
    assert batch.pixels.shape == (60, 32, 32, 3)
    assert batch.letters[batch.lettered].any(1).all()
    assert set(batch.keys[batch.lettered.numpy(), 0]) & {"cat", "zebu"}


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
    assert words.spelt("Ice-cream") == "the letters i c e c r e a m"
    assert not bits[:, 2:].any()
    assert (words.spelling("listen") != words.spelling("silent")).any()
    assert (words.spelling("Dog") == words.spelling("dog")).all()


@pytest.mark.slow
def test_a_picture_that_several_vendors_share_is_neither_trained_on_nor_counted() -> None:
    checksums = {
        vendor: {name: zlib.crc32(file.read_bytes()) for name, file in corpus.vendor_pictures(vendor)}
        for vendor in (*packages.VENDORS, *packages.HELD_OUT_VENDORS)
    }
    for seen in packages.VENDORS:
        for held_out in packages.HELD_OUT_VENDORS:
            assert not checksums[seen].items() & checksums[held_out].items()
    assert "lotus" in corpus.styleless()
    assert "cat" not in corpus.styleless()
    counted = {item.label for item in unseen.held_out_drawings(unseen.UNSEEN)}
    assert "cat" in counted
    assert not counted & corpus.styleless()


def test_a_folder_of_other_things_is_not_the_corpus(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(Refused, match=r"holds other things \(thesis.tex\)"):
        packages.fetch(tmp_path)
    with pytest.raises(Refused, match="cannot hold the corpus"):
        packages.fetch(tmp_path / "thesis.tex")


def test_only_what_is_missing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def install(*command: str, cwd: Path | None = None) -> None:
        asked.extend(command)
        if command[0] == "apt-get":
            (tmp_path / f"{command[-1]}_1_all.deb").touch()
        if command[0] == "dpkg":
            inside = packages.PICTURE_PACKAGES[Path(command[-1]).stem][0]
            (Path(command[-1]) / inside).mkdir(parents=True)

    monkeypatch.setattr(packages, "_install", install)
    listed = {"packages": {f"node_modules/@iconify-json/{name}": {} for name in packages.DRAWING_SETS[1:]}}
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules/.package-lock.json").write_text(json.dumps(listed))
    packages.fetch(tmp_path)
    assert {f"@iconify-json/{packages.DRAWING_SETS[0]}", *packages.LISTS, *packages.PICTURE_PACKAGES} <= set(asked)
    assert not {f"@iconify-json/{name}" for name in packages.DRAWING_SETS[1:]} & set(asked)
    asked.clear()
    packages.fetch(tmp_path)
    assert not set(packages.PICTURE_PACKAGES) & set(asked)


def test_fonts_that_were_just_fetched_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, seen = {"open-sans"}, {"open-sans"}

    def families(refresh: bool = False) -> dict[str, None]:
        if refresh:
            seen.update(there)
        return dict.fromkeys(seen)

    def install(*command: str, cwd: Path | None = None) -> None:
        there.update(part.removeprefix("fontpkg-") for part in command if part.startswith("fontpkg-"))
        if command[0] == "apt-get":
            (tmp_path / f"{command[-1]}_1_all.deb").touch()
        if command[0] == "dpkg":
            Path(command[-1]).mkdir()

    monkeypatch.setattr(packages.fontpkg, "families", families)
    monkeypatch.setattr(packages, "_install", install)
    packages.fetch(tmp_path)
    assert set(packages.TRAINING_FONTS) <= seen


def test_an_installer_that_is_missing_or_fails_is_named() -> None:
    with pytest.raises(Refused, match="fetched with no-such-installer, which is not installed"):
        packages._install("no-such-installer")
    with pytest.raises(Refused, match=r"python.* ended with 3: the corpus is not complete"):
        packages._install(sys.executable, "-c", "raise SystemExit(3)")


def test_a_countrys_shape_is_as_wide_as_on_a_globe_and_whole_at_the_date_line() -> None:
    square = np.array([[10.0, 59], [12, 59], [12, 61], [10, 61]])  # at 60 degrees a degree of longitude is half as wide
    alpha = np.asarray(corpus._outline([square], 50).getchannel("A")) > 0
    assert alpha.any(0).sum() == pytest.approx(alpha.any(1).sum() / 2, abs=2)
    split = [
        np.array([[179.0, 0], [180, 0], [180, 1], [179, 1]]),
        np.array([[-180.0, 0], [-179, 0], [-179, 1], [-180, 1]]),
    ]
    alpha = np.asarray(corpus._outline(split, 50).getchannel("A")) > 0
    assert alpha.any(0).sum() == pytest.approx(2 * alpha.any(1).sum(), abs=3)


def test_families_are_the_wheels() -> None:
    tree = json.loads(WHEEL.read_text("utf-8"))
    truth: dict[str, str] = {}

    def walk(node: dict, hub: str) -> None:
        truth.setdefault(node["name"].lower(), hub)
        for child in node.get("children", ()):
            walk(child, hub)

    for hub in tree:
        walk(hub, hub["name"].lower())
    assert vocabulary.emotion_families() == truth


def test_closed_drawings_are_in_no_list() -> None:
    assert "Joy" not in {*packages.VENDORS, *packages.HELD_OUT_VENDORS}
    assert not [licence for licence in packages.VENDORS.values() if "not open" in licence]


def test_pseudo_words_mean_nothing_and_hold_no_held_out_word() -> None:
    rng = np.random.default_rng(0)
    made_up = {words.pseudo_word(rng) for _ in range(300)}
    assert len(made_up) > 250
    assert not made_up & set(words.plain(30_000))
    assert not [word for word in made_up if any(held in word for held in words.HELD_OUT)]
    assert all(3 <= len(word) <= 11 for word in made_up)


def test_no_scene_shows_a_word_that_names_another_thing(
    drawings: batches.Drawings, monkeypatch: pytest.MonkeyPatch
) -> None:
    signs: list[tuple[Image.Image, str]] = []
    monkeypatch.setattr(pictures, "draw_sign", lambda p, t, *_: signs.append((p, t)) or Image.new("RGB", (32, 32)))
    made = [corpus.Drawing("a", name, (), b"") for name in ("dog", "hello kitty")]
    known = words.Words.choose(made, common=2000)
    assert not {"dog", "dogs", "hello", "kitty", "pizza"} & set(known.labels)
    source = batches.Batches(drawings, known, 60, 0, 0.0, 0.0)
    rng = np.random.default_rng(0)
    samples = [source._scene(rng, ["open-sans"]) for _ in range(200)]
    assert len(signs) == 200
    things = {"dog", "pizza", "spain"}
    for sample, (_, text) in zip(samples, signs, strict=True):
        assert text.lower() not in things
        about_text = text.lower() in sample.caption or words.spelt(text) == sample.caption
        about_picture = any(thing in sample.caption for thing in things)
        assert about_text or about_picture
    of_both = [s for s in samples if " / " in s.keys[0]]
    assert 30 < len(of_both) < 90


def test_colour_words_never_come_in_another_ink(drawings: batches.Drawings, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, tuple[int, int, int] | None]] = []

    def note(text: str, family: str, rng: object, size: int, easy: float = 0.0, ink: object = None) -> Image.Image:
        drawn.append((text.lower(), ink))
        return Image.new("RGB", (32, 32))

    monkeypatch.setattr(pictures, "draw_text", note)
    source = batches.Batches(drawings, words.Words(list(batches.INKS), ["zebu"], {}, ["hello"]), 60, 0, 0.0, 0.0)
    rng = np.random.default_rng(0)
    samples = [source._colour(rng, ["open-sans"]) for _ in range(300)]
    assert all(s.ink in s.caption for s in samples if s.keys == (f"{s.ink} ink", ""))
    assert (source._batch(samples).inks >= 0).all()
    assert (source._batch([source._single(rng, ["open-sans"])]).inks == -1).all()
    inked = [(text, ink) for text, ink in drawn if ink]
    assert len(inked) > 100
    assert all(batches.INKS[text] == ink for text, ink in inked if text in batches.INKS)
    assert {text for text, _ in inked} > set(batches.INKS)  # colours in their own ink, and other words


def test_a_tinted_drawing_and_a_patch_have_the_colour() -> None:
    rng, red = np.random.default_rng(0), batches.INKS["red"]
    silhouette = Image.new("RGBA", (24, 24), (0, 0, 0, 255))
    for page in (pictures.draw_tinted(silhouette, red, rng, 32), pictures.draw_patch(red, rng, 32)):
        pixels = np.asarray(page, int)
        assert (np.abs(pixels - red).max(2) < 20).mean() > 0.1


def test_stamps_are_named_by_their_descriptions(tmp_path: Path) -> None:
    for name, line in (("a", "A Sumatran tiger.\nde.utf8=Ein Tiger."), ("b", "A dog."), ("c", "?")):
        Image.new("RGBA", (8, 8)).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(line, "utf-8")
    (tmp_path / "alphabets").mkdir()
    Image.new("RGBA", (8, 8)).save(tmp_path / "alphabets/d.png")
    (tmp_path / "alphabets/d.txt").write_text("The letter D.", "utf-8")
    assert [(name, file.stem) for name, file in corpus._stamps(tmp_path)] == [("sumatran tiger", "a"), ("dog", "b")]


def test_a_users_captioned_images_join_the_corpus(tmp_path: Path) -> None:
    for name in ("a", "b", "broken"):
        Image.new("RGB", (80, 40), "red").save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(f"A photo of  {name}", "utf-8")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    own = list(corpus.captioned([str(tmp_path)], 32))
    assert [(d.style, d.name) for d in own] == [("own", "a photo of a"), ("own", "a photo of b")]
    assert Image.open(BytesIO(own[0].png)).size == (32, 16)
    emoji = [corpus.Drawing("a", name, (), own[0].png) for name in ("dog", "cat", "fox", "pizza")]
    both = batches.Drawings([*emoji, *own], 32)
    share = np.diff([0.0, *both.cumulative, 1.0])
    assert share[[name.startswith("a photo") for name in both.names]].sum() == pytest.approx(1 / 3)
    (tmp_path / "a.png").write_bytes(b"no picture")
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(Refused, match="no image with a caption or label"):
        list(corpus.captioned([str(tmp_path)], 32))


def test_faces_show_the_feelings_they_are_looked_up_by() -> None:
    import torch

    def encode(texts: list[str]) -> torch.Tensor:
        known = {"happy": 0, "glad": 0, "sad": 1, "fire": 2}
        return torch.eye(4)[[known.get(text, 3) for text in texts]]

    named = {"glad": ["grinning face", "party popper"], "sad": ["crying face"], "fire": ["fire"]}
    shown = feelings.feelings_shown(named, encode)
    assert shown["happy"] == shown["glad"] == ["grinning face"]
    assert shown["sad"] == ["crying face"]
    assert "fire" not in shown
