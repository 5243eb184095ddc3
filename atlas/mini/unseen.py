"""Drawings for evaluation, by vendor, and zero-shot classification of them."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image

from atlas.mini import corpus
from atlas.model.clip import Clip
from atlas.sources import spec, vocabulary
from atlas.sources.items import Item

UNSEEN = ("Apple", "Meta", "Samsung", "Windows")
SEEN = ("Google", "Twitter")
SEEN_FONTS = ("lato", "lora", "roboto", "vollkorn", "poppins", "arvo")
NOTHING = Image.new("RGB", (96, 96), "white")


@cache
def held_out_drawings(vendors: tuple[str, ...]) -> list[Item]:
    """The vendors' emoji that have a name of their own, no skin tone, and a picture that no other vendor has."""
    names = set(vocabulary.emoji_names()) - corpus.styleless()
    return [item for item in spec.parse(f"emoji?vendors={','.join(vendors)}&skin=no") if item.label in names]


def load(item: Item) -> Image.Image:
    """The item's image, or a white one."""
    return item.load() if item.load else NOTHING


def embed(clip: Clip, items: Sequence[Item]) -> np.ndarray:
    """Image embeddings of items."""
    return clip.encode_images([load(item) for item in items])


def nearest_name(clip: Clip, pages: Sequence[Image.Image], T: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """For each image the name whose text embedding, a row of T, is nearest."""
    return np.array(names)[(clip.encode_images(pages) @ T.T).argmax(1)]
