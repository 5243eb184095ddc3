"""Planted meanings: some neurons answer to images, some to words, some point at texts, and most are random."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import silhouette_samples

from atlas.errors import Refused
from atlas.model.directions import Directions
from atlas.store.shards import ROW_SCHEMA
from atlas.store.store import Store
from decompose.candidates import concepts_of
from decompose.enrichment import CaptionNull, concepts_in
from decompose.evidence import (
    Evidence,
    basis_evidence,
    caption_evidence,
    direction_null,
    image_evidence,
)
from decompose.facets import cluster_rows, silhouettes, split_neurons
from decompose.labels import _table, label_neurons
from decompose.renderings import Things, strongest_things, tell_things, things_of
from decompose.responses import Responses
from tests.fakes import FakeClip, call, fake_store, write_array, write_rows

CONCEPTS = [
    *("cat", "dog", "sun", "moon", "sad", "happy", "angry", "pizza", "red", "blue", "ship", "train", "tree", "rain"),
    *("king", "queen", "gold", "fish", "bird", "lamp", "chair", "table", "house", "river", "stone", "bread", "apple"),
]
KINDS_OF = ("old", "new", "big", "small", "wet", "dry", "hot", "cold")
U, E, EACH, FONTS = 200, 64, 20, 2
IMAGES, WORDS, BASIS, BOTH = range(5), range(5, 10), range(10, 15), (15, 16)
RANDOM = range(17, U)


def write(
    store: Store,
    kind: str,
    shows: list[str],
    clip: FakeClip,
    answers: Callable[[int], list[str]],
    called: list[str] | None = None,
) -> None:
    """Rows that show these concepts; neuron i answers to those of answers(i) and otherwise at random."""
    called = called or [f"The {concept}" for concept in shows]
    random = np.random.default_rng(len(shows))
    X = clip.encode_texts(shows) + random.normal(size=(len(shows), E)) / 16
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    A = random.gamma(2, size=(len(shows), U)) - 1
    for neuron in range(U):
        A[:, neuron] += 6 * np.isin(shows, answers(neuron))
    for shard, start in zip(store.of_kind(kind), range(0, len(shows), 1024), strict=True):
        at = slice(start, start + shard.rows)
        write_array(store, shard, "embedding", X[at].astype(np.float16))
        for name in ("max", "mean"):
            write_array(store, shard, name, A[at].astype(np.float16))
        table = shard.table([name for name in ROW_SCHEMA.names if name not in ("label", "group")])
        table = table.append_column("label", pa.array(called[at]))
        table = table.append_column("group", pa.array(["one"] * shard.rows))  # pictures of one group are different ones
        write_rows(store, shard, table.select(ROW_SCHEMA.names))


@pytest.fixture(scope="module")
def clip() -> FakeClip:
    W = np.random.default_rng(3).normal(size=(U, E)).astype(np.float32) / E**0.5
    clip = FakeClip(W)
    W[list(BASIS)] = clip.encode_texts([CONCEPTS[i] for i in BASIS]) + W[list(BASIS)] / 4
    return clip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, clip: FakeClip) -> Store:
    images, phrases = EACH * CONCEPTS, [f"{kind} {concept}" for concept in CONCEPTS for kind in KINDS_OF]
    words = [phrase.split()[1] for phrase in sorted(FONTS * phrases)]
    path = tmp_path_factory.mktemp("planted")
    store = fake_store(path, len(images), len(words), texts=0, neurons=U, dim=E, derived=False)

    def seen(neuron: int) -> list[str]:
        return {15: ["king", "fish"], 16: ["gold", "lamp"]}.get(
            neuron, CONCEPTS[neuron : neuron + 1] * (neuron in IMAGES)
        )

    write(store, "image", images, clip, seen)
    write(
        store,
        "word",
        words,
        clip,
        lambda neuron: CONCEPTS[neuron : neuron + 1] * (neuron in WORDS),
        sorted(FONTS * phrases),
    )
    return store


@pytest.fixture(scope="module")
def found(store: Store, clip: FakeClip) -> list[dict]:
    return label_neurons(store, clip, CONCEPTS, draws=4000).to_pylist()


def test_planted_meanings_are_found_with_their_evidence(found: list[dict]) -> None:
    first = {row["neuron"]: row for row in reversed(found)}
    for planted, evidence in ((IMAGES, "captions"), (WORDS, "words"), (BASIS, "basis")):
        for neuron in planted:
            assert CONCEPTS[neuron] in first[neuron]["label"], first[neuron]
            assert evidence in first[neuron]["evidence"], first[neuron]
            assert first[neuron]["p"] <= first[neuron]["q"] <= 0.05
    assert sum("images" in first[neuron]["evidence"] for neuron in IMAGES) >= 3  # of 27 concepts, by few images
    assert {first[neuron]["writes"] for neuron in BASIS} == {CONCEPTS[neuron] for neuron in BASIS}
    for neuron, meant in zip(BOTH, ({"king", "fish"}, {"gold", "lamp"}), strict=True):
        assert meant <= {word for row in found if row["neuron"] == neuron for word in concepts_in(row["label"])}


def test_random_neurons_are_called_none_at_the_nominal_rate(found: list[dict]) -> None:
    named = {row["neuron"] for row in found if row["label"] != "none"}
    assert len(named & {*RANDOM}) <= 3  # of 17 planted and 183 random ones, at a false discovery rate of 5 %
    none = [row for row in found if row["label"] == "none"]
    assert len(none) == len({row["neuron"] for row in none}) == U - len(named)
    assert all(row["evidence"] == "" and row["q"] > 0.05 for row in none)


def test_every_kind_of_evidence_keeps_its_level(store: Store, clip: FakeClip) -> None:
    T = clip.encode_texts(concepts := list(concepts_of(store)))
    images, words = (things_of(store, kind) for kind in ("image", "word"))
    seen, read, E = Responses.of(store, "image"), Responses.of(store, "word"), store.array("embedding", "image")
    evidence = {
        "captions": caption_evidence(seen, images, strongest_things(seen, images, 24), concepts),
        "words": caption_evidence(read, words, strongest_things(read, words, 24), concepts),
        "images": image_evidence(seen, E, T, 20.0),
        "basis": basis_evidence(clip.basis(), T, direction_null(clip.basis(), T)),
    }
    for name, each in evidence.items():
        share = (each.least[list(RANDOM)] <= 0.1).mean()
        assert share < 0.17, name  # 0.1 and three standard errors
        assert share > 0.03 or name in ("captions", "words"), name  # counts are discrete, so more is asked of them


LABELS, DRAWN = 120, 4


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, FakeClip]:
    """Pictures of 120 things by four vendors, and 120 phrases in four fonts: every neuron answers to each of these at
    random, and to all renderings of it alike."""
    clip, random = FakeClip(np.random.default_rng(4).normal(size=(U, E)).astype(np.float32)), np.random.default_rng(5)
    store = fake_store(
        tmp_path_factory.mktemp("repeated"), LABELS * DRAWN, LABELS * DRAWN, texts=0, neurons=U, dim=E, derived=False
    )
    pairs = random.permutation(list(combinations(CONCEPTS, 2)))[:LABELS]
    X = np.stack([clip.encode_texts(list(pair)).sum(0) for pair in pairs]) / 2
    for kind in ("image", "word"):
        A = random.gamma(2, size=(LABELS, U))
        for shard in store.of_kind(kind):
            thing, vendor = np.divmod(np.arange(shard.rows), DRAWN)
            for name in ("max", "mean"):
                noisy = A[thing] + random.normal(size=(shard.rows, U)) / 50
                write_array(store, shard, name, noisy.astype(np.float16))
            Y = X[thing] + random.normal(size=(shard.rows, E)) / 50
            write_array(store, shard, "embedding", (Y / np.linalg.norm(Y, axis=1)[:, None]).astype(np.float16))
            table = shard.table([name for name in ROW_SCHEMA.names if name not in ("label", "group")])
            table = table.append_column("label", pa.array([" ".join(pairs[i]) for i in thing]))
            table = table.append_column("group", pa.array([f"vendor {i}" for i in vendor]))
            write_rows(store, shard, table.select(ROW_SCHEMA.names))
    return store, clip


def test_renderings_of_one_thing_are_no_evidence_of_a_meaning(repeated: tuple[Store, FakeClip]) -> None:
    store, clip = repeated
    for kind in ("image", "word"):
        items = things_of(store, kind)
        rows = Things(kind, np.arange(len(items.of)), items.phrases, items.phrase[items.of])
        assert len(items) == len({*items.phrases}) < len(rows)
        least = []
        for each in (items, rows):
            answers = Responses.of(store, kind)
            shuffled = replace(CaptionNull.of(each, CONCEPTS, 24, answers), directions=None)
            found = caption_evidence(answers, each, strongest_things(answers, each, 24), CONCEPTS, shuffled)
            least.append((found.least <= 0.1).mean())
        assert least[0] < 0.17, kind  # 0.1 and three standard errors
        assert least[1] > 0.3, kind  # as rows, they would be
    table = label_neurons(store, clip, CONCEPTS, draws=2000).to_pylist()
    assert len({row["neuron"] for row in table if row["label"] != "none"}) <= 2


def test_an_emoji_in_another_skin_tone_is_the_same(tmp_path: Path) -> None:
    store = fake_store(tmp_path, images=40, words=16, texts=0, derived=False)
    pair = "couple medium-dark skin tone, light skin tone"
    call(store, ["couple", "couple dark skin tone", pair, "light bulb"] * 10, ["a"] * 20 + ["b"] * 20)
    items = things_of(store, "image")
    assert items.phrases == ("couple", "light bulb")
    assert {"couple", "light bulb", "light", "bulb"} <= {*concepts_of(store)}
    assert not any("tone" in concept for concept in concepts_of(store))
    assert len(items) == 10  # of each vendor five, of each name
    assert len(set(items.of[:4].tolist())) == 2


def test_pictures_of_one_folder_are_different_things(tmp_path: Path) -> None:
    store = fake_store(tmp_path, images=40, words=16, texts=0, derived=False)
    call(store, ["cat"] * 30 + [""] * 10, ["a"] * 40)
    assert len(things_of(store, "image")) == 40
    words = things_of(store, "word")
    assert [words.phrases[i] for i in words.phrase[words.of]] == store.table(["label"], "word")["label"].to_pylist()
    assert len(words) == 4
    A, E = (np.asarray(store.array(name, "word"), np.float32) for name in ("max", "embedding"))
    mean = np.stack([A[words.of == i].mean(0) for i in range(4)])
    np.testing.assert_array_equal(
        strongest_things(Responses.of(store, "word"), words, 2), np.argsort(-mean, axis=0)[:2].T
    )
    np.testing.assert_allclose(words.embeddings(E, np.array([2, 0])), [E[words.of == i].mean(0) for i in (2, 0)], 1e-4)


def test_a_word_in_two_sizes_of_one_font_is_one_item() -> None:
    assert tell_things(["cat", "dog", "cat"], ["serif"] * 3, "word").of.tolist() == [0, 1, 0]
    assert len(tell_things(["cat", "dog", "cat"], ["serif"] * 3, "image")) == 3  # two pictures of one folder


def test_the_score_of_images_is_the_weighted_zero_shot_lift(store: Store, clip: FakeClip) -> None:
    """Reference: one neuron and one row at a time."""
    T = clip.encode_texts(CONCEPTS[:6])
    E, A = (np.asarray(store.array(name, "image"), np.float64) for name in ("embedding", "mean"))
    X, T_ = E - E.mean(0), T - T.mean(0)
    X, T_ = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (X, T_))
    seen = np.exp(7 * X @ T_.T)
    seen /= seen.sum(1, keepdims=True)
    found = image_evidence(Responses(store.array("mean", "image")).columns(slice(4)), E.astype(np.float32), T, 7.0)
    for neuron in range(4):
        above = np.maximum(A[:, neuron] - A[:, neuron].mean(), 0) ** 4
        lift = np.log(above @ seen / above.sum() + 1e-5) - np.log(seen.mean(0) + 1e-5)
        np.testing.assert_allclose(found.score[neuron], (lift - lift.mean()) / lift.std(), atol=2e-3)


def test_directions_are_labelled_as_neurons_are(store: Store, clip: FakeClip, found: list[dict]) -> None:
    ids = [*IMAGES[:2], *WORDS[:2], 100]
    table = label_neurons(store, clip, directions=Directions.neurons(ids, U), draws=1000).to_pylist()
    first = {row["neuron"]: row["label"] for row in reversed(table)}
    assert [CONCEPTS[i] in first[place] for place, i in enumerate(ids[:4])] == [True] * 4
    assert first[4] == "none"


def test_a_vocabulary_can_be_given(store: Store, clip: FakeClip) -> None:
    table = label_neurons(store, clip, vocabulary=["cat", "dog", "zebra"], draws=1000).to_pylist()
    assert {row["label"] for row in table} <= {"cat", "dog", "zebra", "none"}
    assert table[0]["label"] == "cat"


def made_up(*kinds: tuple[str, np.ndarray, np.ndarray]) -> Callable[[slice], dict[str, Evidence]]:
    """Evidence of these kinds: name, p-values (u, t), scores (u, t)."""
    return lambda some: {
        name: Evidence(np.minimum(p[some].min(1) * p.shape[1], 1), p[some], score[some]) for name, p, score in kinds
    }


def test_what_predicts_best_comes_first_and_the_two_sides_are_told_apart() -> None:
    """One neuron of two labels, "face" surer by its captions alone, "sad cat" by images and basis; three of none."""
    counts, draws, score = np.ones((4, 3)), np.ones((4, 3)), np.zeros((4, 3))
    counts[0], draws[0], score[0, 1] = (1e-12, 1e-4, 1), (0.5, 1e-3, 1), 2
    evidence = made_up(("captions", counts, np.zeros((4, 3))), ("basis", draws, score))
    rows = _table(("face", "sad cat", "moon"), evidence, 4, 0.05).to_pylist()
    assert [(row["neuron"], row["label"]) for row in rows] == [
        (0, "sad cat"), (0, "face"), (1, "none"), (2, "none"), (3, "none"),
    ]  # fmt: skip
    assert [row["evidence"] for row in rows[:2]] == ["basis, captions", "captions"] or [
        row["evidence"] for row in rows[:2]
    ] == ["captions, basis", "captions"]
    assert [row["p"] for row in rows] == pytest.approx([3e-4, 6e-12, 1, 1, 1])  # of six p-values, BH
    assert [(row["responds_to"], row["writes"]) for row in rows[:2]] == [("face", "sad cat")] * 2
    assert [(row["responds_to"], row["writes"]) for row in rows[2:]] == [(None, None)] * 3
    counts[0, 1], draws[0, 1] = 0.02, 1  # 0.06 after six p-values: not of one neuron in four
    assert _table(("face", "sad cat", "moon"), evidence, 4, 0.05)["label"].to_pylist() == ["face", *["none"] * 3]


def test_a_significant_neuron_has_a_label() -> None:
    """Texts that are alike count less in the neuron's own p than one by one, and its strongest label has that p."""
    p, texts = np.full((2, 27), 0.5), tuple(CONCEPTS)
    p[0, 4] = 0.004  # 0.11 after 27 texts
    found = Evidence(np.array([0.002, 0.9]), p, np.zeros((2, 27)))
    other = Evidence(np.ones(2), np.ones((2, 27)), np.zeros((2, 27)))
    rows = _table(texts, lambda _: {"basis": found, "images": other}, 2, 0.05).to_pylist()
    assert [(row["label"], row["evidence"]) for row in rows] == [(CONCEPTS[4], "basis"), ("none", "")]
    assert rows[0]["p"] == pytest.approx(0.004)  # of two kinds


