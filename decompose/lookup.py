"""Zero-shot neuron search, and its inverse: which neurons serve a text, and which texts a neuron serves.

W (u, e) basis    X (t, e) text embeddings, the query's and those of random texts    A (n, u) activations
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from atlas.analysis.index import Index
from atlas.analysis.significance import RANKED_WORDS, moderated_scores, p_values, q_values, random_texts
from atlas.errors import Refused
from atlas.model.clip import Clip, Pictures
from atlas.model.directions import Directions
from atlas.sources import vocabulary as words
from atlas.store.store import Part, Store
from atlas.vectors import Rows
from decompose.attribution import (
    LOGIT_SCALE,
    Templates,
    check_model,
    concept_embeddings,
    other_templates,
    prompts,
    response_spread,
)
from decompose.equations import name_neurons
from decompose.labels import LABELS_A_NEURON
from decompose.neighbours import checked_neuron
from decompose.receipts import receipt, side_by_side
from decompose.responses import Responses, check_rows

TEXT_BANK = Part("index/vocabulary", "decompose texts 0 --store {store}")  # the texts to choose from, embedded
_SEARCHES = ("basis", "response", "both")
_RANDOM_TEXTS = 500
_ENGLISH_WORDS = 3000  # frequent English words of the vocabulary that is used where none is given
_BAND_RATIO = 4  # a frequency band goes from one rank to four times that


def neurons_of_text(
    clip: Clip,
    query: str,
    k: int = 10,
    store: Store | None = None,
    by: str | None = None,
    directions: Directions | None = None,
    templates: Templates = None,
    random: int = _RANDOM_TEXTS,
    seed: int = 0,
    images: Pictures | None = None,
) -> pa.Table:
    """The k neurons, or directions, that serve a text most: neuron, score, p, q, attribution, label; best first.

    basis       W x_text, in standard deviations of the neuron over the Store's images if there is a Store
    response    how much more a neuron answers to the images and rendered words that CLIP finds nearest to the text
    both        the mean of the two; the default with a Store, basis without

    `score` is how far the query surpasses random texts of like frequency, so that neurons that like every text, or rare
    words, do not win: in these texts' deviation plus the usual neuron's, so that those that hardly tell any texts apart
    do not either (`significance.moderated`). p is the share of these texts, all neurons pooled, that surpass as far.
    A neuron that never fires on the Store's images scores 0. `attribution` is W x_text less what random texts have.
    Of `images`, which should not be those searched by, the k found have receipts: what raising and what ablating each
    does to the text's logit, with prompts that share no template with `templates` (`receipts.side_by_side`).

    Raises Refused for an empty query, a Store of another model, and `by` response or both without a Store.
    """
    by = _way(by, store is not None, "a Store to see what neurons answer to: give store=")
    _at_least_one(k)
    seen = [kind for kind in ("image", "word") if store is not None and kind in store.counts]
    if store is not None and by == "response" and not seen:
        raise Refused(f"{store.path} holds neither images nor words for neurons to answer to; search by basis")
    prompts(query, templates)  # refuses a query before others stand beside it
    X = concept_embeddings(clip, [query, *random_texts(query, random, seed)], templates)
    if store is not None:
        check_model(store, clip)
    W = clip.basis()
    given, answered = X @ (W if directions is None else directions.basis(W)).T, []
    if store is not None and seen:
        given *= response_spread(store, clip, directions)
    if store is not None and by != "basis":
        scale = float(clip.model.logit_scale.exp())
        pairs = ((Responses.of(store, kind, directions), store.array("embedding", kind)) for kind in seen)
        answered = [response_evidence(answers, E, X, scale) for answers, E in pairs]
    found = _ranked(given, answered, by, k)
    best = found["neuron"].to_numpy()
    names = (
        directions.names
        if directions is not None
        else name_neurons(clip, best.tolist(), W, store, most=LABELS_A_NEURON)
    )
    found = found.append_column("label", pa.array([names[i] for i in best.tolist()], pa.string()))
    if images is not None:
        tried = Directions.neurons(best, len(W)) if directions is None else directions[best]
        for name, column in side_by_side(
            receipt(clip, images, query, tried, other_templates(templates), seed=seed)
        ).items():
            found = found.append_column(name, pa.array(column))
    return found


def rank_neurons(
    x: Float[np.ndarray, " e"],
    null: Float[np.ndarray, "m e"],
    W: Float[np.ndarray, "u e"],
    A: Rows | None = None,
    E: Rows | None = None,
    k: int = 10,
    by: str | None = None,
    scale: float = LOGIT_SCALE,
    weights: Float[np.ndarray, " n"] | None = None,
) -> pa.Table:
    """`search` of plain arrays: the k neurons that serve a text most; neuron, score, p, q, attribution; best first.

    x      embedding of the text, of unit norm
    null   (m, e) embeddings of other texts that the score must surpass, some 500: the model's own of
           `atlas.analysis.significance.random_texts(text, 500)`, or a vocabulary's
    W      (u, e) basis, what a unit of each neuron adds to an embedding
    A      (n, u) activations on n images, an array or a memory map, read in blocks: attribution is then for a
           neuron's standard deviation, and not for its unit, and one that never varies scores 0
    E      (n, e) embeddings of the same images, of unit norm, which "response" and "both" need as well as A
    scale  inverse temperature of CLIP's cosines
    weights  (n,) how much each image counts for that deviation, above 0; all alike by default, and in a Store one thing
           in several drawings as much as one in one (`Items.weights`)

    Ways and scores are `search`'s. Raises Refused as it does, for arrays that do not fit together, and where numbers
    are not finite.
    """
    by = _way(by, A is not None and E is not None, "activations and embeddings of the same images: give A= and E=")
    _at_least_one(k)
    if len(null) < 2:
        raise Refused(f"{len(null)} texts to compare with; give some 500")
    X = np.vstack([x, null])
    given, answered = X @ W.T, []
    if not np.isfinite(given).all():
        raise Refused("texts or basis hold numbers that are not finite")
    if A is not None:
        answers = Responses(A)
        check_rows(answers.width, W=W)
        check_rows(len(A), E=E, weights=weights)
        given = given * answers.deviation(weights)
        answered = [] if E is None or by == "basis" else [response_evidence(answers, E, X, scale)]
    return _ranked(given, answered, by, k)


def response_evidence(
    answers: Responses, E: Rows, X: Float[np.ndarray, "t e"], scale: float
) -> Float[np.ndarray, "t u"]:
    """Mean activations over rows, weighted by how likely each row is the text's: softmax of `scale` cosines.

    In one pass, whatever the number of rows, of embeddings E; `scale` is the model's own inverse temperature.
    """
    total, norm = np.zeros((len(X), 0)), np.zeros(len(X))
    for rows, A in answers:
        nearness = np.exp(scale * (X @ E[rows[0] : rows[-1] + 1].astype(np.float32).T - 1).astype(np.float64))
        part = nearness @ A
        total = part if not total.size else total + part
        norm += nearness.sum(1)
    if not np.isfinite(norm).all():
        raise Refused("embeddings hold numbers that are not finite; leave those rows out")
    return total / norm[:, None]


def _way(by: str | None, can_answer: bool, needed: str) -> str:
    by = by or ("both" if can_answer else "basis")
    if by not in _SEARCHES:
        raise Refused(f"by={by!r}: neurons are searched by {', '.join(_SEARCHES)}")
    if by != "basis" and not can_answer:
        raise Refused(f"by={by!r} needs {needed}, or search by basis")
    return by


def _at_least_one(k: int) -> None:
    if k < 1:
        raise Refused(f"k={k}: ask for at least one neuron")


def _ranked(given: Float[np.ndarray, "t u"], answered: Sequence[Float[np.ndarray, "t u"]], by: str, k: int) -> pa.Table:
    """The k best of neurons by what they give to a text, the first row, and answer to it, beside all other texts."""
    parts = [*([given] if by != "response" else []), *answered]
    Z = np.mean([moderated_scores(part, part[1:]) for part in parts], axis=0)
    Z[:, ~given.any(0)] = 0
    best = np.argsort(-Z[0], kind="stable")[:k]
    p = p_values(Z[0], Z[1:])
    columns: dict[str, Any] = {
        "neuron": best,
        "score": Z[0, best].astype(np.float32),
        "p": p[best],
        "q": q_values(p)[best],
        "attribution": (given[0] - given[1:].mean(0))[best].astype(np.float32),
    }
    return pa.table(columns)


# -- from neurons to texts ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TextBank:
    """Texts and an index over their embeddings, each less the mean of texts of like frequency.

    What a word's frequency does to its embedding would otherwise rank rare words first for one neuron and frequent
    ones for another. Build it once to ask for many neurons.
    """

    texts: tuple[str, ...]
    index: Index

    @classmethod
    def build(cls, clip: Clip, texts: Sequence[str] | None = None, templates: Templates = None) -> "TextBank":
        """Embed texts; by default emotions, countries, names of emoji and frequent English words."""
        texts = default_texts() if texts is None else tuple(dict.fromkeys(texts))
        X = concept_embeddings(clip, list(texts), templates)
        bands = frequency_bands(texts)
        for band in np.unique(bands):
            here = bands == band
            others = X[here].mean(0) if here.sum() > 1 else X.mean(0)
            X[here] -= others if len(X) > 1 else 0
        return cls(texts, Index.build(X))

    def save(self, folder: Path) -> None:
        """Write the bank into a folder: texts.parquet and the index."""
        pq.write_table(pa.table({"text": self.texts}), folder / "texts.parquet")
        self.index.save(folder)

    @classmethod
    def open(cls, folder: Path) -> "TextBank":
        """Open a bank that was saved; Refused where it is not whole."""
        texts, index = pq.read_table(folder / "texts.parquet")["text"].to_pylist(), Index.open(folder)
        if len(texts) != len(index):
            raise Refused(f"{folder} holds {len(texts):,} texts and {len(index):,} embeddings; build the bank again")
        return cls(tuple(texts), index)

    def near(self, rows: Float[np.ndarray, "n e"], k: int) -> list[list[tuple[str, float]]]:
        """The k texts nearest to each row, with cosines, best first; none for a row of zeros."""
        alive = rows.any(1)
        found: list[list[tuple[str, float]]] = [[] for _ in rows]
        if alive.any():
            scores, ids = self.index.search(rows[alive], k)
            for place, row, near in zip(np.flatnonzero(alive), scores, ids, strict=True):
                found[place] = [(self.texts[i], float(s)) for i, s in zip(near, row, strict=True)]
        return found


def texts_of_neuron(
    clip: Clip,
    neuron: int | Directions,
    k: int = 10,
    vocabulary: Sequence[str] | TextBank | None = None,
    templates: Templates = None,
) -> pa.Table:
    """The k texts of a vocabulary that a neuron, or one direction, serves most: text, score (cosine); best first.

    `vocabulary`: texts, or a TextBank of them to ask more than once; by default emotions, countries, names of emoji
    and frequent English words. `templates` are of the texts, as in decompose.attribution; a TextBank has its own. No
    rows for a neuron that adds nothing to an embedding. Raises Refused for a neuron out of range, several directions,
    and an empty vocabulary or text.
    """
    if k < 1:
        raise Refused(f"k={k}: ask for at least one text")
    row = basis_row(clip, neuron)
    bank = vocabulary if isinstance(vocabulary, TextBank) else TextBank.build(clip, vocabulary, templates)
    found = bank.near(row[None], k)[0]
    return pa.table(
        {
            "text": pa.array([text for text, _ in found], pa.string()),
            "score": pa.array([score for _, score in found], pa.float32()),
        }
    )


def basis_row(clip: Clip, neuron: int | Directions) -> Float[np.ndarray, " e"]:
    """What a neuron, or one direction, adds to the image embedding: (e,)."""
    W = clip.basis()
    if isinstance(neuron, Directions):
        if len(neuron) != 1:
            raise Refused(f"texts are found for one direction, got {len(neuron)}: choose one, such as directions[0]")
        return neuron.basis(W)[0]
    return W[checked_neuron(neuron, len(W), f"{clip.layer} of {clip.name}")]


def default_texts() -> tuple[str, ...]:
    """Emotions, countries, names and aliases of emoji, and frequent English words, without repeats."""
    lists = words.emotion_words(), words.countries(), words.emoji_phrases(), words.english(_ENGLISH_WORDS)
    return tuple({text.casefold(): text for each in lists for text in each}.values())


def frequency_bands(texts: Sequence[str]) -> Int[np.ndarray, " t"]:
    """How frequent each text is, as a band of ranks in wordfreq's English list: that of its rarest word."""
    rank = {word: place for place, word in enumerate(words.english(RANKED_WORDS), 1)}
    rarest = [max(rank.get(word, RANKED_WORDS) for word in text.casefold().split() or [""]) for text in texts]
    return np.floor(np.log(rarest) / np.log(_BAND_RATIO)).astype(np.int64)
