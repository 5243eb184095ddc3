"""A checkpoint in which some neurons are silenced: what reads them has weight 0 for them, and all else is as it was.

Of a ResNet's last stage the attention pool reads the neurons, through its matrices of queries, keys and values; of a
ViT's MLP the second matrix reads them. The architecture is the same, so open_clip loads the file as any other.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from safetensors.torch import save_file
from torch import Tensor

from atlas.errors import Refused
from atlas.model.clip import Clip
from atlas.model.weights import load_model


def reading_matrices(clip: Clip) -> list[str]:
    """Names of the weights (out, neurons) that read the neurons of the hooked layer.

    Raises Refused for layers other than a ResNet's last stage and the hidden units of a ViT's MLP.
    """
    visual = clip.model.visual
    if isinstance(visual, ModifiedResNet) and clip.layer == "visual.layer4":
        return [f"visual.attnpool.{name}_proj.weight" for name in ("q", "k", "v")]
    if isinstance(visual, VisionTransformer) and clip.layer.endswith(".mlp.gelu"):
        return [f"{clip.layer.removesuffix('.gelu')}.c_proj.weight"]
    raise Refused(f"{clip.layer} of {clip.name}: neurons can be silenced in a ResNet's layer4 and in a ViT's MLP alone")


def check_patch(clip: Clip, file: Path) -> None:
    """Raise Refused where `write_silenced` could not write the file, so that nothing is measured in vain."""
    reading_matrices(clip)
    if file.suffix != ".safetensors":
        raise Refused(f"{file} is not called .safetensors, by which open_clip knows the format")
    if not file.parent.is_dir():
        raise Refused(f"cannot write {file}: {file.parent} is no folder")


def write_silenced(clip: Clip, neurons: Sequence[int], file: Path) -> None:
    """Write the model's weights with these neurons silenced, as safetensors. Raises Refused if it cannot be written."""
    if bad := [n for n in neurons if not 0 <= n < clip.neurons]:
        raise Refused(f"neuron {bad[0]} is out of range: {clip.name} has neurons 0 to {clip.neurons - 1}")
    check_patch(clip, file)
    state = stored_weights(clip)
    for name in reading_matrices(clip):
        state[name][:, list(neurons)] = 0
    try:
        save_file(state, file, {"silenced": " ".join(map(str, neurons)), "layer": clip.layer})
    except OSError as error:
        raise Refused(f"cannot write {file}: {error.strerror}") from None


def stored_weights(clip: Clip) -> dict[str, Tensor]:
    """The weights of a model as its checkpoint holds them, in tensors of their own."""
    model, _ = load_model(clip.name, clip.pretrained)
    return {name: each.detach().clone().contiguous() for name, each in model.state_dict().items()}


def changed_weights(before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[str, list[int]]:
    """The columns in which each matrix differs; for other tensors an empty list. Tensors that are equal are left out.

    Raises Refused if the two do not hold the same tensors.
    """
    if {name: each.shape for name, each in before.items()} != {name: each.shape for name, each in after.items()}:
        raise Refused("the two checkpoints are not of one architecture")
    found: dict[str, list[int]] = {}
    for name, each in before.items():
        if not torch.equal(each, after[name]):
            differs = (each != after[name]) if each.ndim == 2 else None
            found[name] = [] if differs is None else torch.nonzero(differs.any(0))[:, 0].tolist()
    return found
