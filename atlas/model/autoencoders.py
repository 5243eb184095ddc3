"""Sparse autoencoders as they are published: SAELens, dictionary_learning, sparsify, saev, OpenAI, Gemma Scope, MSAE,
Overcomplete, Prisma, PatchSAE.

A file or a folder is read exactly as its library reads it, or refused: a tensor or an entry of its configuration that
is not understood is an error that names it. No code of a file is run.

    u neurons    K latents
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from atlas.errors import Refused
from atlas.formatting import Record
from atlas.model.latents import LatentRule, Standard
from atlas.model.overcomplete import plain_tensors, refuse_unstated
from atlas.model.saeconfig import KINDS_OF_SAE, stated_encoder
from atlas.model.tensorfiles import Unread, refuse_bombs, tensor_file
from atlas.sources.textfiles import read_given_json

_LONGEST_HEADER = 2**20  # bytes of a line of JSON before the tensors
_FILES = ("sae_weights.safetensors", "sae.safetensors", "ae.pt", "sae.pt", "params.npz", "model.safetensors")
_CONFIGURATIONS = ("cfg.json", "config.json")
_WRAPPERS = ("state_dict", "model_state_dict", "sae_state_dict", "model", "sae", "autoencoder", "ae")
_COUNTERS = frozenset(("stats_last_nonzero", "n_forward_passes_since_fired", "act_freq_scores", "group_sizes",
                       "num_tokens_since_fired"))  # fmt: skip
# Names of each part; the names of one row belong together in a library.
_NAMES = {
    "encoder": ("W_enc", "encoder.weight", "encoder"),
    "decoder": ("W_dec", "decoder.weight", "decoder"),
    "inner": ("b_enc", "encoder.bias", "latent_bias", "b_mag", "mag_bias"),
    "outer": ("b_dec", "bias", "pre_bias", "decoder_bias", "decoder.bias"),
    "gate": ("b_gate", "gate_bias"),
    "magnitude": ("r_mag",),
    "threshold": ("threshold", "topk_threshold", "log_threshold"),
    "k": ("k",),
    "scaling": ("scaling_factor",),
}


@dataclass(frozen=True)
class Autoencoder:
    """An autoencoder: what its latents read and write, and the rule of their activations (None: a ReLU alone)."""

    read: Float[np.ndarray, "K u"]
    write: Float[np.ndarray, "K u"]
    bias: Float[np.ndarray, " K"]
    rule: LatentRule | None


def read_autoencoder(
    path: str | Path, u: int | None = None, centred: bool | None = None, kind: str | None = None
) -> Autoencoder:
    """Read an autoencoder from a file, or from a folder of weights and configuration.

    `u`: the number of neurons that the layer must have. `centred`: whether the encoder reads A less the decoder's bias;
    None: as its library does. `kind`: one of KINDS_OF_SAE, where the file does not tell.
    """
    path = Path(path)
    tensors, found = sae_tensors(path)
    configuration = {**found, **_beside(path)}
    written, tensors = tensors, plain_tensors(tensors)
    parts = _parts(tensors, path)
    if "encoder" not in parts or "decoder" not in parts:
        raise Refused(f"{path} has no encoder and decoder: it holds {', '.join(sorted(tensors)) or 'nothing'}")
    stated = stated_encoder(configuration, path)
    refuse_unstated(written, stated, kind, path)
    kind = _kind(kind or stated.get("kind"), parts, tensors, stated, path)
    return _assembled(parts, tensors, stated, kind, u, centred, path)


def sae_tensors(path: Path) -> tuple[dict[str, np.ndarray], Record]:
    """The tensors of a file, or of the file of weights in a folder, and other entries that lie with them."""
    if path.is_dir():
        there = [path / name for name in _FILES if (path / name).is_file()]
        if not there:
            raise Refused(f"{path} holds no autoencoder: none of {', '.join(_FILES)}")
        path = there[0]
    if not path.is_file():
        raise Refused(f"cannot read {path}: there is no such file or folder")
    if path.suffix == ".npz":
        refuse_bombs(path)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return {name: np.asarray(arrays[name]) for name in arrays.files}, {}
        except Exception as error:  # damaged archives and headers raise many types of error
            raise Refused(f"cannot read {path} as npz: {' '.join(str(error).split())[:120]}") from None
    header = _first_line(path)
    return _unwrapped(tensor_file(path, bool(header)), header.get("cfg", header), path)


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
    content: Mapping[str, object], configuration: Record, path: Path
) -> tuple[dict[str, np.ndarray], Record]:
    """Tensors by name, without the wrappers and prefixes that trainers put around them; other entries apart."""
    for name in _WRAPPERS:
        inner = content.get(name)
        if isinstance(inner, Mapping) and any(isinstance(each, torch.Tensor) for each in inner.values()):
            rest = {key: value for key, value in content.items() if key != name}
            for key, value in rest.items():
                entries = vars(value) if isinstance(value, Unread) else value
                nested = entries if isinstance(entries, dict) and key in ("cfg", "config") else {key: value}
                configuration = {**configuration, **nested}
            content = inner
    tensors = {key: each for key, each in content.items() if isinstance(each, torch.Tensor)}
    configuration = {**configuration, **{key: each for key, each in content.items() if key not in tensors}}
    known = {name for names in _NAMES.values() for name in names}
    while tensors and not known & set(tensors):
        first = {key.partition(".")[0] for key in tensors}
        if len(first) != 1 or not all("." in key for key in tensors):
            break
        tensors = {key.partition(".")[2]: each for key, each in tensors.items()}
    return {key: (each.float() if each.is_floating_point() else each).numpy() for key, each in tensors.items()}, (
        configuration
    )


def _beside(path: Path) -> Record:
    """The configuration that lies with the weights; dictionary_learning puts that of the autoencoder in `trainer`."""
    folder = path if path.is_dir() else path.parent
    for name in _CONFIGURATIONS:
        file = folder / name
        if file.is_file() and (path.is_dir() or path.name in _FILES):
            try:
                read = read_given_json(file)
            except ValueError as error:
                raise Refused(f"{file} is not JSON ({error})") from None
            if not isinstance(read, dict):
                raise Refused(f"{file} holds no JSON object")
            trainer = read.get("trainer")
            return {**read, **trainer} if isinstance(trainer, dict) else read
    return {}


def _parts(tensors: Mapping[str, np.ndarray], path: Path) -> dict[str, str]:
    """The names of the tensors by part. Raises Refused for one that is not understood."""
    parts = {part: name for part, names in _NAMES.items() for name in names[::-1] if name in tensors}
    unknown = sorted(set(tensors) - set(parts.values()) - _COUNTERS)
    if unknown and "encoder" in parts and "decoder" in parts:
        raise Refused(f"{path}: the tensor {unknown[0]} is not understood, so its latents cannot be computed")
    return parts


def _kind(
    kind: str | None, parts: Mapping[str, str], tensors: Mapping[str, np.ndarray], stated: Record, path: Path
) -> str:
    """The kind of an autoencoder, by what is stated and by its tensors. Raises Refused where these leave it open."""
    if kind is not None and kind not in KINDS_OF_SAE:
        raise Refused(f"kind={kind!r}: kinds are {', '.join(KINDS_OF_SAE)}")
    if kind is None and "gate" in parts:
        return "gated"
    if kind is None and "k" in parts:
        learnt = "threshold" in parts and float(tensors[parts["threshold"]].max()) >= 0
        if "group_sizes" in tensors:
            return "batchtopk"
        if learnt:
            raise Refused(
                f"{path} may be TopK or BatchTopK, which are written alike: name the folder with its config.json, "
                'or say kind="topk" or kind="batchtopk"'
            )
        return "topk"
    if kind is None:
        return "jumprelu" if "threshold" in parts else "topk" if stated.get("k") else "standard"
    needed = {"gated": "gate", "jumprelu": "threshold", "batchtopk": "threshold"}.get(kind)
    if needed and needed not in parts:
        raise Refused(f"{path} is said to be {kind}, and has no {' or '.join(_NAMES[needed])}")
    return kind


def _assembled(
    parts: Mapping[str, str],
    tensors: Mapping[str, np.ndarray],
    stated: Record,
    kind: str,
    u: int | None,
    centred: bool | None,
    path: Path,
) -> Autoencoder:
    def tensor(part: str) -> np.ndarray | None:
        return tensors[parts[part]].astype(np.float32).reshape(-1) if part in parts else None

    encoder, decoder = (tensors[parts[part]].astype(np.float32) for part in ("encoder", "decoder"))
    inner, outer, scaling = tensor("inner"), tensor("outer"), tensor("scaling")
    if scaling is not None and not np.allclose(scaling, 1):
        raise Refused(f"{path}: the tensor scaling_factor is not one everywhere, which is not supported")
    width = _width(encoder, decoder, outer, inner, u, path)
    read = _latents_first(encoder, width, parts["encoder"] in ("W_enc", "encoder"), f"{path}: the encoder")
    write = _latents_first(decoder, width, parts["decoder"] == "decoder.weight", f"{path}: the decoder")
    threshold = _threshold(tensor("threshold"), parts, len(read), kind)
    bias = np.zeros(len(read), np.float32) if inner is None else inner
    if len(bias) != len(read) or len(write) != len(read):
        raise Refused(f"{path}: encoder, decoder and biases do not fit: {read.shape}, {write.shape}, {bias.shape}")
    if "gate" in parts:
        # open where x W + b_gate > 0, which is where the magnitude e^r x W + b_mag exceeds b_mag - e^r b_gate
        grown = np.exp(np.zeros(len(read), np.float32) if (r := tensor("magnitude")) is None else r)
        gate = tensor("gate")
        threshold = bias - grown * (np.zeros_like(bias) if gate is None else gate)
        read = read * grown[:, None]
    elif "magnitude" in parts:
        raise Refused(f"{path}: the tensor {parts['magnitude']} is not understood without a gate")
    if stated.get("rescaled"):
        norms = np.linalg.norm(write, axis=1)
        read, bias, write = read * norms[:, None], bias * norms, write / norms[:, None]
    if centred is None:
        centred = stated.get("centred", _is_centred(parts, kind))
    if centred and outer is not None:
        bias = bias - read @ outer
    top = _top(parts, tensors, stated, path) if kind == "topk" else 0
    standard: Standard = stated.get("standard", "none")
    plain = threshold is None and not top and standard == "none"
    return Autoencoder(read, write, bias, None if plain else LatentRule(read, bias, threshold, top, standard))


def _top(parts: Mapping[str, str], tensors: Mapping[str, np.ndarray], stated: Record, path: Path) -> int:
    """How many latents of a TopK autoencoder are active."""
    if stated.get("k"):
        return int(stated["k"])
    if "k" not in parts:
        raise Refused(f"{path} is TopK, and neither a tensor nor its configuration says k")
    return int(tensors[parts["k"]].max())


def _is_centred(parts: Mapping[str, str], kind: str) -> bool:
    """Whether the encoder of this layout reads A less the decoder's bias, where no configuration says it."""
    outer = parts.get("outer")
    if outer == "decoder.bias":  # the bias of a linear decoder, as in dictionary_learning's AutoEncoderNew
        return False
    return not (kind == "jumprelu" and parts["encoder"] == "W_enc")  # Gemma Scope and dictionary_learning


