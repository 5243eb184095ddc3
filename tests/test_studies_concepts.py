"""Concepts: planted neurons are found in every kind and held out, nulls are flat, the command on a tiny Store."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import atlas
from atlas.errors import Refused
from atlas.model.clip import Clip
from atlas.pages.fragments import check_fragment
from atlas.store.store import Store
from decompose.cli import main
from decompose.studies import concept_stimuli, concepts
from decompose.studies.concept_stimuli import concept_kinds
from decompose.studies.concepts import (
    MOST_OTHERS,
    Stimulated,
    against_others,
    concept_table,
    multimodal_list,
    sampled_rows,
)
from decompose.studies.untrained_nulls import few_stimuli

CONCEPTS, EACH, NEURONS = 60, 6, 40
HOSTILE = "<img src=x onerror=alert(1)>"


def responses(rng: np.random.Generator, planted: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Noise (n, u) and the concept of each row; each planted neuron responds to its concept."""
    concept = np.repeat(np.arange(CONCEPTS), EACH)
    A = rng.normal(size=(len(concept), NEURONS)).astype(np.float32)
    for neuron, number in planted.items():
        A[concept == number, neuron] += 5
    return A, concept


def test_a_neuron_planted_in_every_kind_comes_first_and_holds() -> None:
    rng = np.random.default_rng(0)
    kinds = {}
    for name, planted in (("photographs", {3: 0, 5: 0}), ("drawings", {3: 0, 7: 0}), ("words", {3: 0})):
        kinds[name] = Stimulated(*responses(rng, planted), CONCEPTS)
    rows = concept_table(kinds, k=5)
    assert rows[0]["neuron"] == 3
    for name in kinds:
        assert rows[0][name] > 0.98
        assert rows[0][f"{name}_held"] > 0.98
        assert rows[0][f"{name}_q"] < 0.05
    assert rows[1]["photographs_q"] > 0.2
    (first,) = concept_table({"photographs": kinds["photographs"]}, k=1)
    assert first["neuron"] in (3, 5)


@pytest.mark.parametrize("own", [EACH, 3, 2])
def test_q_and_held_out_areas_are_those_of_chance_where_nothing_is_planted(own: int) -> None:
    """Also where the asked concept has fewer stimuli than the others."""
    rng, held, significant = np.random.default_rng(1), [], 0
    for seed in range(40):
        A, concept = (each[EACH - own :] for each in responses(rng, {}))
        rows = concept_table({"images": Stimulated(A, concept, CONCEPTS)}, k=NEURONS, seed=seed)
        held += [row["images_held"] for row in rows[:5]]  # of the best five by the other half
        significant += any(row["images_q"] <= 0.05 for row in rows)
    assert np.mean(held) == pytest.approx(0.5, abs=0.04 if own == EACH else 0.07)
    assert significant <= 7  # of 40, at 5 %


def test_smaller_concepts_are_left_out_unless_few_would_remain() -> None:
    sizes = [3, 2, *[3] * 19, 5]
    concept = np.repeat(np.arange(22), sizes)
    found = Stimulated(np.zeros((len(concept), 1), np.float32), concept, 22).of_one_size()
    assert np.bincount(found.concept).tolist() == [3] * 21
    kept = concept < 21
    found = Stimulated(np.zeros((kept.sum(), 1), np.float32), concept[kept], 21).of_one_size()
    assert np.bincount(found.concept).tolist() == sizes[:21]


def test_one_stimulus_has_nothing_held_out() -> None:
    A, concept = responses(np.random.default_rng(2), {1: 0})
    kept = (concept != 0) | (np.cumsum(concept == 0) == 1)
    (row,) = concept_table({"words": Stimulated(A[kept], concept[kept], CONCEPTS)}, k=1)
    assert row["words_held"] is None
    with pytest.raises(Refused, match="0 stimuli of the concept"):
        concept_table({"words": Stimulated(A[concept > 0], concept[concept > 0], CONCEPTS)})
    with pytest.raises(Refused, match="no kind"):
        concept_table({})


def test_others_are_drawn_and_own_stimuli_replace_those_of_the_name() -> None:
    names = ["pizza", "pizza"] + [f"thing {i // 2}" for i in range(2 * MOST_OTHERS + 60)] + [""]
    A = np.arange(len(names), dtype=np.float32)[:, None]
    found = against_others(A, names, "pizza")
    assert (found.own, found.concepts, len(found.concept)) == (2, 1 + MOST_OTHERS, 2 + 2 * MOST_OTHERS)
    assert sorted(found.A[found.concept == 0, 0].tolist()) == [0, 1]
    replaced = against_others(A, names, "pizza", own=np.full((3, 1), -1, np.float32))
    assert replaced.A[replaced.concept == 0, 0].tolist() == [-1, -1, -1]


def test_the_list_holds_planted_pairs_alone_and_the_null_is_empty() -> None:
    rng = np.random.default_rng(3)
    planted = {neuron: neuron for neuron in range(8)}
    (drawn, concept), (written, _) = responses(rng, planted), responses(rng, planted)
    names = [f"concept {i:02d}" for i in concept]
    found = multimodal_list(drawn, names, written, names)
    assert {(row["neuron"], row["concept"]) for row in found.rows} == {(i, f"concept {i:02d}") for i in range(8)}
    assert (found.concepts, found.neurons, found.shuffled) == (CONCEPTS, 8, 0)
    with pytest.raises(Refused, match="0 concepts have 2 images"):
        multimodal_list(drawn, names, written, ["other"] * len(names))


