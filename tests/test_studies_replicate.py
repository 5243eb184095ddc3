"""The scorecard: the article's formats are read, planted tables agree, shuffled ones do not, and the command."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import NMF

from atlas.errors import Refused
from atlas.model.clip import Clip
from atlas.pages.fragments import check_fragment
from atlas.sources.vocabulary import english_words
from atlas.store.store import Store
from decompose.attribution import attribute
from decompose.cli import main
from decompose.emotions import SPARSITY_LEVELS, codes_at_levels
from decompose.prompting import prompts
from decompose.studies import replication
from decompose.studies.places import render_names
from decompose.studies.published import (
    LabelledUnit,
    PublishedTables,
    Submatrix,
    paper_network,
    read_published,
    script_data,
)
from decompose.studies.replicated_pictures import picture_rows
from decompose.studies.replication import emotion_rows, label_rows, map_rows, replication_rows, word_rows
from decompose.studies.scores import NO_NETWORK, NOT_COMPARABLE, SAME_NAME, SAME_NETWORK
from tests.reference_clone import write_attacks, write_diagrams, write_emotions, write_regions, write_stroop

KNOWN = ("contrastive_4x", "4x")
UNITS = (7, 300, 801)
WORDS = 60
COUNTRIES = ("France", "Ghana", "India", "Peru", "Japan", "Egypt", "Chile", "Spain", "Kenya", "Cuba")
FEELINGS = (
    "happy",
    "sad",
    "angry",
    "proud",
    "bored",
    "tired",
    "jealous",
    "awful",
    "content",
    "weak",
    "let down",
    "mad",
)
NEIGHBOURS = {"France": ["French", "Paris"]}
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def own(mini: Clip) -> np.ndarray:
    """Responses of the embedded model to the words that it is scanned with."""
    return render_names(mini, english_words(WORDS), fonts=("open-sans",)).means(WORDS)


def regions_of(mini: Clip, own: np.ndarray, order: tuple[int, ...]) -> PublishedTables:
    """Tables in which neuron `UNITS[i]` has the words and the countries of neuron `UNITS[order[i]]`."""
    frequent, shown = english_words(WORDS), [UNITS[i] for i in order]
    words = [[frequent[j] for j in np.argsort(-own[:, unit])[:20]] for unit in shown]
    A = render_names(mini, COUNTRIES).means(len(COUNTRIES))[:, shown]
    scaled = np.round(254 * (A - A.min(0)) / (A.max(0) - A.min(0))).T.astype(np.uint8)
    units = [("contrastive_4x", unit) for unit in UNITS] + [("contrastive_v2", 5)]
    return PublishedTables(
        units, [*words, ["no"]], list(COUNTRIES), [], np.concatenate([scaled, scaled[:1]]), None, None
    )


def clone(folder: Path) -> Path:
    """A small folder in the article's formats."""
    words = [["accra", "ghana", "", "africa"], [HOSTILE, "b"]]
    units = [("contrastive_4x", 1257), ("contrastive_v2", 5)]
    write_regions(folder, units, words, {"Ghana": [254, 0], "France": [0, 9]}, {"Accra": [9, 9]})
    codes = {name: [(10.0 + i, i % 5), (-3.0, 70)] for i, name in enumerate(FEELINGS)}
    atlas = {name: [float(i % 3 == k) for k in range(3)] for i, name in enumerate(FEELINGS)}
    write_emotions(folder, {"30": codes, "40": codes}, [70, 71], atlas)
    write_attacks(folder, [("pizza", "pizza", 0.923), (HOSTILE, "iPod", 0.947)], 1000, 0.742)
    answers = {("red", "red"): "red", ("red", "blue"): "blue", ("blue", "example"): "blue", ("blue", "red"): "blue"}
    write_stroop(folder, answers, ("red", "blue"))
    submatrix = ([1634, 2352], ["rock crab", "red"], [(0, 0, 0.38), (1, 1, 2.1)])
    write_diagrams(
        folder, [("4x", 862, "happy"), ("rn101", 3, 'the "un-"')], {"France": ["French", "Paris"]}, submatrix
    )
    return folder


# -- formats -----------------------------------------------------------------------------------------------------------


def test_a_module_of_data_is_read() -> None:
    text = (
        "// one\nexport default {\n  grid: [\n    { x: 2.0, name: 'let down', parts: [1.5e-7, -2,], },\n  // no\n ],\n}"
    )
    assert script_data(text) == {"grid": [{"x": 2.0, "name": "let down", "parts": [1.5e-7, -2]}]}
    with pytest.raises(ValueError, match="exports nothing"):
        script_data("const a = 1")


