"""Zero-shot search: the neurons that contribute most to a text, and the texts that a neuron contributes to most.

W (u, e) basis    X (t, e) text embeddings: the query, then random texts    A (n, u) activations
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from atlas.analysis.index import Index
from atlas.analysis.significance import RANKED_WORDS, moderated_scores, p_values, q_values, random_texts
from atlas.arrays import accepts
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

TEXT_BANK = Part("index/vocabulary", "decompose texts 0 --store {store}")  # embeddings of the texts to choose from
_SEARCHES = ("basis", "response", "both")
_RANDOM_TEXTS = 500  # that a query is compared with
LEAST_TEXTS = 100  # of fewer texts p-values are too small
_ENGLISH_WORDS = 3000  # frequent English words in the default vocabulary
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
    """The k neurons that contribute most to a text: neuron, score, p, q, attribution, label; best first.

    `by`, the evidence to rank by:
    basis       attribution W x_text; with a Store, for one standard deviation of the neuron over the Store's images
    response    mean response to the images and rendered words that CLIP finds nearest to the text
    both        the mean of the two scores; the default with a Store, basis without

    `score` compares the text with `random` random texts of similar frequency: the difference from their mean, over
    their deviation plus the median neuron's (`moderated_scores`), both over the query and the random texts. So neurons
    that respond to every text, or to rare words, do not rank high. p is the share of random texts, pooled over neurons,
    whose score is as large. A neuron that never fires on the Store's images scores 0. `attribution` is W x_text less
    its mean over the random texts.

    `directions`: rank these instead of neurons. `templates`: prompts of the text, as in `decompose.attribution`.
    `images`: measure receipts of the k neurons on these images, with other prompts (`receipts.side_by_side`); they
    should not be the images searched by. `seed`: seed of the random texts and of the receipts.

    Raises Refused for an empty query, a Store of another model, and `by` response or both without a Store.

    >>> import atlas, decompose
    >>> found = decompose.search(atlas.Clip("mini"), "pizza", k=3)
    >>> found.num_rows, found.column_names[:4]
    (3, ['neuron', 'score', 'p', 'q'])
    """
    by = _way(by, store is not None, "a Store, for the responses of neurons: give store=")
    _at_least_one(k)
    seen = [kind for kind in ("image", "word") if store is not None and kind in store.counts]
    if store is not None and by == "response" and not seen:
        raise Refused(f"{store.path} holds neither images nor words that neurons could respond to; search by basis")
    _enough(random)
    prompts(query, templates)  # refuses a bad query before random texts join it
    X = concept_embeddings(clip, [query, *random_texts(query, random, seed)], templates)
    W, answered = clip.basis(), list[np.ndarray]()
    given = X @ (W if directions is None else directions.basis(W)).T
    if store is not None:
        check_model(store, clip)
    if store is not None and seen:
        given *= response_spread(store, clip, directions)
        answered = _store_evidence(store, clip, directions, seen, X) if by != "basis" else []
    best = (found := _ranked(given, answered, by, k))["neuron"].to_pylist()
    names = directions.names if directions else name_neurons(clip, best, W, store, most=LABELS_A_NEURON)
    found = found.append_column("label", pa.array([names[i] for i in best], pa.string()))
    if images is not None:
        tried = Directions.neurons(best, len(W)) if directions is None else directions[best]
        columns = side_by_side(receipt(clip, images, query, tried, other_templates(templates), seed=seed))
        for name, column in columns.items():
            found = found.append_column(name, pa.array(column))
    return found


@accepts(x=1, null=2, W=2, A=2, E=2, weights=1)
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
    """The k neurons that contribute most to a text, from plain arrays; columns and scores of `neurons_of_text`.

    `x`: (e,) embedding of the text, of unit norm.
    `null`: (m, e) embeddings of some 500 other texts to compare with, of unit norm, such as those of
    `atlas.analysis.significance.random_texts(text, 500)`.
    `W`: (u, e) basis, the change of an embedding for one unit of each neuron.
    `A`: (n, u) activations on n images, an array or a memory map, read in blocks. With it, attribution is for one
    standard deviation of the neuron, and a constant neuron scores 0.
    `E`: (n, e) embeddings of these images, of unit norm; "response" and "both" need it, and `A`.
    `scale`: inverse temperature of CLIP's cosines.
    `weights`: (n,) positive weights of the images in the standard deviation; equal by default (`Things.weights`).

    Raises Refused as `neurons_of_text` does, for arrays of different lengths, and for numbers that are not finite.
    """
    by = _way(by, A is not None and E is not None, "activations and embeddings of the same images: give A= and E=")
    _at_least_one(k)
    _enough(len(null))
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


def _store_evidence(
    store: Store, clip: Clip, directions: Directions | None, kinds: Sequence[str], X: Float[np.ndarray, "t e"]
) -> list[Float[np.ndarray, "t u"]]:
    """`response_evidence` for each of the kinds of rows in a Store."""
    scale = float(clip.model.logit_scale.exp())
    pairs = ((Responses.of(store, kind, directions), store.array("embedding", kind)) for kind in kinds)
    return [response_evidence(answers, E, X, scale) for answers, E in pairs]


def response_evidence(
    answers: Responses, E: Rows, X: Float[np.ndarray, "t e"], scale: float
) -> Float[np.ndarray, "t u"]:
    """Mean responses over rows, weighted by the softmax of the cosines of each text with the rows' embeddings E.

    `scale`: the model's inverse temperature. Rows are read in one pass, in blocks.
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


