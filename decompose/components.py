"""NMF components of a Store's activations: groups of neurons that fire together, with their images and words.

A (n, u) mean activations of the images    Z (n, k) codes    D (k, u) components
"""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from sklearn.exceptions import ConvergenceWarning

from atlas.analysis.naming import RowNames
from atlas.errors import Refused
from atlas.model.directions import Directions
from atlas.store.store import Part, Store
from atlas.vectors import Rows
from decompose.nmf import Choice, SparseNMF, choose_n_components
from decompose.renderings import things_of, without_tone

COMPONENTS = Part("neurons/components", "decompose nmf {store}")
_SHOWN_NEURONS, _SHOWN_WORDS, _SHOWN_ROWS = 6, 12, 16  # neurons, words and images that a component is shown with
_NAMES = 3  # of images, in a component's name
_CODE_BLOCK = 4096  # rows read at a time
_TRIED_NUMBERS = (2, 4, 8, 16, 32)  # of components, to choose from
_CHOICE_IMAGES = 2000  # images that the number of components is chosen on


@dataclass(frozen=True)
class Component:
    """One component, as a reader is shown it."""

    number: int
    neurons: tuple[tuple[int, float], ...]  # the largest weights; a negative one: active when the neuron is low
    called: tuple[str, ...]  # names of the images that activate the component most
    words: tuple[str, ...]  # rendered words on which the component is the strongest
    rows: tuple[int, ...]  # rows of the images that activate the component most, renderings of one thing once
    share: float  # share of the images on which the component is the strongest
    own: Int[np.ndarray, " m"] = field(repr=False, compare=False)  # rows of all images on which it is the strongest


def factor_activations(
    store: Store, k: int = 16, alpha: float = 0.0, seed: int = 0, max_iter: int = 200
) -> tuple[Directions, list[Component]]:
    """k NMF components of the Store's image activations: as directions, and with what a reader is shown.

    Components are ordered by the number of images on which they are the strongest. `alpha`: L1 penalty on the codes.
    `max_iter`: passes over the Store at most; activations are streamed. If the layer does not end in a ReLU, signs are
    split (`SparseNMF`), and components have weights of both signs.

    Raises Refused for a Store without images, and for a k above the number of images or neurons.
    """
    _check(store)
    A = store.array("mean", "image")
    if not 0 < k <= min(A.shape):
        raise Refused(
            f"{k:,} components of {A.shape[0]:,} images and {A.shape[1]:,} neurons; ask for 1 to {min(A.shape)}"
        )
    model = SparseNMF(k, alpha, split=_split(store), max_iter=max_iter, random_state=seed).fit(A)
    D = np.asarray(model.signed_, np.float32)
    norm = np.maximum(np.linalg.norm(D, axis=1), 1e-12)
    D = D / norm[:, None]
    Z = _codes(model, A) * norm
    order = np.argsort(-np.bincount(Z.argmax(1), minlength=k), kind="stable")
    D, Z = D[order], Z[:, order]
    images, own = store.positions("image"), Z.argmax(1)
    thing = things_of(store, "image").of
    rows = [images[_of_different_things(ranked, thing)] for ranked in np.argsort(-Z, 0, kind="stable").T]
    names = RowNames(store)
    words = _words(store, model, norm, order, names)
    found = [
        Component(
            i,
            tuple((int(j), round(float(D[i, j]), 3)) for j in np.argsort(-np.abs(D[i]))[:_SHOWN_NEURONS] if D[i, j]),
            _first(without_tone(names[row]) for row in rows[i].tolist()),
            words[i],
            tuple(rows[i].tolist()),
            float((own == i).mean()),
            images[own == i],
        )
        for i in range(k)
    ]
    return Directions.components(D), found


def telling_names(names: Sequence[str]) -> list[str]:
    """The first three names of which none begins with another: "kiss person" and "kiss" say one thing."""
    chosen: list[str] = []
    for name in names:
        if not any(f"{name} ".startswith(f"{each} ") or f"{each} ".startswith(f"{name} ") for each in chosen):
            chosen.append(name)
    return chosen[:_NAMES]


def choose_components(store: Store, tried: Sequence[int] = _TRIED_NUMBERS, alpha: float = 0.0, seed: int = 0) -> Choice:
    """The number of components, chosen by held-out error and stability (`choose_n_components`) on a sample of images.

    Raises Refused for a Store without images, and for too few images or neurons for every number in `tried`.
    """
    _check(store)
    A = store.array("mean", "image")
    rows = np.sort(np.random.default_rng(seed).permutation(len(A))[:_CHOICE_IMAGES])
    most = min(len(rows), A.shape[1]) // 2  # folds hold out rows, and half the neurons
    possible = [k for k in tried if k <= most]
    if not possible:
        raise Refused(f"{len(A):,} images and {A.shape[1]:,} neurons are too few to choose by; name the number, -k 2")
    model = SparseNMF(possible[0], alpha, split=_split(store), random_state=seed)
    with warnings.catch_warnings():  # stopping at this tolerance does not change the result
        warnings.simplefilter("ignore", ConvergenceWarning)
        return choose_n_components(model, A[rows], possible, seed=seed)


def _check(store: Store) -> None:
    if "image" not in store.counts:
        raise Refused(f"{store.path} holds no images to factor; collect some")


def _split(store: Store) -> Literal["sign"] | None:
    return None if store.rectified else "sign"


def _codes(model: SparseNMF, A: Rows) -> Float[np.ndarray, "n k"]:
    blocks = (np.asarray(A[i : i + _CODE_BLOCK], np.float32) for i in range(0, len(A), _CODE_BLOCK))
    return np.concatenate([model.transform(block) for block in blocks])


def _words(
    store: Store, model: SparseNMF, norm: np.ndarray, order: np.ndarray, names: RowNames
) -> list[tuple[str, ...]]:
    """The rendered words on which each component is the strongest, without repeats."""
    if "word" not in store.counts:
        return [()] * len(order)
    words = store.positions("word")
    Z = (_codes(model, store.array("mean", "word")) * norm)[:, order]
    own = Z.argmax(1)
    ranked = np.argsort(-Z, 0, kind="stable").T
    strongest = [words[rows[(own[rows] == i) & (Z[rows, i] > 0)]] for i, rows in enumerate(ranked)]
    return [_first(names[row] for row in rows.tolist()) for rows in strongest]


def _of_different_things(ranked: Int[np.ndarray, " n"], thing: Int[np.ndarray, " n"]) -> list[int]:
    """The first of some images, of which no two are renderings of one thing. `thing`: the thing of each image."""
    found: dict[int, int] = {}
    for at in ranked.tolist():
        found.setdefault(int(thing[at]), at)
        if len(found) == _SHOWN_ROWS:
            break
    return list(found.values())


def _first(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in dict.fromkeys(names) if name)[:_SHOWN_WORDS]
