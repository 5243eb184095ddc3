"""What a command line names becomes what a command works on: Store, model, directions, vocabulary, images, words."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from atlas.errors import Refused

if TYPE_CHECKING:
    import numpy as np

    from atlas.model.clip import Clip
    from atlas.model.directions import Directions
    from atlas.store.store import Store
    from decompose.lookup import TextBank

# Nothing heavy is imported here: `decompose --help` must answer at once.

_RECEIPT_IMAGES = 64


def open_model(store: Path | None, model: str, pretrained: str | None) -> "tuple[Store | None, Clip]":
    """The Store, if one is given, and the model: the Store's own, or the one that is named."""
    if store is not None:
        return open_store(store, pretrained)
    from atlas.model.clip import Clip

    return None, Clip(model, pretrained)


def open_store(store: Path, pretrained: str | None) -> "tuple[Store, Clip]":
    """A Store and its own model."""
    from atlas.analysis.derivation import clip_of
    from atlas.store.store import Store

    opened = Store.open(store)
    return opened, clip_of(opened, pretrained, "auto")


def warn_untrained(clip: "Clip", texts: Sequence[str]) -> None:
    """Print one line about texts of which the model has learned no token: what it finds for them means nothing."""
    from decompose.attribution import untrained_texts

    if found := untrained_texts(clip, texts):
        few = ", ".join(repr(text[:20]) for text in found[:3])
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        print(f"{clip.name} has learned no part of {few}{more}: its answers for them mean nothing", file=sys.stderr)


def at_least_one(k: int) -> None:
    """Raise Refused for a -k below 1: a slice by it would print other rows than were asked for."""
    if k < 1:
        raise Refused(f"-k {k}: ask for at least one")


def load_directions(file: Path | None, neurons: int) -> "Directions | None":
    """The directions of a file, which replace neurons; None without a file."""
    from atlas.model.directions import Directions

    if file is None:
        return None
    found = Directions.load(file, neurons)
    if not len(found):
        raise Refused(f"{file} holds no directions")
    return found


def chosen_neuron(number: int, file: Path | None, neurons: int, where: str) -> "int | Directions":
    """The neuron of that number or, where a file of directions is given, its direction of that number."""
    from decompose.neighbours import checked_neuron

    found = load_directions(file, neurons)
    if found is None:
        return checked_neuron(number, neurons, where)
    return found[checked_neuron(number, len(found), str(file), "direction")]


def text_bank(store: "Store | None", clip: "Clip", templates: str | None = None) -> "TextBank":
    """The built-in vocabulary, embedded in these prompts; with a Store it is embedded once and kept in the Store."""
    from hashlib import sha256

    from decompose.attribution import chosen_templates
    from decompose.lookup import TEXT_BANK, TextBank, default_texts

    vocabulary = default_texts()
    if store is None:
        print(f"embedding {len(vocabulary):,} texts to choose from; with --store they are kept", file=sys.stderr)
        return TextBank.build(clip, vocabulary, templates)
    content = "\n".join((*chosen_templates(templates), *vocabulary))
    recipe = {"texts": len(vocabulary), "sha256": sha256(content.encode()).hexdigest()}
    part = TEXT_BANK.made_with(templates=templates)
    if not store.current(part) or store.recipe(part) != recipe:
        with store.deriving(part, recipe) as folder:
            TextBank.build(clip, vocabulary, templates).save(folder)
    return TextBank.open(store.derived(part))


def sample_images(store: "Store | None", clip: "Clip", far: "np.ndarray | None" = None) -> "np.ndarray":
    """Images (n, s, s, 3) spread over the Store, on which receipts are tried.

    `far`: take them from the half whose embeddings are farthest from this one (e,): a search by response chooses
    neurons by the images nearest to the text, and receipts must not be tried on those.
    """
    import numpy as np

    from atlas.store.originals import prepared

    if store is None or "image" not in store.counts:
        raise Refused("receipts need images to try neurons on: give --store of one that holds some")
    rows = store.positions("image")
    if far is not None:
        cosine = np.asarray(store.array("embedding", "image"), np.float32) @ far
        rows = rows[np.sort(np.argsort(cosine, kind="stable")[: -(-len(rows) // 2)])]
    return prepared(store, clip, rows[:: max(1, len(rows) // _RECEIPT_IMAGES)][:_RECEIPT_IMAGES])


def word_list(file: Path) -> list[str]:
    """The words of a file, one a line; Refused where it is no file."""
    from atlas.sources.files import lines

    if not file.is_file():
        raise Refused(f"{file} is not a file; give one with a word a line")
    return [line for _, line in lines(file)]


def command_again(name: str, *words: object) -> str:
    """A command as made.json keeps it: `decompose NAME WORDS`, quoted; the word {store} stands for the Store's path."""
    quoted = (str(word) if word == "{store}" else shlex.quote(str(word)) for word in words)
    return " ".join(["decompose", name, *quoted])
