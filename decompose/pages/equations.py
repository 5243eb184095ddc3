"""The page of equations: each concept as a sum of neurons, which link to their cards, with receipts."""

from collections.abc import Sequence

from decompose.equations import Equation
from decompose.pages.fragment import Cover, no_cover, render_fragment

SOLVER_TEXTS = {
    "omp": "orthogonal matching pursuit",
    "lasso": "the lasso",
    "nnls": "non-negative least squares",
    "iht": "iterative hard thresholding",
    "logistic": "L1 logistic regression",
}


def equations_page(
    found: Sequence[Equation], shares: Sequence[float | None] | None = None, cover: Cover = no_cover
) -> str:
    """The HTML of the page; empty where no concept has a term.

    `shares`: the share of each concept's logit over the Store's images that the bilinear form explains (R^2), if known.
    `cover`: gives each neuron's picture.
    """
    if not any(each.terms for each in found):
        return ""
    shares = shares or [None] * len(found)
    tried = next((each.receipts[0].templates for each in found if each.receipts), ())  # the same for all
    return render_fragment(
        "equations.html",
        equations=list(zip(found, shares, strict=True)),
        tried=tried,
        said=_verdict(found),
        cover=cover,
        solver=SOLVER_TEXTS.__getitem__,
    )


def _verdict(found: Sequence[Equation]) -> str:
    """A sentence: how much of the concepts their sums keep, and how many acts on their neurons are confirmed."""
    terms = [len(each.terms) for each in found]
    kept = [round(100 * each.kept) for each in found]
    few = f"{min(terms)}" if min(terms) == max(terms) else f"{min(terms)} to {max(terms)}"
    said = f"{few} neuron{'s keep' if few != '1' else ' keeps'} {min(kept)} %" + (
        f" to {max(kept)} %" if max(kept) > min(kept) else ""
    )
    acts = [receipt for each in found for receipt in each.receipts if receipt.images or receipt.act == "raise"]
    confirmed = sum(receipt.confirmed for receipt in acts)
    tested = f"; of {len(acts)} acts on these neurons {confirmed} are confirmed" if acts else ""
    what = f"{found[0].concept!r}" if len(found) == 1 else f"each of {len(found)} concepts"
    return f"{said} of the logit of {what}{tested}."
