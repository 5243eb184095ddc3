"""The built-in vocabulary with its embeddings, used to name things when a Store has no texts.

E (t, e) embeddings of the terms by the text tower
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32

from atlas.analysis import parts
from atlas.errors import Refused
from atlas.sources import vocabulary
from atlas.store.files import save_array
from atlas.store.store import Store
from atlas.vectors import unit_rows

if TYPE_CHECKING:  # the pages read terms without loading PyTorch
    from atlas.model.clip import Clip


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """Words and phrases with their embeddings (t, e); the first `general` of them are general subjects."""

    texts: list[str]
    E: Float32[np.ndarray, "t e"]
    general: int

    @classmethod
    def embed(cls, clip: "Clip") -> "Terms":
        """Embed the terms of `vocabulary.picture_words` by a model's text tower."""
        texts = list(vocabulary.picture_words())
        return cls(texts, clip.encode_texts(texts), len(vocabulary.SUBJECTS))

    @property
    def centred(self) -> Float32[np.ndarray, "t e"]:
        """The embeddings, centred and at unit norm; the mean of all texts carries no information about any of them."""
        return unit_rows(self.E - self.E.mean(axis=0), "terms")

    def save(self, folder: Path) -> None:
        """Write terms.parquet and embedding.npy into a folder."""
        general = np.arange(len(self.texts)) < self.general
        pq.write_table(pa.table({"term": self.texts, "general": general}), folder / "terms.parquet")
        save_array(folder / "embedding.npy", self.E.astype(np.float16))

    @classmethod
    def read(cls, store: Store) -> "Terms | None":
        """The terms of a Store; None if it has texts itself or the terms were not made.

        Raises `Refused` if they are stale or incomplete.
        """
        if "text" in store.counts or not store.has(parts.TERMS):
            return None
        folder = store.derived(parts.TERMS)
        table = pq.read_table(folder / "terms.parquet")
        E = np.load(folder / "embedding.npy", allow_pickle=False).astype(np.float32)
        if len(E) != len(table):
            raise Refused(f"{folder} holds {len(table):,} terms and {len(E):,} embeddings; atlas stats {store.path}")
        return cls(table["term"].to_pylist(), E, sum(table["general"].to_pylist()))


def embed_terms(store: Store, clip: "Clip") -> Path:
    """Make index/terms: the terms and their embeddings, for a Store without texts."""
    found = Terms.embed(clip)
    with store.deriving(parts.TERMS, {"terms": len(found.texts), "general": found.general}) as folder:
        found.save(folder)
    return store.derived(parts.TERMS)
