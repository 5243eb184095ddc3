"""The same network with random weights: what every study's headline number is compared with."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors.torch import save_file

from atlas.model.clip import Clip
from atlas.model.layers import Token
from atlas.model.weights import untrained_weights


def untrained_clip(clip: Clip, seed: int = 0) -> Clip:
    """A model of the same architecture, with random weights; the same layers are hooked."""
    return untrained_model(clip.name, clip.hooked, str(clip.device), clip.token, seed)


def untrained_model(
    name: str, layers: Sequence[str], device: str | None = None, token: Token | None = None, seed: int = 0
) -> Clip:
    """A model of this architecture with random weights, for which no trained ones are needed."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "untrained.safetensors"
        weights = untrained_weights(name, seed)
        save_file({key: each.contiguous().clone() for key, each in weights.items()}, path)
        return Clip(name, path, layers, device, token)
