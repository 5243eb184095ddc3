"""Typographic attacks: the published geometry, known counts, planted carriers, and the command on a tiny Store."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import atlas
from atlas.errors import Refused
from atlas.model.clip import Clip
from atlas.pages.fragments import check_fragment
from atlas.sources.word_images import render_word
from atlas.store.store import Store
from decompose.cli import main
from decompose.pages.attack import carrier_text, stroop_carrier_text
from decompose.studies import attack_report
from decompose.studies.attack_report import AttackReport, searched_texts
from decompose.studies.attacks import (
    CONSONANTS,
    Target,
    nonsense_text,
    overlaid,
    overlay,
    pixel_cover,
    rank_texts,
    study_attacks,
    success_rate,
)
from decompose.studies.carriers import Carriers, ablated_embeddings, find_carriers, flip_contributions, matched_sets
from decompose.studies.classifiers import LinearClassifier, labelled_rows, linear_probe, read_pixels, zero_shot
from decompose.studies.commands import print_attacks, target_and_text
from decompose.studies.rates import Rate
from decompose.studies.stroop import study_stroop

WORDS = ("cat", "dog", "sun", "moon", "sad", "angry", "red", "ship", "train", "tree", "rain", "king")
PLACES = ((22, 22), (72, 47), (22, 72), (72, 97), (122, 122), (172, 147), (122, 172), (172, 197))


# -- the text on the image ---------------------------------------------------------------------------------------------


def test_eight_equal_copies_at_the_published_coordinates() -> None:
    grey = Image.new("RGB", (288, 288), (120, 120, 120))
    changed = (np.asarray(overlay(grey, "iPod")) != 120).any(-1)
    one = changed[22:47, 20:70]  # from the first copy's corner; no other copy reaches in here
    rebuilt = np.zeros_like(changed)
    for x, y in PLACES:
        rebuilt[y : y + 25, x - 2 : x + 48] |= one
    assert (rebuilt == changed).all()
    assert np.flatnonzero(changed.any(0))[0] == 21  # as in the published picture


@pytest.mark.parametrize("side", [96, 224, 576])
def test_copies_scale_with_the_image(side: int) -> None:
    def changed(pixels: int) -> np.ndarray:
        grey = Image.new("RGB", (pixels, pixels), (120, 120, 120))
        return (np.asarray(overlay(grey, "trash")) != 120).any(-1)

    here, published = changed(side), changed(288)
    assert here.mean() == pytest.approx(published.mean(), rel=0.55)  # letters and edges are whole pixels
    for axis in (0, 1):
        centres = [
            np.average(np.arange(len(each)), weights=each.sum(1 - axis)) / len(each) for each in (here, published)
        ]
        assert centres[0] == pytest.approx(centres[1], abs=0.01)


def test_a_single_sticker_is_paper_with_letters_in_the_middle() -> None:
    red = Image.new("RGB", (200, 200), "red")
    after = np.asarray(overlay(red, "pizza", single=True)).astype(int)
    changed = (after != [255, 0, 0]).any(-1)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()  # one rectangle
    assert abs((rows[0] + rows[-1]) / 2 - 99.5) <= 1
    assert abs((columns[0] + columns[-1]) / 2 - 99.5) <= 1
    assert columns[-1] - columns[0] <= 0.5 * 200 + 4
    assert after[changed].min() < 60
    assert np.asarray(red).max() == 255  # the given image stays as it is


def test_nonsense_keeps_length_and_spaces() -> None:
    text = nonsense_text("a big dog", np.random.default_rng(0))
    assert [len(word) for word in text.split(" ")] == [1, 3, 3]
    assert set(text) <= set(CONSONANTS) | {" "}


def test_success_leaves_out_images_of_the_target_and_those_already_there() -> None:
    before, label = np.array([0, 0, 1, 2, 2, 0]), np.array([0, 0, 0, 2, 1, 0])
    after = np.array([1, 0, 1, 1, 1, 1])
    rate = success_rate(before, after, label, 1)
    assert rate == Rate(3, 4)  # the third was there before, the fifth is of the target
    assert rate.share == 0.75


def test_wilson_interval_is_scipys() -> None:
    from scipy.stats import binomtest

    for hits, of in ((0, 7), (3, 7), (7, 7), (90, 100)):
        expected = binomtest(hits, of).proportion_ci(method="wilson")
        assert Rate(hits, of).interval == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert Rate(0, 0).interval == (0, 1)
    assert Rate(0, 0).share is None


def test_pixel_cover_counts_pixels() -> None:
    black = np.zeros((2, 4, 4, 3), np.uint8)
    other = black.copy()
    other[0, :2, :, 1] = 9
    assert pixel_cover(black, other) == 0.25


# -- classifiers and carriers ------------------------------------------------------------------------------------------


def test_a_linear_probe_of_two_classes_and_of_three_finds_the_classes() -> None:
    rng = np.random.default_rng(0)
    for count in (2, 3):
        labels = np.repeat(np.arange(count), 20)
        E = (np.eye(6)[labels] + 0.1 * rng.normal(size=(len(labels), 6))).astype(np.float32)
        probe = linear_probe(E, labels, [f"class {i}" for i in range(count)])
        assert (probe.choose_classes(E) == labels).all()
        assert probe.probabilities(E).sum(1) == pytest.approx(1)
    with pytest.raises(Refused, match="two classes"):
        linear_probe(E, labels, ["a", "b", "c", "d"])


def test_texts_are_ranked_by_what_their_neurons_add() -> None:
    W, K = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)
    classifier = LinearClassifier("given", ("a", "b", "c"), K, np.zeros(3, np.float32))
    A = np.array([[2, 0, 0], [0, 1, 0], [4, 0, 0]], np.float32)
    scores = rank_texts(A, ["x", "y", "x"], W, classifier)
    assert scores.shape == (2, 3)
    assert scores[0] == pytest.approx([2, -1, -1])  # the mean of both renderings, against the mean class
    assert scores[1].argmax() == 1


def test_contributions_sum_to_the_change_of_the_margin() -> None:
    rng = np.random.default_rng(1)
    W, K = rng.normal(size=(9, 5)).astype(np.float32), rng.normal(size=(4, 5)).astype(np.float32)
    before, after = rng.random((6, 9), np.float32), rng.random((6, 9), np.float32)
    wrong, right = rng.integers(0, 4, 6), rng.integers(0, 4, 6)
    classifier = LinearClassifier("given", tuple("abcd"), K, np.zeros(4, np.float32))
    found = flip_contributions(before, after, W, classifier, wrong, right).sum(1)
    logits = classifier.logits((after - before) @ W)
    rows = np.arange(6)
    assert found == pytest.approx(logits[rows, wrong] - logits[rows, right], abs=1e-5)


def test_matched_sets_have_no_neuron_twice_and_none_of_the_chosen() -> None:
    rng = np.random.default_rng(2)
    W, A, chosen = rng.normal(size=(60, 8)), rng.random((30, 60)), np.arange(10)
    for group in matched_sets(W, A, chosen, 7):
        assert len(set(group.tolist())) == 10
        assert not set(group.tolist()) & set(range(10))


def test_ablation_of_nothing_changes_nothing_and_of_all_makes_images_equal(mini: Clip) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (2, 96, 96, 3), np.uint8)
    masks = np.array([np.ones(mini.neurons, bool), np.zeros(mini.neurons, bool)])
    E = ablated_embeddings(mini, pixels, masks)
    assert E[:, 0] == pytest.approx(mini.encode_images(pixels), abs=1e-5)
    assert E[0, 1] == pytest.approx(E[1, 1], abs=1e-5)
    assert not np.allclose(E[0, 0], E[0, 1])
    E, A = read_pixels(mini, pixels)
    assert pytest.approx(np.maximum(mini.activations(pixels), 0).mean((2, 3)), abs=1e-5) == A


def test_planted_carriers_give_the_answers_back_and_matched_neurons_do_not(mini: Clip) -> None:
    """The classifier's wrong class is the direction of what the text changes, so its neurons are the carriers."""
    pixels = np.stack([np.asarray(render_word(word, side=96)) for word in WORDS])
    attacked = overlaid(pixels, "happy")
    (E0, A0), (E1, A1) = read_pixels(mini, pixels), read_pixels(mini, attacked)
    step = E1.mean(0) - E0.mean(0)
    middle = float((0.2 * E0.mean(0) + 0.8 * E1.mean(0)) @ step)  # near the attacked ones: part of the way suffices
    judge = LinearClassifier("given", ("clean", "attacked"), np.stack([-step, step]), np.array([middle, -middle]))
    right, wrong, held = np.zeros(12, int), np.ones(12, int), np.arange(12) >= 6
    found = find_carriers(mini, pixels, attacked, A0, A1, judge, wrong, right, held, k=60, sets=19)
    assert found is not None
    assert (found.images, found.chosen_on) == (6, 6)
    assert found.clean - found.attacked > 0.6
    assert found.ablated > np.mean(found.matched) + 0.3
    assert found.wrong > found.wrong_ablated + 0.3
    assert found.wrong_ablated < np.mean(found.wrong_matched) - 0.3
    assert found.p == found.p_wrong == 1 / 20
    assert found.regained == (found.ablated - found.attacked) / (found.clean - found.attacked)
    assert find_carriers(mini, pixels, attacked, A0, A1, judge, right, right, held) is None


