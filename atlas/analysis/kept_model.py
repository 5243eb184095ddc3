"""Basis and text embeddings saved from a model, so that queries need not load it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from atlas.analysis import parts
from atlas.errors import Refused
from atlas.model.kept_texts import KeptTexts
from atlas.store.store import Store

_DEVICES = ("cpu", "cuda", "mps")  # where texts may have been embedded; the first that has them is taken


@dataclass(frozen=True)
class KeptModel:
    """The basis and the embedded texts of a Store's model. Loading PyTorch takes longer than most questions to it."""

    name: str
    text_tower: str  # sha256 of its weights
    logit_scale: float
    W: Float[np.ndarray, "u d"]

    @classmethod
    def of(cls, store: Store) -> "KeptModel | None":
        """What is kept of the model at the Store's layer; None if the Store does not hold its basis."""
        if not store.current(parts.BASIS):
            return None
        made = store.recipe(parts.BASIS)
        if "text_tower" not in made:  # of an earlier version
            return None
        W = np.load(store.derived(parts.BASIS) / "basis.npy")
        return cls(store.request["model"]["name"], made["text_tower"], made["logit_scale"], W)

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self.W.shape[1]

    def encode_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        """Embeddings of texts that the model has embedded before. Raises NotKept if one of them is missing."""
        for device in _DEVICES:
            if (found := KeptTexts.of(self.text_tower, self.name, device).known(texts)) is not None:
                return found
        raise NotKept(f"{self.name} has not embedded all of these {len(texts)} texts yet: load it")


class NotKept(Refused):
    """A text that the model has not embedded yet."""
