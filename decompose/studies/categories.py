"""Categories of stimuli: from zero-shot words, and from what people exported from the labelling page."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from atlas.errors import Refused
from atlas.model.clip import Clip
from atlas.store.store import Store
from decompose.attribution import check_model
from decompose.prompting import Templates, concept_embeddings
from decompose.studies.classifiers import stored_embeddings
from decompose.studies.conditional import Stimuli, cohen_kappa, nearest_categories
from decompose.studies.labelling import read_answers


def zero_shot_categories(
    store: Store, clip: Clip, rows: Int[np.ndarray, " n"], words: Sequence[str], templates: Templates = None
) -> Int[np.ndarray, " n"]:
    """The category of each image of a Store: the word whose text embedding is nearest."""
    check_model(store, clip)
    if len(words) < 2:
        raise Refused("one category says nothing; give two words or more")
    return nearest_categories(stored_embeddings(store, rows), concept_embeddings(clip, words, templates))


def person_categories(
    files: Sequence[Path], store: Store, stimuli: Stimuli
) -> tuple[Int[np.ndarray, " n"], list[str], float | None]:
    """The categories that one person gave, or two, and the kappa of two.

    Of two, the stimuli count on which they agree, and those that only one labelled. Raises Refused for more than two
    files, and for two with different categories.
    """
    if len(files) > 2:
        raise Refused(f"{len(files)} files of labels: give one, or two to compare")
    answers = [read_answers(file, store, stimuli) for file in files]
    (one, names), (other, others) = answers[0], answers[-1]
    if names != others:
        raise Refused(f"{files[0]} and {files[-1]} have different categories; label with the same page")
    if len(files) == 1:
        return one, names, None
    agreed = np.where(one < 0, other, np.where((other < 0) | (one == other), one, -1))
    return agreed, names, cohen_kappa(one, other)