def test_all_tables_are_read(tmp_path: Path) -> None:
    found = read_published(clone(tmp_path))
    assert found.units == [("contrastive_4x", 1257), ("contrastive_v2", 5)]
    assert found.words[0] == ["accra", "ghana", "", "africa"]
    assert (found.countries, found.cities, found.spatial) == (["Ghana", "France"], ["Accra"], None)
    assert found.country is not None
    assert found.country.tolist() == [[254, 0], [0, 9]]
    assert found.labelled == [LabelledUnit("4x", 862, "happy"), LabelledUnit("rn101", 3, 'the "un-"')]
    assert found.emotions["40"]["sad"] == {1: 11.0, 70: -3.0}
    assert found.text_units == {70, 71}
    assert found.emotion_atlas["let down"] == [0.0, 1.0, 0.0]
    assert [row["target"] for row in found.attacks] == [HOSTILE, "pizza"]
    assert (found.attack_images, found.attack_accuracy) == (1000, 0.742)
    assert found.stroop[("blue", "red")] == "blue"
    assert found.neighbours == NEIGHBOURS
    assert found.submatrix is not None
    assert found.submatrix.weights.tolist() == [[0.38, 0], [0, 2.1]]


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("static/typographic/small_attacks.json", "{}", "cannot read"),
        ("src/diagrams/emotions/semantic/allSparse.js", "export default {a: [", "cannot read"),
        ("src/diagrams/HyperSet.svelte", "const classnames = ['a']\n", "it has no"),
        ("static/diagram-data/regional/top_words.json", "[[]]", "top_words.json has the shape"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path: Path, file: str, content: str, said: str) -> None:
    (clone(tmp_path) / file).write_text(content)
    with pytest.raises(Refused, match=said):
        read_published(tmp_path)


def test_a_folder_without_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="none of the article's tables"):
        read_published(tmp_path)
    with pytest.raises(Refused, match="is no folder"):
        read_published(tmp_path / "no")


# -- rows --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_words_and_maps_of_the_same_neurons_agree_and_of_others_do_not(mini: Clip, own: np.ndarray) -> None:
    right, wrong = (regions_of(mini, own, order) for order in ((0, 1, 2), (1, 2, 0)))
    words, _ = word_rows(mini, right, KNOWN, SAME_NETWORK, WORDS)
    assert words["measured"].startswith("area 1.00; the neuron itself is first of 1,024 for 3 of 3")
    assert words["compared"] == SAME_NETWORK
    countries, cities, world = map_rows(mini, right, KNOWN)
    assert countries["measured"].startswith("rank correlation 1.00 (median of 3")
    assert {cities["compared"], world["compared"]} == {NOT_COMPARABLE}
    words, _ = word_rows(mini, wrong, KNOWN, SAME_NETWORK, WORDS)
    assert "for 0 of 3" in words["measured"]
    countries = next(iter(map_rows(mini, wrong, KNOWN)))
    assert "1.00 (median" not in countries["measured"]


def test_labels_find_the_neurons_that_write_them(mini: Clip) -> None:
    best = attribute(mini, list(FEELINGS)).argmax(1).tolist()
    for places, said in ((best, "12 of 12"), ([(unit + 500) % 1024 for unit in best], "0 of 12")):
        labelled = [LabelledUnit("4x", unit, f"{text}?") for unit, text in zip(places, FEELINGS, strict=True)]
        (row,) = label_rows(mini, PublishedTables(labelled=labelled), KNOWN)
        assert row["measured"] == f"{said} among the first 10"


def test_the_emotion_atlas_is_rebuilt_from_the_equations(mini: Clip) -> None:
    """The published one was made by scikit-learn; here too, from made-up equations."""
    rng, words = np.random.default_rng(0), [f"word {i}" for i in range(40)]
    codes = np.where(rng.random((40, 30)) < 0.12, rng.normal(size=(40, 30)), 0)
    codes[np.arange(40), np.arange(40) % 7] += 3
    x = codes / np.abs(codes).sum(1, keepdims=True)
    split = np.hstack([np.maximum(x, 0), np.maximum(-x, 0)])
    F = NMF(init="nndsvd", max_iter=2000, tol=1e-6).set_params(n_components=7).fit_transform(split)
    atlas = {word: row.tolist() for word, row in zip(words, (F / F.max(0)) ** 2, strict=True)}
    terms = {word: {int(u): float(row[u]) for u in np.flatnonzero(row)} for word, row in zip(words, codes, strict=True)}
    row = next(iter(emotion_rows(mini, PublishedTables(emotions={"30": terms}, emotion_atlas=atlas), None, "", 0)))
    assert row["compared"] == NO_NETWORK
    difference, least = (float(part.split()[-1]) for part in row["measured"].split(";"))
    assert difference < 0.01
    assert least > 0.9999
    assert float(row["by_chance"].split()[2]) > 0.3


