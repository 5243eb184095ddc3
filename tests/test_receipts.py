"""A tower whose every neuron writes what it is told to: one the concept, all others as much of anything else."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from atlas.analysis.significance import q_values
from atlas.errors import Refused
from atlas.model import layers
from atlas.model.clip import Clip
from atlas.model.directions import Directions
from decompose.lookup import neurons_of_text
from decompose.prompting import concept_embeddings
from decompose.receipts import (
    EDITS_A_PASS,
    Receipt,
    match_controls,
    mean_activations,
    predictions_that_hold,
    receipt,
)
from tests.towers import CONCEPT, FAR, noise

IMAGES = 16


def logits(tower: Clip, images: np.ndarray) -> np.ndarray:
    return tower.encode_images(images) @ concept_embeddings(tower, CONCEPT, "neutral")[0]


def test_the_neuron_that_writes_the_concept_is_confirmed_and_its_control_is_not(tower, writer):
    images = noise(tower, IMAGES)
    one, A = Directions.neurons([writer], tower.neurons), mean_activations(tower, images)
    control = int(match_controls(tower.basis(), A, one, 1)[0, 0])
    both = Directions.neurons([writer, control], tower.neurons)
    raised, ablated, *others = receipt(tower, images, CONCEPT, both, controls=60, amount=FAR)
    assert (raised.direction, raised.text, raised.act, raised.images) == (f"neuron {writer}", CONCEPT, "raise", IMAGES)
    assert (ablated.act, ablated.expected, ablated.images) == ("ablate", -1, IMAGES // 2)
    assert 0 < raised.low < raised.effect < raised.high
    assert ablated.low <= ablated.effect <= ablated.high < 0
    assert [each.p for each in (raised, ablated)] == [1 / (1 + len(each.controls)) for each in (raised, ablated)]
    assert raised.confirmed
    assert ablated.confirmed
    assert [each.confirmed for each in others] == [False, False]
    assert min(each.p for each in others) > 0.05
    assert len(set(raised.controls)) == len(raised.controls) > 30
    assert not {writer, control} & set(raised.controls)
    (wrong, _) = receipt(tower, images, CONCEPT, both[0], controls=60, signs=[-1], amount=FAR)
    assert (wrong.p, wrong.confirmed) == (1, False)


def test_the_effects_are_those_of_hooks_by_hand(tower, writer):
    images, layer = noise(tower, IMAGES), tower._layers[tower.layer]
    one = Directions.neurons([writer], tower.neurons)
    raised, ablated = receipt(tower, images, CONCEPT, one, controls=2, amount=FAR)
    A = mean_activations(tower, images)
    neurons, effects = (writer, *raised.controls), (raised.effect, *raised.control_effects)
    for neuron, effect in zip(neurons, effects, strict=True):
        step = torch.zeros(tower.neurons)
        step[neuron] = FAR * max(float(A[:, neuron].std()), float(np.median(A.std(0)[A.std(0) > 0])))
        with layers.step_added(tower.model, layer, step):
            pushed = logits(tower, images)
        assert effect == pytest.approx(float((pushed - logits(tower, images)).mean()), abs=1e-6)
    assert len(set(effects)) == 3
    firing = images[np.argsort(-A[:, writer])[:8]]
    act = tower.model.visual.layer4[-1].act3
    hook = act.register_forward_hook(lambda _, __, out: out.index_fill(1, torch.tensor([writer]), 0))
    silent = logits(tower, firing)
    hook.remove()
    assert ablated.effect == pytest.approx(float((silent - logits(tower, firing)).mean()), abs=1e-6)


def test_any_direction_has_receipts_each_with_its_text(tower, writer):
    images = noise(tower, IMAGES)
    A = mean_activations(tower, images)
    mixed = Directions.difference(A, A[:, writer] > np.median(A[:, writer]), "lively")
    part = Directions.components(np.eye(tower.neurons, dtype=np.float32)[[writer]] * 2)
    first, *_ = receipt(tower, images, CONCEPT, mixed, controls=5, amount=FAR)
    assert first.direction == "lively"
    again, gone = receipt(tower, images, CONCEPT, part, controls=30, amount=FAR)
    assert again.confirmed
    one = Directions.neurons([writer], tower.neurons)
    alone, silent = receipt(tower, images, CONCEPT, one, controls=30, amount=FAR)
    assert again.effect == pytest.approx(alone.effect, rel=0.02)  # half the unit, twice the length
    assert gone.effect == pytest.approx(silent.effect, abs=1e-6)
    two = receipt(
        tower, images, [CONCEPT, "ship"], Directions.neurons([writer, writer], tower.neurons), controls=5, amount=FAR
    )
    assert [each.text for each in two] == [CONCEPT, CONCEPT, "ship", "ship"]
    assert two[0].effect == pytest.approx(alone.effect, rel=1e-3)
    assert two[2].effect != two[0].effect


@pytest.mark.parametrize(
    ("q", "low", "high", "expected", "confirmed"),
    [
        (0.05, 0.1, 0.3, 1, True),
        (0.06, 0.1, 0.3, 1, False),
        (0.01, -0.1, 0.3, 1, False),
        (0.01, -0.3, -0.1, 1, False),
        (0.01, -0.3, -0.1, -1, True),
    ],
)
def test_confirmed_is_significant_and_wholly_on_the_expected_side(q, low, high, expected, confirmed):
    found = Receipt(
        "one", "cat", "raise", (low + high) / 2, low, high, 0.01, expected, 9, 1.0, (1, 2), (0.5, -0.1), q=q
    )
    assert found.confirmed is confirmed
    assert found.control == pytest.approx(0.2)
    assert not replace(found, images=4).confirmed  # too few images to confirm anything


def test_images_that_are_not_held_do_not_count(tower, writer):
    images = noise(tower, IMAGES)
    one, half = Directions.neurons([writer], tower.neurons), np.arange(IMAGES) % 2 == 0
    held = receipt(tower, images, CONCEPT, one, controls=5, amount=FAR, held=half[:, None])
    whole = receipt(tower, images, CONCEPT, one, controls=5, amount=FAR)
    assert held[0].images == IMAGES / 2
    assert held[0].effect != whole[0].effect
    assert held[0].control_effects != whole[0].control_effects
    none = receipt(tower, images, CONCEPT, one, controls=5, held=np.zeros((IMAGES, 1), bool))
    assert [(each.images, each.p, each.confirmed) for each in none] == [(0, 1, False)] * 2


def test_neurons_that_write_anything_are_confirmed_at_the_nominal_rate(tower, writer):
    images = noise(tower, 4)
    alive = np.flatnonzero(mean_activations(tower, images).std(0) > 0)
    chosen = alive[alive != writer][::4][:30]
    found = receipt(tower, images, "ship", Directions.neurons(chosen, tower.neurons), controls=19)
    p = np.array([each.p for each in found if each.act == "raise"])
    assert 0.3 < p.mean() < 0.7
    assert (p <= 0.1).mean() < 0.25
    assert len({n for each in found for n in each.controls}) + len(chosen) > EDITS_A_PASS / 2


def test_controls_are_matched_on_norm_and_spread():
    rng = np.random.default_rng(0)
    W, A = rng.normal(size=(40, 5)).astype(np.float32), rng.normal(size=(50, 40)).astype(np.float32)
    W[20:] *= 10
    A[:, ::2] *= 10
    A[:, 3] = 7
    found = match_controls(W, A, Directions.neurons([0, 1, 21], 40), 8)
    for neuron, controls in zip([0, 1, 21], found, strict=True):
        assert len(set(controls)) == 8
        assert {(c >= 20, c % 2) for c in controls} == {(neuron >= 20, neuron % 2)}
        assert not {0, 1, 3, 21} & set(controls)
    apart = match_controls(W, A, Directions.neurons([0, 2, 4], 40), 9, np.array([0, 1, 1]))
    assert {2, 4} < set(apart[0])  # asked for another text, neurons tried are controls like any other
    assert 0 in apart[1]
    assert not {2, 4} & {*apart[1], *apart[2]}
    whole = match_controls(W, A, Directions.neurons(range(40), 40), 50, np.arange(40))
    assert whole.shape == (40, 38)  # all that vary but itself
    assert all(neuron not in controls for neuron, controls in enumerate(whole))
    with pytest.raises(Refused, match="no control neuron is left"):
        match_controls(W, np.ones_like(A), Directions.neurons([0], 40), 8)


def test_what_cannot_be_tried_is_refused(tower):
    one, images = Directions.neurons([1], tower.neurons), noise(tower, 2)
    for match, arguments in {
        "need directions of visual.layer4": (images, "cat", Directions.neurons([1], 7)),
        "2 texts for 1 directions": (images, ["a", "b"], one),
        "1 image given": (images[:1], "cat", one),
        "the text is empty": (images, "", one),
    }.items():
        with pytest.raises(Refused, match=match):
            receipt(tower, *arguments)
    with pytest.raises(Refused, match="signs are 1 or -1"):
        receipt(tower, images, "cat", one, signs=[0])
    with pytest.raises(Refused, match="controls=0"):
        receipt(tower, images, "cat", one, controls=0)


def test_a_latent_is_silenced_where_it_fires_in_the_map(tower, writer):
    """One that fires at a few positions, and not at their mean."""
    images = noise(tower, IMAGES)
    maps, A = np.maximum(tower.activations(images)[:, writer], 0), mean_activations(tower, images)
    one = Directions.neurons([writer], tower.neurons)
    bias = -(A[:, writer].max() + maps.max((1, 2)).max()) / 2
    latent = Directions(one.read, one.write, ("latent",), np.array([bias]), rectified=True)
    assert not latent.activations(A).any()
    ablated = receipt(tower, images, CONCEPT, latent, controls=5, amount=FAR)[1]
    fires = (maps.max((1, 2)) + bias > 0).sum()
    assert 0 < ablated.images == min(fires, 8)
    assert ablated.effect != 0


def test_directions_in_double_precision_are_tried_too(tower, writer):
    rows = np.eye(tower.neurons)[[writer]]
    found = receipt(
        tower, noise(tower, 4), CONCEPT, Directions(rows, rows, ("one",), np.zeros(1)), controls=5, amount=FAR
    )
    assert found[0].effect > 0


def test_a_search_brings_the_receipts_of_what_it_found(tower, writer):
    pytest.importorskip("wordfreq")
    images = noise(tower, 6)
    table = neurons_of_text(tower, CONCEPT, k=3, random=100, images=images, templates="neutral")
    tried = Directions.neurons(table["neuron"].to_pylist(), tower.neurons)
    alone = receipt(tower, images, CONCEPT, tried, "drawing")
    for act, receipts in (("raise", alone[::2]), ("ablate", alone[1::2])):
        for name in ("effect", "p", "confirmed"):
            assert table[f"{act}_{name}"].to_pylist() == [getattr(each, name) for each in receipts]
    assert "raise_effect" not in neurons_of_text(tower, CONCEPT, k=1, random=100).column_names


def test_a_direction_that_never_fires_shows_nothing_when_it_is_silenced(tower):
    one = Directions.neurons([1], tower.neurons)
    mute = Directions(one.read * 0, one.write, ("mute",), one.bias, rectified=True)
    raised, ablated = receipt(tower, noise(tower, 4), CONCEPT, mute, controls=5, amount=FAR)
    assert raised.effect != 0  # raised as far as others usually are
    assert (ablated.images, ablated.effect, ablated.p, ablated.confirmed) == (0, 0, 1, False)


def test_predictions_are_made_before_and_hold(tower, writer):
    """The bilinear form foresees effects of a last layer, on images and prompts used for nothing else."""
    images = noise(tower, IMAGES)
    found = receipt(tower, images, CONCEPT, Directions.neurons([writer], tower.neurons), controls=9, amount=FAR)
    for each in found:
        assert each.predicted == pytest.approx(each.effect, rel=0.1)
    assert found[0].predicted > 0 > found[1].predicted
    share, factor = predictions_that_hold([1.0, -2.0, 3.0, 4.0], [2.0, -2.0, -1.0, 4.0])
    assert share == 0.75
    assert factor == pytest.approx(1)
    assert predictions_that_hold([1.0], [-1.0]) == (0, float("inf"))


def test_q_is_over_all_receipts_of_a_run(tower, writer):
    found = receipt(tower, noise(tower, 6), CONCEPT, Directions.neurons([writer, 1, 2], tower.neurons), controls=9)
    np.testing.assert_allclose([each.q for each in found], q_values(np.array([each.p for each in found])))


def test_matching_is_what_all_distances_give():
    rng = np.random.default_rng(0)
    W, A = rng.normal(size=(300, 6)).astype(np.float32), rng.gamma(2, size=(40, 300)).astype(np.float32)
    found = match_controls(W, A, Directions.neurons(range(300), 300), 5, np.arange(300) % 7)
    place = np.log(np.stack([np.linalg.norm(W, axis=1), A.std(0)], 1))
    far = (((place[:, None] - place) / place.std(0)) ** 2).sum(2)
    far[np.arange(300)[:, None] % 7 == np.arange(300) % 7] = np.inf
    np.testing.assert_array_equal(found, np.argsort(far, axis=1)[:, :5])