def test_the_rank_among_matched_sets_is_flat_where_the_chosen_are_no_better() -> None:
    from atlas.analysis.significance import p_values

    rng = np.random.default_rng(5)
    p = np.array([p_values(draw[:1], draw[1:])[0] for draw in rng.random((2000, 40))])
    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.015)
    assert np.mean(p <= 0.5) == pytest.approx(0.5, abs=0.035)


def test_the_study_counts_what_the_model_says(mini: Clip) -> None:
    pixels = np.random.default_rng(6).integers(0, 256, (5, 96, 96, 3), np.uint8)
    study = study_attacks(mini, pixels, np.zeros(5, int), [Target(1, "pizza")], controls=2)
    classifier = zero_shot(mini, ["dog", "pizza"])
    (row,) = study.rows(classifier)
    after = classifier.choose_classes(mini.encode_images(overlaid(pixels, "pizza")))
    before = classifier.choose_classes(mini.encode_images(pixels))
    assert (row["success_of"], row["nonsense_of"]) == ((before == 0).sum(), 2 * (before == 0).sum())
    assert row["accuracy"] == (after == 0).mean()
    assert 0.02 < row["cover"] < 0.5
    with pytest.raises(Refused, match="at least one of each"):
        study_attacks(mini, pixels, np.zeros(5, int), [])


