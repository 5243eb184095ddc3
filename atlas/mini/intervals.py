"""Shares with 95 % intervals over things, where samples of one thing vary together."""

from typing import Any

import numpy as np
from scipy.stats import t


def share(hits: Any, of: Any = None) -> dict[str, float]:
    """The share of true hits, its 95 % interval, and the numbers of samples and of things.

    `of` names the thing that each sample shows, since one word in ten fonts tells less than ten words. The interval is
    Wilson's, for the effective number of independent samples (Korn and Graubard, Survey Methodology 1998), with
    Student's t for few things. Where all samples agree, each thing counts once.
    """
    hit = np.asarray(hits, float)
    n, mean = len(hit), float(hit.mean())
    which = np.unique(np.arange(n) if of is None else np.asarray(of), return_inverse=True)[1]
    things = int(which.max()) + 1
    variance = things / (things - 1) * (np.bincount(which, hit - mean) ** 2).sum() / n**2
    effective = min(n, mean * (1 - mean) / max(variance, 1e-12)) if 0 < mean < 1 else things
    z = t.ppf(0.975, things - 1) ** 2 / effective
    centre, spread = mean + z / 2, np.sqrt(z * (mean * (1 - mean) + z / 4))
    low, high = (max(0.0, float((centre + side * spread) / (1 + z))) for side in (-1, 1))
    return {"share": mean, "low": low, "high": min(1.0, high), "n": n, "things": things}
