"""Search by meaning in a page, which has no model: a vocabulary, and the rows nearest to each of its texts by FAISS.

The vocabulary is the built-in terms where they were embedded; else the texts of the Store; else its rendered words.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from atlas.analysis.index import Index
from atlas.analysis.layout import Centred
from atlas.analysis.terms import Terms
from atlas.pages.columns import Column, smallest_unsigned
from atlas.store.store import Store
from atlas.vectors import unit_rows

ROWS_A_TEXT = 18  # rows of each kind listed for a text
MOST_VOCABULARY = 12_000  # texts at most


@dataclass(frozen=True, slots=True, eq=False)
class Meaning:
    """Texts (t), and the rows of each kind of picture nearest to each text, best first, with cosines in hundredths."""

    kind: str  # of the rows that the vocabulary is made of; "term": built-in terms
    texts: list[str]
    rows: Int64[np.ndarray, "t k"]
    score: UInt8[np.ndarray, "t k"]

    @property
    def origin(self) -> str:
        """A description of the vocabulary."""
        whose = {"text": "texts of this atlas", "word": "rendered words of this atlas"}
        return f"the {len(self.texts):,} {whose.get(self.kind, 'built-in words and phrases')}"

    def columns(self, rows: int) -> dict[str, Column]:
        """The columns of data/meaning.js."""
        return {"texts": self.texts, "hit": self.rows.astype(smallest_unsigned(rows)), "score": self.score}


def find_meanings(store: Store) -> Meaning | None:
    """The vocabulary of a Store with the nearest rows; None where there is no vocabulary, or no pictures."""
    terms = Terms.read(store)
    kind = "term" if terms else next((kind for kind in ("text", "word") if kind in store.counts), None)
    found = [of for of in ("image", "word") if of in store.counts and of != kind]
    if kind is None or not found:
        return None
    texts, queries = (terms.texts, terms.centred) if terms else _vocabulary(store, kind)
    rows, scores = [], []
    for of in found:
        vectors = store.array("embedding", of)
        index = Index.build(Centred(vectors, [of] * len(vectors)))
        score, ids = index.search(queries, ROWS_A_TEXT)
        rows.append(store.positions(of)[ids])
        scores.append(np.clip(np.round(score * 100), 0, 100).astype(np.uint8))
    return Meaning(kind, texts, np.concatenate(rows, axis=1), np.concatenate(scores, axis=1))


def _vocabulary(store: Store, kind: str) -> tuple[list[str], Float32[np.ndarray, "t e"]]:
    """Distinct labels of a kind and the mean embedding of their rows, after the kind's mean was subtracted."""
    table = store.table(["label", "caption"], kind)
    labels = [
        label or caption for label, caption in zip(*(table[c].to_pylist() for c in table.column_names), strict=True)
    ]
    names = [label for label in dict.fromkeys(labels) if label.strip()][:MOST_VOCABULARY]
    codes = {name: code for code, name in enumerate(names)}
    vectors = store.array("embedding", kind)
    centred = Centred(vectors, [kind] * len(vectors))
    total = np.zeros((len(names), vectors.shape[1]), np.float32)
    for start in range(0, len(vectors), 4096):
        block = centred[slice(start, start + 4096)]
        at = np.array([codes.get(label, -1) for label in labels[start : start + len(block)]])
        np.add.at(total, at[at >= 0], block[at >= 0])
    kept = np.linalg.norm(total, axis=1) > 1e-6
    return [name for name, keep in zip(names, kept, strict=True) if keep], unit_rows(total[kept], "vocabulary")
