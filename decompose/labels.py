"""Labels of neurons, each with its evidence and its significance.

A label is supported by up to four kinds of evidence, each tested by itself:

    words       more of the rendered words that activate the neuron most carry the label than chance explains
    captions    the same for the captions of the images that activate the neuron most
    images      the mean of the images that activate the neuron is closer to the text than random directions are
    basis       the neuron's basis row is closer to the text than random directions are

The first three say what the neuron responds to, the last what it writes; where the two disagree, the table says so. One
word in several fonts counts once, and so does one thing drawn by several vendors (`decompose.renderings`). Every
p-value is corrected for the number of labels tested and for the number of kinds of evidence; q-values control the false
discovery rate over neurons.

    T (t, e) text embeddings    u neurons (or directions), k strongest of m things
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int
from scipy.stats import false_discovery_control

from atlas.analysis.naming import NONE, PARTS_OF_NAME
from atlas.analysis.significance import selected_q_values
from atlas.arrays import accepts
from atlas.errors import Refused
from atlas.formatting import Record
from atlas.model.clip import Clip
from atlas.model.directions import Directions
from atlas.store.store import Store
from atlas.vectors import Rows
from decompose.candidates import Candidates, LabelTest, LabelTesting
from decompose.enrichment import CaptionNull, concepts_in
from decompose.evidence import (
    Evidence,
    ImageNull,
    basis_evidence,
    caption_evidence,
    direction_null,
    image_evidence,
)
from decompose.prompting import Templates
from decompose.renderings import strongest_things, tell_things, things_of
from decompose.responses import LOGIT_SCALE, Responses, check_rows

STRONGEST_THINGS = 24  # things of a kind that captions and words count: those that activate the neuron most
RESPONDS, WRITES = ("words", "captions", "images"), ("basis",)  # kinds of evidence by what they are about
# How much the scores of each kind count in the order of labels, chosen on the demo Store: of 477 neurons whose concept
# is known, the best score is right for .75 with these, .69 by images alone, .66 by the basis alone. Captions come last.
WEIGHTS = {"basis": 1.0, "images": 0.35, "captions": 0.05, "words": 0.02}
_NEURONS_AT_ONCE = 1024  # evidence of so many neurons is in memory at a time

EvidenceOf = Callable[[slice], dict[str, Evidence]]


def label_neurons(
    store: Store,
    clip: Clip,
    vocabulary: Sequence[str] | None = None,
    templates: Templates = None,
    directions: Directions | None = None,
    **testing: Unpack[LabelTesting],
) -> pa.Table:
    """Up to three labels of every neuron: neuron, label, evidence, p, q, responds_to, writes.

    The label is "none" where no label is significant.

    `vocabulary`: the labels to choose from; by default the labels and words of the Store's rows. `templates`: prompts
    of these labels, as in `decompose.attribution`. `directions`: label these instead of neurons. `testing`: the false
    discovery rate, the number of null draws and their seed (`LabelTest`).

    A neuron's p-value is the least of its kinds of evidence, times the number of kinds. A label's p-value is adjusted
    over all labels and kinds of the neuron (Benjamini and Hochberg 1995), and that of the strongest label is at most
    the neuron's own; `evidence` names the kinds that bear it out.
    q-values are hierarchical (Benjamini and Bogomolov 2014): neurons are selected by their p-values, then labels of the
    selected neurons at the same rate. Significant labels are ordered by a weighted sum of the scores of
    all kinds (`WEIGHTS`); each label of a neuron adds a word.
    `responds_to` and `writes` are the first label by what the neuron responds to alone (words, captions, images) and by
    what it writes alone (basis), null where none is significant.

    Raises Refused for a Store of another model, and if there are no labels to choose from.
    """
    test, candidates = LabelTest(**testing), Candidates.of(store, clip, vocabulary, templates)
    texts, T, scale = candidates.texts, candidates.T, clip.logit_scale
    answers = {k: Responses(store.array("mean", k), directions) for k in ("word", "image") if k in store.counts}
    things = {kind: things_of(store, kind) for kind in answers}
    drawing = test.draws, test.seed
    marked = {
        kind: CaptionNull.of(each, texts, STRONGEST_THINGS, Responses(store.array("mean", kind)), *drawing)
        for kind, each in things.items()
    }
    E = store.array("embedding", "image") if "image" in answers else None
    seen = None if E is None else ImageNull.of(E, T, *drawing)
    layer = clip.basis()
    W, written = layer if directions is None else directions.basis(layer), direction_null(layer, T, *drawing)

    def evidence(some: slice) -> dict[str, Evidence]:
        found = {"basis": basis_evidence(W[some], T, written)}
        for kind, name in (("word", "words"), ("image", "captions")):
            if kind in answers:
                here = answers[kind].columns(some)
                top = strongest_things(here, things[kind], STRONGEST_THINGS)
                found[name] = caption_evidence(here, things[kind], top, texts, marked[kind])
        if E is not None:
            found["images"] = image_evidence(answers["image"].columns(some), E, T, scale, seen)
        return found

    return _table(texts, evidence, len(W), test.rate)


@accepts(A=2, concepts="texts", T=2, E=2, captions="texts", W=2, groups="texts")
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

    >>> import decompose, numpy as np
    >>> T = np.eye(3, dtype=np.float32)                      # texts, as far apart as can be
    >>> captions = ["cat", "dog", "sun"] * 50
    >>> A = np.tile(np.eye(3, dtype=np.float32), (50, 1))    # neuron 0 responds to cats, 1 to dogs, 2 to the sun
    >>> decompose.label_activations(A, ["cat", "dog", "sun"], T, captions=captions)["label"].to_pylist()
    ['cat', 'dog', 'sun']
    """
    test = LabelTest(**testing)
    if E is None and captions is None and W is None:
        raise Refused("no evidence to label by: give embeddings (E=), captions, or the basis (W=)")
    candidates, answers, drawing = Candidates(tuple(concepts), T), Responses(A), (test.draws, test.seed)
    if W is not None and not np.isfinite(W).all():
        raise Refused("the basis W holds numbers that are not finite")
    check_rows(len(A), E=E, captions=captions, groups=groups)
    check_rows(answers.width, W=W)
    texts = [""] * len(A) if captions is None else captions  # without captions, every row is a thing by itself
    things = tell_things(texts, [""] * len(A) if groups is None else groups)
    seen = None if E is None else ImageNull.of(E, T, *drawing)
    written = None if W is None else direction_null(W, T, *drawing)
    marked = CaptionNull.of(things, concepts, STRONGEST_THINGS, answers, *drawing) if captions is not None else None

    def evidence(some: slice) -> dict[str, Evidence]:
        found: dict[str, Evidence] = {}
        here = answers.columns(some)
        if W is not None and written is not None:
            found["basis"] = basis_evidence(W[some], T, written)
        if captions is not None:
            top = strongest_things(here, things, STRONGEST_THINGS)
            found["captions"] = caption_evidence(here, things, top, candidates.texts, marked)
        if E is not None:
            found["images"] = image_evidence(here, E, T, scale, seen)
        return found

    return _table(candidates.texts, evidence, answers.width, test.rate)


