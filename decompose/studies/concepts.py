"""Which neurons respond to a concept's photographs, its drawings and its written name (Goh et al. 2021, opening table).

For each kind of stimulus a neuron's area under the ROC curve says how well its response tells the concept's stimuli
from those of other concepts. Its p-value is the rank of the area among those of all other concepts, over all
neurons, by as many stimuli of each: areas by fewer stimuli vary more.
Neurons are chosen on one half of the concept's stimuli and measured again on the other.

    A (n, u) responses to n stimuli    c concepts, the asked one first
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int

from atlas.analysis.multimodal import areas, multimodal_pairs
from atlas.analysis.significance import p_values, q_values
from atlas.errors import Refused
from atlas.formatting import Record
from atlas.model.clip import Clip
from atlas.model.untrained import untrained_clip
from atlas.store.originals import original_pictures
from atlas.store.store import Store
from decompose.attribution import check_model
from decompose.renderings import display_texts, without_tone

SIGNIFICANT_Q = 0.05  # up to which a neuron is called significant
MOST_OTHERS = 200  # concepts that one concept is compared with
_FEWEST_OTHERS = 20  # concepts with as many stimuli as the asked one; below this, those with fewer count too
_SAMPLED, _SAMPLED_EACH = 200, 4  # concepts that an untrained network sees, and stimuli of each in each kind
_FEWEST_EACH = 2  # stimuli of a concept in each kind, for the list of multimodal neurons


@dataclass(frozen=True)
class Stimulated:
    """Responses to the stimuli of one kind, each with its concept; number 0 is the asked concept."""

    A: Float[np.ndarray, "n u"]
    concept: Int[np.ndarray, " n"]
    concepts: int  # in all

    @property
    def own(self) -> int:
        """The number of stimuli of the asked concept."""
        return int((self.concept == 0).sum())

    def of_one_size(self, seed: int = 0) -> "Stimulated":
        """The same with as many stimuli of every concept as of the asked one, drawn at random.

        Concepts with fewer are left out. Where fewer than 20 others would remain they stay as they are, which makes
        p-values too large, never too small.
        """
        size, place = np.bincount(self.concept, minlength=self.concepts), shuffled_places(self.concept, seed)
        enough = size >= self.own
        if enough.sum() <= _FEWEST_OTHERS:
            enough = size > 0
        kept = (place < self.own) & enough[self.concept]
        there, concept = np.unique(self.concept[kept], return_inverse=True)
        return Stimulated(self.A[kept], concept, len(there))


def shuffled_places(concept: Int[np.ndarray, " n"], seed: int) -> Int[np.ndarray, " n"]:
    """The place of each stimulus among those of its concept, in random order."""
    order = np.random.default_rng(seed).permutation(len(concept))
    order = order[np.argsort(concept[order], kind="stable")]
    size, places = np.bincount(concept), np.empty(len(order), np.int64)
    places[order] = np.arange(len(order)) - np.repeat(np.cumsum(size) - size, size)
    return places


def concept_table(kinds: Mapping[str, Stimulated], k: int = 10, seed: int = 0) -> list[Record]:
    """The k neurons that respond to the concept most, best first: by the least of their areas over the kinds.

    For each kind: the area on the half of the stimuli that neurons are chosen on, its q over all neurons, and the area
    on the held-out half (None with one stimulus). Raises Refused if a kind has no stimulus of the concept, or of
    fewer than two others.
    """
    if not kinds:
        raise Refused("no kind of stimuli; give images, drawings or words")
    found: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray | None]] = {}
    for name, given in kinds.items():
        if not given.own or given.concepts < 3:
            raise Refused(
                f"{name}: {given.own} stimuli of the concept, {given.concepts - 1} others; 1 and 2 are needed"
            )
        each = given.of_one_size(seed)
        chosen, held = _halves(each, seed)
        first = areas(each.A[chosen], each.concept[chosen], each.concepts)
        q = q_values(p_values(first[:, 0], first[:, 1:]))
        again = areas(each.A[held], each.concept[held], each.concepts)[:, 0] if each.own > 1 else None
        found[name] = first[:, 0], q, again
    least = np.min([first for first, _, _ in found.values()], axis=0)
    rows = []
    for neuron in np.argsort(-least, kind="stable")[:k].tolist():
        row: Record = {"neuron": neuron}
        for name, (first, q, again) in found.items():
            row |= {name: float(first[neuron]), f"{name}_q": float(q[neuron])}
            row[f"{name}_held"] = None if again is None else float(again[neuron])
        rows.append(row)
    return rows


def significant_rows(rows: Sequence[Record], kinds: Sequence[str]) -> int:
    """How many rows of a concept's table are significant for every kind."""
    return sum(all(row[f"{name}_q"] <= SIGNIFICANT_Q for name in kinds) for row in rows)


def _halves(given: Stimulated, seed: int) -> tuple[Int[np.ndarray, " a"], Int[np.ndarray, " b"]]:
    """Rows to choose neurons on, and rows held out: half of the stimuli of every concept, at random.

    A concept with one stimulus is in both halves.
    """
    first = shuffled_places(given.concept, seed) % 2 == 0
    alone = np.bincount(given.concept, minlength=given.concepts)[given.concept] == 1
    return np.flatnonzero(first), np.flatnonzero(~first | alone)


# -- from a Store ------------------------------------------------------------------------------------------------------


