"""Enrichment of labels among the things that activate a neuron most, and the nulls that it is judged by.

A label counts by the least hypergeometric p over the strongest 1, 2, ... k things, so that it matters how far up its
things come (Eden et al. 2007, "Discovering motifs in ranked lists of DNA sequences").

    u neurons, or directions, of a layer of v neurons    t labels    k strongest of m things
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from atlas.analysis.significance import enrichment_p_values, p_values, tail_p_values
from atlas.model.directions import Directions
from decompose.defaults import NULL_DRAWS
from decompose.renderings import Things, strongest_things
from decompose.responses import Responses

_DRAWS_A_BLOCK = 500
_DIRECTIONS = 2000  # random directions whose strongest things are looked at
_LEAST_WIDTH = 32  # neurons of which random directions are drawn, at least
_LIKENED, _ALIKE = 1000, 80  # random sets whose likeness is measured; things more alike than this percentile are alike
_WORD = re.compile(r"[^\W\d_]{2,}")


def concepts_in(phrase: str) -> tuple[str, ...]:
    """The concepts in a label: the whole label, if it is short, and its single words without stop words ("of")."""
    words = [word for word in _WORD.findall(phrase.casefold()) if word not in ENGLISH_STOP_WORDS]
    whole = " ".join(phrase.casefold().split())
    return tuple(dict.fromkeys([whole] * (0 < len(whole) <= 40) + words))


@dataclass(frozen=True)
class LabelledThings:
    """Which things carry which labels."""

    things: Things
    by_phrase: csr_array  # (phrases, t), 0 and 1
    totals: Int[np.ndarray, " t"]  # how many things carry each label

    @classmethod
    def of(cls, things: Things, concepts: Sequence[str]) -> "LabelledThings":
        """A label is carried by the things in whose name it is, as a whole or as a word (`concepts_in`)."""
        number = {concept.casefold(): i for i, concept in enumerate(concepts)}
        named = enumerate(map(concepts_in, things.phrases))
        pairs = [(i, number[concept]) for i, found in named for concept in found if concept in number]
        rows, columns = np.array(pairs, np.int64).reshape(-1, 2).T
        carries = csr_array((np.ones(len(rows), np.int64), (rows, columns)), (len(things.phrases), len(concepts)))
        return cls(things, carries, carries.T @ np.bincount(things.phrase, minlength=len(things.phrases)))

    def enrichment(self, sets: Int[np.ndarray, "u k"]) -> Float[np.ndarray, "u t"]:
        """The least hypergeometric p of each label over the first 1, 2, ... k things of each set.

        It is 1 for a label that only one thing carries, or that no thing of the set does: such a label can never be
        significant, so it is not tested (Tarone 1990, "A modified Bonferroni method for discrete data").
        """
        k, least = sets.shape[1], np.ones((len(sets), len(self.totals)))
        there = self.by_phrase[self.things.phrase[sets.ravel()]].tocoo()
        place, label = there.row, there.col
        tested = self.totals[label] > 1
        order = np.lexsort((place[tested], label[tested], place[tested] // k))
        (row, rank), label = np.divmod(place[tested][order], k), label[tested][order]
        new = np.append(True, np.diff(row * len(self.totals) + label) != 0)[: len(row)]
        number = np.arange(len(row))
        count = number - np.maximum.accumulate(np.where(new, number, 0)) + 1  # carriers up to this place of the set
        p = enrichment_p_values(count, self.totals[label], len(self.things), rank + 1)
        np.minimum.at(least, (row, label), p)
        return least

    def label_p_values(self, least: Float[np.ndarray, "u t"], k: int) -> Float[np.ndarray, "u t"]:
        """p-values of labels by themselves. Each carrier among the k is one more try (Eden et al. 2007)."""
        return np.minimum(least * np.clip(self.totals, 1, k), 1)


@dataclass(frozen=True)
class CaptionNull:
    """Null distributions for the enrichment of labels.

    Random sets of things say what shuffled labels give. Random directions say what likeness gives: drawings of one name
    look alike, so that even the neurons of an untrained network respond to several of them. The larger p counts for a
    neuron whose strongest things are more alike than random ones; for others, that of random sets.
    """

    sets: Float[np.ndarray, " d"]  # -log of the least p of any label, of each random set, in ascending order
    directions: "AlikeNull | None" = None

    @classmethod
    def of(
        cls, things: Things, concepts: Sequence[str], k: int, answers: Responses, draws: int = NULL_DRAWS, seed: int = 0
    ) -> "CaptionNull":
        """The null of k strongest things; of a layer of fewer than 32 live neurons, no directions are drawn."""
        random, named, k = np.random.default_rng(seed), LabelledThings.of(things, concepts), min(k, len(things))
        drawn = [_random_sets(random, n, len(things), k) for n in draw_blocks(draws)]
        sets = np.sort(np.concatenate([_surprise(named.enrichment(each)) for each in drawn]))
        whole = Responses(answers.array)  # `answers` may be of some neurons, or of directions
        deviation = whole.deviation()
        if np.count_nonzero(deviation) < _LEAST_WIDTH:
            return cls(sets)
        read = random.normal(size=(min(draws, _DIRECTIONS), len(deviation))).astype(np.float32) * _inverse(deviation)
        some = Directions(read, read, ("",) * len(read), np.zeros(len(read), np.float32))
        top = strongest_things(replace(whole, directions=some), things, k)
        profiles = _profiles(whole, things, np.concatenate(drawn)[:_LIKENED]) * _inverse(deviation)
        usual = profiles.mean(0)
        alike = float(np.percentile(((profiles - usual) ** 2).sum(1), _ALIKE))
        return cls(sets, AlikeNull(np.sort(_surprise(named.enrichment(top))), deviation, usual, alike))

    def tested(
        self, answers: Responses, named: LabelledThings, top: Int[np.ndarray, "u k"]
    ) -> tuple[Float[np.ndarray, " u"], Float[np.ndarray, "u t"]]:
        """p-values of neurons, and of their labels by themselves, from the strongest things of each neuron."""
        least = named.enrichment(top)
        surprise, single = _surprise(least), named.label_p_values(least, top.shape[1])
        bounded = np.minimum(single.min(1) * max((named.totals > 1).sum(), 1), 1)
        p = np.minimum(p_values(surprise, self.sets), bounded)
        if self.directions is None:
            return p, single
        strict = np.maximum(p, tail_p_values(surprise, self.directions.sets))
        return np.where(self.directions.alike(answers, named.things, top), strict, p), single


@dataclass(frozen=True)
class AlikeNull:
    """The strongest things of random directions, in which every neuron counts by its deviation.

    Things are alike if the mean of their activation profiles is far from usual: its squared length over the other
    neurons of the layer, each in its own deviations.
    """

    sets: Float[np.ndarray, " r"]  # -log of the least p of any label, of each direction, in ascending order
    deviation: Float[np.ndarray, " v"]  # of every neuron of the layer
    usual: Float[np.ndarray, " v"]  # mean profile of random things
    least: float  # squared length from which things are alike

    def alike(self, answers: Responses, things: Things, top: Int[np.ndarray, "u k"]) -> Bool[np.ndarray, " u"]:
        """Whether the strongest things of each neuron are more alike than random ones."""
        profiles = _profiles(Responses(answers.array), things, top) * _inverse(self.deviation) - self.usual
        if answers.directions is None:
            own = profiles[np.arange(len(top)), np.arange(profiles.shape[1])[answers.some]]
        else:
            read = answers.directions[answers.some].read * self.deviation
            own = (profiles * read).sum(1) / np.maximum(np.linalg.norm(read, axis=1), 1e-12)
        return (profiles**2).sum(1) - own**2 > self.least


def draw_blocks(draws: int) -> list[int]:
    """Sizes of the blocks that the null is drawn in; the first block gives the null's mean and deviation."""
    return [min(_DRAWS_A_BLOCK, draws - start) for start in range(0, draws, _DRAWS_A_BLOCK)]


def _random_sets(random: np.random.Generator, count: int, things: int, k: int) -> Int[np.ndarray, "n k"]:
    """`count` sets of k different things, each in random order."""
    picked = random.random((count, things), np.float32).argpartition(k - 1, axis=1)[:, :k]
    return random.permuted(picked, axis=1)


def _profiles(whole: Responses, things: Things, sets: Int[np.ndarray, "u k"]) -> Float[np.ndarray, "u v"]:
    """Mean activation of every neuron of the layer over the things of each set."""
    (u, k), weights = sets.shape, things.weights
    member = csr_array((np.full(u * k, 1 / k), (np.repeat(np.arange(u), k), sets.ravel())), (u, len(things)))
    total = np.zeros((u, whole.width))
    for rows, A in whole:
        total += member[:, things.of[rows]] @ (A * weights[rows, None])
    return total


def _inverse(deviation: Float[np.ndarray, " v"]) -> Float[np.ndarray, " v"]:
    return np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 0)


def _surprise(p: Float[np.ndarray, "u t"]) -> Float[np.ndarray, " u"]:
    """-log of the least p of each row."""
    return -np.log(np.maximum(p.min(1), 1e-300))
