"""From what a command line names to what a command works on: Store, model, directions, vocabulary, images, words."""

import argparse
import sys
from collections.abc import Sequence
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


def say_unread(clip: Any, texts: Sequence[str]) -> None:
    """One line for texts that the model knows nothing of: what it finds for them is what it finds for no text."""
    from decompose.attribution import unread

    if found := unread(clip, texts):
        few = ", ".join(repr(text[:20]) for text in found[:3])
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        print(f"{clip.name} has learned no part of {few}{more}, and reads nothing there", file=sys.stderr)


def at_least_one(args: argparse.Namespace) -> None:
    """Refused where fewer rows than one are asked for; commands that slice what they found would print others."""
    if args.k < 1:
        raise Refused(f"-k {args.k}: ask for at least one")


def directions(args: argparse.Namespace, neurons: int) -> Any:
    """The directions of the file that is named, to stand where neurons do; None without one."""
    from decompose.directions import Directions

    if args.directions is None:
        return None
    found = Directions.load(args.directions, neurons)
    if not len(found):
        raise Refused(f"{args.directions} holds no directions")
    return found


def chosen(args: argparse.Namespace, neurons: int, where: str) -> Any:
    """The neuron that is asked for, or the direction of that number; Refused for one that is not there."""
    from decompose.neighbours import checked

    found = directions(args, neurons)
    if found is None:
        return checked(args.neuron, neurons, where)
    return found[checked(args.neuron, len(found), str(args.directions), "direction")]


def bank(store: Any, clip: Any, templates: str | None = None) -> Any:
    """The vocabulary, embedded in these prompts; with a Store once and for all, beside its indexes."""
    from hashlib import sha256

    from decompose.attribution import chosen_templates
    from decompose.lookup import TextBank, default_texts

    vocabulary = default_texts()
    if store is None:
        print(f"embedding {len(vocabulary):,} texts to choose from; with --store they are kept", file=sys.stderr)
        return TextBank.build(clip, vocabulary, templates)
    said = "\n".join((*chosen_templates(templates), *vocabulary))
    recipe = {"texts": len(vocabulary), "sha256": sha256(said.encode()).hexdigest()}
    if not store.current(VOCABULARY) or store.recipe(VOCABULARY) != recipe:
        with store.deriving(VOCABULARY, recipe) as folder:
            TextBank.build(clip, vocabulary, templates).save(folder)
    return TextBank.open(store.derived(VOCABULARY))


def some_images(store: Any, clip: Any, far: Any = None) -> Any:
    """Images spread over the Store, to try neurons on; `far`: of the half that is farthest from this
    embedding (e,), as a search by response chooses neurons by the images nearest to the text.
    """
    import numpy as np

    from atlas.originals import prepared

    if store is None or "image" not in store.counts:
        raise Refused("receipts need images to try neurons on: give --store of one that holds some")
    rows = store.positions("image")
    if far is not None:
        cosine = np.asarray(store.array("embedding", "image"), np.float32) @ far
        rows = rows[np.sort(np.argsort(cosine, kind="stable")[: -(-len(rows) // 2)])]
    return prepared(store, clip, rows[:: max(1, len(rows) // RECEIPT_IMAGES)][:RECEIPT_IMAGES])


def word_list(file: Path) -> list[str]:
    """The words of a file, one a line; Refused where it is no file."""
    from atlas.files import lines

    if not file.is_file():
        raise Refused(f"{file} is not a file; give one with a word a line")
    return [line for _, line in lines(file)]
