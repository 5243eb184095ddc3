"""The embedded model's recipe: what is held out stays out, and the fast passes are open_clip's own."""

import json
import sys
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import binomtest

from atlas.errors import Refused
from atlas.mini import batches, card, corpus, evaluate, finetune, losses, packages, passes, pictures, train, words
from atlas.mini.matrices import Matrices
from atlas.model.clip import Clip
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
    assert not words.renderable("sliceofpizza")  # icons have such names
    assert words.renderable("armchair")


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
    clip = Clip("mini")
    tokens = clip.tokenizer(["a cat", "the word dog is a longer text than the other"])
    pixels = passes.normalise(torch.randint(0, 256, (3, 96, 96, 3), dtype=torch.uint8))
    with torch.no_grad():
        embedding, neurons = passes.see(clip.model.visual, pixels)
        assert torch.allclose(embedding, clip.model.encode_image(pixels), atol=1e-5)
        assert torch.allclose(passes.say(clip.model, tokens), clip.model.encode_text(tokens), atol=1e-4)
    assert neurons.shape == (3, clip.neurons)
    assert (neurons >= 0).all()
    assert np.allclose(passes.written(clip.model.visual).detach(), clip.basis(), atol=1e-5)


def test_muon_moves_the_kernels_themselves() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    before = [p.detach().clone() for p in net.parameters()]
    optimiser = Matrices(list(net.named_parameters()), 0.1)
    net(torch.randn(2, 3, 8, 8)).square().mean().backward()
    optimiser.step(0.1)
    assert all((b != a.detach()).any() for b, a in zip(before[:1], list(net.parameters())[:1], strict=True))
    assert all(p.grad is None for p in net.parameters())


def test_losses_know_their_positives() -> None:
    same = torch.tensor([[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]])
    paired, mixed = torch.eye(2).repeat_interleave(2, 0), torch.eye(2).repeat(2, 1)
    assert losses.between(paired, same, 0.1) < 0.01 < 5 < losses.between(mixed, same, 0.1)
    matching = torch.tensor([[9.0, 0, 0], [0, 9, 0]])  # rows find their columns, and columns their rows
    assert losses.both_ways(matching, matching / 9) < 0.01
    towards = torch.tensor([[9.0, 0, 0], [9.5, 9, 0]])  # the second row's column is found by it, and not the first's
    assert losses.both_ways(towards, matching / 9) == losses.both_ways(towards.T, matching.T / 9) > 0.4
    lone = torch.eye(4)  # no row has a positive but itself: nothing to learn, and no division by none
    assert losses.between(paired, lone, 0.1) == 0
    assert losses.relational(paired, paired) < 1e-6 < losses.relational(mixed, paired)


@pytest.mark.slow
def test_finetuning_moves_the_last_stage_and_nothing_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetune, "KEPT", 2)
    model = Clip("mini").model.requires_grad_(True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    keys = np.array(["cat", "cat", "dog", "pizza"])
    bank = torch.nn.functional.normalize(torch.randn(4, 256, generator=torch.Generator().manual_seed(0)), dim=1)
    last = finetune.Finetuning(model, bank, keys, np.unique(keys), tmp_path, 60.0)
    assert not last.resume()
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (6, 96, 96, 3), np.uint8))
    named = np.array([["cat", ""], ["dog", ""], ["pizza", "cat"]] * 2)
    batch = batches.Batch(pixels, [""] * 6, named, torch.zeros(6, 6), torch.zeros(6, 390), torch.zeros(6))
    last.settle(iter([batch] * 2))
    parts = [last.update(last.look(batch)) for _ in range(12)]
    assert set(parts[0]) == {"contrast", "neurons", "basis"}
    assert all(parts[-1][name] < parts[0][name] for name in parts[0])
    moved = {n.split(".")[1] for n, v in model.state_dict().items() if (v != before[n]).any()}
    assert moved == {"layer4", "attnpool"}
    last.save()
    again = finetune.Finetuning(model, bank, keys, np.unique(keys), tmp_path, 60.0)
    assert again.resume()
    assert again.step == 12
    assert torch.equal(again.home, last.home)
    model.visual.layer3[0].conv1.weight.data.mul_(2)  # the whole model was trained on: its last stage begins anew
    anew = finetune.Finetuning(model, bank, keys, np.unique(keys), tmp_path, 60.0)
    assert not anew.resume()
    assert anew.step == 0


def test_a_picture_carries_its_name_and_its_keyword() -> None:
    keys = np.array([["cat", "pet"], ["dog", ""]])
    assert finetune.carried(keys, np.array(["cat", "dog", "pet"])).tolist() == [[1, 0, 1], [0, 1, 0]]


def test_every_name_gets_the_neuron_it_has_and_a_neuron_two_names_at_most() -> None:
    wanted = torch.tensor([[9.0, 0, 0], [8, 1, 0], [7, 0, 2], [0, 5, 0], [0, 4, 0]])
    home = finetune.assign(wanted)
    assert home.tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 0]]


def test_the_card_and_readme_say_what_was_measured() -> None:
    training, evidence = (
        json.loads((card.HERE / f"{name}.json").read_text("utf-8")) for name in ("training", "evidence")
    )
    assert (card.HERE / "CARD.md").read_text("utf-8") == card.render(training, evidence)
    readme = card.README.read_text("utf-8")
    assert card.BEGIN in readme
    assert readme == card.placed(card.in_brief(evidence), readme)