def test_blocks_of_neurons_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    p, score = random.uniform(size=(20, 5)) ** 6, random.normal(size=(20, 5))
    whole = _table(CONCEPTS[:5], made_up(("basis", p, score)), 20, 0.2)
    monkeypatch.setattr("decompose.labels._NEURONS_AT_ONCE", 7)
    assert whole.equals(_table(CONCEPTS[:5], made_up(("basis", p, score)), 20, 0.2))
    assert len({*whole["label"].to_pylist()}) > 2


def test_false_labels_keep_their_rate_however_many_kinds_of_evidence() -> None:
    """Under the null the p-values of each kind of evidence are uniform."""
    random, runs, neurons, rate = np.random.default_rng(0), 400, 10, 0.1
    concepts, false = CONCEPTS[:5], 0
    for _ in range(runs):
        kinds = [(n, random.random((neurons, 5)), np.zeros((neurons, 5))) for n in ("words", "images", "basis")]
        false += any(label != "none" for label in _table(concepts, made_up(*kinds), neurons, rate)["label"].to_pylist())
    assert 0.05 < false / runs < rate + 3 * np.sqrt(rate * (1 - rate) / runs)


def test_labels_of_one_neuron_share_no_word(found: list[dict]) -> None:
    for neuron in range(20):
        words = [word for row in found if row["neuron"] == neuron for word in concepts_in(row["label"])[-1:]]
        assert len(words) == len(set(words))
    assert concepts_in("The Face  with TEARS of joy") == ("the face with tears of joy", "face", "tears", "joy")