def test_the_list_is_the_rule_of_the_embedded_model() -> None:
    from atlas.analysis.multimodal import areas, multimodal_pairs

    rng = np.random.default_rng(4)
    (drawn, concept), (written, _) = responses(rng, {1: 1, 2: 2}), responses(rng, {1: 1, 2: 2})
    names = [f"{i:02d}" for i in concept]
    one = multimodal_pairs(areas(drawn, concept, CONCEPTS), areas(written, concept, CONCEPTS))
    found = multimodal_list(drawn, names, written, names).rows
    assert [row["neuron"] for row in found] == one.neuron.tolist()
    assert [row["p"] for row in found] == one.p.tolist()


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(mini: Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Discs of six colours in folders of their names, and those names rendered; one name is hostile."""
    place, rng = tmp_path_factory.mktemp("concept"), np.random.default_rng(5)
    for name, colour in zip(("red", "green", "blue", "yellow", "pink", HOSTILE), range(0, 360, 60), strict=True):
        (place / "images" / name).mkdir(parents=True)
        for i in range(4):
            disc = np.asarray(Image.new("HSV", (40, 40), (colour * 255 // 360, 200, 200)).convert("RGB"))
            Image.fromarray(np.clip(disc + rng.integers(-20, 20, disc.shape), 0, 255).astype(np.uint8)).save(
                place / "images" / name / f"{i}.png"
            )
    (place / "words.txt").write_text("red\ngreen\nblue\nyellow\npink\n", "utf-8")
    sources = [f"folder:{place / 'images'}", f"words:{place / 'words.txt'}?fonts=open-sans,pt-serif"]
    return atlas.collect(sources, mini, place / "store").path


def test_few_stimuli_are_those_of_the_concept_and_two_of_each_other() -> None:
    names = ["red"] * 30 + [f"other {i % 150}" for i in range(600)] + [""] * 9
    few = few_stimuli(names, "red", np.random.default_rng(0))
    counts = Counter(names[i] for i in few)
    assert counts.pop("red") == 24
    assert set(counts.values()) == {2}
    assert len(counts) == 100


def test_a_group_is_a_concept_where_no_row_has_its_name(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open(made)
    kinds = concept_kinds(store, None, "red", None, None, [])
    assert {name: each.own for name, each in kinds.items()} == {"images": 4, "words": 4}
    monkeypatch.setattr(concepts, "display_texts", lambda table: ["a name"] * len(table))
    assert concept_kinds(store, None, "red", None, None, [])["images"].own == 4
    assert not concept_kinds(store, None, "Google", None, None, [])


def test_words_are_split_at_commas(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def asked(clip: Clip, words: list[str]) -> np.ndarray:
        seen.extend(words)
        raise Refused("enough")

    monkeypatch.setattr(concept_stimuli, "word_responses", asked)
    assert main(["concept", str(made), "red", "--words", "rouge,rot", "rosso, "]) == 1
    assert seen == ["rouge", "rot", "rosso"]


@pytest.mark.slow
def test_the_command_for_one_concept(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["concept", str(made), "red", "-k", "3", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    page = Store.open(made).path / "site-fragments" / "concept" / "page.html"
    assert "in the same network with random weights" in page.read_text("utf-8")
    assert set(rows[0]) == {"neuron", *(f"{kind}{end}" for kind in ("images", "words") for end in ("", "_q", "_held"))}
    photographs = ["--images", str(made.parent / "images" / "red"), "--words", "rouge"]
    assert main(["concept", str(made), "red", "-k", "3", *photographs]) == 0
    assert "photographs" in capsys.readouterr().out
    assert main(["concept", str(made), HOSTILE, "-k", "3"]) == 0
    check_fragment(page.read_text("utf-8"), page)
    assert "<img src=x" not in page.read_text("utf-8")


def test_the_command_for_all_concepts(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["concept", str(made), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["concepts"] == 5  # the hostile name is not rendered
    assert found["sample"]["concepts"] == 5
    assert found["sample"]["untrained"] == 0
    page = Store.open(made).path / "site-fragments" / "multimodal" / "page.html"
    check_fragment(page.read_text("utf-8"), page)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no such thing"], "holds nothing named"),
        (["red", "--images", "/no/such/folder"], "is not a folder"),
        (["--words", "red"], "are of one concept"),
    ],
)
def test_refusals(made: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["concept", str(made), *words]) == 1
    assert said in capsys.readouterr().err


def test_a_sample_holds_up_to_four_of_each_kind_for_the_concepts_that_have_them() -> None:
    images, words = ["a"] * 5 + ["b"] * 2 + ["c"] + ["d"] * 3 + [""] * 4, ["a", "b", "a", "b", "c", "c", "d", "", ""]
    few, few_words = sampled_rows(images, words)
    assert sorted(images[i] for i in few) == ["a", "a", "a", "a", "b", "b"]
    assert few_words.tolist() == [0, 1, 2, 3]