def test_a_picture_that_several_vendors_share_is_neither_trained_on_nor_counted() -> None:
    checksums = {
        vendor: {name: zlib.crc32(file.read_bytes()) for name, file in corpus.vendor_pictures(vendor)}
        for vendor in (*packages.VENDORS, *packages.HELD_OUT_VENDORS)
    }
    for seen in packages.VENDORS:
        for unseen in packages.HELD_OUT_VENDORS:
            assert not checksums[seen].items() & checksums[unseen].items()
    assert "lotus" in corpus.styleless()
    assert "cat" not in corpus.styleless()
    counted = {item.label for item in evaluate.drawings(evaluate.UNSEEN)}
    assert "cat" in counted
    assert not counted & corpus.styleless()


def test_an_interval_is_over_things_and_not_over_samples() -> None:
    hits, word = np.repeat([1, 0, 0, 1, 0], 10), np.repeat(np.arange(5), 10)
    alike, apart = evaluate.share(hits, word), evaluate.share(hits)
    assert (alike["share"], alike["n"], alike["things"]) == (0.4, 50, 5)
    wilson = binomtest(20, 50).proportion_ci(method="wilson")
    assert (apart["low"], apart["high"]) == pytest.approx((wilson.low, wilson.high), abs=0.01)
    assert alike["high"] - alike["low"] > 2.5 * (apart["high"] - apart["low"])
    none = evaluate.share(np.zeros(500), np.repeat(np.arange(50), 10))  # fifty words unread, not five hundred
    assert none["low"] == 0
    assert none["high"] == pytest.approx(binomtest(0, 50).proportion_ci(method="wilson").high, abs=0.01)
    assert evaluate.share(np.ones(50), word)["high"] == 1
    even = evaluate.share(np.tile([1, 0], 25), word)  # every word half: no wider than of independent samples
    assert even["low"] == pytest.approx(0.5 - (even["high"] - 0.5))
    assert 0.3 < even["low"] < 0.4


def test_an_interval_of_few_things_holds_the_truth_nineteen_times_of_twenty() -> None:
    rng, word = np.random.default_rng(0), np.repeat(np.arange(6), 10)
    hits = [(rng.random((6, 10)) < rng.beta(3, 4.5, (6, 1))).ravel() for _ in range(1000)]
    held = np.mean([f["low"] <= 0.4 <= f["high"] for f in (evaluate.share(each, word) for each in hits)])
    assert 0.94 < held < 0.985  # .92 without Student's t, .97 with it


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


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--hours", "0"], "--hours takes a number above 0, got 0.0"),
        (["--hours", "nan"], "--hours takes a number above 0, got nan"),
        (["--batch", "2"], "--batch takes 16 or more, got 2"),
        (["--start", "none.safetensors"], "none.safetensors is missing"),
        (["--run", "file"], "cannot write in file"),
        (["--weights", "file/mini.safetensors"], "cannot write in file"),
        (["--corpus", "file"], "file cannot hold the corpus"),
    ],
)
def test_what_would_fail_after_hours_is_refused_before(asked, said, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    monkeypatch.setattr(sys, "argv", ["train", *asked])
    assert train.main() == 1
    errors = capsys.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1


def test_a_folder_that_nothing_can_be_written_in_is_refused_before(tmp_path, monkeypatch, capsys) -> None:
    def refuse(dir: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(train.tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(sys, "argv", ["train", "--run", str(tmp_path / "run")])
    assert train.main() == 1
    assert capsys.readouterr().err == f"train: cannot write in {tmp_path / 'run'}: Permission denied\n"


def test_evidence_lies_beside_the_weights_and_lacking_fonts_are_told_first(tmp_path, monkeypatch, capsys) -> None:
    measured: list[str] = []
    for part in ("naming", "reading", "neurons", "feelings", "regions", "attack", "stroop", "speed"):
        stub = lambda clip, part=part: measured.append(part) or {"top1": evaluate.share([1, 0])}  # noqa: E731
        stub.__name__ = part
        monkeypatch.setattr(evaluate, part, stub)
    weights = tmp_path / "mini.safetensors"
    weights.write_bytes((evaluate.HERE / "mini.safetensors").read_bytes())
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)  # what is measured with two; tests go on as they were
    monkeypatch.setattr(sys, "argv", ["evaluate", "--weights", str(weights)])
    monkeypatch.setattr(packages, "HELD_OUT_FONTS", ("open-sans",))
    monkeypatch.setattr(evaluate, "SEEN_FONTS", ("no-such-family",))
    assert evaluate.main() == 1
    assert "pip install fontpkg-no-such-family" in capsys.readouterr().err
    assert not measured
    monkeypatch.setattr(evaluate, "SEEN_FONTS", ("pt-serif",))
    assert evaluate.main() == 0
    assert list(json.loads((tmp_path / "evidence.json").read_text("utf-8"))) == measured
    monkeypatch.setattr(sys, "argv", ["evaluate", "--weights", str(weights), "--out", str(tmp_path / "none/x.json")])
    assert evaluate.main() == 1
    assert "cannot write" in capsys.readouterr().err


def test_a_checkpoint_that_cannot_be_taken_up_or_written_is_one_line(tmp_path: Path) -> None:
    damaged = tmp_path / "checkpoint.pt"
    damaged.write_bytes(b"PK\3\4 cut short")
    with pytest.raises(Refused, match=r"is damaged, or of another corpus or recipe .*: delete it to begin anew"):
        finetune.checkpoint(damaged).__enter__()
    finetune.write_checkpoint({"step": 3}, damaged)
    with finetune.checkpoint(damaged) as state:
        assert state == {"step": 3}
    with pytest.raises(Refused, match="of another corpus"), finetune.checkpoint(damaged) as state:
        state["elapsed"]
    with pytest.raises(Refused, match="cannot write"):
        finetune.write_checkpoint({}, tmp_path / "none" / "checkpoint.pt")


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
