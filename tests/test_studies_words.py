"""Words as images: edit distance, planted neurons of spelling and of meaning, sums, and the command on a tiny Store."""

import json
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pytest
import torch

import atlas
from atlas.errors import Refused
from atlas.model.clip import Clip
from atlas.model.untrained import untrained_clip
from atlas.model.weights import weights_sha256
from atlas.pages.fragments import check_fragment
from atlas.store.store import Store
from atlas.vectors import scaled_rows
from decompose.cli import main
from decompose.studies.edits import lexicographic_neurons, spelling_likeness
from decompose.studies.image_words import WordEmbeddings, WordSum, font_means, nearest_words
from decompose.studies.translations import foreign_words
from decompose.studies.word_report import font_agreement, meaning_figures, untrained_words

HOSTILE = "<img src=x onerror=alert(1)>"


def levenshtein(one: str, other: str) -> int:
    """The textbook's recursion, by rows."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        new = [i]
        for j, b in enumerate(other, start=1):
            new.append(min(row[j] + 1, new[-1] + 1, row[j - 1] + (a != b)))
        row = new
    return row[-1]


def test_spelling_likeness_is_levenshteins() -> None:
    words = ["king", "ring", "kings", "a", "", "queen", "éclair", "eclair", "gnik", "kitten", "sitting"]
    found = spelling_likeness(words)
    for i, a in enumerate(words):
        for j, b in enumerate(words):
            assert found[i, j] == pytest.approx(1 - levenshtein(a, b) / max(len(a), len(b), 1)), (a, b)
    assert spelling_likeness(["kitten"], ["sitting"])[0, 0] == pytest.approx(1 - 3 / 7)
    assert SequenceMatcher(None, "kitten", "sitting").ratio() != pytest.approx(1 - 3 / 7)  # a ratio is not a distance


def planted() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Responses of 40 neurons: 0 to 4 follow the spelling of a word, 5 to 9 its meaning, others nothing."""
    rng = np.random.default_rng(0)
    letters = list("abcdefghij")
    words = ["".join(rng.choice(letters, 5)) for _ in range(200)]
    T = scaled_rows(rng.normal(size=(200, 8)).astype(np.float32))
    S, M, A = spelling_likeness(words), T @ T.T, rng.normal(size=(200, 40)).astype(np.float32)
    for neuron in range(5):
        A[:, neuron] = 10 * S[:, 7 * neuron] + 0.1 * A[:, neuron]
        A[:, 5 + neuron] = 10 * M[:, 7 * neuron] + 0.1 * A[:, 5 + neuron]
    return A, S, M


def test_neurons_of_spelling_are_found_and_neurons_of_meaning_are_not() -> None:
    A, S, M = planted()
    found = {row["neuron"]: row for row in lexicographic_neurons(A, S, M)}
    assert set(range(5)) <= set(found)
    assert not set(range(5, 10)) & set(found)
    assert len(found) <= 7  # of thirty others, few
    assert all(row["spelling"] > row["meaning"] for row in found.values())
    A[:, 11] = 0
    assert 11 not in {row["neuron"] for row in lexicographic_neurons(A, S, M)}


def test_sums_are_read() -> None:
    each = WordSum.parse("king - man+woman = queen")
    assert (each.signs, each.words, each.expected) == ((1, -1, 1), ("king", "man", "woman"), "queen")
    assert str(each) == "king − man + woman"
    assert WordSum.parse("a+b").expected is None
    for wrong in ("king", "king=queen", "king-", "a+b=", "a + = c", "a-b=c=d", "- "):
        with pytest.raises(Refused):
            WordSum.parse(wrong)


def test_a_sum_finds_what_it_should_and_masking_takes_a_neuron_out() -> None:
    words = ("man", "woman", "king", "queen", "ring")
    A = np.zeros((5, 1, 4), np.float32)
    A[[1, 3], 0, 0] = 1  # woman
    A[[2, 3], 0, 1] = 1  # royal
    A[[2, 4], 0, 2] = 5  # ends in -ing
    A[0, 0, 3] = 1
    found = WordEmbeddings(words, ("open-sans",), A, np.eye(5, dtype=np.float32), 10)
    asked = WordSum.parse("king-man+woman=queen")
    assert asked.nearest(found.image_space(), found.place)[1] == 2
    near, rank = asked.nearest(found.image_space(masked=[2]), found.place)
    assert (words[near[0]], rank) == ("queen", 1)
    assert nearest_words(np.eye(3), np.eye(3)[[0]], [[0]], 2).tolist() == [[1, 2]]


