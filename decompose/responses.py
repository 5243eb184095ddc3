"""What neurons, or directions, answer on rows: read a block at a time, whatever the rows lie in.

A (n, u) activations of u neurons    Z (n, k) readings of k directions; of neurons, A itself
"""

from collections.abc import Iterator, Sized
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int

from atlas.analysis.stats import Extremes
from atlas.errors import Refused
from atlas.model.directions import Directions
from atlas.store.store import Store
from atlas.vectors import Moments, Rows

RESPONSE_BLOCK = 4096  # rows read at a time
_HASH_FACTOR = 2654435761  # odd, so that row -> SCATTER * row is one to one modulo 2^32
_CONSTANT = 1e-6  # of a mean: what varies by less is the same everywhere


@dataclass(frozen=True)
class Responses:
    """Activations of neurons on n rows, or readings of directions; iterating gives blocks of them: (rows, Z).

    `array` is (n, u): a plain array, a memory map, or a Store's view (`Responses.of`); no more than a block of it is
    in memory. Raises Refused for directions of another layer.
    """

    array: Rows
    directions: Directions | None = None
    some: slice = field(default_factory=lambda: slice(None))  # of the neurons, or of the directions

    def __post_init__(self) -> None:
        if len(self.array.shape) != 2:
            raise Refused(f"activations are (rows, neurons), got an array of shape {tuple(self.array.shape)}")
        if self.directions is not None and self.directions.width != self.array.shape[1]:
            raise Refused(
                f"the directions are of {self.directions.width} neurons, the activations of {self.array.shape[1]}"
            )

    @classmethod
    def of(cls, store: Store, kind: str, directions: Directions | None = None) -> "Responses":
        """Those of a kind's rows in a Store.

        A neuron answers with its largest activation over positions, as in atlas stats; a direction with its reading of
        their mean over positions, for a Store keeps no maps. That is the mean of its readings where these are linear;
        of a rectified one, such as an autoencoder's latent with a bias, it is less (Jensen's inequality), and 0 where
        the direction fires at a few positions only. `decompose.receipt` reads the map itself.
        """
        return cls(store.array("max" if directions is None else "mean", kind), directions)

    def __len__(self) -> int:
        return len(self.array)

    @property
    def width(self) -> int:
        """Neurons, or directions."""
        count = self.array.shape[1] if self.directions is None else len(self.directions)
        return len(range(count)[self.some])

    def __iter__(self) -> Iterator[tuple[Int[np.ndarray, " b"], Float[np.ndarray, "b k"]]]:
        chosen = None if self.directions is None else self.directions[self.some]
        for start in range(0, len(self), RESPONSE_BLOCK):
            A = np.asarray(self.array[start : start + RESPONSE_BLOCK], np.float32)
            if not np.isfinite(A).all():
                raise Refused(f"activations of rows {start} to {start + len(A) - 1} hold numbers that are not finite")
            yield np.arange(start, start + len(A)), A[:, self.some] if chosen is None else chosen.activations(A)

    def columns(self, some: slice) -> "Responses":
        """Those of some neurons, or directions, alone."""
        return replace(self, some=some)

    def strongest(self, k: int) -> tuple[Int[np.ndarray, "u k"], Float[np.ndarray, "u k"]]:
        """The k rows that each neuron or direction answers to most, and how much, strongest first.

        Of equal answers, such as a dead neuron's, rows scattered over all are taken: neighbouring rows are alike.
        """
        found: Extremes | None = None
        for rows, Z in self:
            part = Extremes.of(Z, hashed_rows(rows), k)
            found = part if found is None else found.merge(part)
        if found is None:
            raise Refused("there are no rows that neurons answer to; give some")
        rows, values = found.top
        return unhashed_rows(rows), values

    def deviation(self, weights: Float[np.ndarray, " n"] | None = None) -> Float[np.ndarray, " k"]:
        """Standard deviation over the rows of each neuron or direction; 0 for one that never varies.

        `weights`: how much each row counts, positive numbers; all alike by default.
        """
        found: Moments | None = None
        for rows, A in self:
            part = Moments.of(A, None if weights is None else weights[rows])
            found = part if found is None else found.merge(part)
        if found is None:
            return np.zeros(self.width, np.float32)
        return np.where(found.std > _CONSTANT * np.abs(found.mean), found.std, 0).astype(np.float32)


def default_kind(store: Store) -> str:
    """The kind of rows that neurons are judged by: images, or rendered words where there are none."""
    kind = next((kind for kind in ("image", "word") if kind in store.counts), None)
    if kind is None:
        raise Refused(f"{store.path} holds neither images nor words that neurons answer to; collect some")
    return kind


def hashed_rows(rows: Int[np.ndarray, "*shape"]) -> Int[np.ndarray, "*shape"]:
    """Numbers that go in no order as rows do: of equal answers the rows with the least of these are taken."""
    return rows * _HASH_FACTOR % 2**32


def unhashed_rows(numbers: Int[np.ndarray, "*shape"]) -> Int[np.ndarray, "*shape"]:
    """The rows of scattered numbers."""
    return numbers * pow(_HASH_FACTOR, -1, 2**32) % 2**32


def check_rows(n: int, **arrays: Sized | None) -> None:
    """Refused unless every array that is given has n rows; their names are the keywords."""
    for name, array in arrays.items():
        if array is not None and len(array) != n:
            raise Refused(f"{name} has {len(array):,} rows where {n:,} are needed: one for each, in one order")
