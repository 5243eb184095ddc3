"""Prompts of a text, and the embedding of what they have in common.

Nothing here needs PyTorch: whatever embeds texts will do.

    X (t, e) text embeddings
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from atlas.errors import Refused
from atlas.vectors import scaled_rows

_LONGEST_TEXT = 1000  # characters of a text: towers read some 77 tokens, and silently cut the rest
PROMPT_TEMPLATES = {
    "plain": ("{}",),
    "neutral": ("this is {}", "it shows {}", "an example of {}", "something like {}"),
    "drawing": ("a drawing of {}", "{}, a drawing", "an icon of {}", "a cartoon of {}"),
    "emoji": ("an emoji of {}", "the {} emoji", "a sticker of {}", "a {} symbol"),
    "photo": ("a photo of a {}", "a picture of the {}", "a close-up of a {}", "an image that shows {}"),
    "word": ("the word {}", "a sign that says {}", "{}, written out"),
    "feeling": (  # the three of Goh et al. 2021, for emotions
        "i am feeling {}",
        "Me feeling {} on my face",
        "a photo of me with a {} expression on my face",
    ),
}
_RECEIPT_TEMPLATES = ("neutral", "drawing", "photo")  # neurons chosen by one of these sets are tested with another
Templates = str | Sequence[str] | None


@runtime_checkable
class TextReader(Protocol):
    """What embeds texts: a `Clip`, or the texts that are kept of one."""

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "n e"]:
        """Embeddings of unit norm."""
        ...


def prompts(texts: str | Sequence[str], templates: Templates = None) -> list[list[str]]:
    """The prompts of each text: one row a text, one column a template.

    `templates`: a name of `PROMPT_TEMPLATES`, one template, or several, with {} in place of the text; None for "plain".
    Raises Refused for empty texts, texts longer than any model reads, and templates without {}.
    """
    texts = [texts] if isinstance(texts, str) else list(texts)
    if not texts:
        raise Refused("no text given; give a word or a sentence")
    for place, text in enumerate(texts):
        which = "the text" if len(texts) == 1 else f"text {place}"
        if not text.strip():
            raise Refused(f"{which} is empty; give a word or a sentence")
        if len(text) > _LONGEST_TEXT:
            raise Refused(f"{which} ({text[:20]!r}...) has {len(text):,} characters; {_LONGEST_TEXT:,} are the most")
    return [[template.replace("{}", text) for template in chosen_templates(templates)] for text in texts]


def chosen_templates(templates: Templates) -> tuple[str, ...]:
    """The templates, given by name, as one string or as several. Raises Refused for one without {}."""
    if templates is None or isinstance(templates, str):
        name = "plain" if templates is None else templates
        if "{}" not in name and name not in PROMPT_TEMPLATES:
            raise Refused(
                f"no templates {name!r}: the sets are {', '.join(PROMPT_TEMPLATES)}, or write one with {{}} in it"
            )
        return PROMPT_TEMPLATES.get(name, (name,))
    if not templates:
        raise Refused("no template given; '{}' is the plainest")
    for template in templates:
        if "{}" not in template:
            raise Refused(f"the template {template!r} has no {{}} where the text belongs")
    return tuple(templates)


def other_templates(templates: Templates) -> str:
    """The name of a set that shares no template with these, to test what was chosen by these."""
    chosen = set(chosen_templates(templates))
    for name in (*_RECEIPT_TEMPLATES, *PROMPT_TEMPLATES):
        if not chosen & set(PROMPT_TEMPLATES[name]):
            return name
    raise Refused("the templates hold one of every set, so no set is left to test with; choose by fewer")


def concept_embeddings(
    reader: TextReader, texts: str | Sequence[str], templates: Templates = None
) -> Float[np.ndarray, "t e"]:
    """One embedding of unit norm a text: the scaled mean of the embeddings of its prompts."""
    rows = prompts(texts, templates)
    each = reader.encode_texts([prompt for row in rows for prompt in row])
    X = each.reshape(len(rows), -1, reader.dim).mean(1)
    return scaled_rows(X)
