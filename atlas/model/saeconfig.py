"""What the configurations of a published autoencoder say of its encoder; an entry that is not understood is refused."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from atlas.errors import Refused
from atlas.formatting import Record
from atlas.model.latents import Standard

KINDS_OF_SAE = ("standard", "topk", "batchtopk", "jumprelu", "gated")
_ARCHITECTURES = {
    **{name: name for name in KINDS_OF_SAE},
    "matryoshka_batchtopk": "batchtopk",
    "relu": "standard",
    "vanilla": "standard",
    "autoencoder": "standard",
    "autoencodernew": "standard",
    "autoencodertopk": "topk",
    "batchtopksae": "batchtopk",
    "matryoshkabatchtopksae": "batchtopk",
    "gatedautoencoder": "gated",
    "jumpreluautoencoder": "jumprelu",
}
_WIDTHS = ("d_in", "d_vit", "d_model", "activation_dim")
_LATENTS = ("d_sae", "dict_size", "num_latents")
_UNSUPPORTED = frozenset(("reshape_activations", "finetuning_scaling_factor", "skip_connection", "transcode", "signed",
                          "normalize", "is_transcoder", "transcoder_with_skip_connection",
                          "gated_sae"))  # fmt: skip  # unless they are off
# Entries that do not change what the encoder computes, by the library that writes them: full names, because a prefix
# would let through what does.
_ENTRIES = json.loads((Path(__file__).parent / "sae_entries.json").read_text("utf-8"))
_DESCRIBING = frozenset(name for names in _ENTRIES.values() for name in names)


@dataclass(frozen=True)
class StatedEncoder:
    """What configurations say of an encoder; None where they say nothing."""

    kind: str | None = None
    k: int | None = None
    centred: bool | None = None
    standard: Standard = "none"
    rescaled: bool = False
    signed: bool = False  # whether latents below zero stay
    width: int | None = None
    latents: int | None = None
    unsure: bool = False  # whether versions of the library differ in what they centre

    @property
    def described(self) -> bool:
        """Whether a configuration of the encoder is there, which would name a kind other than its library's first."""
        return self.width is not None or self.latents is not None


def stated_encoder(configurations: Iterable[tuple[Path, Record]]) -> StatedEncoder:
    """What configurations say, each with the file it is from. Refuses what it cannot place, and contradictions."""
    told: Record = {}
    for path, configuration in configurations:
        for name, value in configuration.items():
            found = _saev(configuration, path) if name == "schema" else _told(name, value, path)
            for key, each in found.items():
                if told.setdefault(key, each) != each:
                    raise Refused(f"{path}: by {name} = {_short(value)} {key} is {each}, by another entry {told[key]}")
    architecture, activation = told.pop("architecture", None), told.pop("activation", None)
    if architecture not in (None, "standard", activation) and activation not in (None, "standard"):
        raise Refused(f"the architecture {architecture} contradicts the activation function {activation}")
    chosen = activation if architecture in (None, "standard") else architecture
    return StatedEncoder(kind=chosen or architecture, **told)


def _told(name: str, value: object, path: Path) -> Record:
    """What one entry says, by the fields of StatedEncoder; `architecture` and `activation` apart."""
    match name:
        case "architecture" | "dict_class":
            return {"architecture": _kind(name, value, path), **_centring(value)}
        case "activation" | "activation_fn" | "activation_fn_str":
            return _activation(name, value, path)
        case "k" | "top_k":
            return {"k": _count(name, value, path)} if value is not None else {}
        case "activation_fn_kwargs":
            return _of_topk(name, value or {}, ("k",), path)
        case "activation_state_dict":  # OpenAI's, whose TopK normalises each row
            found = _of_topk(name, value or {}, ("k", "postact_fn"), path)
            return found | {"standard": "layer_norm"} if "k" in found else found
        case "apply_b_dec_to_input":
            return {"centred": _switch(name, value, path)}
        case "normalize_activations":
            return {"standard": _standard(value, path)}
        case "rescale_acts_by_decoder_norm":
            return {"rescaled": _switch(name, value, path)}
        case _ if name in _WIDTHS or name in _LATENTS:
            key = "width" if name in _WIDTHS else "latents"
            return {key: _count(name, value, path)} if value else {}
        case _ if name in _UNSUPPORTED:
            if value not in (None, False, "none"):
                raise Refused(f"{path}: {name} = {_short(value)} of its configuration is not supported")
        case "cls" if value in ("Relu", "SparseAutoencoderConfig"):  # saev's, of its schema 1
            return {}
        case _ if name not in _DESCRIBING:
            raise Refused(f"{path}: the entry {name} = {_short(value)} of its configuration is not understood")
    return {}


