"""What a neuron stands for: labels, each with its evidence and its significance.

Four kinds of evidence, each asked for by itself:

    words       of the rendered words it answers to most, more carry a word than chance has it
    captions    the same of the labels of its strongest images
    images      soft-WPMI: what CLIP itself sees in these (Oikarinen and Weng 2023, "CLIP-Dissect")
    basis       its basis row points at the text as no random direction does

One word in several fonts and one thing drawn by several vendors count once (`decompose.renderings`): a label needs
several things that carry it. Every p is corrected for all the labels looked at and for the kinds of evidence; q holds
over the neurons.

    T (t, e) text embeddings    P (m, t) zero-shot probabilities    u neurons (or directions), k strongest of m items
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from scipy.special import softmax
from scipy.stats import norm
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from atlas.clip import Clip
from atlas.errors import Refused
from atlas.store import Store
from decompose.attribution import Templates, check_model, concept_embeddings
from decompose.directions import Directions
from decompose.neighbours import BLOCK
from decompose.renderings import Items, items_of, said, strongest_items
from decompose.significance import beyond, enrichment, selected_q

NONE = "none"
LABELS = 3  # of a neuron, at most
STRONGEST = 24  # items of a kind that a neuron is judged by
CONCEPTS = 5000  # labels looked for, the most frequent of a Store's
DRAWS, DRAWS_A_BLOCK = 10_000, 500
POOL = 2**24  # probabilities of the items that the null draws from: 64 MB
RANK_WEIGHTS = (0.998, 0.97)  # of soft-WPMI: how sure the first and the last of the strongest items are to count
FLOOR = 1e-7
_WORD = re.compile(r"[^\W\d_]{2,}")


@dataclass(frozen=True)
class Evidence:
    """For every neuron and label: standard deviations above chance, and p, corrected for the labels looked at."""

    score: Float[np.ndarray, "u t"]
    p: Float[np.ndarray, "u t"]


def label_neurons(
    store: Store,
    clip: Clip,
    vocabulary: Sequence[str] | None = None,
    templates: Templates = None,
    directions: Directions | None = None,
    rate: float = 0.05,
    draws: int = DRAWS,
    seed: int = 0,
) -> pa.Table:
    """Up to three labels of every neuron or direction: neuron, label, evidence, p, q; "none" where q is above `rate`.

    Candidates are `vocabulary`, or the labels and words that the Store's rows carry. p is of the strongest evidence
    (named in `evidence`, with all other that is significant by itself), times the kinds of evidence; the least that
    images and basis can reach is that many over `draws`. q is Benjamini and Bogomolov's: Benjamini and Hochberg's over
    neurons, and further labels of the neurons so selected at the same rate. Labels of one neuron share no word.

    Raises Refused for a Store of another model, and where there are no candidates or no statistics to judge by.
    """
    check_model(store, clip)
    check_rate(rate)
    concepts = candidates(store, vocabulary)
    T = concept_embeddings(clip, concepts, templates)
    random = np.random.default_rng(seed)
    found: dict[str, Evidence] = {}
    for kind, name in (("word", "words"), ("image", "captions")):
        if kind in store.counts:
            items = items_of(store, kind)
            top = strongest_items(store, items, STRONGEST, directions)
            found[name] = carried(items, top, concepts)
            if kind == "image":
                scale = float(clip.model.logit_scale.exp())
                found["images"] = shown(store, items, top, T, scale, draws, random)
    W = clip.basis() if directions is None else directions.basis(clip.basis())
    found["basis"] = pointed(W, T, draws, random)
    return _table(concepts, found, rate)


def check_rate(rate: float | int) -> None:
    """Refused unless it is a rate of false discoveries: more than 0, less than 1."""
    if not 0 < rate < 1:
        raise Refused(f"the false discovery rate is {rate}; it must be more than 0 and less than 1")


def candidates(store: Store, vocabulary: Sequence[str] | None) -> tuple[str, ...]:
    """The labels to choose from: those given, or the Store's own. Refused if there are none."""
    concepts = concepts_of(store) if vocabulary is None else tuple(dict.fromkeys(vocabulary))
    if not concepts:
        raise Refused(f"no labels to choose from: the rows of {store.path} carry none; give a vocabulary")
    return concepts


