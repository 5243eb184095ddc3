"""Terms of labels: runs of words that may name a thing, without what only varies it."""

import numpy as np

from atlas.analysis import phrases
from atlas.pages import regions

BASES = ("raised fist", "raised hand", "crossed fingers", "nail polish", "man running", "woman running", "nurse")
BASES = (*BASES, "cook", "man with white cane", "kiss", "queen", "pilot")
TONES = ("light skin tone", "medium-light skin tone", "dark skin tone")


def toned() -> list[str]:
    return [*BASES, *(f"{base} {tone}" for base in BASES for tone in TONES)]


def test_what_varies_many_labels_is_no_part_of_their_names() -> None:
    assert sorted(phrases.variations(set(toned()))) == sorted(TONES)
    assert set(phrases.plain_names(toned())) == set(BASES)
    twice = [*toned(), "kiss light skin tone medium-light skin tone", "Kiss: dark skin tone"]
    assert phrases.plain_names(twice)[-2:] == ["kiss", "Kiss"]


def test_what_ends_labels_that_are_none_without_it_stays() -> None:
    faces = [f"{mood} face" for mood in (*BASES, "angry", "sad")]
    assert phrases.variations({*faces, *BASES[:-2]}) == []  # two faces of fourteen are no things without it
    assert phrases.variations({*faces, *BASES, "sad"}) == ["face"]


def test_terms_are_what_labels_end_in() -> None:
    terms = phrases.find_terms(dict.fromkeys(BASES, 2))
    assert {"fist", "hand", "running", "white cane", "kiss", "man with white cane"} & set(terms) == {
        "running", "kiss", "man with white cane"
    }  # fmt: skip
    assert {"raised fist", "raised hand", "nail polish"} <= set(terms)  # the whole name stands for its parts
    assert not {"raised", "crossed", "nail", "polish", "with", "man with"} & set(terms)
    assert "cane" in phrases.find_terms({**dict.fromkeys(BASES, 2), "woman with cane": 3, "cane": 1})


def test_a_rendered_word_is_no_thing_unless_things_are_called_so() -> None:
    words = ["raised", "fist", "raised fist", "raised hand", "raised flag", "raised cup"]
    carried, terms = phrases.term_carriers(words * 2, things={"fist", "raised fist", "raised hand"})
    assert "raised" not in terms
    assert carried[0].nnz == 0
    assert "raised" in phrases.term_carriers(words * 2)[1]


def test_sentences_give_single_words() -> None:
    sentence = "a brown dog runs along the long wet beach in rain"
    assert all(" " not in run for run in phrases.word_runs(sentence))
    assert {"dog", "beach", "rain"} <= set(phrases.find_terms({sentence: 2}))
    assert "the" not in phrases.word_runs(sentence)


def test_regions_of_variants_are_named_by_the_thing() -> None:
    """Four islands of one thing in many tones each, one of which also holds a few rows of another thing."""
    rng = np.random.default_rng(0)
    things = ("raised fist", "nurse", "nail polish", "kiss")
    named = [f"{thing} {tone}".strip() for thing in things for tone in ("", *TONES) * 60]
    known = [*BASES, *(f"{base} {tone}" for base in BASES for tone in TONES)]
    island = np.repeat(np.arange(4), len(named) // 4)
    axes = rng.normal(size=(5, 16))
    layout = 40.0 * np.stack([island % 2, island // 2], 1) + rng.normal(size=(len(island), 2))
    vectors = axes[island] + 0.3 * rng.normal(size=(len(island), 16))
    layout, vectors = (
        np.concatenate([layout, np.full((len(known), 2), 20.0)]),
        np.concatenate([vectors, axes[4] + 0.3 * rng.normal(size=(len(known), 16))]),
    )  # what shows that tones vary things lies elsewhere
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = regions.regions_by_labels(layout.astype(np.float32), vectors.astype(np.float32), [*named, *known])
    coarse = {label.text for label in found if label.level == 0}
    assert set(things) <= coarse
    assert not any(word in text for text in coarse for word in ("tone", "skin", "light", "dark", "medium"))


def test_neither_variants_nor_a_stray_decide_a_name() -> None:
    """A cluster of 90 rows of one thing, and a row each of 9 others: the one thing counts for both rows and things."""
    codes = np.zeros(99, np.int64)
    things = np.array([0] * 90 + list(range(1, 10)))
    carried, terms = phrases.term_carriers(["fist"] * 90 + ["rare thing"] * 3 + ["odd one"] * 6)
    of = regions.RegionTerms(terms, np.zeros((len(terms), 4), np.float32), carried, 0.0, things)
    inside = regions.csr_matrix((np.ones(99, np.float32), (np.arange(99), codes)))
    cover, own = regions.term_coverage(inside, of)
    assert cover[0, terms.index("fist")] == np.float32(np.sqrt(90 / 99 * 1 / 10))
    assert np.isclose(cover[0, terms.index("odd one")], np.sqrt(6 / 99 * 6 / 10))
    assert np.all(own == 1)


def test_two_terms_join_where_the_second_says_more() -> None:
    assert regions.adds_meaning("kiss", "couple with heart")
    assert not regions.adds_meaning("island", "islands")
    assert not regions.adds_meaning("raised hand", "hand")
    assert not regions.adds_meaning("backhand index pointing right", "right-facing fist")  # too long together


def test_clusters_without_a_telling_name_have_that_of_their_kind() -> None:
    """Clusters 0 to 2 are words, 3 to 5 images, as most rows are."""
    codes = np.repeat(np.arange(6), (20, 30, 40, 50, 60, 70))
    kinds = np.where(codes < 3, "word", "image")
    names = ["odd", "rare", "cat", "", "dog", "owl"]
    assert regions.name_by_kind(names, codes, kinds, {0, 1, 3}) == [1]
    assert names == ["odd", "words", "cat", "", "dog", "owl"]  # the largest of those; images are what all the map is
    regions.name_by_kind(names, codes, kinds, {0, 3})
    assert names[0] == "odd"
