"""The page of a concept: neurons by what they respond to; and the list of multimodal neurons."""

from collections.abc import Mapping, Sequence

from atlas.formatting import Record
from decompose.pages.fragment import render_fragment
from decompose.studies.concepts import MultimodalNeurons, Stimulated

CONCEPT_PAGE, MULTIMODAL_PAGE = "concept", "multimodal"
_SIGNIFICANT = 0.05  # q up to which a neuron is called significant
_MOST_LISTED = 300  # rows of the list of multimodal neurons


def concept_page(concept: str, rows: Sequence[Record], kinds: Mapping[str, Stimulated], model: str) -> str:
    """The HTML of the page of one concept."""
    significant = sum(all(row[f"{name}_q"] <= _SIGNIFICANT for name in kinds) for row in rows)
    return render_fragment(
        "concept.html", concept=concept, rows=rows, kinds=kinds, model=model, significant=significant
    )


def multimodal_page(found: MultimodalNeurons, model: str) -> str:
    """The HTML of the list of multimodal neurons."""
    return render_fragment("multimodal.html", found=found, rows=found.rows[:_MOST_LISTED], model=model)
