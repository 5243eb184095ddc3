"""Association tests from lists of words: in text, as rendered words, and on a Store's own images of those names."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np

from atlas.errors import Refused
from atlas.formatting import Record
from atlas.model.clip import Clip
from atlas.model.untrained import untrained_clip
from atlas.sources.decoding import Unreadable
from atlas.sources.textfiles import read_given_json
from atlas.sources.word_images import render_word
from atlas.store.originals import original_pictures
from atlas.store.store import Store
from decompose.association import association_test
from decompose.defaults import CONCEPT_TEMPLATES
from decompose.prompting import Templates, concept_embeddings
from decompose.renderings import display_texts, without_tone

SHIPPED_TESTS = Path(__file__).with_name("association_lists.json")
SETS = ("X", "Y", "A", "B")
_FONTS = ("open-sans", "pt-serif")


class AssociationLists(TypedDict):
    """One test: two sets of targets, two sets of attributes, and where they come from."""

    name: str
    source: str
    X: list[str]
    Y: list[str]
    A: list[str]
    B: list[str]


class _Space(NamedTuple):
    name: str
    embeddings: dict[str, np.ndarray]  # (n, e) by word


def read_association_lists(file: Path | None = None) -> list[AssociationLists]:
    """The tests in a JSON file, a list of objects with name, X, Y, A, B (and source); those shipped without a file.

    Raises Refused for a file that is something else.
    """
    where = file or SHIPPED_TESTS
    try:
        found = read_given_json(where)
    except (OSError, ValueError) as error:
        raise Refused(f"cannot read {where}: {' '.join(str(error).split())[:120]}") from None
    if not isinstance(found, list) or not found:
        raise Refused(f"{where} is no list of tests, each with name, X, Y, A and B")
    tests: list[AssociationLists] = []
    for i, each in enumerate(found, start=1):
        given: Record = each if isinstance(each, dict) else {}
        if not all(_are_words(given.get(name)) for name in SETS):
            raise Refused(f"{where}, test {i}: X, Y, A and B must be lists of two words or more")
        named, source = str(given.get("name") or f"test {i}"), str(given.get("source") or "")
        x, y, a, b = (list(given[name]) for name in SETS)
        tests.append({"name": named, "source": source, "X": x, "Y": y, "A": a, "B": b})
    return tests


def _are_words(given: object) -> bool:
    return isinstance(given, list) and all(isinstance(word, str) and word for word in given) and len(set(given)) > 1


def study_associations(
    clip: Clip,
    tests: Sequence[AssociationLists],
    store: Store | None = None,
    templates: Templates = CONCEPT_TEMPLATES,
    seed: int = 0,
    read: bool = False,
) -> list[Record]:
    """Effect size and one-sided p of every test in every space; None where too few of its words have an embedding.

    `read`: let the model read the Store's images again, in place of the embeddings that the Store holds.
    """
    words = list(dict.fromkeys(word for test in tests for name in SETS for word in _words(test, name)))
    T = concept_embeddings(clip, words, templates)
    spaces = [_Space("text", {word: T[i : i + 1] for i, word in enumerate(words)}), _rendered(clip, words)]
    if store is not None and "image" in store.counts:
        spaces.append(_pictured(store, words, clip if read else None))
    return [_tested(test, space, seed) for test in tests for space in spaces]


def beside_untrained_tests(
    clip: Clip,
    tests: Sequence[AssociationLists],
    store: Store | None = None,
    templates: Templates = CONCEPT_TEMPLATES,
    seed: int = 0,
) -> list[Record]:
    """The rows of `study_associations`, each with the effect and p of a network with random weights."""
    rows = study_associations(clip, tests, store, templates, seed)
    other = study_associations(untrained_clip(clip, seed), tests, store, templates, seed, read=True)
    null = {(row["test"], row["space"]): row for row in other}
    found = []
    for row in rows:
        each = null.get((row["test"], row["space"]), {})
        found.append(row | {"untrained": each.get("effect"), "untrained_p": each.get("p")})
    return found


def _words(test: AssociationLists, name: str) -> list[str]:
    return {"X": test["X"], "Y": test["Y"], "A": test["A"], "B": test["B"]}[name]


def _tested(test: AssociationLists, space: _Space, seed: int) -> Record:
    sets = [[space.embeddings[w].mean(0) for w in _words(test, name) if w in space.embeddings] for name in SETS]
    row: Record = {"test": test["name"], "space": space.name, "words": "/".join(str(len(each)) for each in sets)}
    if min(map(len, sets)) < 2:
        return row | {"effect": None, "p": None, "source": test["source"]}
    X, Y, A, B = (np.stack(each) for each in sets)
    found = association_test(X, Y, A, B, seed=seed)
    return row | {"effect": found.effect, "p": found.p, "source": test["source"]}


def _rendered(clip: Clip, words: Sequence[str]) -> _Space:
    found = {}
    for word in words:
        try:
            found[word] = clip.encode_images([render_word(word, font) for font in _FONTS])
        except Unreadable:
            continue
    return _Space("rendered words", found)


def _pictured(store: Store, words: Sequence[str], other: Clip | None = None) -> _Space:
    """Embeddings of a Store's images by name: those whose name is one of the words. `other`: the model to read them."""
    table = store.table(["label", "caption"]).take(store.positions("image"))
    names = [without_tone(text).lower() for text in display_texts(table)]
    E, own = np.asarray(store.array("embedding", "image"), np.float32), set(words)
    rows: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        if name in own:
            rows.setdefault(name, []).append(i)
    if other is None:
        return _Space("images", {word: E[places] for word, places in rows.items()})
    at = store.positions("image")
    seen = {word: original_pictures(store, other, at[places]) for word, places in rows.items()}
    return _Space("images", {word: other.encode_images(pixels) for word, pixels in seen.items()})
