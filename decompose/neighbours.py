"""Neurons that behave alike: within a Store, and between two models that saw the same rows.

A (n, u) activations    W (u, e) basis    u, v neurons of one model and of another
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from atlas.derivation import cosines
from atlas.errors import Refused
from atlas.stats import TOP, Extremes
from atlas.store import Store
from decompose.directions import Directions
from decompose.significance import p_values, q_values

WAYS = ("response", "basis", "images")
BLOCK = 4096  # rows read at a time
ENOUGH = 30  # shared rows below which correlations say nothing
SHUFFLES = 10  # of the shared rows, for the null; each gives as many draws as it has mutual pairs
SCATTER = 2654435761  # odd, so that row -> SCATTER * row is one to one modulo 2^32


def responses(
    store: Store, kind: str, directions: Directions | None = None
) -> Iterator[tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n k"]]]:
    """Activations of all neurons, or of directions, a block of a kind's rows at a time: (rows within the kind, A).

    A neuron answers with its largest activation over positions, as in atlas stats; a direction with its reading of
    their mean over positions, for a Store keeps no maps. That is the mean of its readings where these are linear; of
    a rectified one, such as an autoencoder's latent with a bias, it is less (Jensen's inequality), and 0 where the
    direction fires at a few positions only. `decompose.receipt` reads the map itself.
    """
    array = store.array("mean" if directions else "max", kind)
    if directions and directions.width != array.shape[1]:
        raise Refused(f"the directions are of {directions.width} neurons, {store.path} has {array.shape[1]}")
    for start in range(0, len(array), BLOCK):
        A = array[start : start + BLOCK].astype(np.float32)
        yield np.arange(start, start + len(A)), directions.activations(A) if directions else A


def strongest(
    store: Store, kind: str, k: int, directions: Directions | None = None
) -> tuple[Int[np.ndarray, "u k"], Float[np.ndarray, "u k"]]:
    """The k rows (within the kind) that each neuron or direction answers to most, and how much, strongest first.

    Of equal answers, such as a dead neuron's, rows scattered over the Store are taken: neighbouring rows are alike.
    """
    found: Extremes | None = None
    for rows, A in responses(store, kind, directions):
        part = Extremes.of(A, scattered(rows), k)
        found = part if found is None else found.merge(part)
    if found is None:
        raise Refused(f"{store.path} holds no rows of kind {kind}; it holds {', '.join(store.counts)}")
    rows, values = found.top
    return gathered(rows), values


def scattered(rows: Int[np.ndarray, "*shape"]) -> Int[np.ndarray, "*shape"]:
    """Numbers that go in no order as rows do: of equal answers the rows with the least of these are taken."""
    return rows * SCATTER % 2**32


def gathered(numbers: Int[np.ndarray, "*shape"]) -> Int[np.ndarray, "*shape"]:
    """The rows of scattered numbers."""
    return numbers * pow(SCATTER, -1, 2**32) % 2**32


def nearest(store: Store, neuron: int | Directions, k: int = 10, by: str = "response") -> pa.Table:
    """The k neurons that behave most like a neuron, or like a direction: neuron, response, basis, images.

    response    correlation of responses to the Store's images (to its words, where it has no images)
    basis       cosine of basis rows; null where the Store has no neurons/basis
    images      overlap of the strongest images: shared, of all in either list

    `by` names the column they are ranked by. Raises Refused for another, for a neuron out of range, for several
    directions, and where the Store has no statistics yet.
    """
    if by not in WAYS:
        raise Refused(f"by={by!r}: neurons are compared by {', '.join(WAYS)}")
    if k < 1:
        raise Refused(f"k={k}: ask for at least one neuron")
    columns = _of_neuron(store, neuron) if isinstance(neuron, int | np.integer) else _of_direction(store, neuron)
    if by == "basis" and not store.has("neurons/basis"):
        raise Refused(f"{store.path} has no neurons/basis; make it: atlas stats {store.path}")
    others = np.arange(len(columns["response"]))
    order = np.argsort(-columns[by], kind="stable")
    order = order[others[order] != (neuron if isinstance(neuron, int | np.integer) else -1)][:k]
    table: dict[str, Any] = {"neuron": order} | {name: columns[name][order].astype(np.float32) for name in WAYS}
    return pa.table({name: pa.array(values, from_pandas=True) for name, values in table.items()})


def universality(
    one: Store, other: Store, kind: str | None = None, shuffles: int = SHUFFLES, seed: int = 0
) -> pa.Table:
    """Neurons of two models that are each other's nearest by response: neuron, other, correlation, p, q; best first.

    Responses are correlated over the rows of a kind (by default images, else words) whose ids both Stores hold.
    p is the share of pairs as good among those that are each other's nearest when one model's rows are shuffled; rows
    that resemble each other, as drawings of one thing by several vendors do, count as many there, which makes p too
    small.
    Raises Refused where fewer than 30 rows are shared.
    """
    kind = kind or next((each for each in ("image", "word") if each in one.counts and each in other.counts), "image")
    rows = _shared(one, other, kind)
    here, there, score = _mutual(_cross(one, other, kind, *rows))
    random = np.random.default_rng(seed)
    null = [_mutual(_cross(one, other, kind, rows[0], random.permutation(rows[1])))[2] for _ in range(shuffles)]
    p = p_values(score, np.concatenate(null))
    columns = {"neuron": here, "other": there, "correlation": score.astype(np.float32), "p": p}
    order = np.argsort(-score, kind="stable")
    return pa.table({name: values[order] for name, values in (columns | {"q": q_values(p)}).items()})


def looked_at(store: Store) -> str:
    """The kind of rows that neurons are judged by: images, or rendered words where there are none."""
    kind = next((kind for kind in ("image", "word") if kind in store.counts), None)
    if kind is None:
        raise Refused(f"{store.path} holds neither images nor words that neurons answer to; collect some")
    return kind


def checked(neuron: int, count: int, where: str, what: str = "neuron") -> int:
    """The neuron's number; Refused if there is no such neuron."""
    if not 0 <= neuron < count:
        raise Refused(f"{what} {neuron} is out of range: {where} has {what}s 0 to {count - 1}")
    return int(neuron)


