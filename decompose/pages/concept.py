"""The page of a concept: neurons by what they respond to; and the list of multimodal neurons."""

from collections.abc import Mapping, Sequence

from atlas.formatting import Record
from decompose.pages.fragment import render_fragment
from decompose.studies.concepts import MultimodalNeurons, Stimulated, significant_rows

CONCEPT_PAGE, MULTIMODAL_PAGE = "concept", "multimodal"
_MOST_LISTED = 300  # rows of the list of multimodal neurons


def concept_page(
    concept: str, rows: Sequence[Record], kinds: Mapping[str, Stimulated], model: str, null: Record | None = None
) -> str:
    """The HTML of the page of one concept. `null`: as `untrained_concept` gives."""
    significant = significant_rows(rows, list(kinds))
    return render_fragment(
        "concept.html", concept=concept, rows=rows, kinds=kinds, model=model, significant=significant, null=null
    )


def multimodal_page(found: MultimodalNeurons, model: str) -> str:
    """The HTML of the list of multimodal neurons."""
    return render_fragment("multimodal.html", found=found, rows=found.rows[:_MOST_LISTED], model=model)