@pytest.mark.slow
def test_stroop_has_the_papers_images_and_the_word_is_carried(mini: Clip) -> None:
    study = study_stroop(mini, fonts=("open-sans", "pt-serif"), k=5)
    rows = {row["subset"]: row for row in study.rows()}
    assert {name: row["images"] for name, row in rows.items()} == {
        "congruent": 14,
        "incongruent": 98,
        "neutral": 16,
        "nonsense": 112,
    }
    assert rows["neutral"]["says_word"] is None
    assert study.P.sum(1) == pytest.approx(1)
    assert (study.said == study.P.argmax(1)).all()
    assert study.carriers is not None
    assert study.carriers.images == study.carriers.chosen_on == 49


CARRIED = Carriers(
    *((1,), (0.5,), 0.9, 0.5, 0.7, (0.5, 0.6), 0.9, 0.3), *(0.4, 0.1, (0.3, 0.4), 0.33), chosen_on=4, images=28
)


def test_what_carriers_were_measured_on_is_said() -> None:
    assert "On 28 pairs of another image and a text 90" in carrier_text(CARRIED)
    assert stroop_carrier_text(CARRIED).startswith(
        "The answer is the word in 40.0 % of 28 other images. With these neurons ablated it is the word in 10.0 %; "
        "with matched neurons in 35.0 % (30.2 to 39.8; 2 sets, p 0.330). On these images 90.0 % of the answers are"
    )


