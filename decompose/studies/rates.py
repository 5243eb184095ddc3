"""Counts as shares with intervals."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

_Z = 1.959963984540054  # standard deviations that hold 95 % of a normal distribution


class Rate(NamedTuple):
    """A share as counts, with its 95 % Wilson interval; 0 to 1 where nothing was counted."""

    hits: int
    of: int

    @classmethod
    def counted(cls, which: Bool[np.ndarray, "..."]) -> "Rate":
        """The share of true entries."""
        return cls(int(which.sum()), which.size)

    @property
    def share(self) -> float | None:
        """The share; None where nothing was counted."""
        return self.hits / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float]:
        """Low and high end of the 95 % Wilson interval."""
        low, high = wilson_intervals(np.array([self.hits]), np.array([self.of]))
        return float(low[0]), float(high[0])

    def columns(self, name: str) -> dict[str, float | int | None]:
        """The share, the ends of its interval, and what it was counted of, as columns of a table."""
        low, high = self.interval
        return {name: self.share, f"{name}_low": low, f"{name}_high": high, f"{name}_of": self.of}


def wilson_intervals(
    counts: Int[np.ndarray, "*shape"], of: Int[np.ndarray, "..."]
) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
    """The ends of the 95 % Wilson interval of each count of `of`; 0 and 1 where nothing was counted."""
    n = np.broadcast_to(of, counts.shape).astype(float)
    safe = np.maximum(n, 1)
    share, z2 = counts / safe, _Z**2
    centre, half = share + z2 / (2 * safe), _Z * np.sqrt(share * (1 - share) / safe + z2 / (4 * safe**2))
    scale = 1 + z2 / safe
    low, high = (centre - half) / scale, (centre + half) / scale
    return np.where(counts > 0, low, 0.0), np.where((counts < n) & (n > 0), high, 1.0)


def percent(share: float | None) -> str:
    """A share in per cent; a dash for None."""
    return "–" if share is None else f"{100 * share:.1f}"