# -- from evidence to labels -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Claims:
    """The pairs of a neuron and a label that may become labels, by all evidence or by one side of it alone."""

    neuron: Int[np.ndarray, " m"]
    concept: Int[np.ndarray, " m"]
    p: Float[np.ndarray, " m"]
    score: Float[np.ndarray, " m"]
    least: Float[np.ndarray, " u"]  # the least p of each neuron

    @classmethod
    def of(cls, found: Mapping[str, Evidence], rate: float | int) -> "_Claims":
        """The pairs of some neurons, numbered from 0, whose p is at most the rate."""
        p = _adjusted(list(found.values())).min(0)
        neuron, concept = np.nonzero(p <= rate)
        score = sum(
            (WEIGHTS[name] * each.score[neuron, concept] for name, each in found.items()), np.zeros(len(neuron))
        )
        least = np.minimum(np.minimum.reduce([each.least for each in found.values()]) * len(found), 1)
        return cls(neuron, concept, p[neuron, concept], score, least)

    @classmethod
    def joined(cls, parts: Sequence["_Claims"]) -> "_Claims":
        """The pairs of blocks of neurons, numbered through."""
        starts = np.cumsum([0, *(len(part.least) for part in parts)])
        neuron = np.concatenate([part.neuron + start for part, start in zip(parts, starts[:-1], strict=True)])
        rest = (np.concatenate([getattr(p, name) for p in parts]) for name in ("concept", "p", "score", "least"))
        return cls(neuron, *rest)

    def best(self, threshold: float) -> dict[int, list[int]]:
        """For each neuron the positions of its claims with p up to the threshold, best score first."""
        kept = np.flatnonzero(self.p <= threshold)
        order = kept[np.lexsort((self.concept[kept], -self.score[kept], self.neuron[kept]))]
        ordered: dict[int, list[int]] = {}
        for at in order.tolist():
            ordered.setdefault(int(self.neuron[at]), []).append(at)
        return ordered


