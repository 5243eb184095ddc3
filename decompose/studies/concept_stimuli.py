"""`decompose concept`: stimuli of a concept from a Store, from folders of images, and from words."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from atlas.console import option, options_changed, print_table, takes
from atlas.errors import Refused
from atlas.option_types import path_name
from atlas.options import ATLAS_WEIGHTS
from atlas.store.part import option_words
from decompose.opening import AS_JSON, SEED_NUMBER, STORE_FOLDER, count_option, open_with_model
from decompose.results import write_page

if TYPE_CHECKING:
    import numpy as np

    from atlas.model.clip import Clip
    from atlas.store.store import Store
    from decompose.studies.concepts import Stimulated

# Nothing heavy is imported here, so that `decompose --help` answers at once.

_FONTS = ("open-sans", "pt-serif", "roboto-slab", "fira-code")


@takes(
    STORE_FOLDER,
    option("name", nargs="?", help="the concept, by label or group; without it, the list of all multimodal neurons"),
    option("--images", type=path_name, metavar="FOLDER", help="photographs of the concept"),
    option("--drawings", type=path_name, metavar="FOLDER", help="drawings of it (the Store's images of this name)"),
    option(
        "--words",
        nargs="+",
        default=[],
        metavar="WORD",
        help="its written names, apart or with commas between (the Store's words of this name)",
    ),
    ATLAS_WEIGHTS,
    SEED_NUMBER,
    count_option(10),
    AS_JSON,
)
def concept_command(
    store: Path,
    name: str | None,
    images: Path | None,
    drawings: Path | None,
    words: list[str],
    pretrained: str | None,
    seed: int,
    k: int,
    as_json: bool,
) -> int:
    """Neurons that respond to a concept's photographs, drawings and written name; also a page of the site."""
    from atlas.store.store import Store
    from decompose.pages.concept import CONCEPT_PAGE, concept_page
    from decompose.studies.concepts import concept_table
    from decompose.studies.untrained_nulls import untrained_concept

    opened, clip = Store.open(store), None
    words = [word.strip() for each in words for word in each.split(",") if word.strip()]
    if name is None:
        if images or drawings or words:
            raise Refused("--images, --drawings and --words are of one concept; name it")
        return _multimodal(*open_with_model(store, pretrained), seed, k, as_json)
    if images or drawings or words:
        opened, clip = open_with_model(store, pretrained)
    kinds = concept_kinds(opened, clip, name, images, drawings, words, seed)
    if not kinds:
        raise Refused(f"{opened.path} holds nothing named {name!r}; give --images, --drawings or --words")
    rows, null = concept_table(kinds, k, seed), untrained_concept(opened, name, k, seed)
    print_table(rows, as_json)
    options = options_changed(concept_command, images=images, drawings=drawings, words=words, seed=seed, k=k)
    again = ["concept", "{store}", name, *option_words(**options)]
    if null:
        said = "on a few stimuli {model} of {k} neurons are significant, in an untrained network {untrained}"
        print(said.format(k=k, **null), file=sys.stderr)
    body = concept_page(name, rows, kinds, opened.request["model"]["name"], null)
    return write_page(opened, CONCEPT_PAGE, "Concept", body, again)


def concept_kinds(
    store: "Store",
    clip: "Clip | None",
    name: str,
    images: Path | None,
    drawings: Path | None,
    words: Sequence[str],
    seed: int = 0,
) -> "dict[str, Stimulated]":
    """The stimuli of a concept by kind: from folders and words if they are given, else the Store's rows of its name.

    Kinds of which there is nothing are left out. Other concepts are the Store's: images for photographs and drawings.
    """
    from decompose.studies.concepts import against_others, named_rows

    kinds: dict[str, Stimulated] = {}
    if "image" in store.counts:
        A, names = named_rows(store, "image", name)
        for kind, folder in (("photographs", images), ("drawings", drawings)):
            if folder is not None and clip is not None:
                kinds[kind] = against_others(A, names, name, folder_responses(clip, folder), seed)
        if "drawings" not in kinds and name in names:
            kinds["drawings" if images else "images"] = against_others(A, names, name, seed=seed)
    if "word" in store.counts:
        A, names = named_rows(store, "word", name)
        if words and clip is not None:
            kinds["words"] = against_others(A, names, name, word_responses(clip, words), seed)
        elif name in names:
            kinds["words"] = against_others(A, names, name, seed=seed)
    return kinds


def folder_responses(clip: "Clip", folder: Path) -> "np.ndarray":
    """Responses (n, u) to the images of a folder: the largest activation over positions, as in a Store."""
    from atlas.sources import spec
    from atlas.sources.decoding import Unreadable

    if not folder.is_dir():
        raise Refused(f"{folder} is not a folder; give one with images of the concept")
    found = []
    for item in spec.join([f"folder:{folder}"]):
        try:
            found += [item.load()] if item.load else []
        except Unreadable as error:
            raise Refused(f"cannot read {item.id}: {error}; take it out") from None
    if not found:
        raise Refused(f"{folder} holds no images")
    return clip.activations(found).max((2, 3))


def word_responses(clip: "Clip", words: Sequence[str]) -> "np.ndarray":
    """Responses (n, u) to words, each rendered in four fonts."""
    from decompose.studies.image_words import render_asked_word

    drawn = [render_asked_word(word, font) for word in words for font in _FONTS]
    return clip.activations(drawn).max((2, 3))


def _multimodal(store: "Store", clip: "Clip", seed: int, k: int, as_json: bool) -> int:
    from decompose.pages.concept import MULTIMODAL_PAGE, multimodal_page
    from decompose.studies.concepts import multimodal_neurons

    found = multimodal_neurons(store, clip, seed)
    if as_json:
        print(json.dumps(vars(found), ensure_ascii=False, indent=1))
    else:
        pairs = f"{found.neurons:,} neurons for {len(found.rows):,} pairs with {found.concepts:,} concepts"
        print(f"{pairs}; with names shuffled {found.shuffled:,}")
        said = "of a sample: {model:,} pairs with {concepts:,} concepts, untrained {untrained:,}\n"
        print(said.format(**found.sample))
        print_table(found.rows[:k])
    body = multimodal_page(found, store.request["model"]["name"])
    again = ["concept", "{store}", *option_words(**options_changed(concept_command, seed=seed))]
    return write_page(store, MULTIMODAL_PAGE, "Multimodal", body, again)
