"""What decompose finds in the embedded model, against the evidence that model carries; run with `pytest -n 0 -s`.

The multimodal neurons of evidence.json were found on images and words; here texts find them again through the basis
alone, and forward passes on other drawings confirm the terms of equations. Beside both stands what neurons do that are
matched with the known ones on the norm of their basis row and their spread: they differ in what they write. The model
was trained to write names so; what is measured is that the tools find it out, not that a CLIP does this by itself.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import atlas
import decompose
from atlas.analysis.derivation import relate_neurons, relate_texts, summarise_neurons
from atlas.model.clip import Clip
from atlas.model.directions import Directions
from atlas.store.originals import original_pictures
from atlas.store.store import Store
from decompose.receipts import match_controls, mean_activations

EVIDENCE = Path(atlas.__file__).parent / "mini/evidence.json"
CONCEPTS, TOP, IMAGES, RANDOM = 30, 5, 64, 100
CHOOSING, TRYING = "emoji", "neutral"  # prompts that neurons are found by, and other ones that they are tried with


@pytest.fixture(scope="module")
def clip() -> Clip:
    return Clip("mini")


@pytest.fixture(scope="module")
def known() -> dict[str, set[int]]:
    """The concepts whose multimodal neurons are surest, thirty at most, with these neurons."""
    found: dict[str, set[int]] = {}
    for pair in json.loads(EVIDENCE.read_text("utf-8"))["neurons"]["model"]["examples"]:
        if pair["concept"] in found or len(found) < CONCEPTS:
            found.setdefault(pair["concept"], set()).add(pair["neuron"])
    if len(found) < CONCEPTS:
        print(f"\nonly {len(found)} concepts have known neurons, {CONCEPTS} are asked for")
    return found


@pytest.fixture(scope="module")
def store(clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Drawings of a style that the evidence is not made of: what a neuron's spread is measured on."""
    sources = ["emoji?vendors=Google&skin=no", "texts"]  # texts to name neurons by, once for all searches
    store = atlas.collect(sources, clip, tmp_path_factory.mktemp("evidence") / "google")
    summarise_neurons(store)
    relate_neurons(store, clip)
    relate_texts(store, clip)
    return store


@pytest.fixture(scope="module")
def images(store: Store, clip: Clip) -> np.ndarray:
    """Some of them at random."""
    return original_pictures(
        store, clip, np.random.default_rng(0).choice(store.positions("image"), IMAGES, replace=False)
    )


@pytest.fixture(autouse=True)
def clock() -> Iterator[None]:
    began = time.process_time()
    yield
    print(f"{time.process_time() - began:.0f} s of processor time")


def test_there_are_thirty_concepts_to_look_for(known: dict[str, set[int]]) -> None:
    assert len(known) == CONCEPTS


def test_search_by_basis_alone_finds_the_known_neurons(
    clip: Clip, store: Store, known: dict[str, set[int]], images: list
) -> None:
    A, W = mean_activations(clip, images), clip.basis()
    own, matched, missed = [], [], []
    for concept, neurons in known.items():
        found = decompose.neurons_of_text(
            clip, concept, clip.neurons, store, "basis", templates=CHOOSING, random=RANDOM
        )
        ranked = found["neuron"].to_numpy()
        place = np.argsort(ranked)
        own.append(min(place[list(neurons)]))
        ids = sorted(neurons)
        controls = match_controls(W, A, Directions.neurons(ids, clip.neurons), 64)
        matched.append((place[controls] < TOP).any(0).mean())  # of sets of as many matched neurons
        if own[-1] >= TOP:
            missed.append(f"{concept} (neuron {ids[0]} comes {own[-1] + 1}.)")
    share = np.mean(np.array(own) < TOP)
    print(f"\nsearch by basis finds a known neuron among the first {TOP} for {share:.0%} of {len(known)} concepts;")
    print(f"neurons matched with them come there for {np.mean(matched):.1%}; median rank {np.median(own) + 1:.0f}")
    print("missed:", ", ".join(missed) or "none")
    assert share >= 0.8


def test_receipts_confirm_the_first_terms_of_equations(clip: Clip, known: dict[str, set[int]], images: list) -> None:
    found = [each for each in decompose.compose(clip, list(known), k=4, templates=CHOOSING) if each.terms]
    tried = Directions.neurons([each.terms[0].neuron for each in found], clip.neurons)
    concepts = [each.concept for each in found]
    raised = decompose.receipt(clip, images, concepts, tried, templates=TRYING)[::2]
    own, theirs = np.mean([each.effect for each in raised]), np.mean([each.control for each in raised])
    share = np.mean([each.confirmed for each in raised])
    print(f"\nreceipts confirm {share:.0%} of {len(raised)} first terms; mean effect {own:+.4f},", end=" ")
    print(f"of matched neurons {theirs:+.4f}; by chance {3 / 65:.0%} would be")
    missed = [f"{each.text} ({each.direction}, p {each.p:.2f})" for each in raised if not each.confirmed]
    print("missed:", ", ".join(missed) or "none")
    assert share >= 0.9
