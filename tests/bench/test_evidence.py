"""What decompose finds in the embedded model, against the evidence that model carries; run with `pytest -s`.

The multimodal neurons of evidence.json were found on images and words; here texts find them again through the basis
alone, and forward passes on other drawings confirm the terms of equations.
"""

import json
from pathlib import Path

import numpy as np
import pytest

import atlas
import decompose
from atlas.packaged import emoji

EVIDENCE = Path(atlas.__file__).parent / "mini/evidence.json"
CONCEPTS, IMAGES = 30, 64


@pytest.fixture(scope="module")
def known() -> dict[str, set[int]]:
    """The thirty concepts whose multimodal neurons are surest, with these neurons."""
    found: dict[str, set[int]] = {}
    for pair in json.loads(EVIDENCE.read_text("utf-8"))["neurons"]["model"]["examples"]:
        if pair["concept"] in found or len(found) < CONCEPTS:
            found.setdefault(pair["concept"], set()).add(pair["neuron"])
    return found


def test_search_by_basis_alone_finds_the_known_neurons(known: dict[str, set[int]]) -> None:
    clip = atlas.Clip("mini")
    hits = {
        concept: bool(neurons & set(decompose.search(clip, concept, 5, templates="emoji")["neuron"].to_pylist()))
        for concept, neurons in known.items()
    }
    chance = np.mean([1 - (1 - len(neurons) / clip.neurons) ** 5 for neurons in known.values()])
    print(f"\nsearch by basis, top 5: {np.mean(list(hits.values())):.0%} of {len(hits)}; five at random {chance:.1%}")
    print("missed:", ", ".join(concept for concept, hit in hits.items() if not hit) or "none")
    assert np.mean(list(hits.values())) >= 0.8


def test_receipts_confirm_the_first_terms_of_equations(known: dict[str, set[int]]) -> None:
    clip = atlas.Clip("mini")
    items = [item for item in emoji("emoji", ("Google",), skin=False) if item.load]
    chosen = np.random.default_rng(0).choice(len(items), IMAGES, replace=False)
    images = [item.load() for item in (items[i] for i in chosen) if item.load]
    found = decompose.compose(clip, list(known), k=4, templates="drawing")
    first = [(each.concept, each.terms[0].neuron) for each in found if each.terms]
    tried = decompose.Directions.neurons([neuron for _, neuron in first], clip.neurons)
    receipts = decompose.receipt(clip, images, [concept for concept, _ in first], tried, templates="emoji")
    raised = [each for each in receipts if each.act == "raise"]
    own, theirs = np.mean([r.effect for r in raised]), np.mean([np.mean(r.control_effects) for r in raised])
    share = np.mean([each.confirmed for each in raised])
    print(f"\nconfirmed {share:.0%} of {len(raised)}; mean effect {own:+.3f}, of matched neurons {theirs:+.3f}")
    assert share >= 0.9
