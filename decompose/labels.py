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

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float

from atlas.analysis.naming import NONE
from atlas.analysis.significance import selected_q_values
from atlas.errors import Refused
from atlas.model.clip import Clip
from atlas.model.directions import Directions
from atlas.store.store import Store
from atlas.vectors import Rows
from decompose.attribution import LOGIT_SCALE, Templates, check_model, concept_embeddings
from decompose.evidence import Evidence, basis_evidence, caption_evidence, concepts_in, image_evidence
from decompose.renderings import display_texts, strongest_things, tell_things, things_of, without_tone
from decompose.responses import Responses, check_rows

LABELS_A_NEURON = 3  # of a neuron, at most
STRONGEST_THINGS = 24  # items of a kind that a neuron is judged by
_MOST_CONCEPTS = 5000  # labels looked for, the most frequent of a Store's
NULL_DRAWS = 10_000  # of nulls that are not in closed form


def label_neurons(
    store: Store,
    clip: Clip,
    vocabulary: Sequence[str] | None = None,
    templates: Templates = None,
    directions: Directions | None = None,
    rate: float = 0.05,
    draws: int = NULL_DRAWS,
    seed: int = 0,
) -> pa.Table:
    """Up to three labels of every neuron or direction: neuron, label, evidence, p, q; "none" where q is above `rate`.

    Candidates are `vocabulary`, or the labels and words that the Store's rows carry. p is of the strongest evidence
    (named in `evidence`, with all other that is significant by itself), times the kinds of evidence; the least that
    images and basis can reach is that many over `draws`. q is Benjamini and Bogomolov's: Benjamini and Hochberg's over
    neurons, by the least p of each, and labels of the neurons so selected at the same rate. Of all that are kept those
    come first that all kinds of evidence bear out most. Labels of one neuron share no word.

    Raises Refused for a Store of another model, and where there are no candidates or no statistics to judge by.
    """
    check_model(store, clip)
    check_rate(rate)
    concepts = candidate_labels(store, vocabulary)
    T = concept_embeddings(clip, concepts, templates)
    random = np.random.default_rng(seed)
    found: dict[str, Evidence] = {}
    for kind, name in (("word", "words"), ("image", "captions")):
        if kind in store.counts:
            items = things_of(store, kind)
            top = strongest_things(Responses.of(store, kind, directions), items, STRONGEST_THINGS)
            found[name] = caption_evidence(items, top, concepts)
            if kind == "image":
                scale = float(clip.model.logit_scale.exp())
                found["images"] = image_evidence(items, top, store.array("embedding", kind), T, scale, draws, random)
    W = clip.basis() if directions is None else directions.basis(clip.basis())
    found["basis"] = basis_evidence(W, T, draws, random)
    return _table(concepts, found, rate, draws)


def label_activations(
    A: Rows,
    concepts: Sequence[str],
    T: Float[np.ndarray, "t e"],
    E: Rows | None = None,
    captions: Sequence[str] | None = None,
    W: Float[np.ndarray, "u e"] | None = None,
    groups: Sequence[str] | None = None,
    scale: float = LOGIT_SCALE,
    rate: float = 0.05,
    draws: int = NULL_DRAWS,
    seed: int = 0,
) -> pa.Table:
    """`label_neurons` of plain arrays: up to three labels of every neuron, of the same columns.

    A          (n, u) activations, a row an image: an array or a memory map, read in blocks; only their order counts
    concepts   the t texts to choose from, each once, with their embeddings T (t, e), of unit norm
    E          (n, e) embeddings of the images, of unit norm: evidence "images"
    captions   what each of the n images is called: evidence "captions"
    W          (u, e) basis, what a unit of each neuron adds to an embedding: evidence "basis"
    groups     vendor or folder of each image; images of one caption in several groups count once, as one thing
    scale      inverse temperature of CLIP's cosines

    Only evidence that is given counts; of latents, give their readings for A and write @ W for W (`Directions`).
    Raises Refused without any evidence, for arrays that do not fit together, and where numbers are not finite.
    """
    check_rate(rate)
    concepts, answers = tuple(concepts), Responses(A)
    if E is None and captions is None and W is None:
        raise Refused("no evidence to label by: give embeddings (E=), captions, or the basis (W=)")
    if not concepts or len({*concepts}) < len(concepts):
        raise Refused(f"{len(concepts)} concepts, {len({*concepts})} of them different: give one or more, each once")
    if not all(np.isfinite(each).all() for each in (T, W) if each is not None):
        raise Refused("text embeddings or basis hold numbers that are not finite")
    check_rows(len(concepts), T=T)
    check_rows(len(A), E=E, captions=captions, groups=groups)
    check_rows(answers.width, W=W)
    said_of = [""] * len(A) if captions is None else captions  # rows without a caption are items by themselves
    items = tell_things(said_of, [""] * len(A) if groups is None else groups)
    top, random = strongest_things(answers, items, STRONGEST_THINGS), np.random.default_rng(seed)
    found: dict[str, Evidence] = {}
    if captions is not None:
        found["captions"] = caption_evidence(items, top, concepts)
    if E is not None:
        found["images"] = image_evidence(items, top, E, T, scale, draws, random)
    if W is not None:
        found["basis"] = basis_evidence(W, T, draws, random)
    return _table(concepts, found, rate, draws)


