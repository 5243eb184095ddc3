"""Sparse equations: a concept as a short signed sum of neurons, `jealous = success + hug + 0.2 grumpy`.

The concept is the mean embedding of its prompts, centred on the mean of common words. Each neuron is its basis row,
scaled to unit norm, because the units of neurons are arbitrary. An equation is a sparse weighted sum of such rows that
approximates the concept; the cosine between the sum and the concept is the share of the logit that is kept. Goh et al.
2021 ("Multimodal Neurons in Artificial Neural Networks", emotion composition) write concepts this way.

    V (u, e) basis rows of unit norm    P (t, m, e) prompts, centred    X (t, e) concepts    Z (t, u) codes
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from html import escape
from itertools import islice
from typing import TypedDict, Unpack

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from atlas.analysis.naming import NeuronNames
from atlas.errors import Refused
from atlas.formatting import Record
from atlas.model.clip import Clip, Pictures
from atlas.model.directions import Directions
from atlas.sources import vocabulary
from atlas.store.store import Store
from atlas.vectors import cosines, scaled_rows
from decompose import coding
from decompose.attribution import response_spread
from decompose.prompting import Templates, other_templates, prompts
from decompose.receipts import RECEIPT_FIELDS, Receipt, receipt, side_by_side

_PRINTED_TERMS, _FAINTEST_PRINTED = 4, 0.05  # the paper's figures show at most 4 terms, none as small as 0.05
BACKGROUND_STEP = 8  # concepts are centred on the mean of one word in eight of the vocabulary


@dataclass(frozen=True)
class Term:
    """One term of an equation: a neuron, or a direction, by number."""

    neuron: int
    weight: float  # relative to the largest, whatever its sign
    label: str


@dataclass(frozen=True)
class Equation:
    """A concept as a sum of neurons. `str` gives the sum as text: "jealous = success + hug + 0.2 grumpy"."""

    concept: str
    terms: tuple[Term, ...]  # positive terms first, and within each sign the largest first
    kept: float  # share of the logit that is kept: cosine of concept and sum
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
        """The terms as a table: neuron, weight, label; with receipts, their effects too (`receipts.side_by_side`)."""
        columns = {name: [getattr(term, name) for term in self.terms] for name in ("neuron", "weight", "label")}
        return pa.table(columns | (side_by_side(self.receipts) if self.receipts else {}))

    def acts(self) -> list[Record]:
        """The receipts as rows, two a term: neuron, weight, label, act, effect, low, high, control, p, confirmed."""
        return [
            {**asdict(self.terms[place // 2]), "act": each.act} | {name: getattr(each, name) for name in RECEIPT_FIELDS}
            for place, each in enumerate(self.receipts)
        ]


class EquationOptions(TypedDict, total=False):
    """The options of `equation` and `compose`."""

    method: coding.Method
    """The solver: one of decompose.coding.CODING_METHODS, "omp" by default; "logistic" tells each concept from the
    others and from common words."""

    penalty: float | None
    """For lasso and logistic: the L1 penalty that decides the number of terms, instead of `k`."""

    signed: bool
    """Whether terms may be negative, True by default; never for nnls, always for logistic."""

    templates: Templates
    """Prompts of the concepts, as in decompose.attribution."""

    directions: Directions | None
    """Directions to compose the concepts of, instead of neurons."""

    images: Pictures | None
    """Images to measure receipts of each term on, with prompts that share none with `templates`."""


def equation(
    clip: Clip, concept: str, k: int = 4, store: Store | None = None, **options: Unpack[EquationOptions]
) -> Equation:
    """The sparse equation of one concept: `compose` for a single one, with the same options and refusals.

    >>> import atlas, decompose
    >>> found = decompose.equation(atlas.Clip("mini"), "jealous", k=3)
    >>> found.concept, len(found.terms)
    ('jealous', 3)
    >>> 0 < found.kept <= 1                          # the cosine of the concept and the sum
    True
    """
    return compose(clip, [concept], k, store, **options)[0]


def compose(
    clip: Clip,
    concepts: str | Sequence[str],
    k: int = 4,
    store: Store | None = None,
    **options: Unpack[EquationOptions],
) -> list[Equation]:
    """The sparse equations of many concepts, solved together.

    `k`: terms of each equation, at most. `store`: a Store that gives the neurons their names, and excludes those that
    never fire on its images. `options`: the fields of `EquationOptions`.

    Raises Refused for an empty concept, a Store of another model, and for a k, method and penalty that do not fit.
    """
    method, penalty, signed = options.get("method", "omp"), options.get("penalty"), options.get("signed", True)
    templates, directions, images = options.get("templates"), options.get("directions"), options.get("images")
    concepts = [concepts] if isinstance(concepts, str) else list(concepts)
    if not concepts:
        raise Refused("no concept given; give a word or a sentence")
    prompts(concepts, templates)  # refuses a bad concept before common words join it
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
    by_positive: bool = False,
) -> tuple[Term, ...]:
    """The terms of an equation from the weights of the neurons: the `limit` largest, positive ones first.

    `removed` neurons are left out (in the paper, neurons that read letters). Weights are divided by the largest
    magnitude; those larger than `least` are kept. Within each sign the largest come first. Neurons without a name are
    shown by number. `by_positive`: the rule by which Goh et al. 2021 print figures 9 to 12. It divides by the largest
    positive weight (if there is one, not below `least` of the largest magnitude), so a negative weight may be larger
    than 1; and if there are more than `limit` terms, negative ones are left out first.
    """
    left = {neuron: weight for neuron, weight in weights.items() if neuron not in removed and weight}
    if not left:
        return ()
    positive, scale = max(left.values()), max(map(abs, left.values()))
    by_size = sorted(left.items(), key=lambda item: -abs(item[1]))
    ordered = sorted(by_size if by_positive else by_size[:limit], key=lambda item: item[1] < 0)  # a stable sort
    if by_positive and positive > max(least * scale, 0):  # else a term could read -1,437 times a neuron
        scale = positive
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
    """Short names of neurons: the first `most` parts of each name in the Store (`atlas.analysis.naming`).

    Without a Store, or without a name in the Store, a neuron is named by the word of `words` whose embedding, centred
    on the mean of all words, is nearest to its basis row.
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
    """Basis rows at unit norm; 0 for neurons that never fire in the Store, so that they are never selected."""
    rows = scaled_rows(V)
    if store is not None:
        rows[response_spread(store, clip, directions) == 0] = 0
    return rows