def _table(concepts: Sequence[str], evidence: EvidenceOf, width: int, rate: float | int) -> pa.Table:
    """The table of labels of `width` neurons, from the evidence of some neurons at a time."""
    whole: list[_Claims] = []
    sides: dict[str, list[_Claims]] = {"responds_to": [], "writes": []}
    names: list[list[str]] = []
    for start in range(0, width, _NEURONS_AT_ONCE):
        found = evidence(slice(start, min(start + _NEURONS_AT_ONCE, width)))
        whole.append(_Claims.of(found, rate))
        names += _names(found, whole[-1], rate)
        for side, kinds in (("responds_to", RESPONDS), ("writes", WRITES)):
            if some := {name: each for name, each in found.items() if name in kinds}:
                sides[side].append(_Claims.of(some, rate))
    claims = _Claims.joined(whole)
    q = selected_q_values(claims.least, claims.least)
    threshold = rate * float((q <= rate).mean())  # the bound of Benjamini and Bogomolov for the selected neurons
    ordered = claims.best(threshold)
    first = {side: _first(concepts, _Claims.joined(parts), rate) for side, parts in sides.items() if parts}
    rows: list[Record] = []
    for neuron in range(width):
        chosen = _different(ordered.get(neuron, []), claims, concepts) if q[neuron] <= rate else []
        about = {side: first.get(side, {}).get(neuron) for side in sides}
        for at, q_value in zip(chosen, selected_q_values(claims.p[chosen], claims.least), strict=True):
            label = {"label": concepts[claims.concept[at]], "evidence": ", ".join(names[at])}
            rows.append({"neuron": neuron, **label, "p": claims.p[at], "q": q_value, **about})
        if not chosen:
            none = {"label": NONE, "evidence": "", "p": claims.least[neuron], "q": q[neuron]}
            rows.append({"neuron": neuron, **none, **about})
    return pa.Table.from_pylist(rows, LABEL_COLUMNS)


LABEL_COLUMNS = pa.schema(
    {
        **{"neuron": pa.int64(), "label": pa.string(), "evidence": pa.string(), "p": pa.float64(), "q": pa.float64()},
        **{"responds_to": pa.string(), "writes": pa.string()},
    }
)


def _adjusted(found: Sequence[Evidence]) -> Float[np.ndarray, "kinds u t"]:
    """p-values of each kind, adjusted over all texts and kinds of a neuron together (Benjamini and Hochberg 1995).

    The strongest text of each kind has the neuron's own p by this kind, times the number of kinds, if that is less: so
    a neuron that is significant has a label that is.
    """
    p = np.stack([each.p for each in found], axis=1)
    adjusted = np.moveaxis(false_discovery_control(p.reshape(len(p), -1), axis=1).reshape(p.shape), 1, 0)
    for each, own in zip(found, adjusted, strict=True):
        strongest = np.arange(len(own)), each.p.argmin(1)
        own[strongest] = np.minimum(own[strongest], each.least * len(found))
    return adjusted


def _names(found: Mapping[str, Evidence], claims: _Claims, rate: float | int) -> Iterator[list[str]]:
    """The kinds of evidence that bear each claim out: the label's own p-value is at most the rate."""
    p = _adjusted(list(found.values()))
    for neuron, concept in zip(claims.neuron, claims.concept, strict=True):
        kinds = zip(found.items(), p[:, neuron, concept], strict=True)
        yield [name for (name, _), own in kinds if own <= rate]


def _first(concepts: Sequence[str], claims: _Claims, rate: float | int) -> dict[int, str]:
    """The first label of each neuron by one side of the evidence alone, at the same rate over the neurons."""
    q = selected_q_values(claims.least, claims.least)
    threshold = rate * float((q <= rate).mean())
    return {
        neuron: concepts[int(claims.concept[order[0]])]
        for neuron, order in claims.best(threshold).items()
        if q[neuron] <= rate
    }


def _different(order: Sequence[int], claims: _Claims, concepts: Sequence[str]) -> list[int]:
    """The first claims, best first, that each add a word: "crying" after "crying face" adds nothing."""
    kept, used = [], set()
    for at in order:
        label = concepts[int(claims.concept[at])]
        words = set(concepts_in(label)) or {label}
        if not words <= used:
            kept.append(at)
            used |= words
        if len(kept) == PARTS_OF_NAME:
            break
    return kept


def by_neuron(labels: pa.Table) -> list[Record]:
    """One row a labelled neuron: neuron, labels (in one string), evidence and q of the first, responds_to, writes."""
    given: dict[int, Record] = {}
    for row in labels.to_pylist():
        if row["neuron"] in given:
            given[row["neuron"]]["labels"] += f", {row['label']}"
        elif row["label"] != NONE:
            sides = {side: row[side] or "" for side in ("responds_to", "writes")}
            given[row["neuron"]] = {name: row[name] for name in ("neuron", "evidence", "q")}
            given[row["neuron"]] |= {"labels": row["label"], **sides}
    return list(given.values())
