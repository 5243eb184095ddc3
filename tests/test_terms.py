"""What pictures alone are named by: terms that come with the program, on the map, in searches and on cards."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import atlas
from atlas.analysis import derivation
from atlas.analysis.terms import Terms
from atlas.errors import Refused
from atlas.pages import meaning, regions, write_site
from atlas.pages.map import name_map_regions
from atlas.pages.rows import PageRows
from atlas.sources import vocabulary
from atlas.sources.builtin import emoji_source
from tests.browsing import Visit

FEW = ("animal", "person", "flag of a country", "clock", "dog", "cat", "kitchen knife", "three o’clock", "policeman")
THINGS = ("dog", "cat", "poodle", "horse", "pig", "clock", "o’clock", "thirty", "person", "woman", "man", "flag")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder of pictures whose names say nothing, and what they show."""
    folder, shown = tmp_path_factory.mktemp("in") / "photos", []
    folder.mkdir()
    for item in emoji_source("emoji", ("Google",), skin=False):
        if set(item.label.replace("-", " ").split()) & set(THINGS) and len(shown) < 240:
            assert item.load is not None
            item.load().save(folder / f"{len(shown):04d}.png")
            shown.append(item.label)
    return folder, shown


@pytest.fixture(scope="module")
def store(clip: atlas.Clip, photos: tuple[Path, list[str]], tmp_path_factory: pytest.TempPathFactory) -> atlas.Store:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "picture_words", lambda: FEW)
        patch.setattr(vocabulary, "SUBJECTS", FEW[:4])
        store = atlas.collect([str(photos[0])], clip, tmp_path_factory.mktemp("out") / "store")
        derivation.derive(store, clip)
    write_site(store)
    return store


def test_the_vocabulary_needs_no_package_and_begins_with_subjects(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise Refused(f"the word lists need {name}")

    whole = vocabulary.picture_words()
    vocabulary._aliases.cache_clear()
    monkeypatch.setattr(vocabulary, "_package", missing)
    plain = vocabulary.picture_words()
    for texts in (whole, plain):
        assert texts[: len(vocabulary.SUBJECTS)] == vocabulary.SUBJECTS
        assert {"dog face", "pizza", "goldfish", "jealous"} <= set(texts)
        assert len({text.lower() for text in texts}) == len(texts) > 2000
    assert "Italy" in whole
    assert "Italy" not in plain


def test_regions_are_named_across_the_modality_gap() -> None:
    rng = np.random.default_rng(0)
    island, axes = np.arange(600) % 6, rng.normal(size=(6, 16))
    centres = 50 * np.array([[0, 0], [1, 0], [0, 1], [1, 1], [4, 0], [5, 0]])
    layout = (centres[island] + rng.normal(size=(600, 2))).astype(np.float32)
    E = axes[island] - axes.mean(0) + 0.3 * rng.normal(size=(600, 16))
    finer = np.repeat(axes, 4, axis=0) + 0.3 * rng.normal(size=(24, 16))
    T = np.concatenate([axes, finer]) - 40  # all texts lie together, far from all pictures
    texts = [*"abcdef", *(f"{letter}{n}" for letter in "abcdef" for n in range(4))]
    found = regions.regions_by_vocabulary(layout, E.astype(np.float32), Terms(texts, T.astype(np.float32), 6))
    coarse = {label.text: int(label.point % 6) for label in found if label.level == 0}
    assert coarse == {letter: at for at, letter in enumerate("abcdef")}  # by general terms alone
    fine = [label for label in found if label.level]
    assert any(len(label.text) > 1 for label in fine)
    assert np.mean([label.text[0] == "abcdef"[label.point % 6] for label in fine]) > 0.8


@pytest.mark.slow
def test_regions_of_pictures_alone_are_named_for_what_lies_there(
    store: atlas.Store, photos: tuple[Path, list[str]]
) -> None:
    terms = Terms.read(store)
    assert terms is not None
    assert (terms.texts, terms.general) == (list(FEW), 4)
    rows, at = PageRows(store), np.arange(len(store))
    assert not rows.names.telling
    xy = np.random.default_rng(0).normal(size=(len(store), 2)).astype(np.float32)
    clock = np.array(["o’clock" in name or "-thirty" in name for name in photos[1]])
    xy[clock] += 50  # the clocks on an island, everything else on another
    coarse = [label for label in name_map_regions(store, rows, at, xy, terms) if label.level == 0]
    assert {"clock" in label.text for label in coarse if clock[label.point]} == {True}
    assert not [label.text for label in coarse if not clock[label.point] and "clock" in label.text]


@pytest.mark.slow
def test_a_search_by_meaning_finds_what_pictures_show(store: atlas.Store, photos: tuple[Path, list[str]]) -> None:
    found = meaning.find_meanings(store)
    assert found is not None
    assert found.kind == "term"
    shown = [photos[1][row] for row in found.rows[found.texts.index("dog"), :5]]
    assert shown[0] in ("dog", "dog face")
    texts = atlas.Neuron(store, 7).texts
    assert sorted(texts) == sorted(FEW)


@pytest.mark.slow
def test_pictures_of_one_label_are_called_by_their_files(store: atlas.Store) -> None:
    rows = PageRows(store)
    assert rows.labels[7] == "photos"
    assert (rows.captions[7], rows.name(7)) == ("0007.png", "0007.png · photos")


@pytest.mark.slow
def test_the_page_says_where_names_come_from(visit: Visit) -> None:
    page = visit.open("map.html")
    page.get_by_role("button", name="Meaning").click()
    assert page.inner_text("#found") == f"Type one of the {len(FEW)} built-in words and phrases."
    page.fill("#query", "xylophone")
    page.wait_for_function("document.getElementById('found').textContent.startsWith('No such word')")
    page.fill("#query", "clock")
    page.wait_for_function("document.getElementById('found').textContent.startsWith('Nearest in meaning')")
    page.get_by_text("Map quality").click()
    assert f"of regions are guesses, because no image here has a caption: of {len(FEW)} " in page.inner_text(".trust")


def test_texts_come_first_then_terms_then_words(
    clip: atlas.Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary, "picture_words", lambda: FEW)
    (tmp_path / "words.txt").write_text("happy\nsad\nangry\nproud\ntired\nbored\n")
    words = f"words:{tmp_path / 'words.txt'}?fonts=open-sans&sizes=32"
    for name, sources, kind in (("some", [words, "texts:emotions"], "text"), ("none", [words], "term")):
        store = atlas.collect(sources, clip, tmp_path / name)
        if kind == "term":
            assert meaning.find_meanings(store) is None  # words alone find nothing but themselves
        derivation.summarise_neurons(store)
        derivation.relate_neurons(store, clip)
        derivation.relate_texts(store, clip)
        found = meaning.find_meanings(store)
        assert found is not None
        assert (found.kind, Terms.read(store) is None) == (kind, kind == "text")
        assert store.check() == []
