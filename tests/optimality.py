"""How far sparse codes are from the optimum of what they minimise."""

import numpy as np
from jaxtyping import Float
from scipy import sparse


def kkt_violation(
    T: Float[np.ndarray, "n d"],
    D: Float[np.ndarray, "m d"],
    Z: Float[np.ndarray, "n m"],
    penalty: float | int,
    signed: bool = False,
) -> float:
    """The largest violation of the lasso's optimality (KKT) conditions over targets and atoms; penalty 0: NNLS.

    The conditions, in units of the penalty: the correlation g = (t - zD) D' / d of an atom with the residual equals the
    penalty where z > 0, equals minus the penalty where z < 0, and does not exceed it elsewhere. Infinite if codes are
    negative and may not be.
    """
    if not signed and (Z < 0).any():
        return float("inf")
    worst, codes = 0.0, sparse.csr_array(Z)
    for start in range(0, len(T), 1024):
        here = slice(start, start + 1024)
        g = (T[here] - codes[here] @ D) @ D.T / T.shape[1]
        beyond = (np.abs(g) if signed else g) - penalty
        worst = max(worst, beyond.max(initial=0))
        taken = Z[here] != 0
        worst = max(worst, np.abs(g - penalty * np.sign(Z[here]))[taken].max(initial=0))
    return float(worst)
