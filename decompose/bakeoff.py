"""A bake-off of the solvers of equations on one set of concepts: size, fidelity, stability and time.

V (u, e) basis rows of unit norm    P (t, m, e) prompts, centred    Z (t, u) codes    E (n, e) embeddings of images
"""

import time
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from atlas.errors import Refused
from atlas.model.clip import Clip
from atlas.store.store import Store
from atlas.vectors import column_correlations, cosines
from decompose import coding
from decompose.defaults import PICTURE_TEMPLATES
from decompose.equations import centred_unit_rows, prompt_embeddings, solve_codes
from decompose.prompting import Templates, other_templates
from decompose.responses import default_kind


def compare_solvers(
    clip: Clip,
    concepts: Sequence[str],
    methods: Sequence[coding.Method] = coding.CODING_METHODS,
    ks: Sequence[int] = (2, 4, 8),
    templates: Templates = PICTURE_TEMPLATES,
    held: Templates = None,
    store: Store | None = None,
    resamples: int = 10,
    seed: int = 0,
) -> pa.Table:
    """The solvers compared on one set of concepts: one row for each method and k.

    terms        mean number of terms (L0)
    cosine       share of the logit that is kept, mean over concepts
    held_cosine  the same for other prompts than the equations were solved for (`held`, or another set by default)
    logit_r2     R^2 of the equations' logits with the concepts', over the Store's images (words, without images)
    stability    mean Jaccard index of the terms with those from `resamples` bootstrap samples of the prompts
    seconds      time to solve for all concepts at once

    Raises Refused for fewer than two concepts.
    """
    if len(concepts) < 2:
        raise Refused(f"{len(concepts)} concept given; a comparison needs two at least")
    V, rng = centred_unit_rows(clip, clip.basis(), store), np.random.default_rng(seed)
    held = other_templates(templates) if held is None else held
    P, other = (prompt_embeddings(clip, concepts, each) for each in (templates, held))
    P, other = P - P.mean((0, 1)), other - other.mean((0, 1))
    E = None if store is None else np.asarray(store.array("embedding", default_kind(store))[:], np.float32)
    m = P.shape[1]
    redrawn = [P[:, rng.integers(0, m, m)] for _ in range(resamples)]
    rows = []
    for method in methods:
        for k in ks:
            began = time.perf_counter()
            Z = solve_codes(V, P, method, k)
            seconds = time.perf_counter() - began
            again = [solve_codes(V, each, method, k) for each in redrawn]
            rows.append({"method": method, "k": k, **_fidelity(Z, V, P, other, E)})
            rows[-1] |= {"stability": _stability(Z, again), "seconds": seconds}
    return pa.Table.from_pylist(rows)


def _fidelity(
    Z: Float[np.ndarray, "t u"],
    V: Float[np.ndarray, "u e"],
    P: Float[np.ndarray, "t m e"],
    held: Float[np.ndarray, "t q e"],
    E: Float[np.ndarray, "n e"] | None,
) -> dict[str, float | None]:
    """Fidelity of the equations Z to their concepts: on the prompts solved for, on other prompts, and on images."""
    S = (Z @ V).astype(np.float32)
    found: dict[str, float | None] = {"terms": float((Z != 0).sum(1).mean())}
    for name, each in (("cosine", P), ("held_cosine", held)):
        found[name] = float(np.diag(cosines(S, each.mean(1))).mean())
    r2 = None if E is None else column_correlations(E @ S.T, E @ P.mean(1).T).clip(0) ** 2
    return found | {"logit_r2": None if r2 is None else float(r2.mean())}


def _stability(Z: Float[np.ndarray, "t u"], again: Sequence[Float[np.ndarray, "t u"]]) -> float:
    """Mean Jaccard index of the terms with those found again; 1 for two empty equations."""
    both = [((Z != 0) & (other != 0)).sum(1) for other in again]
    either = [((Z != 0) | (other != 0)).sum(1) for other in again]
    return float(np.mean([np.where(e > 0, b / np.maximum(e, 1), 1) for b, e in zip(both, either, strict=True)]))