def test_fonts_are_averaged_over_sizes_and_words_without_a_font_are_left_out() -> None:
    A = np.arange(12, dtype=np.float32).reshape(6, 2)
    words, means = font_means(A, ["a", "a", "a", "b", "b", "c"], ["x", "x", "y", "x", "y", "x"], ["x", "y"])
    assert words == ["a", "b"]
    assert means.tolist() == [[[1, 2], [4, 5]], [[6, 7], [8, 9]]]


def test_nulls_are_chance_and_a_planted_meaning_is_not(mini: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("decompose.studies.word_report._UNTRAINED_WORDS", 40)
    rng = np.random.default_rng(1)
    T = scaled_rows(rng.normal(size=(120, 6)).astype(np.float32))
    words = tuple("".join(rng.choice(list("abcdefghij"), 6)) for _ in range(120))
    A = np.stack([T + 0.05 * rng.normal(size=T.shape) for _ in range(2)], 1).astype(np.float32)
    found = WordEmbeddings(words, ("open-sans", "pt-serif"), A, T, 10)
    measured, shuffled = font_agreement(found)
    assert measured["itself"] > 0.9
    assert shuffled["itself"] < 0.1
    spaces = {"image": found.image_space(), "image, masked": found.image_space()}
    rows = meaning_figures(found, spelling_likeness(words), spaces, untrained_words(found, mini))
    assert rows[0]["low"] > 0.5
    assert abs(rows[0]["shuffled"]) < 0.1
    assert rows[-1]["space"] == "untrained, 40 words"
    assert abs(rows[-1]["cosine"]) < 0.2


def test_an_untrained_network_has_other_weights_each_seed_and_leaves_random_numbers_alone(mini: Clip) -> None:
    state = torch.random.get_rng_state()
    one, again, other = untrained_clip(mini, 1), untrained_clip(mini, 1), untrained_clip(mini, 2)
    assert torch.equal(torch.random.get_rng_state(), state)
    sums = [weights_sha256(each.model) for each in (mini, one, again, other)]
    assert sums[1] == sums[2]
    assert len(set(sums)) == 3
    assert one.hooked == mini.hooked


def test_translations_are_pairs_of_known_words() -> None:
    found = foreign_words(["dog face", "pizza", "apple", "owl", "rabbit", "butterfly", "schmetterling"])
    assert ("owl", "eule") in found["German"]
    assert all(foreign not in ("schmetterling", "pizza") for _, foreign in found["German"])


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(mini: Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty words in two fonts; one is hostile."""
    place = tmp_path_factory.mktemp("words")
    words = "king queen man woman boy girl owl dog cat sun moon star tree fish bird apple pizza happy sad angry"
    more = "red blue green pink ring sing song sung long rain train brain plain ship shop chip chop car card care"
    (place / "words.txt").write_text("\n".join([*words.split(), *more.split(), HOSTILE]), "utf-8")
    return atlas.collect(f"words:{place / 'words.txt'}?fonts=open-sans,pt-serif&sizes=32", mini, place / "store").path


@pytest.mark.slow
def test_the_command(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["words", str(made), "happy", HOSTILE, "--centre", "30", "--sum", "king-man+woman=queen"]
    assert main([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["words"] == 41
    assert [row["word"] for row in found["neighbours"]] == ["happy", HOSTILE]
    assert len(found["neighbours"][0]["image"]) == 10
    assert found["sums"][0]["expected"] == "queen"
    assert found["lexicographic_few"]["words"] == 41
    page = Store.open(made).path / "site-fragments" / "words" / "page.html"
    check_fragment(page.read_text("utf-8"), page)
    assert "<img src=x" not in page.read_text("utf-8")
    assert main(asked) == 0
    assert "image, masked rank" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--centre", "1"], "two words or more"), (["--sum", "king"], "is no sum of words")],
)
def test_refusals(made: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["words", str(made), *words]) == 1
    assert said in capsys.readouterr().err


def test_a_store_without_words_is_refused(real_images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["words", str(real_images)]) == 1
    assert "holds no rendered words" in capsys.readouterr().err


@pytest.fixture(scope="module")
def real_images(mini: Clip, drawings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Store of drawings alone."""
    return atlas.collect(str(drawings / "drawings"), mini, tmp_path_factory.mktemp("images") / "store").path