def concepts_of(store: Store) -> tuple[str, ...]:
    """What the Store's images and words are labelled with, and the single words of it: the most frequent ones."""
    counts: Counter[str] = Counter()
    for kind in ("image", "word"):
        for phrase, rows in _phrases(store, kind).items():
            counts.update(dict.fromkeys(concepts_in(phrase), rows))
    return tuple(sorted(counts, key=lambda concept: (-counts[concept], concept))[:CONCEPTS])


def concepts_in(phrase: str) -> tuple[str, ...]:
    """A label as a whole, if it is short, and its words, but for "of" and its like."""
    words = [word for word in _WORD.findall(phrase.casefold()) if word not in ENGLISH_STOP_WORDS]
    whole = " ".join(phrase.casefold().split())
    return tuple(dict.fromkeys([whole] * (0 < len(whole) <= 40) + words))


# -- evidence ----------------------------------------------------------------------------------------------------------


def carried(items: Items, top: Int[np.ndarray, "u k"], concepts: Sequence[str]) -> Evidence:
    """Labels of the strongest items against those of all: the permutation null in closed form.

    A label of one item alone says nothing, for some item is always the strongest; it is not looked at (Tarone 1990, "A
    modified Bonferroni method for discrete data").
    """
    carries = _incidence(items.phrases, concepts)
    totals = carries.T @ np.bincount(items.phrase, minlength=len(items.phrases))
    u, k = top.shape
    at = items.phrase[top.ravel()], np.arange(0, u * k + 1, k)
    product: Any = csr_array((np.ones(u * k, np.int64), *at), (u, len(items.phrases))) @ carries
    seen = product.tocoo()
    score, corrected = np.zeros(seen.shape, np.float32), np.ones(seen.shape, np.float32)
    several = totals[seen.col] > 1
    row, column = seen.row[several], seen.col[several]
    p = enrichment(seen.data[several], totals[column], len(items), k)
    score[row, column] = norm.isf(np.clip(p, 1e-300, 0.5))
    corrected[row, column] = np.minimum(p * (totals > 1).sum(), 1)
    return Evidence(score, corrected)