def test_equations_of_the_same_network_agree(mini: Clip) -> None:
    asked = prompts(FEELINGS, "feeling")
    X = mini.encode_texts([each for row in asked for each in row]) @ mini.basis().T
    codes = codes_at_levels(X, [word for word in FEELINGS for _ in range(3)], SPARSITY_LEVELS[2:])[1]
    terms = {w: {int(u): float(code[u]) for u in np.flatnonzero(code)} for w, code in zip(FEELINGS, codes, strict=True)}
    for sign, said in ((1, "100 %"), (-1, "0 %")):
        published = {word: {unit: sign * weight for unit, weight in each.items()} for word, each in terms.items()}
        found = {
            row["table"]: row for row in emotion_rows(mini, PublishedTables(emotions={"40": published}), KNOWN, "", 0)
        }
        assert found["emotion equations"]["measured"].startswith(f"{said} of the published neurons")


def test_the_papers_network_is_known_by_its_name_and_weights(mini: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    assert paper_network(mini) is None
    for name, pretrained, known in (
        ("RN50x4-quickgelu", "openai", KNOWN),
        ("RN101", "a.safetensors", ("contrastive_v2", "rn101")),
        ("RN50x4", None, None),
        ("RN50", "yfcc15m", None),
        ("RN50-quickgelu", "cc12m", None),
        ("ViT-B-32", "openai", None),
    ):
        monkeypatch.setattr(mini, "name", name)
        monkeypatch.setattr(mini, "pretrained", pretrained)
        assert paper_network(mini) == known


def test_weights_from_a_file_are_not_called_the_papers(mini: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    label = LabelledUnit("contrastive_4x", 3, "pizza")
    tables = PublishedTables(labelled=[label])
    for name in ("word_rows", "map_rows", "emotion_rows", "stroop_rows", "neighbour_rows", "picture_rows"):
        monkeypatch.setattr(replication, name, lambda *_: [])
    monkeypatch.setattr(mini, "name", "RN50x4-quickgelu")
    for pretrained, said in (
        ("openai", SAME_NETWORK),
        ("a.pt", SAME_NAME),
        ("other", SAME_NAME),
        (None, NOT_COMPARABLE),
    ):
        monkeypatch.setattr(mini, "pretrained", pretrained)
        assert replication_rows(mini, tables)[0]["compared"] == said


def test_pictures_of_the_papers_classes_are_compared(mini: Clip, discs: Callable[..., Path], tmp_path: Path) -> None:
    store = Store.open(discs(("red", "green", "blue"), 6))
    rows = picture_rows(mini, read_published(clone(tmp_path)), store, None, "", 0)
    reasons = {row["table"]: row["on"] for row in rows if row["compared"] == NOT_COMPARABLE}
    assert reasons["typographic attacks"] == "store has no images labelled <img src=x onerror=alert(1)>, pizza"
    assert reasons["sparse probe"].startswith("store has no images labelled rock crab")


def test_attacks_and_the_probe_on_pictures_of_the_classes(mini: Clip, discs: Callable[..., Path]) -> None:
    store = Store.open(discs(("red", "green", "blue"), 6))
    attacks = [{"target": "red", "text": "red", "success": 0.9, "cover": 0.07}]
    units = [int(u) for u in np.argsort(-np.asarray(store.array("mean", "image"), np.float32).std(0))[:40]]
    weights = np.ones((40, 3))
    tables = PublishedTables(attacks=attacks, attack_images=4, attack_accuracy=0.742)
    probed = PublishedTables(submatrix=Submatrix(units, ["red", "green", "blue"], weights))
    clean, attack, *_ = picture_rows(mini, tables, store, KNOWN, SAME_NETWORK, 0)
    assert (clean["published"], clean["measured"]) == ("74.2 %", "100.0 %")
    assert attack["published"] == "90.0 %"
    assert "%" in attack["measured"]
    assert attack["on"] == "linear probe of 3 classes, 4 images"
    _, accuracy, shared = picture_rows(mini, probed, store, KNOWN, SAME_NETWORK, 0)
    assert accuracy["measured"] == "100.0 % top-5"
    found = shared["measured"].split()
    assert found[0] == found[3]  # all published weights are positive
    assert shared["published"] == "120"


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command(discs: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = discs(("red", "blue"), 2)
    asked = ["replicate", "goh2021", "--reference", str(clone(tmp_path)), "--words", "120"]
    assert main([*asked, "--store", str(made), "--json"]) == 0
    rows = {row["table"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["Stroop, incongruent: the word wins"]["published"] == "1 of 2"
    assert rows["Stroop, incongruent: the word wins"]["measured"].endswith(" of 98")
    for name in ("top words of region neurons", "region maps: names of countries", "hand-labelled neurons"):
        assert rows[name]["compared"] == NOT_COMPARABLE
        assert "mini is another network" in rows[name]["on"]
    page = made / "site-fragments" / "replicate" / "page.html"
    check_fragment(page.read_text("utf-8"), page)
    assert "<img src=x" not in page.read_text("utf-8")
    recorded = json.loads((page.parent / "made.json").read_text())["command"]
    assert "--words 120" in recorded
    assert "--seed" not in recorded


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replicate", "goh2021", "--reference", str(tmp_path / "no")]) == 1
    assert "is no folder" in capsys.readouterr().err
