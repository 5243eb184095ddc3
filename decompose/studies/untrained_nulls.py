"""What the neurons of an untrained network give on the same pictures, for the studies of a single neuron.

A (n, u) responses of an untrained network, the largest over positions, to n pictures of a Store
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from atlas.console import track
from atlas.model.untrained import untrained_model
from atlas.store.originals import original_pictures
from atlas.store.store import Store
from decompose.studies.conditional import Conditional, Stimuli, joint_counts, mutual_information

_AT_ONCE = 64
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
    """The same with the information that an untrained network's neurons give on these stimuli, in bits."""
    A = untrained_responses(store, stimuli.rows, seed)
    bits = untrained_information(A, stimuli.bucket, category) / np.log(2)
    return replace(found, untrained=(float(np.median(bits)), float(np.percentile(bits, 95))))


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
