"""Rank neurons for a text: by what they add to its logit, and by their responses to the images near it.

Nothing here needs PyTorch: the ranking is of arrays, or of a Store's.

    W (u, e) basis    X (t, e) text embeddings: the query, then random texts    A (n, u) activations
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from atlas.analysis.kept_model import KeptModel, NotKept
from atlas.analysis.naming import PARTS_OF_NAME, NeuronNames
from atlas.analysis.significance import moderated_scores, p_values, q_values, random_texts
from atlas.arrays import accepts
from atlas.errors import Refused
from atlas.model.directions import Directions
from atlas.store.store import Store
from atlas.vectors import Rows
from decompose.prompting import Templates, concept_embeddings, prompts
from decompose.renderings import spread_over_things
from decompose.responses import LOGIT_SCALE, Responses, check_rows

_SEARCHES = ("basis", "response", "both")
RANDOM_TEXTS = 500  # that a query is compared with
LEAST_TEXTS = 100  # of fewer texts p-values are too small


def rank_in_store(
    store: Store,
    X: Float[np.ndarray, "t e"],
    W: Float[np.ndarray, "u e"],
    k: int = 10,
    by: str | None = None,
    scale: float = LOGIT_SCALE,
    directions: Directions | None = None,
) -> pa.Table:
    """The k neurons of a Store that contribute most to the text X[0]; X[1:] are other texts to compare with.

    As `rank_neurons`, with the activations and embeddings of all the Store's images and rendered words.
    """
    by = check_way(by, True, k)
    seen = [kind for kind in ("image", "word") if kind in store.counts]
    if by == "response" and not seen:
        raise Refused(f"{store.path} holds neither images nor words that neurons could respond to; search by basis")
    given, answered = X @ (W if directions is None else directions.basis(W)).T, []
    if seen:
        given *= spread_over_things(store, directions)
    if by != "basis":
        pairs = ((Responses.of(store, kind, directions), store.array("embedding", kind)) for kind in seen)
        answered = [response_evidence(answers, E, X, scale) for answers, E in pairs]
    return _ranked(given, answered, by, k)


@accepts(x=1, null=2, W=2, A=2, E=2, weights=1)
def rank_neurons(
    x: Float[np.ndarray, " e"],
    null: Float[np.ndarray, "m e"],
    W: Float[np.ndarray, "u e"],
    A: Rows | None = None,
    E: Rows | None = None,
    k: int = 10,
    by: str | None = None,
    scale: float = LOGIT_SCALE,
    weights: Float[np.ndarray, " n"] | None = None,
) -> pa.Table:
    """The k neurons that contribute most to a text, from plain arrays; columns and scores of `neurons_of_text`.

    `x`: (e,) embedding of the text, of unit norm.
    `null`: (m, e) embeddings of some 500 other texts to compare with, of unit norm, such as those of
    `atlas.analysis.significance.random_texts(text, 500)`.
    `W`: (u, e) basis, the change of an embedding for one unit of each neuron.
    `A`: (n, u) activations on n images, an array or a memory map, read in blocks. With it, attribution is for one
    standard deviation of the neuron, and a constant neuron scores 0.
    `E`: (n, e) embeddings of these images, of unit norm; "response" and "both" need it, and `A`.
    `scale`: inverse temperature of CLIP's cosines.
    `weights`: (n,) positive weights of the images in the standard deviation; equal by default (`Things.weights`).

    Raises Refused as `neurons_of_text` does, for arrays of different lengths, and for numbers that are not finite.
    """
    by = check_way(
        by, A is not None and E is not None, k, "activations and embeddings of the same images: give A= and E="
    )
    check_random(len(null))
    X = np.vstack([x, null])
    given, answered = X @ W.T, []
    for name, array in (("x", x), ("null", null), ("W", W)):
        if not np.isfinite(array).all():
            raise Refused(f"{name} holds numbers that are not finite")
    if A is not None:
        answers = Responses(A)
        check_rows(answers.width, W=W)
        check_rows(len(A), E=E, weights=weights)
        given = given * answers.deviation(weights)
        answered = [] if E is None or by == "basis" else [response_evidence(answers, E, X, scale)]
    return _ranked(given, answered, by, k)


def search_kept(
    store: Store, query: str, k: int = 10, by: str | None = None, templates: Templates = None
) -> pa.Table | None:
    """As `neurons_of_text` with a Store, from what is kept of its model, which is not loaded.

    None if the Store holds no basis, or if the model has not embedded the query before.
    """
    if (model := KeptModel.of(store)) is None:
        return None
    prompts(query, templates)  # refuses a bad query before random texts join it
    try:
        X = concept_embeddings(model, [query, *random_texts(query, RANDOM_TEXTS)], templates)
    except NotKept:
        return None
    found = rank_in_store(store, X, model.W, k, by, model.logit_scale)
    names = NeuronNames.read(store)
    labels = [", ".join(names[neuron].parts[:PARTS_OF_NAME]) for neuron in found["neuron"].to_pylist()]
    return found.append_column("label", pa.array(labels, pa.string()))


def response_evidence(
    answers: Responses, E: Rows, X: Float[np.ndarray, "t e"], scale: float
) -> Float[np.ndarray, "t u"]:
    """Mean responses over rows, weighted by the softmax of the cosines of each text with the rows' embeddings E.

    `scale`: the model's inverse temperature. Rows are read in one pass, in blocks.
    """
    total, norm = np.zeros((len(X), 0)), np.zeros(len(X))
    for rows, A in answers:
        nearness = np.exp(scale * (X @ E[rows[0] : rows[-1] + 1].astype(np.float32).T - 1).astype(np.float64))
        part = nearness @ A
        total = part if not total.size else total + part
        norm += nearness.sum(1)
    if not np.isfinite(norm).all():
        raise Refused("the embeddings E hold numbers that are not finite; leave those rows out")
    return total / norm[:, None]


def check_way(by: str | None, can_answer: bool, k: int, needed: str = "") -> str:
    """What to rank by; both where responses are known, else basis. Raises Refused if that cannot be, and for k < 1."""
    if k < 1:
        raise Refused(f"k={k}: ask for at least one neuron")
    by = by or ("both" if can_answer else "basis")
    if by not in _SEARCHES:
        raise Refused(f"by={by!r}: neurons are searched by {', '.join(_SEARCHES)}")
    if by != "basis" and not can_answer:
        raise Refused(f"by={by!r} needs {needed}, or search by basis")
    return by


def check_random(texts: int) -> None:
    """Raise Refused if a query is compared with too few texts."""
    if texts < LEAST_TEXTS:
        raise Refused(f"{texts} random texts to compare with; give at least {LEAST_TEXTS}, some 500 for small p-values")


def rank_attributions(given: Float[np.ndarray, "t u"], k: int) -> pa.Table:
    """The k neurons that contribute most to the first text; `given`: attributions of it, and of texts to compare."""
    return _ranked(given, [], "basis", k)


def _ranked(given: Float[np.ndarray, "t u"], answered: Sequence[Float[np.ndarray, "t u"]], by: str, k: int) -> pa.Table:
    """The k best neurons for the first text. `given`: attributions of all texts; `answered`: their mean responses."""
    parts = [*([given] if by != "response" else []), *answered]
    Z = np.mean([moderated_scores(part, part) for part in parts], axis=0)  # the query is one of the texts compared
    Z[:, ~given.any(0)] = 0
    best = np.argsort(-Z[0], kind="stable")[:k]
    p = p_values(Z[0], Z[1:])
    columns = {
        "neuron": best,
        "score": Z[0, best].astype(np.float32),
        "p": p[best],
        "q": q_values(p)[best],
        "attribution": (given[0] - given[1:].mean(0))[best].astype(np.float32),
    }
    return pa.table(columns)
