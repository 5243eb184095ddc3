"""Small towers of every family, with random weights: what holds for any weights needs no training."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch

from atlas.model.clip import Clip
from atlas.store.files import read_json, write_json
from atlas.store.store import Store
from decompose.prompting import concept_embeddings
from decompose.receipts import mean_activations

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16, "ls_init_value": 0.5}
TIMM = {"timm_pool": "", "timm_proj": "linear", "image_size": 160}
WIDE = {"image_size": 96, "layers": [1, 1, 1, 1], "width": 80, "patch_size": None}  # RN50x4 but for its depth and side
CONFIGS: dict[str, dict[str, Any]] = {
    "resnet": {
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64, "patch_size": None}
    },
    "vit": {"vision_cfg": VIT, "quick_gelu": True},
    "vit-average": {"vision_cfg": {**VIT, "pool_type": "avg"}},
    "vit-average-first": {"vision_cfg": {**VIT, "pool_type": "avg", "final_ln_after_pool": True}},
    "vit-attention": {"vision_cfg": {**VIT, "attentional_pool": True, "attn_pooler_heads": 2}},
    "timm-vit": {"vision_cfg": {"timm_model_name": "test_vit", **TIMM}},
    "timm-vit-average": {"vision_cfg": {"timm_model_name": "test_vit", **TIMM, "timm_pool": "avg"}},
    "timm-convnext": {"vision_cfg": {"timm_model_name": "test_convnext", **TIMM}},
    "RN50x4-like": {"vision_cfg": WIDE},
}
DIMS = (12, 64)  # of embeddings
CONCEPT, LENGTH = "pizza", 0.3  # what a planted neuron writes, and how much
FAR = 1000.0  # deviations: before training, maps of noise hardly vary


def register_towers(folder: Path) -> None:
    """Make open_clip know the small towers, as small-NAME-DIM."""
    for name, config in CONFIGS.items():
        for dim in DIMS:
            content = {"embed_dim": dim, "text_cfg": TEXT, **config}
            (folder / f"{tower(name, dim)}.json").write_text(json.dumps(content))
    open_clip.add_model_config(folder)


def tower(name: str, dim: int = DIMS[0]) -> str:
    """The name that open_clip knows a small tower by."""
    return f"small-{name}-{dim}"


def build_tower(name: str, dim: int = DIMS[0], redrawn: bool = True, **options: Any) -> Clip:
    """A Clip of a few layers; every scale, bias and layer scale redrawn, as what is 1 or 0 at first hides errors."""
    torch.manual_seed(0)
    clip = Clip(tower(name, dim), device="cpu", **options)
    random = torch.Generator().manual_seed(0)
    for path, parameter in clip.model.visual.named_parameters() if redrawn else ():
        if parameter.ndim == 1:
            parameter.normal_(1 if path.endswith("weight") or "gamma" in path else 0, 0.5, generator=random)
    return clip


def noise(clip: Clip, n: int = 3) -> np.ndarray:
    """Images of noise, of the size that a Clip reads."""
    return np.random.default_rng(1).integers(0, 256, (n, clip.image_size, clip.image_size, 3), np.uint8)


def adopt(store: Store, clip: Clip) -> Store:
    """The Store as if this model had made it."""
    manifest = read_json(store.path / "store.json")
    manifest["request"]["model"] |= {"name": clip.name, "weights_sha256": clip.describe()["weights_sha256"]}
    manifest["request"]["model"]["layers"][0]["path"] = clip.layer
    write_json(store.path / "store.json", manifest)
    return Store.open(store.path)


def plant_writer(clip: Clip, concept: str, images: int = 16) -> int:
    """Make the liveliest neuron write the concept; the other neurons write as much, and nothing of it."""
    x = concept_embeddings(clip, concept, "neutral")[0]
    rows = np.random.default_rng(0).normal(size=(clip.neurons, clip.dim))
    rows -= np.outer(rows @ x, x)
    planted = int(mean_activations(clip, noise(clip, images)).std(0).argmax())
    rows[planted] = x
    rows *= LENGTH / np.linalg.norm(rows, axis=1, keepdims=True)
    pool = clip.model.visual.attnpool
    pool.v_proj.weight.copy_(torch.eye(clip.neurons))
    pool.c_proj.weight.copy_(torch.from_numpy(rows.T.astype(np.float32)))
    np.testing.assert_allclose(clip.basis(), rows, atol=1e-6)
    return planted
