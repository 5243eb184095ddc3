"""The description of a model that a Store keeps, and the device that a model runs on."""

from dataclasses import asdict
from typing import TypedDict

import torch
from open_clip.transform import PreprocessCfg

from atlas.errors import Misuse
from atlas.formatting import Record
from atlas.model.layers import Token


class ModelDescription(TypedDict):
    """A model and how it reads images, as stored in store.json."""

    name: str
    pretrained: str | None
    origin: str
    weights_sha256: str
    dim: int
    layers: list[Record]
    token: Token | None
    preprocessing: Record


def describe_preprocessing(preprocessing: PreprocessCfg, side: int) -> Record:
    """The preprocessing of a model as JSON values; `side`: side of the images that the model reads."""
    values = asdict(preprocessing).items()
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values} | {"size": side}


def choose_device(device: str | None) -> torch.device:
    """The device of this name; "auto" and None take CUDA if there is a GPU. Raises `Refused` for other devices."""
    if device in (None, "auto"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        wanted = torch.device(device)
        torch.zeros(1, device=wanted).sum().item()  # "meta" holds no numbers
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise Misuse(
            f"no device {device!r} here: {' '.join(str(error).split())[:120]}; 'auto' takes what there is"
        ) from error
    return wanted