def test_searched_texts_are_ordered_by_one_half_and_measured_on_the_other(
    mini: Clip, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []

    def tried(clip: Clip, pixels: np.ndarray, labels: np.ndarray, *given: object) -> list[Rate]:
        seen.append(labels)
        return [Rate(hits, 3) for hits in ((0, 3, 1, 2) if len(seen) == 1 else (1, 1, 2, 3))]

    monkeypatch.setattr(attack_report, "try_texts", tried)
    pixels = np.zeros((7, 96, 96, 3), np.uint8)
    judge = zero_shot(mini, ["dog", "cat"])
    rows = searched_texts(Store.open(made), mini, pixels, np.arange(7), judge, [Target(1, "cat")], 2)
    assert sorted(np.concatenate(seen).tolist()) == list(range(7))
    assert [row["first_half"] for row in rows] == pytest.approx([1, 2 / 3, 1 / 3, 0])
    assert [row["success"] for row in rows] == pytest.approx([1 / 3, 1, 2 / 3, 1 / 3])


def test_searched_texts_and_the_untrained_network_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    searched = [
        {"target": "cat", "chosen_by": "basis", "text": "kitten", "first_half": 0.5} | Rate(1, 4).columns("success")
    ]
    untrained = {"images": 40} | Rate(3, 40).columns("success")
    print_attacks(
        AttackReport("mini", "label", ("cat", "dog"), 8, False, [], [], {"probe": CARRIED}, searched, [], untrained)
    )
    printed = capsys.readouterr().out
    assert "kitten" in printed
    assert "untrained" in printed
    assert "28 pairs" in printed


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(mini: Clip, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Twelve drawings in four styles, in folders of their names; one name is hostile. And a few rendered words."""
    from atlas.sources.builtin import emoji_source

    place, names = tmp_path_factory.mktemp("attack"), {}
    for vendor in ("Google", "Twitter", "OpenMoji", "Noto"):
        try:
            items = list(emoji_source("emoji", (vendor,), skin=False))
        except Refused:
            continue
        for number, item in enumerate(items):
            if number % 150 == 0 and item.load and len(names.setdefault(item.label, [])) < 4:
                folder = place / "drawings" / item.label.replace("/", " ")
                folder.mkdir(parents=True, exist_ok=True)
                item.load().save(folder / f"{vendor}.png")
                names[item.label].append(vendor)
    hostile = place / "drawings" / "<img src=x onerror=alert(1)>"
    shutil.copytree(next((place / "drawings").iterdir()), hostile)
    (place / "words.txt").write_text("happy\nsad\ndog\ncat\n", "utf-8")
    sources = [f"folder:{place / 'drawings'}", f"words:{place / 'words.txt'}?fonts=open-sans"]
    yield atlas.collect(sources, mini, place / "store").path
    shutil.rmtree(place)


@pytest.mark.slow
def test_the_command_writes_its_page_and_names_stay_inert(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attack", str(made), "--json", "--search", "2", "-k", "4", "--images", "8"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["classifier"] for row in found["targets"]} == {"zero-shot", "linear probe"}
    assert {row["chosen_by"] for row in found["searched"]} == {"basis", "random"}
    assert "<img src=x onerror=alert(1)>" in found["classes"]
    page = Store.open(made).path / "site-fragments" / "attack" / "page.html"
    body = page.read_text("utf-8")
    check_fragment(body, page)
    assert "<img src=x" not in body
    assert "&lt;img src=x" in body
    assert (page.parent / "before-0.webp").exists() == ("Before and after" in body)


@pytest.mark.slow
def test_the_stroop_command_writes_its_page(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attack", str(made), "--stroop", "-k", "3"]) == 0
    assert "incongruent" in capsys.readouterr().out
    page = Store.open(made).path / "site-fragments" / "stroop" / "page.html"
    check_fragment(page.read_text("utf-8"), page)
    assert "written in the color …”" in page.read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--classes", "no such thing", "other"], "is the label of 0 images"),
        (["--target", "no such thing"], "is none of the"),
        (["--target", "dog="], "give NAME or NAME=TEXT"),
    ],
)
def test_refusals_are_one_line(made: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attack", str(made), *words]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert said in lines[-1]


def test_fit_and_held_out_rows_do_not_meet(made: Path) -> None:
    rows = labelled_rows(Store.open(made), images=1000)
    assert not set(rows.fit.tolist()) & set(rows.held.tolist())
    labels = Store.open(made).table(["label"])["label"]
    for row, number in zip(rows.held.tolist(), rows.held_class.tolist(), strict=True):
        assert labels[row].as_py() == rows.classes[number]


def test_targets_have_a_text() -> None:
    assert target_and_text("piggy bank=$$$") == ("piggy bank", "$$$")
    assert target_and_text("iPod") == ("iPod", "iPod")
