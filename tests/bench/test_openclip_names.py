"""Names of open_clip, each once with random weights: layers, and finite activations of two pictures; or one line.

ATLAS_NAMES chooses names by a pattern; without it, those that build in a few seconds. Prints a table.
"""

import os
import re

import numpy as np
import open_clip
import pytest

from atlas.errors import Refused
from atlas.model.clip import Clip

SMALL = r"^(RN50|RN101|ViT-[SBM]-(16|32)|ViT-B-16-SigLIP|convnext_tiny|MobileCLIP-S1|ViTamin-S|PE-Core-T|roberta)"
NAMES = [name for name in open_clip.list_models() if re.search(os.environ.get("ATLAS_NAMES", SMALL), name)]


@pytest.mark.parametrize("name", NAMES)
def test_name(name):
    try:
        clip = Clip(name, device="cpu")
    except Refused as refused:
        print(f"{name:40} {refused}")
        return
    side = clip.image_size
    pictures = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
    A = clip.activations(pictures)
    print(f"{name:40} {len(clip.layers()):4} layers, {clip.layer}, {A.shape}")
    assert A.shape == (2, clip.neurons, *clip.grid())
    assert np.isfinite(A).all()
    assert np.isfinite(clip.encode_images(pictures)).all()