def _saev(header: Record, path: Path) -> Record:
    """What saev's versions differ in: since schema 2 it no longer subtracts the decoder's bias; schema 1 has both."""
    if header["schema"] not in (1, 2, 3, 4):
        raise Refused(f"{path}: the schema {_short(header['schema'])} of saev is not known")
    if header["schema"] != 1:
        return {"centred": False}
    return {} if header.get("cls") == "Relu" else {"unsure": True}


def _activation(name: str, value: object, path: Path) -> Record:
    if not isinstance(value, dict):
        return {"activation": _kind(name, value, path)}
    # saev: {"cls": "TopK", "params": {"top_k": 32}}; its TopK keeps values below zero
    if unknown := sorted(set(value) - {"cls", "params"}):
        raise Refused(f"{path}: the entry {unknown[0]} of {name} is not understood")
    found = {"activation": _kind(name, value.get("cls"), path)}
    found |= _of_topk(name, value.get("params") or {}, ("top_k", "kind", "sparsity", "momentum"), path)
    return found | {"signed": True} if found["activation"] == "topk" else found


def _of_topk(name: str, value: object, known: tuple[str, ...], path: Path) -> Record:
    """What the parameters of an activation function say: k, and whether a ReLU follows."""
    if not isinstance(value, dict):
        raise Refused(f"{path}: {name} = {_short(value)} is not understood")
    if unknown := sorted(set(value) - set(known)):
        raise Refused(f"{path}: the entry {unknown[0]} = {_short(value[unknown[0]])} of {name} is not understood")
    found = {"k": _count(name, value[known[0]], path)} if known[0] in value else {}
    match value.get("postact_fn", "ReLU"):
        case "ReLU":
            return found
        case "Identity":
            return found | {"signed": True}
    raise Refused(f"{path}: postact_fn = {_short(value['postact_fn'])} of {name} is not supported")


def _kind(name: str, value: object, path: Path) -> str:
    kind = _ARCHITECTURES.get(str(value).lower().rpartition(".")[2])
    if kind is None:
        raise Refused(f"{path}: {name} = {_short(value)} is not supported; these are: {', '.join(KINDS_OF_SAE)}")
    return kind


def _centring(value: object) -> Record:
    """Two of dictionary_learning's encoders read A as it is."""
    return {"centred": False} if value in ("AutoEncoderNew", "JumpReluAutoEncoder") else {}


def _count(name: str, value: object, path: Path) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not float(value).is_integer() or value < 1:
        raise Refused(f"{path}: {name} = {_short(value)} of its configuration is not a number of one or more")
    return int(value)


def _switch(name: str, value: object, path: Path) -> bool:
    if not isinstance(value, bool):
        raise Refused(f"{path}: {name} = {_short(value)} of its configuration is neither true nor false")
    return value


def _standard(value: object, path: Path) -> Standard:
    match value:
        case None | bool() | "none" | "expected_average_only_in" | "covariance_whitening":  # folded into the weights
            return "none"
        case "layer_norm":
            return "layer_norm"
        case "constant_norm_rescale":
            return "constant_norm_rescale"
    raise Refused(f"{path}: normalize_activations = {_short(value)} is not supported")


def _short(value: object) -> str:
    return repr(value)[:40]