def check_rate(rate: float | int) -> None:
    """Refused unless it is a rate of false discoveries: more than 0, less than 1."""
    if not 0 < rate < 1:
        raise Refused(f"the false discovery rate is {rate}; it must be more than 0 and less than 1")


def candidate_labels(store: Store, vocabulary: Sequence[str] | None) -> tuple[str, ...]:
    """The labels to choose from: those given, or the Store's own. Refused if there are none."""
    concepts = concepts_of(store) if vocabulary is None else tuple(dict.fromkeys(vocabulary))
    if not concepts:
        raise Refused(f"no labels to choose from: the rows of {store.path} carry none; give a vocabulary")
    return concepts


def concepts_of(store: Store) -> tuple[str, ...]:
    """What the Store's images and words are labelled with, and the single words of it: the most frequent ones.

    Skin tones are left out, as items are one in all of them.
    """
    counts: Counter[str] = Counter()
    for kind in ("image", "word"):
        for phrase, rows in _phrases(store, kind).items():
            for concept in concepts_in(without_tone(phrase)):
                counts[concept] += rows
    return tuple(sorted(counts, key=lambda concept: (-counts[concept], concept))[:_MOST_CONCEPTS])


def _phrases(store: Store, kind: str) -> Counter[str]:
    """What the rows of a kind are labelled with (their caption, where they have no label), and how many of each."""
    counts: Counter[str] = Counter()
    for shard in store.of_kind(kind):
        counts.update(display_texts(shard.table(["label", "caption"])))
    return counts


# -- from evidence to labels -------------------------------------------------------------------------------------------


def _table(concepts: Sequence[str], found: dict[str, Evidence], rate: float, draws: int) -> pa.Table:
    p = np.minimum(np.minimum.reduce([each.p for each in found.values()]) * len(found), 1)
    least = p.min(1)
    q = selected_q_values(least, least)
    kept = p <= rate * (q <= rate).mean()  # what Benjamini and Bogomolov keep of the neurons that are selected
    rows = []
    for neuron, order in enumerate(_surest(found, kept, draws)):
        chosen = _different(order, concepts) if q[neuron] <= rate else []
        for concept, q_value in zip(chosen, selected_q_values(p[neuron, chosen], least), strict=True):
            named = [name for name, each in found.items() if each.p[neuron, concept] * len(found) <= rate]
            claim = {"neuron": neuron, "label": concepts[concept], "evidence": ", ".join(named)}
            rows.append(claim | {"p": p[neuron, concept], "q": q_value})
        if not chosen:
            rows.append({"neuron": neuron, "label": NONE, "evidence": "", "p": least[neuron], "q": q[neuron]})
    kinds = {"neuron": pa.int64(), "label": pa.string(), "evidence": pa.string(), "p": pa.float64(), "q": pa.float64()}
    return pa.Table.from_pylist(rows, pa.schema(list(kinds.items())))


def _surest(found: dict[str, Evidence], kept: Bool[np.ndarray, "u t"], draws: int) -> Iterator[list[int]]:
    """The labels kept of each neuron, those first that all kinds of evidence together make least likely.

    Fisher's sum of logs, where no kind counts for more than the draws can show: a count has no such bound, and by its p
    alone "face" would come before any kind of face, for no reason but that faces are many.
    """
    surprise = np.sum([np.log(np.maximum(each.p, 1 / draws)) for each in found.values()], axis=0)
    strength = np.sum([each.score for each in found.values()], axis=0)
    for neuron, here in enumerate(kept):
        some = np.flatnonzero(here)
        yield some[np.lexsort((-strength[neuron, some], surprise[neuron, some]))].tolist()


def _different(order: Sequence[int], concepts: Sequence[str]) -> list[int]:
    """The first labels, best first, that share no word: "crying face" after "crying" says nothing new."""
    kept, used = [], set()
    for concept in order:
        words = set(concepts_in(concepts[concept])) or {concepts[concept]}
        if not words & used:
            kept.append(concept)
            used |= words
        if len(kept) == LABELS_A_NEURON:
            break
    return kept


def by_neuron(labels: pa.Table) -> list[dict[str, Any]]:
    """One row for each neuron that has a label: neuron, evidence and q of the first, and all its labels in a line."""
    given: dict[int, dict[str, Any]] = {}
    for row in labels.to_pylist():
        if row["neuron"] in given:
            given[row["neuron"]]["labels"] += f", {row['label']}"
        elif row["label"] != NONE:
            first = {name: row[name] for name in ("neuron", "evidence", "q")}
            given[row["neuron"]] = first | {"labels": row["label"]}
    return list(given.values())
