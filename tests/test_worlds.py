"""Evidence in worlds whose truth is known: nulls keep their level, and what is planted is found."""

import numpy as np
import pytest

from atlas.model.clip import Clip
from atlas.model.untrained import untrained_clip
from atlas.sources.builtin import emoji_source
from decompose.enrichment import concepts_in
from decompose.labels import label_activations
from decompose.receipts import mean_activations
from tests.worlds import ANSWERING, KINDS, World, noise_texts, null_shares, other_shares, planted, rotated, unit

WORLDS = 8


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    return [planted(seed) for seed in range(WORLDS)]


def table(world: World, **given: object) -> list[dict]:
    return label_activations(
        world.A, world.texts, world.T, world.E, list(world.captions), world.W, list(world.groups), 40.0, draws=1000
    ).to_pylist()


@pytest.mark.parametrize("shares", [null_shares, pytest.param(other_shares, marks=pytest.mark.slow)])
def test_every_null_keeps_its_level(shares) -> None:
    for (name, kind), share in shares(WORLDS).items():
        allowed = 0.05 + 3 * np.sqrt(0.05 * 0.95 / share.neurons) + 0.02  # neurons of one world share their texts
        assert share.p / share.neurons <= allowed, (name, kind, share)
        assert share.q / share.neurons <= 0.07, (name, kind, share)
        if share.neurons >= 150:  # else too few to tell
            assert share.p / share.neurons >= 0.015, (name, kind, "is judged too strictly")


def test_what_is_planted_is_labelled_and_the_rest_is_not(worlds: list[World]) -> None:
    right, false, given = dict.fromkeys(KINDS, 0), 0, 0
    for world in worlds:
        for row in table(world):
            kind, meant = world.kinds[row["neuron"]], {world.texts[c] for c in world.means[row["neuron"]]}
            if row["label"] != "none":
                given += 1
                false += row["label"] not in meant
                right[kind] += row["label"] in meant
            assert kind != "dead" or row["label"] == "none"
    assert right["mono"] >= 0.9 * 4 * WORLDS
    assert right["superposed"] >= 0.9 * 4 * WORLDS
    assert right["or"] >= 0.6 * 4 * WORLDS  # random directions of so small a layer carry many labels too: a strict null
    assert right["and"] >= 0.35 * 4 * WORLDS
    assert false / given <= 0.08


@pytest.mark.parametrize("change", [rotated, noise_texts])
def test_texts_that_say_nothing_label_few_neurons(worlds: list[World], change) -> None:
    named = [
        {
            row["neuron"]
            for row in label_activations(w.A, w.texts, w.T, w.E, W=w.W, scale=40.0, draws=1000).to_pylist()
            if row["label"] != "none"
        }
        for w in (change(world, np.random.default_rng([i, 1])) for i, world in enumerate(worlds))
    ]
    answering = [len(names & {*world.of_kind(*ANSWERING).tolist()}) for names, world in zip(named, worlds, strict=True)]
    assert sum(answering) / (20 * WORLDS) <= 0.1


def test_one_direction_is_judged_as_a_thousand_are() -> None:
    """Its p-value does not depend on what is asked with it, and goes below one in the number of draws."""
    from decompose.evidence import basis_evidence, direction_null

    world = planted(0)
    null, mono = direction_null(world.W, world.T, 1000), world.of_kind("mono")
    alone, together = basis_evidence(world.W[mono[:1]], world.T, null), basis_evidence(world.W, world.T, null)
    assert alone.least[0] == pytest.approx(together.least[mono[0]])
    exact = basis_evidence(unit(world.T - world.T.mean(0)), world.T, null)
    assert np.median(exact.least) < 1e-4


@pytest.mark.slow
def test_neurons_of_an_untrained_network_get_no_labels(clip: Clip) -> None:
    """They respond to drawings that look alike, which lie near some of the texts whatever these are."""
    fresh = untrained_clip(clip)
    drawings = list(emoji_source("emoji", ("Google", "Apple"), skin=False))[::8]
    pictures = [item.load() for item in drawings if item.load]
    names, groups = [item.label for item in drawings], [item.group for item in drawings]
    texts = list(dict.fromkeys(word for name in names for word in concepts_in(name)))
    A, E, T = mean_activations(fresh, pictures), fresh.encode_images(pictures), fresh.encode_texts(texts)
    kinds = {"captions": {"captions": names, "groups": groups}, "images": {"E": E}, "basis": {"W": fresh.basis()}}
    kinds["all"] = {name: given for each in kinds.values() for name, given in each.items()}
    for kind, given in kinds.items():
        labels = label_activations(A, texts, T, **given, scale=fresh.logit_scale, draws=2000)["label"].to_pylist()
        assert np.mean([label != "none" for label in labels]) <= 0.1, kind
