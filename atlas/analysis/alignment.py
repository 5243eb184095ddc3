"""Whether a model tells the given images apart by text, compared with chance.

    E (n, e) embeddings of images;  T (t, e) embeddings of texts

A model that was trained on drawings may not see photographs: its names for them are then no better than chance, and
nothing else says so. The null turns the texts around: their principal axes keep their lengths and change their signs
at random. The texts stay as far apart as they were and lie in the same space, but no longer where the images put them.
"""

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float

from atlas.analysis.layout import group_means
from atlas.formatting import Record
from atlas.vectors import Rows, sample_rows, unit_rows

IMAGES, DRAWS = 400, 40  # images that are asked, and nulls of each
LEVEL = 0.05  # share of images named better than chance in a model that knows nothing
LEAST_NAMED = 0.5  # below this share, names are left out
FEWEST = 20  # images, and texts, from which on this is measured


@dataclass(frozen=True, slots=True)
class Alignment:
    """`share`: of the images, those whose nearest text is nearer than at `LEVEL` by chance. `images`: how many asked.

    `cosine`, `chance`: the mean cosine to the nearest text, and the same where texts were turned around.
    """

    share: float
    images: int
    texts: int
    cosine: float
    chance: float

    @property
    def sees(self) -> bool:
        """Whether the model tells these images apart well enough for names."""
        return self.share >= LEAST_NAMED

    def sentence(self) -> str:
        """What was found, in one line."""
        figures = (
            f"{self.share:.0%} of {self.images:,} pictures lie nearer to a text than to the same texts with "
            f"random signs on their principal axes "
            f"({LEVEL:.0%} by chance)"
        )
        if self.sees:
            return f"This model joins these pictures and texts: {figures}."
        return (
            f"This model cannot tell these pictures apart by meaning: {figures}. Names that texts would give are left "
            "out. Take weights that know such pictures: atlas build ... --model NAME --pretrained TAG."
        )

    def recipe(self) -> Record:
        """The measured figures as made.json keeps them."""
        return {name: round(value, 4) for name, value in asdict(self).items()}

    @classmethod
    def read(cls, recipe: Record) -> "Alignment | None":
        """The figures of a recipe; None where nothing was measured."""
        found = recipe.get("alignment")
        return cls(**found) if isinstance(found, dict) else None


def measure_alignment(E: Rows, T: Float[np.ndarray, "t e"], seed: int = 0) -> Alignment | None:
    """How many images have a nearest text that is nearer than by chance; None for fewer than `FEWEST` of either."""
    texts = np.unique(np.asarray(T, np.float32), axis=0)
    if min(len(E), len(texts)) < FEWEST:
        return None
    mean = group_means(E, ["image"] * len(E))["image"]
    images = unit_rows(sample_rows(E, IMAGES, seed)[1] - mean)
    texts = unit_rows(texts - texts.mean(axis=0))
    axes = np.linalg.eigh(texts.T @ texts)[1]
    own, turned = images @ axes, texts @ axes
    rng = np.random.default_rng(seed)
    chance = np.stack([_nearest_text(own * rng.choice([-1.0, 1.0], len(axes)), turned) for _ in range(DRAWS)])
    found = _nearest_text(own, turned)
    share = float((found > np.quantile(chance, 1 - LEVEL, axis=0)).mean())
    return Alignment(share, len(images), len(texts), float(found.mean()), float(chance.mean()))


def _nearest_text(images: Float[np.ndarray, "n e"], texts: Float[np.ndarray, "t e"]) -> Float[np.ndarray, " n"]:
    return (images.astype(np.float32) @ texts.T.astype(np.float32)).max(axis=1)
