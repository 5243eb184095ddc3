"""Worlds whose truth is known: images of concepts, neurons planted among them, and worlds where a null holds.

Images come in rows: every concept is drawn several times by each of two vendors. Neurons answer to concepts as their
kind says (`KINDS`), and their basis rows point at these concepts. A world is plain arrays, small, and made by a seed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import binomtest, false_discovery_control

from decompose.enrichment import CaptionNull
from decompose.evidence import (
    Evidence,
    ImageNull,
    basis_evidence,
    caption_evidence,
    direction_null,
    image_evidence,
)
from decompose.facets import split_activations
from decompose.neighbours import match_neurons
from decompose.ranking import rank_neurons
from decompose.renderings import strongest_things, tell_things
from decompose.responses import Responses

CONCEPTS, EACH, DIM, DRAWS = 60, 8, 48, 1000
KINDS = ("mono", "or", "and", "groups", "superposed", "vendor", "dead", "noise")
EACH_KIND = 4


@dataclass(frozen=True)
class World:
    """Images (rows) of concepts by vendors, the texts to choose from, and neurons with what each stands for."""

    A: np.ndarray
    E: np.ndarray
    T: np.ndarray
    W: np.ndarray
    texts: tuple[str, ...]
    captions: tuple[str, ...]
    groups: tuple[str, ...]
    kinds: tuple[str, ...]
    means: tuple[frozenset[int], ...]  # concepts of each neuron

    def evidence(self, draws: int = DRAWS) -> dict[str, Evidence]:
        """Every kind of evidence about every neuron."""
        answers, things = Responses(self.A), tell_things(self.captions, self.groups)
        top = strongest_things(answers, things, 24)
        null = ImageNull.of(self.E, self.T, draws)
        marked = CaptionNull.of(things, self.texts, 24, answers, draws)
        return {
            "captions": caption_evidence(answers, things, top, self.texts, marked),
            "images": image_evidence(answers, self.E, self.T, 40.0, null),
            "basis": basis_evidence(self.W, self.T, direction_null(self.W, self.T, draws)),
        }

    def of_kind(self, *kinds: str) -> np.ndarray:
        """The neurons of these kinds."""
        return np.flatnonzero(np.isin(self.kinds, kinds))


def unit(X: np.ndarray) -> np.ndarray:
    return (X / np.linalg.norm(X, axis=-1, keepdims=True)).astype(np.float32)


def planted(seed: int) -> World:
    """Four neurons of each kind; of a layer of 200 others, 100 write anything and show in the basis alone."""
    random = np.random.default_rng(seed)
    C = unit(random.normal(size=(CONCEPTS, DIM)) * np.linspace(2, 0.5, DIM))
    shows = np.tile(np.repeat(np.arange(CONCEPTS), EACH), 2)
    vendor = np.repeat([0, 1], CONCEPTS * EACH)
    second = np.where(random.random(len(shows)) < 0.15, random.integers(0, CONCEPTS, len(shows)), shows)
    style, gap = random.normal(size=(2, DIM)) / 12, random.normal(size=DIM) / 6
    E = unit(
        C[shows]
        + 0.7 * C[second] * (second != shows)[:, None]
        + style[vendor]
        + random.normal(size=(len(shows), DIM)) / 12
    )
    kinds = tuple(kind for kind in KINDS for _ in range(EACH_KIND)) + ("noise",) * 24
    A, W, means = random.gamma(2, size=(len(shows), len(kinds))) / 4, random.normal(size=(len(kinds), DIM)), []
    W *= np.linspace(2, 0.5, DIM)
    for neuron, kind in enumerate(kinds):
        picked = random.permutation(CONCEPTS)[
            : {"mono": 1, "or": 2, "and": 2, "groups": 4, "superposed": 2}.get(kind, 0)
        ]
        carries = [((shows == c) | (second == c)) for c in picked]
        if kind == "and":
            at = random.permutation(len(shows))[:12]  # rows that show both
            E[at], carries = (
                unit(C[picked].sum(0) + random.normal(size=(12, DIM)) / 12),
                [np.isin(np.arange(len(shows)), at)],
            )
        size = {"superposed": (2.0, 1.2)}.get(kind, (2.5,) * 4)
        for rows, gain in zip(carries, size, strict=False):
            A[:, neuron] += gain * rows * random.uniform(0.8, 1.2, len(shows))
        if kind == "vendor":
            A[:, neuron] += 2.5 * (vendor == neuron % 2)
        if kind == "dead":
            A[:, neuron], W[neuron] = 0, 0
        if len(picked):
            W[neuron] = C[picked].sum(0) * len(picked) ** -0.5 + random.normal(size=DIM) / 20
        means.append(frozenset(picked.tolist()))
    captions = tuple(f"thing{c}" for c in shows)
    texts = tuple(f"thing{c}" for c in range(CONCEPTS))
    T = unit(C + gap + random.normal(size=C.shape) / 20)
    return World(
        A.astype(np.float32),
        E,
        T,
        W.astype(np.float32),
        texts,
        captions,
        tuple(f"vendor {v}" for v in vendor),
        kinds,
        tuple(means),
    )


def rotated(world: World, random: np.random.Generator) -> World:
    """Texts turned by one random rotation."""
    Q = np.linalg.qr(random.normal(size=(DIM, DIM)))[0]
    return replace(world, T=unit(world.T @ Q))


def noise_texts(world: World, random: np.random.Generator) -> World:
    """Texts of noise."""
    return replace(world, T=unit(random.normal(size=world.T.shape)))


def shuffled(world: World, random: np.random.Generator) -> World:
    """Captions shuffled over the rows."""
    return replace(world, captions=tuple(random.permutation(list(world.captions)).tolist()))


def mixed(world: World, random: np.random.Generator) -> World:
    """Every neuron is a random mixture of all: it responds to things that are alike, and stands for none of them."""
    scale = np.where(world.A.std(0) > 0, world.A.std(0), 1)
    return replace(world, A=(world.A / scale @ random.normal(size=(len(scale),) * 2)).astype(np.float32))


def as_they_are(world: World, random: np.random.Generator) -> World:
    return world


# Every null: its name, how it is made, the kinds of neurons it holds for, and the evidence it holds for.
Change = Callable[[World, np.random.Generator], World]
ANSWERING = ("mono", "or", "and", "groups", "superposed")
NULLS: tuple[tuple[str, Change, tuple[str, ...], tuple[str, ...]], ...] = (
    ("noise neurons", as_they_are, ("noise",), ("captions", "images", "basis")),
    ("vendor neurons", as_they_are, ("vendor",), ("captions",)),
    ("texts rotated", rotated, ANSWERING, ("images", "basis")),
    ("texts of noise", noise_texts, ANSWERING, ("images", "basis")),
    ("captions shuffled", shuffled, ANSWERING, ("captions",)),
    ("neurons mixed", mixed, KINDS, ("captions",)),
)


@dataclass
class Share:
    """How many of the neurons had p and q up to 0.05, over worlds."""

    neurons: int = 0
    p: int = 0
    q: int = 0
    worlds: int = 0

    def add(self, p: np.ndarray) -> None:
        """The neurons of one more world."""
        self.worlds += 1
        self.neurons += len(p)
        self.p += int((p <= 0.05).sum())
        self.q += int((false_discovery_control(p) <= 0.05).sum())

    def interval(self, count: int) -> str:
        """A share with its 95 % interval (exact binomial; neurons of one world are taken as independent)."""
        low, high = binomtest(count, max(self.neurons, 1)).proportion_ci()
        return f"{count / max(self.neurons, 1):.3f} ({low:.3f} to {high:.3f})"


def null_shares(worlds: int, first: int = 0) -> dict[tuple[str, str], Share]:
    """For every null and every kind of evidence that it holds for, the share of p and of q up to 0.05."""
    found: dict[tuple[str, str], Share] = {}
    for seed in range(first, first + worlds):
        world, random = planted(seed), np.random.default_rng([seed, 1])
        made: dict[Change, dict[str, Evidence]] = {}
        for name, change, kinds, evidence in NULLS:
            here = made.setdefault(change, {}) or made[change]
            if not here:
                made[change] = here = change(world, random).evidence()
            for kind in evidence:
                found.setdefault((name, kind), Share()).add(here[kind].least[world.of_kind(*kinds)])
    return found


def other_shares(worlds: int, first: int = 0) -> dict[tuple[str, str], Share]:
    """The same of facets, of searches for texts that no neuron stands for, and of neurons of two models."""
    found: dict[tuple[str, str], Share] = {}
    for seed in range(first, first + worlds):
        world, random = planted(seed), np.random.default_rng([seed, 2])
        for name, change, kinds, _ in NULLS[:1] + NULLS[2:4]:
            here = change(world, random)
            facets = split_activations(here.A, here.E, here.texts, here.T, draws=DRAWS)
            asked = np.isin(facets["neuron"].to_numpy(), here.of_kind(*kinds))
            found.setdefault((name, "facets"), Share()).add(facets["p"].to_numpy()[asked])
        X = unit(random.normal(size=(201, DIM)) * np.linspace(2, 0.5, DIM))
        for by in ("basis", "response", "both"):
            ranked = rank_neurons(X[0], X[1:], world.W, world.A, world.E, len(world.W), by, 40.0)
            answering = ~np.isin(ranked["neuron"].to_numpy(), world.of_kind("dead"))
            found.setdefault(("any text", f"search, {by}"), Share()).add(ranked["p"].to_numpy()[answering])
        pairs = match_neurons(world.A, random.permutation(world.A))
        found.setdefault(("rows shuffled", "universality"), Share()).add(pairs["p"].to_numpy())
    return found