def named_rows(store: Store, kind: str, concept: str = "") -> tuple[Float[np.ndarray, "n u"], list[str]]:
    """Responses of a Store's neurons to the rows of a kind, and the concept of each row: its name without skin tone.

    Where `concept` is no such name, and is a group of the Store's, concepts are the groups.
    """
    table = store.table(["label", "caption", "group"]).take(store.positions(kind))
    names, groups = [without_tone(name) for name in display_texts(table)], table["group"].to_pylist()
    if concept and concept not in names and concept in groups:
        names = [group or "" for group in groups]
    return np.asarray(store.array("max", kind), np.float32), names


def against_others(
    A: Float[np.ndarray, "n u"],
    names: Sequence[str],
    concept: str,
    own: Float[np.ndarray, "m u"] | None = None,
    seed: int = 0,
) -> Stimulated:
    """The stimuli of a concept, and those of at most `MOST_OTHERS` other concepts drawn at random.

    `own`: responses to the concept's stimuli, if they are not among the rows of A by name.
    """
    others = sorted({name for name in names if name} - {concept})
    drawn = np.random.default_rng(seed).permutation(len(others))[:MOST_OTHERS]
    number = {others[i]: place for place, i in enumerate(drawn.tolist(), start=1)}
    every = np.array([0 if name == concept and own is None else number.get(name, -1) for name in names], np.int64)
    kept = every >= 0
    extra = A[:0] if own is None else own
    return Stimulated(
        np.concatenate([extra, A[kept]]), np.concatenate([np.zeros(len(extra), np.int64), every[kept]]), 1 + len(number)
    )


@dataclass(frozen=True)
class MultimodalNeurons:
    """Neurons that respond to a concept both drawn and written, best first, and what a null gives."""

    rows: list[Record]  # neuron, concept, both areas, p
    concepts: int  # that have stimuli of both kinds
    neurons: int  # different neurons among the rows
    shuffled: int  # rows that the same rule finds if written names are shuffled over the concepts
    sample: dict[str, int] = field(default_factory=dict)  # concepts, and rows of the model and of an untrained network


def multimodal_neurons(store: Store, clip: Clip, seed: int = 0) -> MultimodalNeurons:
    """The multimodal neurons of a Store's model over all concepts with two images and two rendered words or more.

    An untrained network is compared on a few stimuli of a sample of the concepts.

    Raises Refused for a Store without images or words, and where fewer than two concepts have both.
    """
    check_model(store, clip)
    for kind in ("image", "word"):
        if kind not in store.counts:
            raise Refused(f"{store.path} holds no {kind}s; collect emoji and words:emoji, which have the same names")
    (drawn, images), (written, words) = named_rows(store, "image"), named_rows(store, "word")
    found = multimodal_list(drawn, images, written, words, seed)
    few, few_words = sampled_rows(images, words, seed)
    names, said = [images[i] for i in few], [words[i] for i in few_words]
    other = untrained_clip(clip, seed)
    seen = [
        other.activations(original_pictures(store, clip, store.positions(kind)[rows])).max((2, 3))
        for kind, rows in (("image", few), ("word", few_words))
    ]
    model = multimodal_list(drawn[few], names, written[few_words], said, seed)
    null = multimodal_list(seen[0], names, seen[1], said, seed)
    counts = {"concepts": model.concepts, "model": len(model.rows), "untrained": len(null.rows)}
    return replace(found, sample=counts)


def sampled_rows(
    images: Sequence[str], words: Sequence[str], seed: int = 0
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
    """Up to four images and words of each of at most 200 concepts that have two or more of each, drawn at random."""
    rng, of = np.random.default_rng(seed), []
    for names in (images, words):
        places: dict[str, list[int]] = {}
        for i in rng.permutation(len(names)).tolist():
            places.setdefault(str(names[i]), []).append(i)
        of.append({name: rows[:_SAMPLED_EACH] for name, rows in places.items() if name and len(rows) >= _FEWEST_EACH})
    shared = sorted(of[0].keys() & of[1].keys())
    drawn = [shared[i] for i in rng.permutation(len(shared))[:_SAMPLED]]
    one, two = (np.array(sorted(i for name in drawn for i in each[name]), np.int64) for each in of)
    return one, two


def multimodal_list(
    drawn: Float[np.ndarray, "n u"],
    images: Sequence[str],
    written: Float[np.ndarray, "m u"],
    words: Sequence[str],
    seed: int = 0,
) -> MultimodalNeurons:
    """The same from arrays: responses to drawings and to written names, and the concept of each row."""
    counts = [Counter(images), Counter(words)]
    shared = set(counts[0]) & set(counts[1]) - {""}
    concepts = sorted(name for name in shared if min(each[name] for each in counts) >= _FEWEST_EACH)
    if len(concepts) < 2:
        raise Refused(f"{len(concepts)} concepts have {_FEWEST_EACH} images and {_FEWEST_EACH} words; 2 are needed")
    place = {name: i for i, name in enumerate(concepts)}
    both = []
    for A, names in ((drawn, images), (written, words)):
        number = np.array([place.get(name, -1) for name in names], np.int64)
        both.append(areas(A[number >= 0], number[number >= 0], len(concepts)))
    found = multimodal_pairs(both[0], both[1])
    shift = np.random.default_rng(seed).integers(1, len(concepts))
    null = multimodal_pairs(both[0], np.roll(both[1], shift, axis=1))  # no name keeps its concept
    rows = [
        {"neuron": int(u), "concept": concepts[c], "drawn": float(d), "written": float(w), "p": float(p)}
        for u, c, d, w, p in zip(found.neuron, found.concept, found.drawn, found.written, found.p, strict=True)
    ]
    return MultimodalNeurons(rows, len(concepts), len(np.unique(found.neuron)), len(null))
