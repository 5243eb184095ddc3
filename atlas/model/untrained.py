"""The same network with random weights: what every study's headline number is compared with."""

from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors.torch import save_file

from atlas.model.clip import Clip
from atlas.model.weights import untrained_weights


def untrained_clip(clip: Clip, seed: int = 0) -> Clip:
    """A model of the same architecture, with random weights; the same layers are hooked."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "untrained.safetensors"
        weights = untrained_weights(clip.name, seed)
        save_file({name: each.contiguous().clone() for name, each in weights.items()}, path)
        return Clip(clip.name, path, clip.hooked, str(clip.device), clip.token)
