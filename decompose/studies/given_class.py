"""Activation given a person or a class: medians and spreads (Goh et al. 2021, Figure 3, "person neurons").

Activations are the largest over positions, before the ReLU, in standard deviations from zero: not centred.

    a (n,) activations of one neuron
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from atlas.analysis.significance import p_values
from atlas.errors import Refused
from atlas.formatting import Record
from atlas.store.store import Store
from decompose.renderings import display_texts, without_tone

FEWEST_IMAGES = 4  # of a class, half of which choose it
_EACH_END = 6  # classes shown of those with the largest, and of those with the smallest medians
_DRAWS = 1999


def neuron_activations(store: Store, neuron: int, by: str = "label") -> tuple[Float[np.ndarray, " n"], list[str]]:
    """A neuron's activations for the images of a Store, in standard deviations, and the class of each image.

    Raises Refused for a Store without images, a neuron that is not there, and one that never varies.
    """
    if "image" not in store.counts:
        raise Refused(f"{store.path} holds no images; collect some with {by}s")
    A = store.array("max", "image")
    if not 0 <= neuron < A.shape[1]:
        raise Refused(f"neuron {neuron} is out of range: {store.path} has neurons 0 to {A.shape[1] - 1}")
    a = np.asarray(A, np.float32)[:, neuron]
    if not a.std() > 0:
        raise Refused(f"neuron {neuron} has the same activation everywhere")
    table = store.table(["label", "caption", "group"]).take(store.positions("image"))
    names = display_texts(table) if by == "label" else [text or "" for text in table["group"].to_pylist()]
    return a / a.std(), [without_tone(name) for name in names]


def activation_given(
    a: Float[np.ndarray, " n"], names: Sequence[str], asked: Sequence[str] = (), seed: int = 0
) -> list[Record]:
    """Median and spread of the activation for each class, the largest median first, beside images drawn at random.

    `asked`: the classes. Without them, those with the six largest and six smallest medians are chosen on half of the
    images of each class, and measured on the other half. p, two-sided: the rank of the median among those of as many
    images drawn at random from all. Raises Refused for an asked class without an image.
    """
    rng, rows = np.random.default_rng(seed), []
    middle = float(np.median(a))
    for name, own in chosen_images(a, names, asked, seed).items():
        null = np.median(a[rng.integers(0, len(a), (_DRAWS, len(own)))], axis=1)
        median = float(np.median(a[own]))
        low, high = np.percentile(null, (2.5, 97.5))
        p = p_values(np.array([abs(median - middle)]), np.abs(null - middle))[0]
        rows.append(
            {"class": name, "images": len(own), "median": median, "spread": float(a[own].std())}
            | {"chance_low": float(low), "chance_high": float(high), "p": float(p)}
        )
    return sorted(rows, key=lambda row: -row["median"])


def chosen_images(
    a: Float[np.ndarray, " n"], names: Sequence[str], asked: Sequence[str] = (), seed: int = 0
) -> dict[str, list[int]]:
    """The images by which `activation_given` shows each class."""
    places: dict[str, list[int]] = {}
    for i in np.random.default_rng((seed, 1)).permutation(len(names)).tolist():
        places.setdefault(str(names[i]), []).append(i)
    if missing := [name for name in asked if name not in places]:
        raise Refused(f"no image is called {missing[0]!r}")
    return {name: places[name] for name in asked} if asked else _extreme_classes(a, places)


def _extreme_classes(a: Float[np.ndarray, " n"], places: dict[str, list[int]]) -> dict[str, list[int]]:
    """The held-out images of the classes whose other images have the largest and the smallest medians."""
    whole = {name: own for name, own in places.items() if name and len(own) >= FEWEST_IMAGES}
    if not whole:
        raise Refused(f"no class has {FEWEST_IMAGES} images; name some")
    order = sorted(whole, key=lambda name: -float(np.median(a[whole[name][::2]])))
    few = order if len(order) <= 2 * _EACH_END else [*order[:_EACH_END], *order[-_EACH_END:]]
    return {name: whole[name][1::2] for name in few}
