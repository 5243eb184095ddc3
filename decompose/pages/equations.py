"""The page of equations: each concept as a sum of neurons, which link to their cards, with receipts."""

from collections.abc import Sequence

from decompose.equations import Equation
from decompose.pages.fragment import render_fragment

SOLVER_TEXTS = {
    "omp": "orthogonal matching pursuit",
    "lasso": "the lasso",
    "nnls": "non-negative least squares",
    "iht": "iterative hard thresholding",
    "logistic": "L1 logistic regression",
}


def equations_page(found: Sequence[Equation], shares: Sequence[float | None] | None = None) -> str:
    """The HTML of the page.

    `shares`: the share of each concept's logit over the Store's images that the bilinear form explains (R^2), if known.
    """
    shares = shares or [None] * len(found)
    tried = next((each.receipts[0].templates for each in found if each.receipts), ())  # the same for all
    return render_fragment(
        "equations.html",
        equations=list(zip(found, shares, strict=True)),
        tried=tried,
        solver=SOLVER_TEXTS.__getitem__,
    )
