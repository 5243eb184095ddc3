"""Sparse autoencoders as they are published: SAELens, dictionary_learning, sparsify, saev, OpenAI, Gemma Scope, MSAE,
Overcomplete, Prisma, PatchSAE.

A file or a folder is read exactly as its library reads it, or refused: a tensor or an entry of its configuration that
is not understood is an error that names it. No code of a file is run.

    u neurons    K latents
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from atlas.errors import Refused
from atlas.model.latents import LatentRule
from atlas.model.overcomplete import plain_tensors
from atlas.model.saeconfig import KINDS_OF_SAE, StatedEncoder, stated_encoder
from atlas.model.saefiles import SAE_PARTS, configurations_beside, sae_tensors, weights_of_sae

_COUNTERS = frozenset(("stats_last_nonzero", "latents_activation_frequency", "latents_mean_square",
                       "n_forward_passes_since_fired", "act_freq_scores", "group_sizes",
                       "num_tokens_since_fired"))  # fmt: skip
# Parts that an encoder of each kind uses; dictionary_learning keeps a threshold beside the k of TopK.
_USED = {
    "standard": (),
    "topk": ("k", "threshold"),
    "batchtopk": ("k", "threshold"),
    "jumprelu": ("threshold",),
    "gated": ("gate", "magnitude"),
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
    file = weights_of_sae(path)
    tensors, found = sae_tensors(path)
    tensors = plain_tensors(tensors)
    parts = _parts(tensors, path)
    if "encoder" not in parts or "decoder" not in parts:
        raise Refused(f"{path} has no encoder and decoder: it holds {', '.join(sorted(tensors)) or 'nothing'}")
    stated = stated_encoder([*((file, each) for each in found), *configurations_beside(file)])
    kind = _kind(kind or stated.kind, parts, tensors, stated, path)
    if centred is None:
        centred = _centred(parts, kind, stated, file)
    return _assembled(parts, tensors, stated, kind, u, centred, path)


def _parts(tensors: Mapping[str, np.ndarray], path: Path) -> dict[str, str]:
    """The names of the tensors by part. Raises Refused for one that is not understood."""
    parts = {part: name for part, names in SAE_PARTS.items() for name in names[::-1] if name in tensors}
    unknown = sorted(set(tensors) - set(parts.values()) - _COUNTERS)
    if unknown and "encoder" in parts and "decoder" in parts:
        raise Refused(f"{path}: the tensor {unknown[0]} is not understood, so its latents cannot be computed")
    return parts


def _kind(
    kind: str | None, parts: Mapping[str, str], tensors: Mapping[str, np.ndarray], stated: StatedEncoder, path: Path
) -> str:
    """The kind of an autoencoder, by what is stated and by its tensors. Raises Refused where these leave it open."""
    kind = kind or _kind_of_tensors(parts, tensors, stated, path)
    if kind not in KINDS_OF_SAE:
        raise Refused(f"kind={kind!r}: kinds are {', '.join(KINDS_OF_SAE)}")
    needed = {"gated": "gate", "jumprelu": "threshold", "batchtopk": "threshold"}.get(kind)
    if needed and needed not in parts:
        raise Refused(f"{path} is said to be {kind}, and has no {SAE_PARTS[needed][0]}")
    for part in ("gate", "magnitude", "threshold", "k"):
        if part in parts and (part not in _USED[kind] or (kind == "topk" and "k" not in parts)):
            raise Refused(f"{path} is {kind}, and holds a tensor {parts[part]} that this kind does not use")
    if (parts.get("inner") in ("b_mag", "mag_bias")) != (kind == "gated") and "inner" in parts:
        raise Refused(f"{path} is {kind}, and holds a tensor {parts['inner']} that this kind does not use")
    if stated.k and kind not in ("topk", "batchtopk"):
        raise Refused(f"{path} is {kind}, and its configuration says k = {stated.k}, which would make it topk")
    if stated.rescaled and kind not in ("topk", "batchtopk"):
        raise Refused(f"{path} is {kind}, and only topk and batchtopk have rescale_acts_by_decoder_norm")
    return kind


def _kind_of_tensors(
    parts: Mapping[str, str], tensors: Mapping[str, np.ndarray], stated: StatedEncoder, path: Path
) -> str:
    """The kind of an autoencoder whose configuration, if there is one, does not name it."""
    if "gate" in parts:
        return "gated"
    if "k" in parts:
        if "group_sizes" in tensors:
            return "batchtopk"
        if "threshold" in parts and float(tensors[parts["threshold"]].max()) >= 0:
            raise Refused(
                f"{path} may be TopK or BatchTopK, which are written alike: name the folder with its config.json, "
                'or say kind="topk" or kind="batchtopk"'
            )
        return "topk"
    if "threshold" in parts:
        return "jumprelu"
    if stated.k:
        return "topk"
    linear = parts["encoder"] == "encoder.weight"
    of_sparsify = linear and parts["decoder"] == "W_dec" and parts.get("outer") == "b_dec"  # TopK always
    named = linear and (parts.get("outer") == "bias" or parts.get("inner") == "latent_bias")
    if not of_sparsify and (named or stated.described):
        return "standard"  # of dictionary_learning and OpenAI by its names; of others where no activation is stated
    raise Refused(
        f"{path} does not say how many of its latents are active, and a ReLU and TopK are written alike: "
        'put its cfg.json into the same folder. Without one, kind="standard" reads it as a ReLU; for TopK, write '
        '{"k": 32} into a cfg.json'
    )


def _assembled(
    parts: Mapping[str, str],
    tensors: Mapping[str, np.ndarray],
    stated: StatedEncoder,
    kind: str,
    u: int | None,
    centred: bool,
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
    for what, said, held in (("neurons", stated.width, width), ("latents", stated.latents, len(read))):
        if said not in (None, held):
            raise Refused(f"{path}: its configuration says {said} {what}, and its tensors have {held}")
    threshold = _threshold(tensor("threshold"), parts, len(read), kind, path)
    bias = np.zeros(len(read), np.float32) if inner is None else inner
    if len(bias) != len(read) or len(write) != len(read):
        raise Refused(f"{path}: encoder, decoder and biases do not fit: {read.shape}, {write.shape}, {bias.shape}")
    if kind == "gated":
        # open where x W + b_gate > 0, which is where the magnitude e^r x W + b_mag exceeds b_mag - e^r b_gate
        grown = np.exp(np.zeros(len(read), np.float32) if (r := tensor("magnitude")) is None else r)
        gate = tensor("gate")
        threshold = bias - grown * (np.zeros_like(bias) if gate is None else gate)
        read = read * grown[:, None]
    if stated.rescaled:
        norms = np.linalg.norm(write, axis=1)
        read, bias, write = read * norms[:, None], bias * norms, write / norms[:, None]
    if centred and outer is not None:
        bias = bias - read @ outer
    top = _top(parts, tensors, stated, len(read), path) if kind == "topk" else 0
    plain = threshold is None and not top and stated.standard == "none"
    rule = None if plain else LatentRule(read, bias, threshold, top, stated.standard, stated.signed)
    return Autoencoder(read, write, bias, rule)


def _top(
    parts: Mapping[str, str], tensors: Mapping[str, np.ndarray], stated: StatedEncoder, latents: int, path: Path
) -> int:
    """How many latents of a TopK autoencoder are active."""
    held = int(tensors[parts["k"]].max()) if "k" in parts else stated.k
    if held is None:
        raise Refused(f"{path} is TopK, and neither a tensor nor its configuration says k")
    if stated.k not in (None, held):
        raise Refused(f"{path}: its tensor says k = {held}, its configuration {stated.k}")
    if not 1 <= held <= latents:
        raise Refused(f"{path}: k = {held}, and there are {latents} latents")
    return held


def _centred(parts: Mapping[str, str], kind: str, stated: StatedEncoder, file: Path) -> bool:
    """Whether the encoder reads A less the decoder's bias. Raises Refused where libraries or versions differ."""
    if stated.centred is not None:
        return stated.centred
    if parts.get("outer") == "decoder.bias":  # the bias of a linear decoder, as in dictionary_learning's AutoEncoderNew
        return False
    if kind == "jumprelu" and parts["encoder"] == "W_enc" and "outer" in parts and not stated.kind:
        if file.suffix == ".npz":  # Gemma Scope
            return False
        stated = replace(stated, unsure=True)
    if stated.unsure:
        raise Refused(
            f"{file} does not say whether its encoder subtracts the decoder's bias, and those of its layout differ: "
            'give centred=True or centred=False, or write {"apply_b_dec_to_input": true} (or false) into a cfg.json'
        )
    return True


def _threshold(
    given: np.ndarray | None, parts: Mapping[str, str], latents: int, kind: str, path: Path
) -> Float[np.ndarray, " K"] | None:
    if given is None or kind not in ("jumprelu", "batchtopk"):
        return None
    if len(given) not in (1, latents) or np.isnan(given).any():
        raise Refused(f"{path}: {parts['threshold']} holds {len(given)} thresholds, not {latents} finite ones")
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
