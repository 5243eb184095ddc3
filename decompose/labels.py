"""Labels of neurons, each with its evidence and its significance.

A label is supported by up to four kinds of evidence, each tested by itself:

    words       more of the rendered words that activate the neuron most carry the label than chance explains
    captions    the same for the captions of the images that activate the neuron most
    images      soft-WPMI: CLIP's own text probabilities of these images (Oikarinen and Weng 2023, "CLIP-Dissect")
    basis       the neuron's basis row is closer to the text than random directions are

One word in several fonts counts once, and so does one thing drawn by several vendors (`decompose.renderings`): a label
needs several different things that carry it. Every p-value is corrected for the number of labels tested and for the
number of kinds of evidence; q-values control the false discovery rate over neurons.

    T (t, e) text embeddings    P (m, t) zero-shot probabilities    u neurons (or directions), k strongest of m things
"""

from collections.abc import Iterator, Sequence
from typing import Unpack

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float

from atlas.analysis.naming import NONE
from atlas.analysis.significance import selected_q_values
from atlas.errors import Refused
from atlas.formatting import Record
from atlas.model.clip import Clip
from atlas.model.directions import Directions
from atlas.store.store import Store
from atlas.vectors import Rows
from decompose.attribution import LOGIT_SCALE, Templates
from decompose.candidates import Candidates, LabelTest, LabelTesting
from decompose.evidence import Evidence, basis_evidence, caption_evidence, concepts_in, image_evidence
from decompose.renderings import strongest_things, tell_things, things_of
from decompose.responses import Responses, check_rows

LABELS_A_NEURON = 3  # at most
STRONGEST_THINGS = 24  # things of a kind that a neuron is judged by: those that activate it most


def label_neurons(
    store: Store,
    clip: Clip,
    vocabulary: Sequence[str] | None = None,
    templates: Templates = None,
    directions: Directions | None = None,
    **testing: Unpack[LabelTesting],
) -> pa.Table:
    """Up to three labels of every neuron: neuron, label, evidence, p, q; "none" if no label is significant.

    `vocabulary`: the labels to choose from; by default the labels and words of the Store's rows. `templates`: prompts
    of these labels, as in `decompose.attribution`. `directions`: label these instead of neurons. `testing`: the false
    discovery rate, the number of null draws and their seed (`LabelTest`).

    A label's p-value is the least of its kinds of evidence, times the number of kinds; `evidence` names all kinds that
    are significant by themselves. The least p that images and basis can reach is that number over the draws. q-values
    are hierarchical (Benjamini and Bogomolov 2014): neurons are selected by the least p of each (Benjamini-Hochberg),
    then labels of the selected neurons at the same rate. Labels are ordered by all evidence together, and those of one
    neuron share no word.

    Raises Refused for a Store of another model, and if there are no labels to choose from.
    """
    test, candidates = LabelTest(**testing), Candidates.of(store, clip, vocabulary, templates)
    random = np.random.default_rng(test.seed)
    found: dict[str, Evidence] = {}
    for kind, name in (("word", "words"), ("image", "captions")):
        if kind in store.counts:
            things = things_of(store, kind)
            top = strongest_things(Responses.of(store, kind, directions), things, STRONGEST_THINGS)
            found[name] = caption_evidence(things, top, candidates.texts)
            if kind == "image":
                scale, E = float(clip.model.logit_scale.exp()), store.array("embedding", kind)
                found["images"] = image_evidence(things, top, E, candidates.T, scale, test.draws, random)
    W = clip.basis() if directions is None else directions.basis(clip.basis())
    found["basis"] = basis_evidence(W, candidates.T, test.draws, random)
    return _table(candidates.texts, found, test.rate, test.draws)