def test_facets_tell_two_meanings_apart(store: Store, clip: FakeClip) -> None:
    table = split_neurons(store, clip, images=24, draws=4000).to_pylist()
    of = {neuron: [row for row in table if row["neuron"] == neuron] for neuron in (0, *BOTH)}
    for neuron, meant in zip(BOTH, ({"king", "fish"}, {"gold", "lamp"}), strict=True):
        assert meant == {concepts_in(row["label"])[-1] for row in of[neuron]}
        assert of[neuron][0]["polysemanticity"] > 0.5
        assert max(row["size"] for row in of[neuron]) >= 8
    assert len(of[0]) == 1
    assert of[0][0]["polysemanticity"] < 0.5
    positions = set(store.positions("image").tolist())
    assert {row for each in table for row in each["rows"]} <= positions


def test_facets_of_images_that_no_text_is_about_are_called_none(tmp_path: Path) -> None:
    """Forty heaps of like images in directions of their own, a neuron to each: tight, and near to no text."""
    heaps, each, random = 40, 12, np.random.default_rng(0)
    clip = FakeClip(random.normal(size=(heaps, E)).astype(np.float32))
    store = fake_store(tmp_path, heaps * each, words=4, texts=0, neurons=heaps, dim=E, derived=False)
    shard = store.of_kind("image")[0]
    heap = np.arange(heaps * each) % heaps
    X = random.normal(size=(heaps, E))[heap] + random.normal(size=(heaps * each, E)) / 5
    write_array(store, shard, "embedding", (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float16))
    A = random.random((len(heap), heaps)) + 3 * np.eye(heaps)[heap]
    write_array(store, shard, "max", A.astype(np.float16))
    rows = split_neurons(store, clip, CONCEPTS, images=each, draws=1000).to_pylist()
    assert len(rows) == heaps
    assert (np.array([row["p"] for row in rows]) <= 0.1).mean() < 0.25  # 0.1 and three standard errors
    assert sum(row["label"] != "none" for row in rows) <= 2


