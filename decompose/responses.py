"""Responses of neurons or directions to rows: streamed in blocks from an array, a memory map or a Store.

A (n, u) activations of u neurons    Z (n, k) readings of k directions; of neurons, A itself
"""

from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int

from atlas.analysis.stats import Extremes
from atlas.errors import Refused
from atlas.model.directions import Directions
from atlas.store.store import Store
from atlas.vectors import Moments, Rows

LOGIT_SCALE = 100.0  # inverse temperature of cosines if no model gives its own: that of trained CLIPs
RESPONSE_BLOCK = 4096  # rows read at a time
_HASH_FACTOR = 2654435761  # odd, so that row -> SCATTER * row is one to one modulo 2^32
_SHARPNESS = 4  # power of the response by which rows are weighted
_CONSTANT = 1e-6  # a standard deviation below this share of the mean is rounding


@dataclass(frozen=True)
class Responses:
    """Activations of neurons on n rows, or readings of directions. Iterating yields blocks: (row numbers, Z).

    `array` is (n, u): a plain array, a memory map, or a Store's view (`Responses.of`); one block of it is in memory at
    a time. Raises Refused for directions of another layer, and for activations that are not finite.
    """

    array: Rows
    directions: Directions | None = None
    some: slice = field(default_factory=lambda: slice(None))  # which of the neurons, or of the directions

    def __post_init__(self) -> None:
        if len(self.array.shape) != 2:
            raise Refused(f"activations are (rows, neurons), got an array of shape {tuple(self.array.shape)}")
        if self.directions is not None and self.directions.width != self.array.shape[1]:
            raise Refused(
                f"the directions are of {self.directions.width} neurons, the activations of {self.array.shape[1]}"
            )

    @classmethod
    def of(cls, store: Store, kind: str, directions: Directions | None = None) -> "Responses":
        """Responses to the rows of one kind in a Store.

        A neuron's response is its largest activation over positions, as in atlas stats. A direction's response is its
        reading of the mean activations, because a Store keeps no activation maps. For a linear direction this is the
        mean of its readings over positions. For a rectified one, such as an autoencoder's latent, it is less (Jensen's
        inequality), and may be 0 if the direction fires at few positions. `decompose.receipt` reads whole maps.
        """
        return cls(store.array("max" if directions is None else "mean", kind), directions)

    def __len__(self) -> int:
        return len(self.array)

    @property
    def width(self) -> int:
        """The number of neurons, or of directions."""
        count = self.array.shape[1] if self.directions is None else len(self.directions)
        return len(range(count)[self.some])

    def __iter__(self) -> Iterator[tuple[Int[np.ndarray, " b"], Float[np.ndarray, "b k"]]]:
        chosen = None if self.directions is None else self.directions[self.some]
        for start in range(0, len(self), RESPONSE_BLOCK):
            A = np.asarray(self.array[start : start + RESPONSE_BLOCK], np.float32)
            if not np.isfinite(A).all():
                raise Refused(f"A holds numbers that are not finite, in rows {start} to {start + len(A) - 1}")
            yield np.arange(start, start + len(A)), A[:, self.some] if chosen is None else chosen.activations(A)

    def columns(self, some: slice) -> "Responses":
        """The responses of some of the neurons, or directions."""
        return replace(self, some=some)

    def strongest(self, k: int) -> tuple[Int[np.ndarray, "u k"], Float[np.ndarray, "u k"]]:
        """The k rows that activate each neuron or direction most, and its responses to them, strongest first.

        Equal responses, such as a dead neuron's, are ordered by hashed row numbers (`hashed_rows`).
        """
        found: Extremes | None = None
        for rows, Z in self:
            part = Extremes.of(Z, hashed_rows(rows), k)
            found = part if found is None else found.merge(part)
        if found is None:
            raise Refused("there are no rows that neurons could respond to; give some")
        rows, values = found.top
        return unhashed_rows(rows), values

    def weighted(self) -> Iterator[tuple[Int[np.ndarray, " b"], Float[np.ndarray, "b k"]]]:
        """Yield blocks of (row numbers, weights): how much each row says about each neuron, between 0 and 1.

        That is the fourth power of the response above its mean, as a share of the largest. A neuron that one picture
        in a thousand activates is described by that picture, one that many activate by many. 0 for a constant response.
        """
        moments: Moments | None = None
        for _, A in self:
            part = Moments.of(A)
            moments = part if moments is None else moments.merge(part)
        if moments is None:
            return
        height = moments.high - moments.mean
        constant = moments.std <= _CONSTANT * np.abs(moments.mean)
        scale = np.divide(1, height, out=np.zeros_like(height), where=(height > 0) & ~constant)
        for rows, A in self:
            yield rows, (np.maximum((A - moments.mean) * scale, 0) ** _SHARPNESS).astype(np.float32)

    def deviation(self, weights: Float[np.ndarray, " n"] | None = None) -> Float[np.ndarray, " k"]:
        """Standard deviation over the rows, one number a neuron or direction; 0 for a constant response.

        `weights`: positive weight of each row; equal by default.
        """
        found: Moments | None = None
        for rows, A in self:
            part = Moments.of(A, None if weights is None else weights[rows])
            found = part if found is None else found.merge(part)
        if found is None:
            return np.zeros(self.width, np.float32)
        return np.where(found.std > _CONSTANT * np.abs(found.mean), found.std, 0).astype(np.float32)


