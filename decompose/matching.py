"""Control neurons for directions: neurons whose basis row is about as long, and that vary about as much over images.

A (n, u) activations    W (u, e) basis    k directions, c controls of each
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from atlas.errors import Refused
from atlas.model.directions import Directions


def match_controls(
    W: Float[np.ndarray, "u e"],
    A: Float[np.ndarray, "n u"],
    directions: Directions,
    controls: int,
    asked: Int[np.ndarray, " k"] | None = None,
    Z: Float[np.ndarray, "n k"] | None = None,
) -> Int[np.ndarray, "k c"]:
    """Control neurons for each direction: the nearest in log norm of the basis row and log deviation over A.

    `asked`: the text of each direction, by number; the same text for all by default. `Z`: activations of the
    directions; computed from A by default.

    Constant neurons are left out, and so are those that make up most of a direction with the same text. All directions
    get as many controls as the one with the fewest. Neighbours come from a k-d tree, so memory grows with the neurons
    and not with their square. Raises Refused if a direction has none.
    """
    asked = np.zeros(len(directions), int) if asked is None else asked
    rows = directions.write**2
    itself = np.where(rows.max(1) > rows.sum(1) / 2, rows.argmax(1), -1)
    pool = np.flatnonzero(A.std(0) > 0)
    place = np.full(len(W) + 1, -1)
    place[pool] = np.arange(len(pool))
    taken = {int(text): np.unique(place[itself[asked == text]]) for text in np.unique(asked)}
    taken = {text: found[found >= 0] for text, found in taken.items()}
    most = max(len(found) for found in taken.values())
    if len(pool) <= most:
        raise Refused("no control neuron is left: none varies over these images; give other images")
    theirs = _norm_and_spread(W[pool], A[:, pool])
    mine = _norm_and_spread(directions.basis(W), directions.activations(A) if Z is None else Z)
    scale, width = theirs.std(0) + 1e-6, min(controls, len(pool) - most)
    near = np.asarray(KDTree(theirs / scale).query(mine / scale, width + most)[1]).reshape(len(directions), -1)
    chosen = np.empty((len(directions), width), np.int64)
    for i, (text, found) in enumerate(zip(asked.tolist(), near, strict=True)):
        chosen[i] = pool[found[~np.isin(found, taken[text])][:width]]
    return chosen


def _norm_and_spread(V: Float[np.ndarray, "k e"], Z: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "k 2"]:
    return np.log(np.stack([np.linalg.norm(V, axis=1), Z.std(0)], 1) + 1e-9)