def shown(
    store: Store,
    items: Items,
    top: Int[np.ndarray, "u k"],
    T: Float[np.ndarray, "t e"],
    scale: float,
    draws: int,
    random: np.random.Generator,
) -> Evidence:
    """Soft-WPMI's log p(D|t) of the strongest items against that of random ones.

    log p(t), which CLIP-Dissect takes off, is the same for all neurons and goes with the null's mean. Cosines are
    centred over the Store's images, so that a text that is near to every image wins nothing; `scale` is the model's
    own inverse temperature. Where items are many, the null draws from a sample of them.
    """
    mean = mean_embedding(store)
    weights = np.linspace(*RANK_WEIGHTS, top.shape[1], dtype=np.float32)[:, None]

    def probability(some: np.ndarray) -> np.ndarray:
        return softmax(scale * ((items.embeddings(store, some) - mean) @ T.T), axis=-1)

    def probabilities(block: np.ndarray) -> np.ndarray:
        some, place = np.unique(block, return_inverse=True)
        return probability(some)[place.reshape(block.shape)]

    def weigh(P: Float[np.ndarray, "b k t"]) -> Float[np.ndarray, "b t"]:
        return np.log1p(weights * (P - 1) + np.float32(FLOOR)).sum(1)

    at_once = max(1, POOL // (top.shape[1] * len(T)))
    blocks = (top[i : i + at_once] for i in range(0, len(top), at_once))
    scores = np.concatenate([weigh(probabilities(block)) for block in blocks])
    pool = np.sort(random.permutation(len(items))[: max(POOL // len(T), 1)])
    P = probability(pool)

    def null() -> Iterator[np.ndarray]:
        for size in in_blocks(draws):
            picks = random.integers(0, len(pool), (size, top.shape[1]))
            yield np.concatenate([weigh(P[picks[i : i + at_once]]) for i in range(0, size, at_once)])

    return Evidence(*(each.astype(np.float32) for each in beyond(scores, null())))


def pointed(
    W: Float[np.ndarray, "u e"], T: Float[np.ndarray, "t e"], draws: int, random: np.random.Generator
) -> Evidence:
    """Cosine of basis rows with texts, of which what all texts share is taken off, against random directions.

    The directions are normal with the second moments of the basis rows: where all neurons point, pointing says nothing.
    """
    rows = unit_rows(W)
    values, vectors = np.linalg.eigh((rows.T @ rows).astype(np.float64) / len(rows))
    root = (vectors * np.sqrt(np.maximum(values, 0))).astype(np.float32)
    T = (T - T.mean(0)).T

    def null() -> Iterator[np.ndarray]:
        for size in in_blocks(draws):
            yield unit_rows(random.standard_normal((size, len(root)), dtype=np.float32) @ root.T) @ T

    return Evidence(*(each.astype(np.float32) for each in beyond(rows @ T, null())))


def mean_embedding(store: Store) -> Float[np.ndarray, " e"]:
    """Mean embedding of the Store's images, read a block at a time."""
    E = store.array("embedding", "image")
    total = np.zeros(E.shape[1])
    for start in range(0, len(E), BLOCK):
        total += E[start : start + BLOCK].sum(0, dtype=np.float64)
    return (total / len(E)).astype(np.float32)


def in_blocks(draws: int) -> list[int]:
    """Sizes of the blocks that draws are made in; the first gives the null's moments."""
    return [min(DRAWS_A_BLOCK, draws - start) for start in range(0, draws, DRAWS_A_BLOCK)]


def unit_rows(rows: Float[np.ndarray, "*shape e"]) -> Float[np.ndarray, "*shape e"]:
    """Rows scaled to unit norm; zeros stay."""
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)


def _phrases(store: Store, kind: str) -> Counter[str]:
    """What the rows of a kind are labelled with (their caption, where they have no label), and how many of each."""
    counts: Counter[str] = Counter()
    for shard in store.of_kind(kind):
        counts.update(said(shard.table(["label", "caption"])))
    return counts


def _incidence(phrases: Sequence[str], concepts: Sequence[str]) -> csr_array:
    """Which concepts each phrase carries: (phrases, t), 0 and 1."""
    number = {concept.casefold(): i for i, concept in enumerate(concepts)}
    pairs = [(i, number[c]) for i, phrase in enumerate(phrases) for c in concepts_in(phrase) if c in number]
    rows, columns = np.array(pairs, np.int64).reshape(-1, 2).T
    return csr_array((np.ones(len(rows), np.int64), (rows, columns)), (len(phrases), len(concepts)))


# -- from evidence to labels -------------------------------------------------------------------------------------------


def _table(concepts: Sequence[str], found: dict[str, Evidence], rate: float) -> pa.Table:
    p = np.minimum.reduce([each.p for each in found.values()]) * len(found)
    strength = np.sum([each.score for each in found.values()], axis=0)
    order = np.lexsort((-strength, p), axis=1)[:, : 10 * LABELS]
    chosen = [_different(row, concepts) for row in order]
    best = np.ones((len(p), LABELS))
    for neuron, kept in enumerate(chosen):
        best[neuron, : len(kept)] = np.minimum(p[neuron, kept], 1)
    q = selected_q(best)
    rows = []
    for neuron, kept in enumerate(chosen):
        for rank, concept in enumerate(kept):
            claim = {"neuron": neuron, "p": best[neuron, rank], "q": q[neuron, rank]}
            if claim["q"] <= rate:
                named = [name for name, each in found.items() if each.p[neuron, concept] * len(found) <= rate]
                rows.append({**claim, "label": concepts[concept], "evidence": ", ".join(named)})
            elif rank == 0:
                rows.append({**claim, "label": NONE, "evidence": ""})
    kinds = {"neuron": pa.int64(), "label": pa.string(), "evidence": pa.string(), "p": pa.float64(), "q": pa.float64()}
    return pa.Table.from_pylist(rows, pa.schema(list(kinds.items())))


def _different(order: Sequence[int] | np.ndarray, concepts: Sequence[str]) -> list[int]:
    """The first labels, best first, that share no word: "crying face" after "crying" says nothing new."""
    kept, used = [], set()
    for concept in order:
        words = set(concepts_in(concepts[concept])) or {concepts[concept]}
        if not words & used:
            kept.append(int(concept))
            used |= words
        if len(kept) == LABELS:
            break
    return kept