def _threshold(
    given: np.ndarray | None, parts: Mapping[str, str], latents: int, kind: str
) -> Float[np.ndarray, " K"] | None:
    if given is None or kind not in ("jumprelu", "batchtopk"):
        return None
    values = np.exp(given) if parts["threshold"] == "log_threshold" else given
    return np.broadcast_to(values, (latents,)).astype(np.float32)


def _width(
    encoder: np.ndarray,
    decoder: np.ndarray,
    outer: np.ndarray | None,
    inner: np.ndarray | None,
    u: int | None,
    path: Path,
) -> int:
    """The number of neurons of an autoencoder's layer, from its biases if it has any, else the shorter axis."""
    if encoder.ndim != 2 or decoder.ndim != 2:
        raise Refused(f"{path}: encoder and decoder have shapes {encoder.shape} and {decoder.shape}, not two axes each")
    if outer is not None:
        found = len(outer)
    elif inner is not None:
        found = max(encoder.size // max(len(inner), 1), 1)
    else:
        found = u if u is not None and u in encoder.shape else min(encoder.shape)
    if u is not None and found != u:
        raise Refused(f"{path} holds an autoencoder of a layer of {found} neurons, not of {u}")
    return int(found)


def _latents_first(weight: np.ndarray, u: int, neurons_first: bool, what: str) -> Float[np.ndarray, "K u"]:
    """The matrix as (K, u). For a square one, `neurons_first` (from its key in the file) tells the axes apart."""
    if u not in weight.shape:
        raise Refused(f"{what} has shape {weight.shape}, and no axis of the layer's {u} neurons")
    turned = neurons_first if weight.shape[0] == weight.shape[1] else weight.shape[1] != u
    return np.ascontiguousarray(weight.T if turned else weight)
