"""Sparse equations: a concept as a short signed sum of neurons, `jealous = success + hug + 0.2 grumpy`.

The concept is the embedding of its prompts, less what all texts share; a neuron is its basis row, at unit length,
for a neuron's own unit means nothing. An equation is the few neurons whose rows, weighted and summed, point along the
concept; the cosine between the two is the share of the logit that is kept. Concepts are composed of neurons like this
in Goh et al. 2021 ("Multimodal Neurons in Artificial Neural Networks", emotion composition).

    V (u, e) basis rows of unit norm    P (t, m, e) prompts, centred    X (t, e) concepts    Z (t, u) codes
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from html import escape
from itertools import islice
from typing import Any, TypedDict, Unpack

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from atlas.analysis.naming import NeuronNames
from atlas.errors import Refused
from atlas.model.clip import Clip, Pictures
from atlas.model.directions import Directions
from atlas.sources import vocabulary
from atlas.store.store import Store
from atlas.vectors import cosines, scaled_rows
from decompose import coding
from decompose.attribution import Templates, other_templates, prompts, response_spread
from decompose.receipts import Receipt, receipt, side_by_side

_PRINTED_TERMS, _FAINTEST_PRINTED = 4, 0.05  # the paper's figures show so many terms, none of them this faint
BACKGROUND_STEP = 8  # what all texts share is averaged over one word in eight of the vocabulary


@dataclass(frozen=True)
class Term:
    """One neuron of an equation, or one direction, by its number."""

    neuron: int
    weight: float  # relative to the largest positive one
    label: str


@dataclass(frozen=True)
class Equation:
    """A concept as a sum of neurons; `str` writes it as a person would."""

    concept: str
    terms: tuple[Term, ...]  # positive ones first, each sign with its strongest first
    kept: float  # share of the concept's logit: its cosine with the sum
    method: str
    receipts: tuple[Receipt, ...] = ()

    def __str__(self) -> str:
        return f"{self.concept} = {_sum(self.terms) or '0'}"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{term.weight:+.2f}</td><td>{escape(term.label)}</td><td>{term.neuron}</td></tr>"
            for term in self.terms
        )
        head = "<tr><th>weight</th><th>label</th><th>neuron</th></tr>"
        return f"<div><b>{escape(str(self))}</b> ({self.kept:.0%} of the logit)<table>{head}{rows}</table></div>"

    def table(self) -> pa.Table:
        """One row a term: neuron, weight, label; with receipts, what raising it and what ablating it did to the logit
        (`receipts.side_by_side`).
        """
        columns = {name: [getattr(term, name) for term in self.terms] for name in ("neuron", "weight", "label")}
        return pa.table(columns | (side_by_side(self.receipts) if self.receipts else {}))

    def acts(self) -> list[dict[str, Any]]:
        """One row a receipt, two a term: neuron, weight, label, the act, what it did, and whether that confirms it."""
        told = ("effect", "low", "high", "control", "p", "confirmed")
        return [
            {**asdict(self.terms[place // 2]), "act": each.act} | {name: getattr(each, name) for name in told}
            for place, each in enumerate(self.receipts)
        ]


class Composing(TypedDict, total=False):
    """What `equation` and `compose` can be told besides, by name."""

    method: coding.Method
    penalty: float | None
    signed: bool
    templates: Templates
    directions: Directions | None
    images: Pictures | None


def equation(
    clip: Clip, concept: str, k: int = 4, store: Store | None = None, **options: Unpack[Composing]
) -> Equation:
    """The sparse equation of a concept: `compose` of one, with its options and refusals."""
    return compose(clip, [concept], k, store, **options)[0]


def compose(
    clip: Clip,
    concepts: str | Sequence[str],
    k: int = 4,
    store: Store | None = None,
    method: coding.Method = "omp",
    penalty: float | None = None,
    signed: bool = True,
    templates: Templates = None,
    directions: Directions | None = None,
    images: Pictures | None = None,
) -> list[Equation]:
    """The sparse equations of many concepts, solved together.

    k, penalty  at most k terms; or, for lasso and logistic, those that a penalty leaves
    store       leaves out neurons that never fire over its images, and names the others
    method      one of decompose.coding.METHODS; "logistic" tells each concept from the others and from common words
    signed      terms may be negative (never for nnls, always for logistic)
    templates   as in decompose.attribution
    directions  compose the concepts of these instead of neurons
    images      give each term its receipts on these, with a set of prompts that shares none with `templates`

    Raises Refused for an empty concept, a Store of another model, and for k, method and penalty that do not fit.
    """
    concepts = [concepts] if isinstance(concepts, str) else list(concepts)
    if not concepts:
        raise Refused("no concept given; give a word or a sentence")
    prompts(concepts, templates)  # refuses a concept before words stand beside it
    W, words, n = clip.basis(), _vocabulary(), len(concepts)
    V = centred_unit_rows(clip, W if directions is None else directions.basis(W), store, directions)
    common = [word for word in words[::BACKGROUND_STEP] if word not in concepts]
    P = prompt_embeddings(clip, concepts + common, templates)
    P = P - P[n:].mean((0, 1))
    Z = solve_codes(V, P, method, k if penalty is None else None, penalty, signed, targets=n)
    used = np.flatnonzero(Z.any(0)).tolist()
    names = dict(enumerate(directions.names)) if directions else name_neurons(clip, used, W, store, words)
    kept = np.diag(cosines((Z @ V).astype(np.float32), P[:n].mean(1)))
    found = [
        Equation(
            concept, printed_terms(dict(enumerate(z.tolist())), names, limit=len(z), least=0.0), float(share), method
        )
        for concept, z, share in zip(concepts, Z, kept, strict=True)
    ]
    return found if images is None else _with_receipts(found, clip, images, directions, other_templates(templates))


def printed_terms(
    weights: Mapping[int, float],
    names: Mapping[int, str],
    removed: Sequence[int] = (),
    limit: int = _PRINTED_TERMS,
    least: float = _FAINTEST_PRINTED,
) -> tuple[Term, ...]:
    """The rule by which Goh et al. 2021 print equations (figures 9 to 12), from the weights of a concept's neurons.

    Without the `removed` neurons (theirs read letters), weights are divided by the largest; positive ones come first,
    from the largest, then negative ones, from the most negative; of the first `limit`, those beyond `least` stay. If
    none is positive, or none beyond `least` of the largest magnitude, that divides. Neurons without a name go by their
    number.
    """
    left = {neuron: weight for neuron, weight in weights.items() if neuron not in removed and weight}
    if not left:
        return ()
    largest, lowest = max(left.values()), min(left.values())
    scale = largest if largest > max(-least * lowest, 0) else -lowest  # else one reads -1,437 times a neuron
    ordered = sorted(left.items(), key=lambda item: (item[1] < 0, -abs(item[1])))
    terms = (Term(i, weight / scale, names.get(i, f"neuron {i}")) for i, weight in ordered[:limit])
    return tuple(term for term in terms if abs(term.weight) > least)


def name_neurons(
    clip: Clip,
    neurons: Sequence[int],
    W: Float[np.ndarray, "u e"],
    store: Store | None = None,
    words: Sequence[str] | None = None,
    most: int = 1,
) -> dict[int, str]:
    """A short name for each neuron: the first `most` parts of its name in the Store (`atlas.analysis.naming`).

    Without a Store, or where nothing is known of a neuron there: the word of a vocabulary (`words`) whose embedding,
    less the mean over all words, is nearest to the neuron's basis row.
    """
    named: dict[int, str] = {}
    if store is not None:
        names = NeuronNames.read(store)
        named = {i: ", ".join(names[i].parts[:most]) for i in neurons if names[i].source != "number"}
    left = [i for i in neurons if i not in named]
    if left:
        words = list(words or _vocabulary())
        E = clip.encode_texts(words)
        named |= {i: words[j] for i, j in zip(left, cosines(W[left], E - E.mean(0)).argmax(1), strict=True)}
    return {i: named[i] for i in neurons}


# -- one step each -----------------------------------------------------------------------------------------------------


def centred_unit_rows(
    clip: Clip, V: Float[np.ndarray, "k e"], store: Store | None, directions: Directions | None = None
) -> Float[np.ndarray, "k e"]:
    """Basis rows at unit norm; those of neurons that never fire in the Store are 0, and so never chosen."""
    rows = scaled_rows(V)
    if store is not None:
        rows[response_spread(store, clip, directions) == 0] = 0
    return rows


def _vocabulary() -> tuple[str, ...]:
    """The words of emoji names, and the emotions; where the packages of word lists are missing, the emotions alone."""
    try:
        return tuple(dict.fromkeys([*vocabulary.emoji_words(), *vocabulary.EMOTIONS]))
    except Refused:
        return vocabulary.EMOTIONS


def prompt_embeddings(clip: Clip, texts: Sequence[str], templates: Templates) -> Float[np.ndarray, "t m e"]:
    """Embeddings of every prompt of every text, not centred."""
    rows = prompts(texts, templates)
    return clip.encode_texts([prompt for row in rows for prompt in row]).reshape(len(rows), -1, clip.dim)


def solve_codes(
    V: Float[np.ndarray, "u e"],
    P: Float[np.ndarray, "t m e"],
    method: coding.Method,
    k: int | None = None,
    penalty: float | None = None,
    signed: bool = True,
    targets: int | None = None,
) -> Float[np.ndarray, "n u"]:
    """Codes of the first `targets` concepts (all by default); the others are what logistic tells them from."""
    t, m, e = P.shape
    targets = targets or t
    if method == "logistic":
        T = np.repeat(np.eye(t)[:targets], m, axis=1)
        return coding.solve_sparse(T, V @ P.reshape(t * m, e).T, method, penalty, k)
    X = scaled_rows(P[:targets].mean(1))
    return coding.solve_sparse(X, V, method, penalty, k, signed and method != "nnls")


def _with_receipts(
    found: Sequence[Equation], clip: Clip, images: Pictures, directions: Directions | None, templates: Templates
) -> list[Equation]:
    """The equations with the receipts of all their terms, tried together."""
    terms = [(each.concept, term) for each in found for term in each.terms]
    if not terms:
        return list(found)
    numbers = [term.neuron for _, term in terms]
    tried = Directions.neurons(numbers, clip.neurons) if directions is None else directions[numbers]
    signs = [1 if term.weight > 0 else -1 for _, term in terms]
    receipts = iter(receipt(clip, images, [concept for concept, _ in terms], tried, templates, signs))
    return [replace(each, receipts=tuple(islice(receipts, 2 * len(each.terms)))) for each in found]


def _sum(terms: Sequence[Term]) -> str:
    """ "success + hug + 0.2 grumpy - crying"; of neurons that go by one name, each with its number."""
    shown, names = [], [term.label for term in terms]
    for term in terms:
        size = abs(term.weight)
        number = f"{size:.1g}" if size < 1 else f"{size:.1f}"
        sign = "- " if term.weight < 0 else "+ "
        name = term.label if names.count(term.label) == 1 else f"{term.label} [{term.neuron}]"
        shown.append(sign + ("" if float(number) == 1 else f"{number} ") + name)
    return " ".join(shown).removeprefix("+ ")
