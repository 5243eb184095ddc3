"""The sparse probe of Goh et al. 2021 (section "ImageNet"): classes from a few neurons each, after Radford et al.

One L1 logistic regression a class against all others, on activations divided by their standard deviation, with the
smallest penalty that leaves at most k neurons. Accuracy is measured on images that were held out; the same is done with
classes shuffled over the images that the probe is fitted on, and with an untrained network.

    A (n, u) mean activations    c classes
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit

from atlas.errors import Refused
from atlas.model.clip import Clip
from atlas.model.untrained import untrained_clip
from atlas.store.originals import original_pictures
from atlas.store.store import Store
from decompose.attribution import check_model
from decompose.coding import solve_sparse
from decompose.studies.classifiers import LabelledRows, labelled_rows, read_pixels
from decompose.studies.rates import Rate

MOST_FITTED = 2000  # images that a probe is fitted on
_MOST_UNTRAINED = 400  # images that the untrained network is fitted on, and as many that it is tested on
_NEWTON_STEPS = 30


@dataclass(frozen=True)
class SparseProbe:
    """A linear classifier with few neurons a class. Weights are of activations in standard deviations."""

    weights: Float[np.ndarray, "c u"]
    bias: Float[np.ndarray, " c"]
    deviation: Float[np.ndarray, " u"]

    def logits(self, A: Float[np.ndarray, "n u"]) -> Float[np.ndarray, "n c"]:
        """Log odds of every class."""
        return (A / self.deviation) @ self.weights.T + self.bias

    def hits(self, A: Float[np.ndarray, "n u"], classes: Int[np.ndarray, " n"], k: int = 1) -> np.ndarray:
        """Whether the true class is among the k with the largest log odds."""
        return (np.argsort(-self.logits(A), axis=1, kind="stable")[:, :k] == classes[:, None]).any(1)


def fit_sparse_probe(
    A: Float[np.ndarray, "n u"], classes: Int[np.ndarray, " n"], count: int, k: int = 3
) -> SparseProbe:
    """Fit the probe on activations and their classes, 0 to count - 1. Raises Refused where a class has no image."""
    there = np.bincount(classes, minlength=count)
    if count < 2 or (there == 0).any():
        raise Refused(f"a probe needs two classes or more with an image each, got {int((there > 0).sum())}")
    deviation = A.std(0)
    deviation[deviation == 0] = np.inf  # a constant neuron tells nothing
    X = (A / deviation).astype(np.float64)
    T = (classes[None] == np.arange(count)[:, None]).astype(np.float64)
    Z = solve_sparse(T, X.T, "logistic", k=k)
    return SparseProbe(Z, _intercepts(Z @ X.T, T), deviation)


def _intercepts(y: Float[np.ndarray, "c n"], T: Float[np.ndarray, "c n"]) -> Float[np.ndarray, " c"]:
    """The intercepts with which the mean probability of each class is its share: the optimum of the logistic loss."""
    low, high = -np.abs(y).max(1) - 30, np.abs(y).max(1) + 30
    for _ in range(2 * _NEWTON_STEPS):
        middle = (low + high) / 2
        more = expit(y + middle[:, None]).mean(1) < T.mean(1)
        low, high = np.where(more, middle, low), np.where(more, high, middle)
    return (low + high) / 2


@dataclass(frozen=True)
class ProbeReport:
    """A probe of a Store's classes, and its accuracy on held-out images beside what chance gives."""

    model: str
    by: str
    classes: tuple[str, ...]
    probe: SparseProbe
    fitted: int
    held: int
    top1: Rate
    top5: Rate
    shuffled: tuple[Rate, Rate]  # top-1 and top-5 with classes shuffled over the images fitted on
    untrained: tuple[Rate, Rate, int]  # the same of an untrained network, and on how many images it was fitted
    right: Int[np.ndarray, " c"]  # held-out images of each class whose top class is right
    of: Int[np.ndarray, " c"]

    @property
    def neurons_a_class(self) -> float:
        """The mean number of neurons that a class uses."""
        return float((self.probe.weights != 0).sum(1).mean())

    def used(self, c: int) -> list[tuple[int, float]]:
        """The neurons of a class with their weights, the largest first."""
        row = self.probe.weights[c]
        return [(int(i), float(row[i])) for i in np.argsort(-np.abs(row), kind="stable") if row[i]]


def report_probe(
    store: Store,
    clip: Clip,
    by: str = "label",
    classes: Sequence[str] = (),
    count: int = 50,
    k: int = 3,
    seed: int = 0,
) -> ProbeReport:
    """Fit the probe on half of the images of each class and measure it on the others."""
    check_model(store, clip)
    rows = labelled_rows(store, by, classes, count, images=MOST_FITTED, seed=seed)
    rng = np.random.default_rng(seed)
    rows = fewer_rows(rows, MOST_FITTED, rng)
    A = np.asarray(store.array("mean", "image"), np.float32)
    at = store.positions("image")
    fit, held = (A[np.searchsorted(at, each)] for each in (rows.fit, rows.held))
    named = len(rows.classes)
    probe = fit_sparse_probe(fit, rows.fit_class, named, k)
    hits = probe.hits(held, rows.held_class)
    null = fit_sparse_probe(fit, rng.permutation(rows.fit_class), named, k)
    return ProbeReport(
        clip.name,
        by,
        rows.classes,
        probe,
        len(fit),
        len(held),
        Rate.counted(hits),
        Rate.counted(probe.hits(held, rows.held_class, 5)),
        both_rates(null, held, rows.held_class),
        untrained_rates(store, clip, fewer_rows(rows, _MOST_UNTRAINED, rng), k, seed),
        np.bincount(rows.held_class[hits], minlength=named),
        np.bincount(rows.held_class, minlength=named),
    )


def both_rates(probe: SparseProbe, A: Float[np.ndarray, "n u"], classes: Int[np.ndarray, " n"]) -> tuple[Rate, Rate]:
    """Top-1 and top-5 accuracy."""
    return Rate.counted(probe.hits(A, classes)), Rate.counted(probe.hits(A, classes, 5))


def untrained_rates(store: Store, clip: Clip, rows: LabelledRows, k: int, seed: int = 0) -> tuple[Rate, Rate, int]:
    """Top-1 and top-5 of a probe of an untrained network on the same images, and how many it was fitted on."""
    other = untrained_clip(clip, seed)
    pixels = original_pictures(store, clip, np.concatenate([rows.fit, rows.held]))
    A = read_pixels(other, pixels)[1]
    fit, held = A[: len(rows.fit)], A[len(rows.fit) :]
    probe = fit_sparse_probe(fit, rows.fit_class, len(rows.classes), k)
    return *both_rates(probe, held, rows.held_class), len(fit)


def fewer_rows(rows: LabelledRows, most: int, rng: np.random.Generator) -> LabelledRows:
    """At most so many rows to fit on, as evenly over the classes as they come, and as many held out."""
    kept = rng.permutation(len(rows.fit))
    size = np.bincount(rows.fit_class, minlength=len(rows.classes))
    grouped = kept[np.argsort(rows.fit_class[kept], kind="stable")]
    place = np.arange(len(grouped)) - (np.cumsum(size) - size)[rows.fit_class[grouped]]
    fit = grouped[np.argsort(place, kind="stable")][: max(most, len(rows.classes))]
    held = rng.permutation(len(rows.held))[:most]
    return LabelledRows(rows.classes, rows.fit[fit], rows.fit_class[fit], rows.held[held], rows.held_class[held])
