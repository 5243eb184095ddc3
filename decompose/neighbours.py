"""Similar neurons: within one Store or matrix of activations, and between two models run on the same rows.

A (n, u) activations    W (u, e) basis    u, v neurons of one model and of another
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from atlas.analysis import parts
from atlas.analysis.naming import NeuronNames
from atlas.analysis.significance import p_values, q_values
from atlas.analysis.stats import TOP_ROWS
from atlas.arrays import accepts, given_number
from atlas.errors import Refused
from atlas.model.directions import Directions
from atlas.store.store import Store
from atlas.vectors import Comoments, Rows, cosines
from decompose import responses
from decompose.responses import Responses, check_rows, default_kind, picked_rows

_LIKENESSES = ("response", "basis", "images")
_LEAST_SHARED_ROWS = 30  # shared rows that correlations need
_ROW_SHUFFLES = 10  # of the shared rows, for the null; each shuffle gives one draw a mutual pair

_Alike = dict[str, np.ndarray]  # similarity of every neuron to one of them, for each column of `_LIKENESSES`


def similar_neurons(store: Store, neuron: int | Directions, k: int = 10, by: str = "response") -> pa.Table:
    """The k neurons most similar to a neuron, or to one direction: neuron, response, basis, images, label; best first.

    response    correlation (Pearson's r) of the responses to the Store's images, or to its words without images
    basis       cosine of the basis rows; null if the Store has no neurons/basis
    images      overlap (Jaccard index) of the images that activate both most
    label       the neuron's name (`atlas.analysis.naming`); null if it has none

    `by`: the column to rank by, one of the first three. Raises Refused for another column, a neuron out of range,
    several directions, and a Store without statistics.
    """
    _check(k, by, store.has(parts.BASIS), f"{store.path} has no neurons/basis; make it: atlas stats {store.path}")
    alike = _of_direction(store, neuron) if isinstance(neuron, Directions) else _of_neuron(store, neuron)
    return _named(_ranked(alike, neuron, k, by), "neuron", store, "label")


@accepts(A=2, W=2, neuron="whole number")
def compare_neurons(
    A: Rows, neuron: int | Directions, k: int = 10, by: str = "response", W: Float[np.ndarray, "u e"] | None = None
) -> pa.Table:
    """The k neurons most similar to a neuron, from plain arrays; columns and `by` are those of `similar_neurons`.

    `A`: (n, u) activations, one row an image: an array or a memory map, read in blocks; in any unit.
    `W`: (u, e) basis, the change of an embedding for one unit of each neuron; without it `basis` is null.

    Raises Refused as `similar_neurons` does, for arrays of different lengths, and for by="basis" without `W`.
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
    overlap = _overlap(answers.strongest(TOP_ROWS)[0], one.strongest(TOP_ROWS)[0][0])
    return _ranked({"response": _along(one, answers), "basis": basis, "images": overlap}, neuron, k, by)


def universality(
    one: Store, other: Store, kind: str | None = None, shuffles: int = _ROW_SHUFFLES, seed: int = 0
) -> pa.Table:
    """Neurons of two models that are each other's nearest by response: `match_neurons` of two Stores, with names.

    Responses are correlated over the rows of a `kind` (images, or words without images) whose ids are in both Stores.
    Two columns more, label and other_label, are the names of the two neurons (null for a neuron without a name). Raises
    Refused if fewer than 30 rows are shared.
    """
    kind = kind or next((each for each in ("image", "word") if each in one.counts and each in other.counts), "image")
    found = _matched(one.array("max", kind), other.array("max", kind), *_shared(one, other, kind), shuffles, seed)
    return _named(_named(found, "neuron", one, "label"), "other", other, "other_label")


@accepts(A=2, B=2)
def match_neurons(A: Rows, B: Rows, shuffles: int = _ROW_SHUFFLES, seed: int = 0) -> pa.Table:
    """Neurons of two models that are each other's nearest: neuron, other, correlation, p, q; best first.

    `A` (n, u) and `B` (n, v): activations of the two models on the same n rows, in the same order: arrays or memory
    maps, read in blocks; in any unit. `shuffles`: how often the rows of one model are shuffled for the null.

    p is the share of mutually nearest pairs of shuffled rows that correlate as strongly. Shuffling treats rows as
    independent, so p is too small if many rows are similar, such as drawings of one thing by several vendors.
    Raises Refused if `A` and `B` have different numbers of rows, or fewer than 30.
    """
    check_rows(len(Responses(A)), B=Responses(B).array)
    if len(A) < _LEAST_SHARED_ROWS:
        raise Refused(f"A and B have {len(A)} rows, and {_LEAST_SHARED_ROWS} are needed for correlations")
    return _matched(A, B, np.arange(len(A)), np.arange(len(A)), shuffles, seed)


def checked_neuron(neuron: int, count: int, where: str, what: str = "neuron") -> int:
    """The neuron's number. Raises Refused if there is no such neuron."""
    neuron = given_number(neuron, "whole number", what)
    if not 0 <= neuron < count:
        raise Refused(f"{what} {neuron} is out of range: {where} has {what}s 0 to {count - 1}")
    return neuron


# -- one neuron and all others ----------------------------------------------------------------------------------------


def _check(k: int, by: str, has_basis: bool, without: str) -> None:
    if by not in _LIKENESSES:
        raise Refused(f"by={by!r}: neurons are compared by {', '.join(_LIKENESSES)}")
    if k < 1:
        raise Refused(f"k={k}: ask for at least one neuron")
    if by == "basis" and not has_basis:
        raise Refused(without)


def _ranked(alike: _Alike, neuron: int | Directions, k: int, by: str) -> pa.Table:
    """The k neurons most similar by one column, without the neuron itself."""
    order = np.argsort(-alike[by], kind="stable")
    order = order[order != (-1 if isinstance(neuron, Directions) else neuron)][:k]
    table = {"neuron": order} | {name: alike[name][order].astype(np.float32) for name in _LIKENESSES}
    return pa.table({name: pa.array(values, from_pandas=True) for name, values in table.items()})


def _of_neuron(store: Store, neuron: int) -> _Alike:
    """Similarities to a neuron, from the statistics that atlas stats wrote."""
    correlation = np.load(store.derived(parts.STATS) / "correlation.npy", mmap_mode="r")
    neuron = checked_neuron(neuron, len(correlation), str(store.path))
    top, W = _tops(store), _basis(store)
    basis = np.full(len(top), np.nan) if W is None else cosines(W, W[neuron][None])[:, 0]
    return {"response": np.asarray(correlation[neuron]), "basis": basis, "images": _overlap(top, top[neuron])}


def _of_direction(store: Store, direction: Directions) -> _Alike:
    """Similarities to a direction, computed in passes over the Store."""
    kind, top, W = default_kind(store), _tops(store), _basis(store)
    one, answers = Responses.of(store, kind, _single(direction)), Responses.of(store, kind)
    rows = store.positions(kind)[one.strongest(top.shape[1])[0][0]]
    basis = np.full(len(top), np.nan) if W is None else cosines(W, direction.basis(W))[:, 0]
    return {"response": _along(one, answers), "basis": basis, "images": _overlap(top, rows)}


def _named(found: pa.Table, neurons: str, store: Store, column: str) -> pa.Table:
    """The table with one more column: the names of the neurons in the column `neurons`."""
    names = NeuronNames.read(store)
    called = [str(name) if (name := names[i]).source != "number" else None for i in found[neurons].to_pylist()]
    return found.append_column(column, pa.array(called, pa.string()))


def _single(direction: Directions) -> Directions:
    if len(direction) != 1:
        raise Refused(f"neurons are compared to one direction, got {len(direction)}: choose one, as directions[0]")
    return direction


def _along(one: Responses, all_: Responses) -> Float[np.ndarray, " u"]:
    """Correlations of one response with all others."""
    return _correlation((Z, A) for (_, Z), (_, A) in zip(one, all_, strict=True))[0]


def _tops(store: Store) -> Int[np.ndarray, "u k"]:
    column = pq.read_table(store.derived(parts.STATS) / f"{default_kind(store)}.parquet", columns=["top"])["top"]
    return np.stack(column.to_numpy())[:, :TOP_ROWS]


def _basis(store: Store) -> Float[np.ndarray, "u e"] | None:
    return np.load(store.derived(parts.BASIS) / "basis.npy") if store.has(parts.BASIS) else None


def _overlap(top: Int[np.ndarray, "u k"], rows: Int[np.ndarray, " k"]) -> Float[np.ndarray, " u"]:
    """Jaccard index of each neuron's strongest rows with the given rows."""
    shared = np.isin(top, rows).sum(1)
    return shared / (top.shape[1] + len(rows) - shared)


# -- the neurons of one model and those of another ---------------------------------------------------------------------


def _matched(A: Rows, B: Rows, rows: np.ndarray, others: np.ndarray, shuffles: int, seed: int) -> pa.Table:
    """Mutually nearest columns of A and B over pairs of rows, tested against shuffled pairs."""
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
    """Rows and columns of C whose common entry is the largest of both and above 0, and that entry."""
    best = C.argmax(1)
    rows = np.flatnonzero((C.argmax(0)[best] == np.arange(len(C))) & (C.max(1) > 0))
    return rows, best[rows], C[rows, best[rows]]


def _shared(one: Store, other: Store, kind: str) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Rows (within the kind) of both Stores that have the same id."""
    ids = (store.table(["id"], kind)["id"].to_numpy() for store in (one, other))
    here, there = np.intersect1d(*ids, return_indices=True)[1:]
    if len(here) < _LEAST_SHARED_ROWS:
        raise Refused(
            f"{one.path} and {other.path} share {len(here)} {kind}s by id, and {_LEAST_SHARED_ROWS} are needed: "
            "collect the same source with both models"
        )
    order = np.argsort(here)  # in stored order, which reads fastest
    return here[order], there[order]


def _cross(A: Rows, B: Rows, rows: np.ndarray, others: np.ndarray) -> Float[np.ndarray, "u v"]:
    """Correlations between the columns of A and B over pairs of rows, read a block at a time."""
    blocks = (slice(start, start + responses.RESPONSE_BLOCK) for start in range(0, len(rows), responses.RESPONSE_BLOCK))
    return _correlation((picked_rows(A, rows[at]), picked_rows(B, others[at])) for at in blocks)


def _correlation(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> Float[np.ndarray, "u v"]:
    """Pearson correlations between the columns of A (n, u) and B (n, v), given in blocks; 0 for a constant column."""
    found: Comoments | None = None
    for A, B in pairs:
        part = Comoments.of(A, B)
        found = part if found is None else found.merge(part)
    if found is None:
        raise Refused("there are no rows to correlate responses over")
    for name, squares in (("A", found.m2_a), ("B", found.m2_b)):
        if not np.isfinite(squares).all():
            raise Refused(f"{name} holds numbers that are not finite; leave those rows out")
    return found.correlation()