def default_kind(store: Store) -> str:
    """The kind of rows that neurons are judged by: images, or rendered words if there are no images."""
    kind = next((kind for kind in ("image", "word") if kind in store.counts), None)
    if kind is None:
        raise Refused(f"{store.path} holds neither images nor words that neurons could respond to; collect some")
    return kind


def hashed_rows(rows: Int[np.ndarray, "*shape"]) -> Int[np.ndarray, "*shape"]:
    """Hashed row numbers: ties are broken reproducibly, but not by position, where neighbouring rows are alike."""
    return rows * _HASH_FACTOR % 2**32


def unhashed_rows(numbers: Int[np.ndarray, "*shape"]) -> Int[np.ndarray, "*shape"]:
    """Row numbers from hashed row numbers: the inverse of `hashed_rows`."""
    return numbers * pow(_HASH_FACTOR, -1, 2**32) % 2**32


def picked_rows(array: Rows, rows: Int[np.ndarray, "*shape"]) -> np.ndarray:
    """Some rows of an array, a memory map or a Store's view, by their numbers."""
    return array[rows]  # pyright: ignore[reportArgumentType]


def check_factorable(A: Float[np.ndarray, "n u"], tried: Sequence[int], folds: int) -> None:
    """Raise Refused for activations among whose numbers of factors none can be chosen: few rows, or zeros alone."""
    if not tried:
        raise Refused("no numbers of factors to choose from; give some, such as range(2, 11)")
    least = max(folds, -(-max(tried) * folds // max(folds - 1, 1)))
    if folds < 2 or len(A) < least:
        raise Refused(f"{len(A)} rows are too few for {folds} folds and {max(tried)} factors: give {least} or more")
    if not np.any(A):
        raise Refused("all activations are zero: there is nothing to factor")


def factorable_rows(A: Float[np.ndarray, "n u"], signed: bool) -> Float[np.ndarray, "n u"]:
    """All rows, read into memory. Raises Refused for numbers that are not finite, and below zero unless `signed`."""
    A = np.asarray(A)
    if not np.isfinite(A).all():
        raise Refused(f"A holds {int((~np.isfinite(A)).sum()):,} numbers that are not finite")
    if not signed and A.size and A.min() < 0:
        raise Refused('A holds numbers below zero: take split="sign" for data of both signs')
    return A


@contextmanager
def refused_in_a_line(what: str) -> Iterator[None]:
    """Raise Refused in place of a ValueError of several lines, such as scikit-learn raises."""
    try:
        yield
    except ValueError as error:
        first, *others = str(error).splitlines()
        advice = [line for line in others if line.startswith("Reshape")]
        raise Refused(f"{what}: {'. '.join([first.rstrip(':')[:160], *advice])}") from None


def check_rows(n: int, **arrays: Sized | None) -> None:
    """Raise Refused if an array that is given (not None) does not have n rows; keywords are the arrays' names."""
    for name, array in arrays.items():
        if array is not None and len(array) != n:
            raise Refused(f"{name} has {len(array):,} rows where {n:,} are needed: one for each, in one order")
