"""The embedded model's architecture is climbed; nothing here depends on what its weights know."""

from itertools import pairwise, product

import numpy as np
import pytest

from atlas.errors import Refused
from atlas.model.clip import Clip
from atlas.model.directions import Directions
from decompose.wording import Lexicon, WordNumbers, _table, climb_text, neighbouring_texts, text_feature, word_gradient

pytest.importorskip("wordfreq")
pytest.importorskip("wordsegment")


@pytest.fixture(scope="module")
def lexicon(clip: Clip) -> Lexicon:
    return Lexicon.of(clip)


def test_every_word_of_the_lexicon_is_one_token(clip: Clip, lexicon: Lexicon) -> None:
    some = np.random.default_rng(0).choice(len(lexicon.words), 50, replace=False)
    tokens = clip.tokenizer(lexicon.words[some].tolist()).numpy()
    np.testing.assert_array_equal(tokens[:, 1], lexicon.tokens[some])
    assert (tokens[:, 2] == clip.tokenizer([""])[0, 1].item()).all()  # what ends a text


def test_the_gradient_foretells_small_steps(clip: Clip, lexicon: Lexicon) -> None:
    """Moving one embedding a little towards a word changes the cosine as the gradient says."""
    aim = np.random.default_rng(0).normal(size=clip.dim).astype(np.float32)
    aim /= np.linalg.norm(aim)
    text, place, word, step = (5, 60, 200), 1, 77, 1e-2
    gain = word_gradient(clip, lexicon, text, aim)
    assert gain.shape == (3, len(lexicon.words))
    table = clip.model.token_embedding.weight
    mine = table[lexicon.tokens[text[place]]].clone()
    cosines = []
    for sign in (1, -1):
        table[lexicon.tokens[text[place]]] = mine + sign * step * table[lexicon.tokens[word]]
        cosines.append(float(clip.encode_texts(lexicon.spell(text))[0] @ aim))
    table[lexicon.tokens[text[place]]] = mine
    assert gain[place, word] == pytest.approx((cosines[0] - cosines[1]) / (2 * step), rel=0.05, abs=1e-4)


def test_moves_replace_insert_and_leave_out() -> None:
    gain = np.zeros((2, 6))
    gain[:, 5] = 1
    tried = neighbouring_texts((0, 1), gain, longest=3, tries=1)
    assert set(tried) == {(5, 1), (0, 5), (5, 0, 1), (0, 5, 1), (0, 1, 5), (0,), (1,)}
    assert max(map(len, neighbouring_texts((0, 1), gain, longest=2, tries=6))) == 2
    assert all(len(set(text)) == len(text) for text in neighbouring_texts((0, 1), gain, 3, tries=6))


def test_the_climb_reaches_the_best_text_of_a_sum() -> None:
    """Where each word counts by itself, the best text of at most 3 words is known."""
    worth = np.array([0.1, -0.5, 0.9, 0.3, 0.7, 0.2])

    def objective(texts: list[WordNumbers]) -> np.ndarray:
        return np.array([worth[list(text)].sum() for text in texts])

    end = climb_text((1, 0), objective, lambda text: np.tile(worth, (len(text), 1)), longest=3, steps=20)
    assert set(end) == {2, 4, 3}


def test_heights_never_fall() -> None:
    random = np.random.default_rng(0)
    height = {text: random.uniform() for n in (1, 2) for text in product(range(6), repeat=n)}
    seen: list[WordNumbers] = []

    def gradient(text: WordNumbers) -> np.ndarray:
        seen.append(text)
        return random.normal(size=(len(text), 6))

    climb_text((0,), lambda texts: np.array([height[text] for text in texts]), gradient, longest=2, steps=20)
    assert len(seen) > 1
    assert all(height[one] < height[two] for one, two in pairwise(seen))


def test_the_wording_of_a_neuron_that_is_a_word(clip: Clip, lexicon: Lexicon) -> None:
    """A direction made to be a text's own embedding is climbed to it, or to one that is nearer still than others."""
    words = lexicon.words[[150, 400]].tolist()
    target = clip.encode_texts(" ".join(words))[0]
    rows = (np.linalg.pinv(clip.basis().astype(np.float64)).T @ target).astype(np.float32)[None]
    direction = Directions(rows, rows, ("planted",), np.zeros(1, np.float32))
    np.testing.assert_allclose(direction.basis(clip.basis())[0], target, atol=1e-3)
    found = text_feature(clip, direction, words=2, restarts=2, penalty=0.0, steps=3).to_pylist()
    random = clip.encode_texts(lexicon.words[:300].tolist()) @ target
    assert found[0]["score"] > random.max()
    assert [row["score"] for row in found] == sorted((row["score"] for row in found), reverse=True)
    assert all(1 <= row["agree"] <= 2 for row in found)
    assert found == text_feature(clip, direction, words=2, restarts=2, penalty=0.0, steps=3).to_pylist()


def test_what_restarts_have_in_common_is_told_from_what_each_happened_upon(lexicon: Lexicon) -> None:
    ends = [(1, 2, 3), (3, 1, 4), (1, 5), (6, 7)]
    rows = _table(lexicon, ends, np.array([4.0, 3.0, 2.0, 1.0]), 0.0).to_pylist()
    assert [row["text"] for row in rows] == [lexicon.spell(end) for end in ends]
    assert [row["common"] for row in rows] == [lexicon.spell(text) for text in ((1, 3), (3, 1), (1,), ())]
    assert [row["agree"] for row in rows] == [2, 2, 1, 1]


def test_the_penalty_keeps_wordings_fluent(clip: Clip) -> None:
    free, bound = (
        text_feature(clip, 0, words=2, restarts=1, steps=4, penalty=penalty).to_pylist() for penalty in (0.0, 1.0)
    )
    assert bound[0]["fluency"] > free[0]["fluency"] + 1
    row = clip.basis()[0]
    cosine = clip.encode_texts(bound[0]["text"])[0] @ row / np.linalg.norm(row)
    assert bound[0]["score"] == pytest.approx(cosine, abs=1e-5)


def test_what_is_refused(clip: Clip) -> None:
    silent = np.zeros((1, clip.neurons), np.float32)
    for message, ask in {
        "out of range": lambda: text_feature(clip, clip.neurons),
        "at least one": lambda: text_feature(clip, 0, words=0),
        "one direction": lambda: text_feature(clip, Directions.neurons([1, 2], clip.neurons)),
        "adds nothing": lambda: text_feature(clip, Directions(silent, silent, ("none",), np.zeros(1, np.float32))),
    }.items():
        with pytest.raises(Refused, match=message) as refused:
            ask()
        assert "\n" not in str(refused.value)