def test_silhouette_is_scikit_learn_s() -> None:
    X = np.random.default_rng(0).normal(size=(30, 4))
    D = np.linalg.norm(X[:, None] - X, axis=2)
    member = np.arange(30) % 3
    np.testing.assert_allclose(silhouettes(D, member), silhouette_samples(D, member, metric="precomputed"))


def test_stragglers_make_no_facet() -> None:
    random = np.random.default_rng(0)
    near = np.eye(2, 64)[np.repeat([0, 1], [14, 10])] + random.normal(size=(24, 64)) / 30
    X = np.concatenate([near, random.normal(size=(5, 64))])
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    member, score = cluster_rows(X)
    assert member[:24].tolist() == [0] * 14 + [1] * 10
    assert (member[24:] == -1).sum() >= 3
    assert score > 0.5
    loose = np.concatenate([X[:14], random.normal(size=(10, 64)) / 8])
    assert (cluster_rows(loose / np.linalg.norm(loose, axis=1, keepdims=True))[0] == 0).all()


@pytest.mark.parametrize("k", [1, 2, 12])
def test_few_or_equal_images_are_one_facet(k: int) -> None:
    member, score = cluster_rows(np.tile(np.eye(1, 8), (k, 1)))
    assert (member == 0).all()
    assert score == 0


def test_what_is_refused(store: Store, clip: FakeClip) -> None:
    stranger = FakeClip(clip.basis(), sha="1" * 64)
    for message, ask in {
        "was made by fake": lambda: label_neurons(store, stranger),
        "no labels to choose from": lambda: label_neurons(store, clip, vocabulary=[]),
        "empty": lambda: label_neurons(store, clip, vocabulary=["cat", " "]),
        "of 4 neurons": lambda: label_neurons(store, clip, directions=Directions.neurons([1], 4)),
    }.items():
        with pytest.raises(Refused, match=message) as refused:
            ask()
        assert "\n" not in str(refused.value)
