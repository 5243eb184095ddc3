"""Files of sparse autoencoders: their tensors by name, and the configurations that lie with them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from atlas.errors import Refused
from atlas.formatting import Record
from atlas.model.tensorfiles import Unread, refuse_bombs, safetensors_metadata, tensor_file
from atlas.sources.textfiles import read_given_json

_LONGEST_HEADER = 2**20  # bytes of a line of JSON before the tensors
_FILES = ("sae_weights.safetensors", "sae.safetensors", "ae.pt", "sae.pt", "params.npz", "model.safetensors")
_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".npz")
_CONFIGURATIONS = ("cfg.json", "config.json", "hyperparams.json")
_NESTED = ("cfg", "config")  # entries that are configurations
_WRAPPERS = ("state_dict", "model_state_dict", "sae_state_dict", "model", "sae", "autoencoder", "ae")
# Names of each part; the names of one row belong together in a library.
SAE_PARTS = {
    "encoder": ("W_enc", "encoder.weight", "encoder"),
    "decoder": ("W_dec", "decoder.weight", "decoder"),
    "inner": ("b_enc", "encoder.bias", "latent_bias", "b_mag", "mag_bias"),
    "outer": ("b_dec", "bias", "pre_bias", "decoder_bias", "decoder.bias"),
    "gate": ("b_gate", "gate_bias"),
    "magnitude": ("r_mag",),
    "threshold": ("threshold", "topk_threshold", "log_threshold", "activation.threshold"),
    "k": ("k",),
    "scaling": ("scaling_factor",),
}


def weights_of_sae(path: Path) -> Path:
    """The file itself, or the file of weights in a folder."""
    if not path.is_dir():
        return path
    there = [path / name for name in _FILES if (path / name).is_file()]
    there = there or sorted(each for each in path.iterdir() if each.suffix in _SUFFIXES and each.is_file())
    if not there:
        raise Refused(f"{path} holds no autoencoder: none of {', '.join(_FILES)}")
    if len(there) > 1:
        raise Refused(f"{path} holds several files of weights, {', '.join(each.name for each in there[:3])}: name one")
    return there[0]


def sae_tensors(path: Path) -> tuple[dict[str, np.ndarray], list[Record]]:
    """The tensors of a file, or of the file of weights in a folder, and the configurations that lie with them."""
    path = weights_of_sae(path)
    if not path.is_file():
        raise Refused(f"cannot read {path}: there is no such file or folder")
    if path.suffix == ".npz":
        refuse_bombs(path)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return {name: np.asarray(arrays[name]) for name in arrays.files}, []
        except Exception as error:  # damaged archives and headers raise many types of error
            raise Refused(f"cannot read {path} as npz: {' '.join(str(error).split())[:120]}") from None
    header = _first_line(path)
    content = tensor_file(path, bool(header))
    return _unwrapped(content, [header or safetensors_metadata(path)], path)


def _first_line(path: Path) -> Record:
    """The line of JSON that saev writes before the tensors; nothing if there is none."""
    with path.open("rb") as file:
        if file.read(1) != b"{":
            return {}
        file.seek(0)
        try:
            read = json.loads(file.readline(_LONGEST_HEADER))
        except ValueError:
            return {}
    return read if isinstance(read, dict) else {}


def _unwrapped(
    content: Mapping[str, object], found: list[Record], path: Path
) -> tuple[dict[str, np.ndarray], list[Record]]:
    """Tensors by name, without the wrappers and prefixes that trainers put around them; other entries apart."""
    for name in _WRAPPERS:
        inner = content.get(name)
        if isinstance(inner, Mapping) and any(isinstance(each, torch.Tensor) for each in inner.values()):
            found = [*found, {key: each for key, each in content.items() if key != name}]
            content = inner
    tensors = {key: each for key, each in content.items() if isinstance(each, torch.Tensor)}
    found = [*found, {key: each for key, each in content.items() if key not in tensors}]
    for name in _NESTED:
        for record in [each for each in found if name in each]:
            entries = record[name]
            entries = vars(entries) if isinstance(entries, Unread) else entries
            if isinstance(entries, dict):
                found = [*(each for each in found if each is not record), _without(record, name), entries]
    known = {name for names in SAE_PARTS.values() for name in names}
    while tensors and not known & set(tensors):
        first = {key.partition(".")[0] for key in tensors}
        if len(first) != 1 or not all("." in key for key in tensors):
            break
        tensors = {key.partition(".")[2]: each for key, each in tensors.items()}
    for key in filter(known.__contains__, tensors):
        if tensors[key].is_meta:
            raise Refused(f"{path}: the tensor {key} holds no values, only a shape")
        if key in (*SAE_PARTS["encoder"], *SAE_PARTS["decoder"]) and not tensors[key].is_floating_point():
            held = str(tensors[key].dtype).removeprefix("torch.")
            raise Refused(f"{path}: the tensor {key} holds {held} where fractions are needed")
    return {key: (each.float() if each.is_floating_point() else each).numpy() for key, each in tensors.items()}, found


def _without(record: Record, name: str) -> Record:
    return {key: each for key, each in record.items() if key != name}


def configurations_beside(file: Path) -> Iterator[tuple[Path, Record]]:
    """The configurations that lie with the weights; dictionary_learning puts that of the autoencoder in `trainer`."""
    for name in (*_CONFIGURATIONS, f"{file.stem}.json", f"{file.stem}_cfg.json"):
        path = file.parent / name
        if not path.is_file():
            continue
        try:
            read = read_given_json(path)
        except ValueError as error:
            raise Refused(f"{path} is not JSON ({error})") from None
        if not isinstance(read, dict):
            raise Refused(f"{path} holds no JSON object")
        yield path, read
        if isinstance(read.get("trainer"), dict):
            yield path, read["trainer"]
