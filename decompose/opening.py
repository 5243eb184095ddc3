"""The options that several commands share, and functions that open what their values name.

These are a Store, a model, directions, texts, images and words.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from atlas.console import Option, option
from atlas.errors import Refused
from atlas.option_types import path_name, whole_number
from atlas.options import ATLAS_PRETRAINED, ATLAS_WEIGHTS
from atlas.store.options import VERIFY_FLAG

if TYPE_CHECKING:
    import numpy as np

    from atlas.model.clip import Clip
    from atlas.model.directions import Directions
    from atlas.store.store import Store
    from decompose.lookup import TextBank

# Nothing heavy is imported here, so that `decompose --help` answers at once.

AUTO = "auto"  # in place of a number
_RECEIPT_IMAGES = 64  # images that receipts are measured on


STORE_FOLDER = (option("store", type=path_name, help="folder of the Store"), VERIFY_FLAG)
AS_JSON = option("--json", action="store_true", dest="as_json", help="print JSON instead of a table")
SEED_NUMBER = option("--seed", type=whole_number(0, 2**32 - 1), default=0, help="seed of all random draws (0)")
STUDY_OPTIONS = (SEED_NUMBER, ATLAS_WEIGHTS, AS_JSON)
NEURON_NUMBER = option("neuron", type=whole_number(), help="number of the neuron")
CONCEPT_WORDS = option("concept", nargs="+", help="a word or a sentence")
WITH_RECEIPTS = option(
    "--receipts", action="store_true", help="test each neuron: raise and ablate it in forward passes"
)
DIRECTIONS_FILE = option(
    "--directions",
    "--sae",
    type=path_name,
    metavar="FILE",
    help="use the directions or the sparse autoencoder in this file instead of neurons",
)


class ModelOptions(TypedDict):
    """The options that choose a model (`MODEL_CHOICE`)."""

    store: Path | None
    model: str
    pretrained: str | None
    layer: str | None


COLLECTED_LAYER = option("--layer", metavar="PATH", help="another layer that the Store holds, in place of the first")
MODEL_CHOICE = (
    option("--store", type=path_name, metavar="OUT", help="a Store: use its model, and the activations of its rows"),
    VERIFY_FLAG,
    option("--model", default="mini", help="an open_clip model, if no Store is given (mini)"),
    ATLAS_PRETRAINED,
    option("--layer", metavar="PATH", help="another layer of the model, or of those that the Store holds"),
)


def templates_option(default: str | None = None) -> Option:
    """The option --templates."""
    shown = default or "plain"
    return option(
        "--templates",
        default=default,
        help=f"a set of prompts, or one prompt with {{}} in it ({shown})",
    )


def count_option(k: int, what: str = "rows to print") -> Option:
    """The option -k."""
    return option("-k", type=whole_number(1), default=k, help=f"number of {what} ({k})")


def number_or_auto(text: str) -> int | str:
    """The value of an option that takes a whole number or `AUTO`."""
    try:
        return text if text == AUTO else whole_number(1)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, nor {AUTO}") from None


# -- what they name ----------------------------------------------------------------------------------------------------


def open_model(
    store: Path | None, model: str, pretrained: str | None, layer: str | None
) -> "tuple[Store | None, Clip]":
    """The Store, if one is given, and the model: that of the Store, or the one that is named. It keeps its texts."""
    from atlas.model.clip import Clip

    opened, clip = (
        (None, Clip(model, pretrained, layer)) if store is None else open_with_model(store, pretrained, layer)
    )
    clip.keep_texts()
    return opened, clip


def open_with_model(store: Path, pretrained: str | None, layer: str | None = None) -> "tuple[Store, Clip]":
    """A Store and the model that made it, both at one layer."""
    from atlas.analysis.derivation import clip_of

    opened = open_store(store, layer)
    return opened, clip_of(opened, pretrained, "auto")


def open_store(store: Path, layer: str | None) -> "Store":
    """A Store, read at one of its layers; None is the first."""
    from atlas.store.store import Store

    opened = Store.open(store)
    return opened if layer is None else opened.of_layer(layer)


def warn_untrained(clip: "Clip", texts: Sequence[str]) -> None:
    """Print one line on stderr if the model has learned no token of some texts: results for them mean nothing."""
    if found := clip.untrained_texts(texts):
        few = ", ".join(repr(text[:20]) for text in found[:3])
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        print(f"{clip.name} has learned no part of {few}{more}, and reads nothing there", file=sys.stderr)


def load_directions(file: Path | None, neurons: int) -> "Directions | None":
    """The directions in a file; None without a file."""
    from atlas.model.directions import Directions

    if file is None:
        return None
    found = Directions.load(file, neurons)
    if not len(found):
        raise Refused(f"{file} holds no directions")
    return found


def chosen_neuron(number: int, file: Path | None, neurons: int, where: str) -> "int | Directions":
    """The neuron with this number or, if a file of directions is given, the direction with this number."""
    from decompose.neighbours import checked_neuron

    found = load_directions(file, neurons)
    if found is None:
        return checked_neuron(number, neurons, where)
    return found[checked_neuron(number, len(found), str(file), "direction")]


def text_bank(store: "Store | None", clip: "Clip", templates: str | None = None) -> "TextBank":
    """Embeddings of the built-in vocabulary in these prompts; a Store keeps them, so they are computed once."""
    from hashlib import sha256

    from atlas.store.files import NotWritable
    from decompose.lookup import TEXT_BANK, TextBank, default_texts
    from decompose.prompting import chosen_templates

    vocabulary = default_texts()
    if store is None:
        return TextBank.build(clip, vocabulary, templates)  # from embeddings that are kept (`Clip.keep_texts`)
    content = "\n".join((*chosen_templates(templates), *vocabulary))
    recipe = {"texts": len(vocabulary), "sha256": sha256(content.encode()).hexdigest()}
    part = TEXT_BANK.made_with(templates=templates)
    if store.current(part) and store.recipe(part) == recipe:
        return TextBank.open(store.derived(part))
    bank = TextBank.build(clip, vocabulary, templates)
    with suppress(NotWritable), store.deriving(part, recipe) as folder:
        bank.save(folder)
    return bank


def sample_images(store: "Store | None", clip: "Clip", far: "np.ndarray | None" = None) -> "np.ndarray":
    """Images (n, s, s, 3) spread evenly over the Store, to measure receipts on.

    `far`: an embedding (e,); only the half of the images farthest from this embedding is used. A search by response
    selects neurons by the images nearest to the text, and receipts must not be measured on the same images.
    Raises Refused without a Store that holds images.
    """
    import numpy as np

    from atlas.store.originals import original_pictures

    if store is None or "image" not in store.counts:
        raise Refused("receipts need images: give --store with a Store that holds some")
    rows = store.positions("image")
    if far is not None:
        cosine = np.asarray(store.array("embedding", "image"), np.float32) @ far
        rows = rows[np.sort(np.argsort(cosine, kind="stable")[: -(-len(rows) // 2)])]
    return original_pictures(store, clip, rows[:: max(1, len(rows) // _RECEIPT_IMAGES)][:_RECEIPT_IMAGES])


def word_list(file: Path) -> list[str]:
    """The words in a file, one a line. Raises Refused if there is no such file."""
    from atlas.sources.textfiles import read_list

    if not file.is_file():
        raise Refused(f"{file} is not a file; give one with a word a line")
    return read_list(file)