def _of_neuron(store: Store, neuron: int) -> dict[str, np.ndarray]:
    """How like every neuron of the Store one of them is, from what atlas stats made."""
    folder = store.derived("neurons/stats")
    correlation = np.load(folder / "correlation.npy", mmap_mode="r")
    neuron = checked(neuron, len(correlation), str(store.path))
    top = _tops(store)
    W = _basis(store)
    basis = np.full(len(top), np.nan) if W is None else cosines(W, W[neuron][None])[:, 0]
    return {"response": np.asarray(correlation[neuron]), "basis": basis, "images": _overlap(top, top[neuron])}


def _of_direction(store: Store, direction: Directions) -> dict[str, np.ndarray]:
    """The same of a direction, in one pass over the Store."""
    if len(direction) != 1:
        raise Refused(f"nearest takes one direction, got {len(direction)}: choose one, such as directions[0]")
    kind, top = looked_at(store), _tops(store)
    pairs = zip(responses(store, kind, direction), responses(store, kind), strict=True)
    correlation = _correlation((Z, A) for (_, Z), (_, A) in pairs)[0]
    rows = store.positions(kind)[strongest(store, kind, top.shape[1], direction)[0][0]]
    W = _basis(store)
    basis = np.full(len(top), np.nan) if W is None else cosines(W, direction.basis(W))[:, 0]
    return {"response": correlation, "basis": basis, "images": _overlap(top, rows)}


def _tops(store: Store) -> Int[np.ndarray, "u k"]:
    column = pq.read_table(store.derived("neurons/stats") / f"{looked_at(store)}.parquet", columns=["top"])["top"]
    return np.stack(column.to_numpy())[:, :TOP]


def _basis(store: Store) -> Float[np.ndarray, "u e"] | None:
    return np.load(store.derived("neurons/basis") / "basis.npy") if store.has("neurons/basis") else None


def _overlap(top: Int[np.ndarray, "u k"], rows: Int[np.ndarray, " k"]) -> Float[np.ndarray, " u"]:
    """Shared rows, of all in either list (Jaccard)."""
    shared = np.isin(top, rows).sum(1)
    return shared / (top.shape[1] + len(rows) - shared)


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
    if len(here) < ENOUGH:
        raise Refused(
            f"{one.path} and {other.path} share {len(here)} {kind}s by id, and {ENOUGH} are needed: "
            "collect the same source with both models"
        )
    order = np.argsort(here)  # read in the order they lie
    return here[order], there[order]


def _cross(one: Store, other: Store, kind: str, rows: np.ndarray, others: np.ndarray) -> Float[np.ndarray, "u v"]:
    """Correlations between the neurons of two Stores over pairs of rows, read a block at a time."""
    arrays = one.array("max", kind), other.array("max", kind)
    blocks = (slice(start, start + BLOCK) for start in range(0, len(rows), BLOCK))
    return _correlation((arrays[0][rows[at]], arrays[1][others[at]]) for at in blocks)


def _correlation(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> Float[np.ndarray, "u v"]:
    """Pearson correlations between the columns of A (n, u) and B (n, v), given in blocks; 0 where one never changes."""
    n, sums = 0, None
    for A, B in ((a.astype(np.float64), b.astype(np.float64)) for a, b in pairs):
        parts = [A.sum(0), B.sum(0), (A * A).sum(0), (B * B).sum(0), A.T @ B]
        n, sums = n + len(A), parts if sums is None else [x + y for x, y in zip(sums, parts, strict=True)]
    if sums is None:
        raise Refused("there are no rows to correlate responses over")
    a, b, aa, bb, ab = (each / n for each in sums)
    spread = [np.sqrt(np.maximum(square - mean**2, 0)) for square, mean in ((aa, a), (bb, b))]
    alive = [s > 1e-6 * (1 + np.abs(m)) for s, m in zip(spread, (a, b), strict=True)]
    scale = [np.divide(1, s, out=np.zeros_like(s), where=ok) for s, ok in zip(spread, alive, strict=True)]
    return (ab - np.outer(a, b)) * scale[0][:, None] * scale[1]
