"""From what a command line names to what a command works on: Store, model, latents, vocabulary, images, words."""

import argparse
from pathlib import Path
from typing import Any

from atlas.errors import Refused

# Nothing heavy is imported here: `decompose --help` must answer at once.

RECEIPT_IMAGES = 64
VOCABULARY = "index/vocabulary"  # the texts that neurons are named by, embedded


def open_model(args: argparse.Namespace) -> tuple[Any, Any]:
    """The Store, if one is given, and the model: the Store's own, or the one that is named."""
    if args.store is not None:
        from atlas.derivation import clip_of
        from atlas.store import Store

        store = Store.open(args.store)
        return store, clip_of(store, args.pretrained, "auto")
    from atlas.clip import Clip

    return None, Clip(args.model, args.pretrained)


def latents(args: argparse.Namespace, neurons: int) -> Any:
    """The latents of the autoencoder that is named, to stand where neurons do; None without one."""
    from decompose.directions import Directions

    return None if args.sae is None else Directions.sae(args.sae, neurons)


def chosen(args: argparse.Namespace, neurons: int, where: str) -> Any:
    """The neuron that is asked for, or the latent of that number; Refused for one that is not there."""
    from decompose.neighbours import checked

    found = latents(args, neurons)
    if found is None:
        return checked(args.neuron, neurons, where)
    return found[checked(args.neuron, len(found), str(args.sae), "latent")]


def bank(store: Any, clip: Any) -> Any:
    """The vocabulary, embedded; with a Store once and for all, beside its indexes."""
    from hashlib import sha256

    from decompose.lookup import TextBank, default_texts

    vocabulary = default_texts()
    if store is None:
        return TextBank.build(clip, vocabulary)
    recipe = {"texts": len(vocabulary), "sha256": sha256("\n".join(vocabulary).encode()).hexdigest()}
    if not store.current(VOCABULARY) or store.recipe(VOCABULARY) != recipe:
        with store.deriving(VOCABULARY, recipe) as folder:
            TextBank.build(clip, vocabulary).save(folder)
    return TextBank.open(store.derived(VOCABULARY))


def some_images(store: Any) -> list[Any]:
    """Thumbnails of images spread over the Store, to try neurons on."""
    from decompose.confirmation import thumbnails

    if store is None or "image" not in store.counts:
        raise Refused("receipts need images to try neurons on: give --store of one that holds some")
    rows = store.positions("image")
    return thumbnails(store, rows[:: max(1, len(rows) // RECEIPT_IMAGES)][:RECEIPT_IMAGES])


def word_list(file: Path) -> list[str]:
    """The words of a file, one a line; Refused where it is no file."""
    from atlas.files import lines

    if not file.is_file():
        raise Refused(f"{file} is not a file; give one with a word a line")
    return [line for _, line in lines(file)]