def label_activations(
    A: Rows,
    concepts: Sequence[str],
    T: Float[np.ndarray, "t e"],
    E: Rows | None = None,
    captions: Sequence[str] | None = None,
    W: Float[np.ndarray, "u e"] | None = None,
    groups: Sequence[str] | None = None,
    scale: float = LOGIT_SCALE,
    **testing: Unpack[LabelTesting],
) -> pa.Table:
    """Up to three labels of every neuron, from plain arrays; columns, tests and `testing` are those of `label_neurons`.

    `A`: (n, u) activations, one row an image: an array or a memory map, read in blocks; only their order matters.
    `concepts`: the t labels to choose from, each once, with their text embeddings `T` (t, e) of unit norm.
    `E`: (n, e) embeddings of the images, of unit norm: evidence "images".
    `captions`: one caption an image: evidence "captions".
    `W`: (u, e) basis, the change of an embedding for one unit of each neuron: evidence "basis".
    `groups`: vendor or folder of each image; images of one caption in several groups count as one thing.
    `scale`: inverse temperature of CLIP's cosines.

    At least one of `E`, `captions` and `W` is needed. To label latents, give their activations as `A` and
    `directions.basis(W)` as `W`. Raises Refused without evidence, for arrays of different lengths, and for numbers
    that are not finite.

    >>> import numpy as np
    >>> from decompose import label_activations
    >>> T = np.eye(3, dtype=np.float32)                      # texts, as far apart as can be
    >>> captions = ["cat", "dog", "sun"] * 50
    >>> A = np.tile(np.eye(3, dtype=np.float32), (50, 1))    # neuron 0 responds to cats, 1 to dogs, 2 to the sun
    >>> label_activations(A, ["cat", "dog", "sun"], T, captions=captions)["label"].to_pylist()
    ['cat', 'dog', 'sun']
    """
    test = LabelTest(**testing)
    if E is None and captions is None and W is None:
        raise Refused("no evidence to label by: give embeddings (E=), captions, or the basis (W=)")
    candidates, answers = Candidates(tuple(concepts), T), Responses(A)
    if W is not None and not np.isfinite(W).all():
        raise Refused("the basis W holds numbers that are not finite")
    check_rows(len(A), E=E, captions=captions, groups=groups)
    check_rows(answers.width, W=W)
    texts = [""] * len(A) if captions is None else captions  # without captions, every row is a thing by itself
    things = tell_things(texts, [""] * len(A) if groups is None else groups)
    top, random = strongest_things(answers, things, STRONGEST_THINGS), np.random.default_rng(test.seed)
    found: dict[str, Evidence] = {}
    if captions is not None:
        found["captions"] = caption_evidence(things, top, candidates.texts)
    if E is not None:
        found["images"] = image_evidence(things, top, E, T, scale, test.draws, random)
    if W is not None:
        found["basis"] = basis_evidence(W, T, test.draws, random)
    return _table(candidates.texts, found, test.rate, test.draws)


# -- from evidence to labels -------------------------------------------------------------------------------------------


def _table(concepts: Sequence[str], found: dict[str, Evidence], rate: float | int, draws: int) -> pa.Table:
    """The table of labels, from the evidence of each kind."""
    p = np.minimum(np.minimum.reduce([each.p for each in found.values()]) * len(found), 1)
    least = p.min(1)
    q = selected_q_values(least, least)
    kept = p <= rate * (q <= rate).mean()  # the bound of Benjamini and Bogomolov for the selected neurons
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
    """The significant labels of each neuron, ordered by all kinds of evidence together.

    Order is by Fisher's sum of log p, in which no p counts for less than 1 / draws, the least that a null of draws can
    show. The hypergeometric p of a count has no such bound: by that p alone, "face" would always come before the rarer
    "crying face".
    """
    surprise = np.sum([np.log(np.maximum(each.p, 1 / draws)) for each in found.values()], axis=0)
    strength = np.sum([each.score for each in found.values()], axis=0)
    for neuron, here in enumerate(kept):
        some = np.flatnonzero(here)
        yield some[np.lexsort((-strength[neuron, some], surprise[neuron, some]))].tolist()


def _different(order: Sequence[int], concepts: Sequence[str]) -> list[int]:
    """The first labels, best first, that share no word: "crying face" after "crying" adds nothing."""
    kept, used = [], set()
    for concept in order:
        words = set(concepts_in(concepts[concept])) or {concepts[concept]}
        if not words & used:
            kept.append(concept)
            used |= words
        if len(kept) == LABELS_A_NEURON:
            break
    return kept


def by_neuron(labels: pa.Table) -> list[Record]:
    """One row a labelled neuron: neuron, evidence and q of its first label, and all its labels in one string."""
    given: dict[int, Record] = {}
    for row in labels.to_pylist():
        if row["neuron"] in given:
            given[row["neuron"]]["labels"] += f", {row['label']}"
        elif row["label"] != NONE:
            first = {name: row[name] for name in ("neuron", "evidence", "q")}
            given[row["neuron"]] = first | {"labels": row["label"]}
    return list(given.values())
