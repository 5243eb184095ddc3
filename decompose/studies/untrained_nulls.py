"""What the neurons of an untrained network give on the same pictures, for the studies of a single neuron.

A (n, u) responses of an untrained network, the largest over positions, to n pictures of a Store
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from atlas.analysis.significance import p_values
from atlas.console import track
from atlas.formatting import Record
from atlas.model.untrained import untrained_model
from atlas.store.originals import original_pictures
from atlas.store.store import Store
from decompose.studies.concepts import against_others, concept_table, named_rows, significant_rows
from decompose.studies.conditional import Conditional, Stimuli, joint_counts, mutual_information

_AT_ONCE = 64
_OWN, _OTHERS, _FEWEST_CONCEPTS = 24, 100, 3  # stimuli of a concept, and concepts that it is compared with
_SAMPLED = 500  # pictures that give an untrained neuron its middle and its deviation


def untrained_responses(store: Store, rows: Int[np.ndarray, " n"], seed: int = 0) -> Float[np.ndarray, "n u"]:
    """Responses of a network with random weights, of the architecture and layer that the Store was made with."""
    model = store.request["model"]
    other = untrained_model(model["name"], [store.layer], "auto", model["token"], seed)
    pixels = original_pictures(store, other, rows)
    batches = range(0, len(pixels), _AT_ONCE)
    some = track(batches, len(batches), "untrained network", "batches")
    return np.concatenate([other.activations(pixels[i : i + _AT_ONCE]).max((2, 3)) for i in some])


def untrained_information(
    A: Float[np.ndarray, "n u"], bucket: Int[np.ndarray, " n"], category: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " u"]:
    """Mutual information of bucket and category for each neuron of an untrained network.

    Its pictures are put in order of its responses and into buckets of the same sizes. Unlabelled ones (-1) are left
    out.
    """
    kept = category >= 0
    A, category, sizes = A[kept], category[kept], np.bincount(bucket[kept])
    filled = np.repeat(np.arange(len(sizes)), sizes)
    order = np.argsort(A, axis=0, kind="stable")
    count = int(category.max()) + 1
    return np.array(
        [mutual_information(joint_counts(filled, category[order[:, u]], len(sizes), count)) for u in range(A.shape[1])]
    )


def beside_untrained(
    found: Conditional, store: Store, stimuli: Stimuli, category: Int[np.ndarray, " n"], seed: int = 0
) -> Conditional:
    """The same with the information that an untrained network's neurons give on these stimuli, in bits, and p: the rank
    among them."""
    A = untrained_responses(store, stimuli.rows, seed)
    bits = untrained_information(A, stimuli.bucket, category) / np.log(2)
    p = float(p_values(np.array([found.information - 1e-9]), bits)[0])
    return replace(found, untrained=(float(np.median(bits)), float(np.percentile(bits, 95))), p_untrained=p)


def untrained_concept(store: Store, name: str, k: int = 10, seed: int = 0) -> Record | None:
    """How many of a concept's k neurons are significant on a few stimuli: of the model, and of an untrained network.

    The stimuli are the Store's: those of the concept, and two each of 100 other concepts. None where it has none.
    """
    rng, own, null = np.random.default_rng(seed), {}, {}
    for kind in ("image", "word"):
        if kind not in store.counts:
            continue
        A, names = named_rows(store, kind, name)
        few = few_stimuli(names, name, rng)
        some = [names[i] for i in few]
        if name not in some or len(set(some)) < _FEWEST_CONCEPTS:
            continue
        own[kind] = against_others(A[few], some, name, seed=seed)
        other = untrained_responses(store, store.positions(kind)[few], seed)
        null[kind] = against_others(other, some, name, seed=seed)
    if not own:
        return None
    counts = [significant_rows(concept_table(each, k, seed), list(each)) for each in (own, null)]
    return {"model": counts[0], "untrained": counts[1], "others": max(each.concepts for each in own.values()) - 1}


def few_stimuli(names: Sequence[str], name: str, rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """Rows of a concept, at most 24, and two each of at most 100 others."""
    places: dict[str, list[int]] = {}
    for i in rng.permutation(len(names)).tolist():
        places.setdefault(str(names[i]), []).append(i)
    others = [places[each][:2] for each in sorted(places.keys() - {name, ""})]
    drawn = [others[i] for i in rng.permutation(len(others))[:_OTHERS]]
    return np.array(sorted(i for some in (*drawn, places.get(name, [])[:_OWN]) for i in some), np.int64)


def untrained_distances(store: Store, chosen: Mapping[str, Sequence[int]], seed: int = 0) -> dict[str, float]:
    """For each class, how far its median lies from the middle: below this for 95 % of an untrained network's neurons.

    `chosen`: places of each class's images among the images of the Store. In standard deviations of each neuron.
    """
    images = store.positions("image")
    some = np.random.default_rng(seed).permutation(len(images))[:_SAMPLED]
    own = sorted({i for places in chosen.values() for i in places})
    A = untrained_responses(store, images[np.concatenate([some, np.array(own, np.int64)])], seed)
    sample, rest, place = A[: len(some)], A[len(some) :], {i: n for n, i in enumerate(own)}
    deviation = np.where(sample.std(0) > 0, sample.std(0), np.inf)
    middle = np.median(sample, axis=0)
    return {
        name: float(np.percentile(np.abs(np.median(rest[[place[i] for i in places]], axis=0) - middle) / deviation, 95))
        for name, places in chosen.items()
    }
