"""Neurons that behave alike: within a Store or a matrix of activations, and between two models that saw the same rows.

A (n, u) activations    W (u, e) basis    u, v neurons of one model and of another
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from atlas.analysis import parts
from atlas.analysis.naming import NeuronNames
from atlas.analysis.significance import p_values, q_values
from atlas.analysis.stats import TOP
from atlas.errors import Refused
from atlas.model.directions import Directions
from atlas.store.store import Store
from atlas.vectors import Comoments, Rows, cosines
from decompose import responses
from decompose.responses import Responses, check_rows, default_kind

_LIKENESSES = ("response", "basis", "images")
_LEAST_SHARED_ROWS = 30  # shared rows below which correlations say nothing
_ROW_SHUFFLES = 10  # of the shared rows, for the null; each gives as many draws as it has mutual pairs

_Alike = dict[str, np.ndarray]  # how like every neuron one of them is, in each of WAYS


def similar_neurons(store: Store, neuron: int | Directions, k: int = 10, by: str = "response") -> pa.Table:
    """The k neurons that behave most like a neuron, or like a direction: neuron, response, basis, images, label.

    response    correlation of responses to the Store's images (to its words, where it has no images)
    basis       cosine of basis rows; null where the Store has no neurons/basis
    images      overlap of the strongest images: shared, of all in either list
    label       what the neuron is called (`atlas.analysis.naming`); null where nothing is known of it

    `by` names the column they are ranked by. Raises Refused for another, for a neuron out of range, for several
    directions, and where the Store has no statistics yet.
    """
    _check(k, by, store.has(parts.BASIS), f"{store.path} has no neurons/basis; make it: atlas stats {store.path}")
    alike = _of_direction(store, neuron) if isinstance(neuron, Directions) else _of_neuron(store, neuron)
    return _named(_ranked(alike, neuron, k, by), "neuron", store, "label")


def compare_neurons(
    A: Rows, neuron: int | Directions, k: int = 10, by: str = "response", W: Float[np.ndarray, "u e"] | None = None
) -> pa.Table:
    """`nearest` of plain arrays: neuron, response (Pearson's r), basis (cosine), images (Jaccard); best first.

    A   (n, u) activations, a row an image: an array or a memory map, read in blocks; any unit, as r has none
    W   (u, e) basis, what a unit of each neuron adds to an embedding; without it `basis` is null

    `neuron` is one of the u, or one direction of the layer. Raises Refused as `nearest` does, for arrays that do not
    fit together, and by="basis" without W.
    """
    _check(k, by, W is not None, "by='basis' needs W, the basis: give W=")
    answers, basis = Responses(A), np.full(A.shape[1], np.nan)
    check_rows(answers.width, W=W)
    if isinstance(neuron, Directions):
        one = Responses(A, _single(neuron))
    else:
        neuron = checked_neuron(neuron, answers.width, "A")
        one = answers.columns(slice(neuron, neuron + 1))
    if W is not None:
        basis = cosines(W, neuron.basis(W) if isinstance(neuron, Directions) else W[neuron][None])[:, 0]
    overlap = _overlap(answers.strongest(TOP)[0], one.strongest(TOP)[0][0])
    return _ranked({"response": _along(one, answers), "basis": basis, "images": overlap}, neuron, k, by)


def universality(
    one: Store, other: Store, kind: str | None = None, shuffles: int = _ROW_SHUFFLES, seed: int = 0
) -> pa.Table:
    """Neurons of two models that are each other's nearest by response: `match_neurons` of two Stores.

    Responses are correlated over the rows of a kind (by default images, else words) whose ids both Stores hold.
    Besides there are label and other_label, what the Stores call the two (null where they do not). Raises Refused where
    fewer than 30 rows are shared.
    """
    kind = kind or next((each for each in ("image", "word") if each in one.counts and each in other.counts), "image")
    found = _matched(one.array("max", kind), other.array("max", kind), *_shared(one, other, kind), shuffles, seed)
    return _named(_named(found, "neuron", one, "label"), "other", other, "other_label")


def match_neurons(A: Rows, B: Rows, shuffles: int = _ROW_SHUFFLES, seed: int = 0) -> pa.Table:
    """Neurons of two models that are each other's nearest: neuron, other, correlation, p, q; best first.

    A (n, u) and B (n, v) are activations on the same n rows, in the same order: arrays or memory maps, read in blocks;
    any units, as Pearson's r has none.
    p is the share of pairs as good among those that are each other's nearest when one model's rows are shuffled; rows
    that resemble each other, as drawings of one thing by several vendors do, count as many there, which makes p too
    small.
    Raises Refused where A and B differ in their rows, or have fewer than 30.
    """
    check_rows(len(Responses(A)), B=Responses(B).array)
    if len(A) < _LEAST_SHARED_ROWS:
        raise Refused(
            f"A and B have {len(A)} rows, and {_LEAST_SHARED_ROWS} are needed for correlations to say anything"
        )
    return _matched(A, B, np.arange(len(A)), np.arange(len(A)), shuffles, seed)


def checked_neuron(neuron: int, count: int, where: str, what: str = "neuron") -> int:
    """The neuron's number; Refused if there is no such neuron."""
    if not 0 <= neuron < count:
        raise Refused(f"{what} {neuron} is out of range: {where} has {what}s 0 to {count - 1}")
    return int(neuron)


# -- one neuron beside all others --------------------------------------------------------------------------------------


def _check(k: int, by: str, has_basis: bool, without: str) -> None:
    if by not in _LIKENESSES:
        raise Refused(f"by={by!r}: neurons are compared by {', '.join(_LIKENESSES)}")
    if k < 1:
        raise Refused(f"k={k}: ask for at least one neuron")
    if by == "basis" and not has_basis:
        raise Refused(without)


def _ranked(alike: _Alike, neuron: int | Directions, k: int, by: str) -> pa.Table:
    """The k most alike in one of the ways, the neuron itself left out."""
    order = np.argsort(-alike[by], kind="stable")
    order = order[order != (-1 if isinstance(neuron, Directions) else neuron)][:k]
    table: dict[str, Any] = {"neuron": order} | {name: alike[name][order].astype(np.float32) for name in _LIKENESSES}
    return pa.table({name: pa.array(values, from_pandas=True) for name, values in table.items()})


def _of_neuron(store: Store, neuron: int) -> _Alike:
    """From what atlas stats made."""
    correlation = np.load(store.derived(parts.STATS) / "correlation.npy", mmap_mode="r")
    neuron = checked_neuron(neuron, len(correlation), str(store.path))
    top, W = _tops(store), _basis(store)
    basis = np.full(len(top), np.nan) if W is None else cosines(W, W[neuron][None])[:, 0]
    return {"response": np.asarray(correlation[neuron]), "basis": basis, "images": _overlap(top, top[neuron])}


def _of_direction(store: Store, direction: Directions) -> _Alike:
    """The same of a direction, in passes over the Store."""
    kind, top, W = default_kind(store), _tops(store), _basis(store)
    one, answers = Responses.of(store, kind, _single(direction)), Responses.of(store, kind)
    rows = store.positions(kind)[one.strongest(top.shape[1])[0][0]]
    basis = np.full(len(top), np.nan) if W is None else cosines(W, direction.basis(W))[:, 0]
    return {"response": _along(one, answers), "basis": basis, "images": _overlap(top, rows)}


def _named(found: pa.Table, neurons: str, store: Store, column: str) -> pa.Table:
    """With one more column: what the Store calls the neurons of another."""
    names = NeuronNames.read(store)
    called = [str(name) if (name := names[i]).source != "number" else None for i in found[neurons].to_pylist()]
    return found.append_column(column, pa.array(called, pa.string()))


def _single(direction: Directions) -> Directions:
    if len(direction) != 1:
        raise Refused(f"nearest takes one direction, got {len(direction)}: choose one, such as directions[0]")
    return direction


def _along(one: Responses, all_: Responses) -> Float[np.ndarray, " u"]:
    """Correlation of one response with all."""
    return _correlation((Z, A) for (_, Z), (_, A) in zip(one, all_, strict=True))[0]


def _tops(store: Store) -> Int[np.ndarray, "u k"]:
    column = pq.read_table(store.derived(parts.STATS) / f"{default_kind(store)}.parquet", columns=["top"])["top"]
    return np.stack(column.to_numpy())[:, :TOP]


def _basis(store: Store) -> Float[np.ndarray, "u e"] | None:
    return np.load(store.derived(parts.BASIS) / "basis.npy") if store.has(parts.BASIS) else None


def _overlap(top: Int[np.ndarray, "u k"], rows: Int[np.ndarray, " k"]) -> Float[np.ndarray, " u"]:
    """Shared rows, of all in either list (Jaccard)."""
    shared = np.isin(top, rows).sum(1)
    return shared / (top.shape[1] + len(rows) - shared)


# -- the neurons of one model beside those of another ------------------------------------------------------------------


def _matched(A: Rows, B: Rows, rows: np.ndarray, others: np.ndarray, shuffles: int, seed: int) -> pa.Table:
    """Mutually nearest columns of A and B over pairs of rows, beside those of shuffled pairs."""
    here, there, score = _mutual(_cross(A, B, rows, others))
    random = np.random.default_rng(seed)
    null = [_mutual(_cross(A, B, rows, random.permutation(others)))[2] for _ in range(shuffles)]
    p = p_values(score, np.concatenate(null))
    columns = {"neuron": here, "other": there, "correlation": score.astype(np.float32), "p": p}
    order = np.argsort(-score, kind="stable")
    return pa.table({name: values[order] for name, values in (columns | {"q": q_values(p)}).items()})


def _mutual(
    C: Float[np.ndarray, "u v"],
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Rows and columns that are each other's largest, and the entry where they meet, if it is above 0."""
    best = C.argmax(1)
    rows = np.flatnonzero((C.argmax(0)[best] == np.arange(len(C))) & (C.max(1) > 0))
    return rows, best[rows], C[rows, best[rows]]


def _shared(one: Store, other: Store, kind: str) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Rows (within the kind) of either Store that carry the same id."""
    ids = (store.table(["id"], kind)["id"].to_numpy() for store in (one, other))
    here, there = np.intersect1d(*ids, return_indices=True)[1:]
    if len(here) < _LEAST_SHARED_ROWS:
        raise Refused(
            f"{one.path} and {other.path} share {len(here)} {kind}s by id, and {_LEAST_SHARED_ROWS} are needed: "
            "collect the same source with both models"
        )
    order = np.argsort(here)  # read in the order they lie
    return here[order], there[order]


def _cross(A: Any, B: Any, rows: np.ndarray, others: np.ndarray) -> Float[np.ndarray, "u v"]:
    """Correlations between the columns of A and B over pairs of rows, read a block at a time."""
    blocks = (slice(start, start + responses.RESPONSE_BLOCK) for start in range(0, len(rows), responses.RESPONSE_BLOCK))
    return _correlation((A[rows[at]], B[others[at]]) for at in blocks)


def _correlation(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> Float[np.ndarray, "u v"]:
    """Pearson correlations between the columns of A (n, u) and B (n, v), given in blocks; 0 where one never changes."""
    found: Comoments | None = None
    for A, B in pairs:
        part = Comoments.of(A, B)
        found = part if found is None else found.merge(part)
    if found is None:
        raise Refused("there are no rows to correlate responses over")
    if not (np.isfinite(found.m2_a).all() and np.isfinite(found.m2_b).all()):
        raise Refused("activations hold numbers that are not finite; leave those rows out")
    return found.correlation()
