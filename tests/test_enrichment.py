"""Enrichment of labels among strongest things: the statistic, its p-values, and the nulls it is judged by."""

import numpy as np
import pytest
from scipy.stats import hypergeom

from decompose.enrichment import CaptionNull, LabelledThings, _random_sets
from decompose.evidence import caption_evidence
from decompose.renderings import Things, strongest_things, tell_things
from decompose.responses import Responses
from tests.worlds import World, planted

LABELS = ("cat", "dog", "sun", "rare", "absent")
NAMES = ["cat"] * 7 + ["dog"] * 5 + ["black cat"] * 2 + ["sun"] * 12 + ["rare"] + ["other"] * 33


@pytest.fixture(scope="module")
def things() -> Things:
    return tell_things(NAMES, [""] * len(NAMES))


def least_p(names: list[str], label: str) -> float:
    """The least hypergeometric p over the first 1, 2, ... things, one by one."""
    total = sum(label in name.split() for name in NAMES)
    counts = np.cumsum([label in name.split() for name in names])
    found = [hypergeom.sf(c - 1, len(NAMES), total, n) for n, c in enumerate(counts, 1) if c]
    return float(min(found, default=1.0)) if total > 1 else 1.0


def test_enrichment_is_the_least_p_over_the_first_things(things: Things) -> None:
    sets = np.stack([np.random.default_rng(seed).permutation(len(NAMES))[:12] for seed in range(20)])
    found = LabelledThings.of(things, LABELS).enrichment(sets)
    expected = [[least_p([NAMES[i] for i in row], label) for label in LABELS] for row in sets]
    np.testing.assert_allclose(found, expected)


def test_a_label_that_comes_first_counts_more_than_the_same_label_last(things: Things) -> None:
    first, last = np.array([*range(5), *range(30, 37)]), np.array([*range(30, 37), *range(5)])
    p = LabelledThings.of(things, LABELS).enrichment(np.stack([first, last]))[:, 0]
    assert p[0] < p[1] / 10


def test_a_label_s_p_is_not_too_small(things: Things) -> None:
    carriers, random = LabelledThings.of(things, LABELS), np.random.default_rng(0)
    sets = _random_sets(random, 4000, len(things), 12)
    p = carriers.label_p_values(carriers.enrichment(sets), 12)
    for rate in (0.01, 0.05, 0.2):
        assert (p[:, :3] <= rate).mean(0).max() <= rate + 3 * (rate / 4000) ** 0.5


def test_random_sets_are_in_random_order() -> None:
    """Neighbouring things are alike, so an order that follows their numbers would enrich the first places."""
    sets = _random_sets(np.random.default_rng(0), 4000, 50, 10)
    assert all(len({*row}) == 10 for row in sets.tolist())
    assert abs(np.corrcoef(np.arange(10), sets.mean(0))[0, 1] * sets.mean(0).std()) < 0.5
    assert abs((np.diff(np.sort(sets[:, :2], axis=1), axis=1) == 1).mean() - 2 / 50) < 0.012


def captions_of(world: World, A: np.ndarray, layer: np.ndarray) -> np.ndarray:
    """p of neurons that answer with A in a layer."""
    things = tell_things(world.captions, world.groups)
    null = CaptionNull.of(things, world.texts, 24, Responses(layer), 500)
    answers = Responses(A)
    return caption_evidence(answers, things, strongest_things(answers, things, 24), world.texts, null).least


def test_a_neuron_of_noise_is_judged_beside_random_things_alone() -> None:
    """Random directions of a layer that stands for things carry labels, and would make its p too large."""
    p = np.concatenate(
        [captions_of(world, world.A, world.A)[world.of_kind("noise")] for world in map(planted, range(9))]
    )
    assert 0.02 <= np.mean(p <= 0.05) <= 0.09
    assert 0.12 <= np.mean(p <= 0.2) <= 0.28


def test_a_neuron_whose_things_are_alike_is_judged_beside_random_directions() -> None:
    """A mixture of neurons responds to things that look alike: that it stands for one of them is no more than usual."""
    p = []
    for world in map(planted, range(9)):
        scale = np.where(world.A.std(0) > 0, world.A.std(0), 1)
        mixed = (world.A / scale) @ np.random.default_rng(0).normal(size=(world.A.shape[1],) * 2)
        p.append(captions_of(world, mixed.astype(np.float32), mixed.astype(np.float32)))
    assert np.mean(np.concatenate(p) <= 0.05) <= 0.09


def test_a_neuron_that_never_changes_shows_nothing() -> None:
    """Even where all the things that stand for its strongest ones carry one label."""
    random = np.random.default_rng(0)
    A = random.gamma(2, size=(400, 40)).astype(np.float32)
    A[:, 0] = 0
    answers, rows = Responses(A), np.arange(400)
    top = strongest_things(answers, Things("image", rows, ("",), np.zeros_like(rows)), 24)
    things = Things("image", rows, ("cat", "dog"), np.where(np.isin(rows, top[0]), 0, 1))
    found = caption_evidence(answers, things, top, ["cat", "dog"])
    assert found.least[0] == 1
    assert found.p[0].min() == 1


def test_labels_that_no_two_things_carry_say_nothing(things: Things) -> None:
    A = np.random.default_rng(0).gamma(2, size=(len(NAMES), 40)).astype(np.float32)
    answers = Responses(A)
    found = caption_evidence(answers, things, strongest_things(answers, things, 24), ["rare", "absent"])
    assert found.least.min() == found.p.min() == 1
