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
from atlas.analysis.naming import PARTS_OF_NAME
from atlas.analysis.significance import RANKED_WORDS, random_texts
from atlas.errors import Refused
from atlas.model.clip import Clip, Pictures
from atlas.model.directions import Directions
from atlas.sources import vocabulary as words
from atlas.store.store import Part, Store
from decompose.attribution import check_model
from decompose.equations import name_neurons
from decompose.neighbours import checked_neuron
from decompose.prompting import Templates, concept_embeddings, other_templates, prompts
from decompose.ranking import RANDOM_TEXTS, check_random, check_way, rank_in_store, rank_neurons
from decompose.receipts import receipt, side_by_side

TEXT_BANK = Part("index/vocabulary", "decompose texts 0 --store {store}")  # embeddings of the texts to choose from
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
    random: int = RANDOM_TEXTS,
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
    check_random(random)
    check_way(by, store is not None, k, "a Store, for the responses of neurons: give store=")
    prompts(query, templates)  # refuses a bad query before random texts join it
    if store is not None:
        check_model(store, clip)
    X, W = concept_embeddings(clip, [query, *random_texts(query, random, seed)], templates), clip.basis()
    if store is None:
        found = rank_neurons(X[0], X[1:], W if directions is None else directions.basis(W), k=k, by=by)
    else:
        found = rank_in_store(store, X, W, k, by, clip.logit_scale, directions)
    best = found["neuron"].to_pylist()
    names = directions.names if directions else name_neurons(clip, best, W, store, most=PARTS_OF_NAME)
    found = found.append_column("label", pa.array([names[i] for i in best], pa.string()))
    if images is not None:
        tried = Directions.neurons(best, len(W)) if directions is None else directions[best]
        columns = side_by_side(receipt(clip, images, query, tried, other_templates(templates), seed=seed))
        for name, column in columns.items():
            found = found.append_column(name, pa.array(column))
    return found


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