def _vocabulary() -> tuple[str, ...]:
    """The words of emoji names, and the emotions; only the emotions if the packages of word lists are missing."""
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
    """Codes of the first `targets` concepts (all by default); logistic tells these from all other concepts too."""
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
    """The equations with receipts of all their terms, measured together."""
    terms = [(each.concept, term) for each in found for term in each.terms]
    if not terms:
        return list(found)
    numbers = [term.neuron for _, term in terms]
    tried = Directions.neurons(numbers, clip.neurons) if directions is None else directions[numbers]
    signs = [1 if term.weight > 0 else -1 for _, term in terms]
    receipts = iter(receipt(clip, images, [concept for concept, _ in terms], tried, templates, signs))
    return [replace(each, receipts=tuple(islice(receipts, 2 * len(each.terms)))) for each in found]


def _sum(terms: Sequence[Term]) -> str:
    """The sum as text, "success + hug + 0.2 grumpy - crying"; neurons with the same name are told apart by number."""
    shown, names = [], [term.label for term in terms]
    for term in terms:
        size = abs(term.weight)
        number = f"{size:.1g}" if size < 1 else f"{size:.1f}"
        sign = "- " if term.weight < 0 else "+ "
        name = term.label if names.count(term.label) == 1 else f"{term.label} [{term.neuron}]"
        shown.append(sign + ("" if float(number) == 1 else f"{number} ") + name)
    return " ".join(shown).removeprefix("+ ")