def _enough(random: int) -> None:
    if random < LEAST_TEXTS:
        raise Refused(
            f"{random} random texts to compare with; give at least {LEAST_TEXTS}, some 500 for small p-values"
        )


def _at_least_one(k: int) -> None:
    if k < 1:
        raise Refused(f"k={k}: ask for at least one neuron")


def _ranked(given: Float[np.ndarray, "t u"], answered: Sequence[Float[np.ndarray, "t u"]], by: str, k: int) -> pa.Table:
    """The k best neurons for the first text. `given`: attributions of all texts; `answered`: their mean responses."""
    parts = [*([given] if by != "response" else []), *answered]
    Z = np.mean([moderated_scores(part, part) for part in parts], axis=0)  # the query is one of the texts compared
    Z[:, ~given.any(0)] = 0
    best = np.argsort(-Z[0], kind="stable")[:k]
    p = p_values(Z[0], Z[1:])
    columns = {
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
    """Texts and an index over their embeddings, each less the mean of texts of similar frequency.

    A word's frequency shifts its embedding. Without this correction, rare words would come first for one neuron and
    frequent words for another. Build a bank once to search it for many neurons.
    """

    texts: tuple[str, ...]
    index: Index

    @classmethod
    def build(cls, clip: Clip, texts: Sequence[str] | None = None, templates: Templates = None) -> "TextBank":
        """A bank of these texts; by default of emotions, countries, names of emoji and frequent English words."""
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
        """A bank that `save` wrote. Raises Refused if its texts and embeddings differ in number."""
        texts, index = pq.read_table(folder / "texts.parquet")["text"].to_pylist(), Index.open(folder)
        if len(texts) != len(index):
            raise Refused(f"{folder} holds {len(texts):,} texts and {len(index):,} embeddings; build the bank again")
        return cls(tuple(texts), index)

    def near(self, rows: Float[np.ndarray, "n e"], k: int) -> list[list[tuple[str, float]]]:
        """The k texts nearest to each row, with their cosines, best first; an empty list for a row of zeros."""
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
    """The k texts that a neuron, or one direction, contributes to most: text, score (cosine); best first.

    `vocabulary`: the texts to choose from, or a `TextBank` of them, to search more than once; by default emotions,
    countries, names of emoji and frequent English words. `templates`: prompts of these texts, as in
    `decompose.attribution`; a bank has its own. A neuron that adds nothing to the embedding gives an empty table.
    Raises Refused for a neuron out of range, several directions, and an empty vocabulary or text.
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
    """The change of the image embedding for one unit of a neuron, or of one direction: (e,)."""
    W = clip.basis()
    if isinstance(neuron, Directions):
        if len(neuron) != 1:
            raise Refused(f"texts are found for one direction, got {len(neuron)}: choose one, such as directions[0]")
        return neuron.basis(W)[0]
    return W[checked_neuron(neuron, len(W), f"{clip.layer} of {clip.name}")]


def default_texts() -> tuple[str, ...]:
    """The default vocabulary: emotions, countries, names of emoji, frequent English words, without repeats."""
    lists = words.emotion_words(), words.country_names(), words.emoji_phrases(), words.english_words(_ENGLISH_WORDS)
    return tuple({text.casefold(): text for each in lists for text in each}.values())


def frequency_bands(texts: Sequence[str]) -> Int[np.ndarray, " t"]:
    """The frequency band of each text: log rank of its rarest word in wordfreq's English list, rounded down."""
    rank = {word: place for place, word in enumerate(words.english_words(RANKED_WORDS), 1)}
    rarest = [max(rank.get(word, RANKED_WORDS) for word in text.casefold().split() or [""]) for text in texts]
    return np.floor(np.log(rarest) / np.log(_BAND_RATIO)).astype(np.int64)
