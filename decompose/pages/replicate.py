"""The page of a scorecard: published figures beside measured ones."""

from collections.abc import Sequence

from atlas.formatting import Record
from decompose.pages.fragment import render_fragment
from decompose.studies.scores import NOT_COMPARABLE

REPLICATE_PAGE = "replicate"


def replicate_page(rows: Sequence[Record], model: str) -> str:
    """The HTML of the page: rows that are compared, then those that are not, with the reason."""
    compared = [row for row in rows if row["compared"] != NOT_COMPARABLE]
    left_out = [row for row in rows if row["compared"] == NOT_COMPARABLE]
    return render_fragment("replicate.html", compared=compared, left_out=left_out, model=model)
