"""The rule that says which neurons are multimodal, on responses whose truth is known."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from atlas.analysis.multimodal import areas, multimodal_pairs, null, probes

CONCEPTS, EACH = 40, 6


def _responses(rng: np.random.Generator, neurons: int, planted: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Drawn and written responses (n, u), and the concept of each row; neuron i of the planted answers to concept i."""
    concept = np.repeat(np.arange(CONCEPTS), EACH)
    drawn, written = (rng.normal(size=(len(concept), neurons)) for _ in range(2))
    for i in range(planted):
        drawn[concept == i, i] += 6
        written[concept == i, i] += 6
    return drawn, written, concept


def test_areas_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    A, concept = rng.integers(0, 4, (60, 5)).astype(float), rng.integers(0, 3, 60)
    ours = areas(A, concept, 4)
    for c in range(3):
        assert ours[:, c] == pytest.approx([roc_auc_score(concept == c, A[:, u]) for u in range(5)])
    assert (ours[:, 3] == 0.5).all()  # a concept without a row


def test_planted_neurons_are_found_and_others_are_not() -> None:
    drawn, written, concept = _responses(np.random.default_rng(1), 50, planted=12)
    found = multimodal_pairs(areas(drawn, concept, CONCEPTS), areas(written, concept, CONCEPTS))
    assert set(zip(found.neuron.tolist(), found.concept.tolist(), strict=True)) == {(i, i) for i in range(12)}
    assert (found.drawn >= 0.9).all()
    assert (found.written >= 0.9).all()


def test_what_is_above_the_floor_by_chance_is_not_found() -> None:
    rng, concept = np.random.default_rng(5), np.repeat(np.arange(CONCEPTS), 2)
    drawn, written = (areas(rng.normal(size=(len(concept), 300)), concept, CONCEPTS) for _ in range(2))
    found = multimodal_pairs(drawn, written)
    assert found.above_floor > 0
    assert len(found) == 0


def test_answering_to_a_drawing_and_another_concepts_word_is_not_multimodal() -> None:
    drawn, written, concept = _responses(np.random.default_rng(2), 50, planted=0)
    for i in range(20):
        drawn[concept == i, i] += 6
        written[concept == (i + 1) % CONCEPTS, i] += 6
    assert len(multimodal_pairs(areas(drawn, concept, CONCEPTS), areas(written, concept, CONCEPTS))) == 0


def test_the_null_counts_all_pairs_of_two_concepts() -> None:
    rng = np.random.default_rng(3)
    drawn, written = rng.random((4, 5)), rng.random((4, 5))
    at = np.array([0.2, 0.5, 0.9])
    pairs = [min(drawn[u, c], written[u, d]) for u in range(4) for c in range(5) for d in range(5) if c != d]
    assert null(drawn, written, at) == pytest.approx([(1 + sum(p >= a for p in pairs)) / (1 + len(pairs)) for a in at])


def test_probes_tell_their_own_concept() -> None:
    drawn, _, concept = _responses(np.random.default_rng(4), 30, planted=10)
    own = areas(drawn @ probes(drawn, concept, CONCEPTS).T, concept, CONCEPTS)
    assert np.diag(own)[:10].min() > 0.99
