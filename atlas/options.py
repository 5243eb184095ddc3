"""Options that several commands of `atlas` share, and the types of the options that commands pass on.

An option without a default gives None if it is not given; the default of the called function then applies.
"""

import argparse
import re
from typing import Literal, TypedDict

from atlas.console import option
from atlas.option_types import path_name, real_number, whole_number

ATLAS_OUT = option("out", type=path_name, help="folder of the Store")
ATLAS_JSON = option("--json", action="store_true", dest="as_json", help="print JSON instead of a table")
ATLAS_SEED = option("--seed", type=whole_number(0, 2**32 - 1), help="seed of random choices (0)")
ATLAS_DEVICE = option("--device", help="cpu, cuda, cuda:1, mps; by default a GPU if there is one")
ATLAS_WEIGHTS = option(
    "--pretrained",
    metavar="FILE",
    help="where the checkpoint file is now, if the Store was made with one",
)
ATLAS_PRETRAINED = option(
    "--pretrained",
    metavar="TAG|FILE",
    help="an open_clip tag or a checkpoint file; without it, random weights",
)
ATLAS_MAX_MB = option("--max-mb", type=real_number(0, above=True), help="largest size of the site in MB (25)")
ATLAS_FORCE = option("--force", action="store_true", help="derive and write everything again")
ATLAS_MODEL = (
    option("--model", dest="name", metavar="MODEL", help="an open_clip model, or the embedded one (mini)"),
    ATLAS_PRETRAINED,
    option("--layer", nargs="+", metavar="L", help="module paths; `atlas layers MODEL` lists them"),
    option("--token", choices=("cls", "patches"), help="tokens to read of a ViT; by default those that it pools"),
)
ATLAS_COLLECTING = (
    ATLAS_DEVICE,
    option("--batch", type=whole_number(1, 2**16), help="images per forward pass (64)"),
    ATLAS_SEED,
    option("--thumb", type=whole_number(8, 512), help="longest side of thumbnails in pixels (64)"),
    option("--engine", choices=("local", "ray"), help="where the work runs (local)"),
    option("--skip-bad", action="store_true", help="exit with 0 although inputs were refused"),
    option("--append", action="store_true", help="add files that are new since the last run"),
)
ATLAS_SOURCES = option("source", nargs="+", help="emoji, words, texts, a folder, list, table, tar, Parquet, hf:NAME")


class CollectOptionsGiven(TypedDict):
    """Options of `collect` and the device; None for those not given."""

    device: str | None
    batch: int | None
    seed: int | None
    thumb: int | None
    engine: str | None
    append: bool


class ModelOptionsGiven(CollectOptionsGiven):
    """The same, with the model that the user names."""

    name: str | None
    pretrained: str | None
    layer: list[str] | None
    token: Literal["cls", "patches"] | None


class MapOptionsGiven(TypedDict):
    """Options of `atlas map`; None for those not given."""

    n_neighbors: int | None
    min_dist: float | None
    centre: bool | None
    balanced: bool | None
    columns: int | None
    seed: int | None


class DreamOptionsGiven(TypedDict):
    """Options of `atlas dream`; None for those not given."""

    strength: float | None
    repeats: int | None
    steps: int | None
    seed: int | None


def neuron_span(text: str) -> range:
    """The neurons of an argument such as 12 or 40-47."""
    found = re.fullmatch("([0-9]{1,9})(?:-([0-9]{1,9}))?", text)
    if not found or int(found[2] or found[1]) < int(found[1]):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is neither a number nor a span such as 40-47")
    return range(int(found[1]), int(found[2] or found[1]) + 1)
