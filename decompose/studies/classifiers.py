"""Classifiers of image embeddings: zero-shot by the embeddings of class names, and a linear probe.

E (n, e) embeddings of images    K (c, e) weights of c classes    A (n, u) activations
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8
from sklearn.linear_model import LogisticRegression

from atlas.errors import Refused
from atlas.model.clip import Clip
from atlas.store.store import Store
from decompose.prompting import Templates, concept_embeddings
from decompose.renderings import without_tone

_IMAGES_A_READ = 32
_FEWEST_ROWS = 2  # of a class: one to fit on, one to hold out


@dataclass(frozen=True)
class LinearClassifier:
    """A classifier that is linear in the embedding: logits are E K^T + b."""

    name: str
    classes: tuple[str, ...]
    weights: Float[np.ndarray, "c e"]
    bias: Float[np.ndarray, " c"]

    def logits(self, E: Float[np.ndarray, "*shape e"]) -> Float[np.ndarray, "*shape c"]:
        """Logits of every class."""
        return E @ self.weights.T + self.bias

    def choose_classes(self, E: Float[np.ndarray, "*shape e"]) -> Int[np.ndarray, "*shape"]:
        """The class with the largest logit, by number."""
        return self.logits(E).argmax(-1)

    def probabilities(self, E: Float[np.ndarray, "*shape e"]) -> Float[np.ndarray, "*shape c"]:
        """Softmax of the logits."""
        z = self.logits(E)
        z = np.exp(z - z.max(-1, keepdims=True))
        return z / z.sum(-1, keepdims=True)


def zero_shot(clip: Clip, classes: Sequence[str], templates: Templates = None) -> LinearClassifier:
    """The classifier whose weights are the embeddings of the class names, scaled as the model scales its logits."""
    scale = clip.logit_scale
    K = concept_embeddings(clip, classes, templates) * np.float32(scale)
    return LinearClassifier("zero-shot", tuple(classes), K, np.zeros(len(K), np.float32))


def linear_probe(
    E: Float[np.ndarray, "n e"], labels: Int[np.ndarray, " n"], classes: Sequence[str], strength: float = 100.0
) -> LinearClassifier:
    """Logistic regression on embeddings. `strength`: the inverse of the L2 penalty.

    Raises Refused for fewer than two classes, and where a class has no image to fit on.
    """
    there = np.unique(labels)
    if len(classes) < 2 or len(there) < len(classes):
        raise Refused(f"a linear probe needs two classes or more with an image each, got {len(there)}")
    fitted = LogisticRegression(C=strength, max_iter=1000).fit(E.astype(np.float64), labels)
    K, b = np.asarray(fitted.coef_, np.float32), np.asarray(fitted.intercept_, np.float32)
    if len(classes) == 2:  # scikit-learn gives one row for two classes
        K, b = np.concatenate([-K / 2, K / 2]), np.concatenate([-b / 2, b / 2])
    return LinearClassifier("linear probe", tuple(classes), K, b)


@dataclass(frozen=True)
class LabelledRows:
    """Rows of a Store with their classes, divided into those to fit on and those held out."""

    classes: tuple[str, ...]
    fit: Int[np.ndarray, " f"]  # rows of the Store
    fit_class: Int[np.ndarray, " f"]
    held: Int[np.ndarray, " h"]
    held_class: Int[np.ndarray, " h"]


def labelled_rows(
    store: Store, by: str = "label", classes: Sequence[str] = (), count: int = 50, images: int = 100, seed: int = 0
) -> LabelledRows:
    """Images of a Store by their labels or groups, half of each class to fit on, and `images` of the rest held out.

    `classes`: the classes; `count` drawn at random without them. Emoji with a skin tone are left out, because the same
    drawing in another tone would be both fitted on and held out. Raises Refused for classes that have fewer than two
    images, and for a Store with fewer than two classes.
    """
    if "image" not in store.counts:
        raise Refused(f"{store.path} holds no images; collect some with {by}s")
    rows = store.positions("image")
    table = store.table(["label", "group"])
    names = np.array([text or "" for text in table[by].take(rows).to_pylist()], object)
    plain = np.array([without_tone(text or "") == (text or "") for text in table["label"].take(rows).to_pylist()])
    named = [name for name in dict.fromkeys(names[plain]) if name]
    rng, parts = np.random.default_rng(seed), {}
    for name in classes or named:
        own = rows[(names == name) & plain]
        if len(own) >= _FEWEST_ROWS:
            parts[name] = rng.permutation(own)
        elif classes:
            raise Refused(f"{name!r} is the {by} of {len(own)} images; a class needs {_FEWEST_ROWS}")
    if len(parts) < 2:
        needed = f"at least two classes with {_FEWEST_ROWS} images each are needed"
        raise Refused(f"{store.path}: {needed}; by {by} there {'is 1' if parts else 'are none'}")
    order = rng.permutation(len(parts)) if classes else np.sort(rng.permutation(len(parts))[:count])
    chosen = [list(parts)[i] for i in (range(len(parts)) if classes else order)]
    fit = [parts[name][: (len(parts[name]) + 1) // 2] for name in chosen]
    held = [parts[name][(len(parts[name]) + 1) // 2 :] for name in chosen]
    kept = rng.permutation(sum(map(len, held)))[:images]
    numbers = [np.repeat(np.arange(len(chosen)), [len(each) for each in half]) for half in (fit, held)]
    return LabelledRows(tuple(chosen), np.concatenate(fit), numbers[0], np.concatenate(held)[kept], numbers[1][kept])


def stored_embeddings(store: Store, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n e"]:
    """The embeddings of some images of a Store, by their rows."""
    every = np.asarray(store.array("embedding", "image"), np.float32)
    return every[np.searchsorted(store.positions("image"), rows)]


def read_pixels(
    clip: Clip, pixels: UInt8[np.ndarray, "n s s 3"]
) -> tuple[Float[np.ndarray, "n e"], Float[np.ndarray, "n u"]]:
    """Embeddings and mean activations (over positions, after the closing ReLU) of prepared images, in one pass."""
    E, A = [np.zeros((0, clip.dim), np.float32)], [np.zeros((0, clip.neurons), np.float32)]
    for start in range(0, len(pixels), _IMAGES_A_READ):
        found = clip.read(pixels[start : start + _IMAGES_A_READ])
        maps = found.maps[clip.layer].cpu().numpy()
        E.append(found.embedding)
        A.append((np.maximum(maps, 0) if clip.rectified() else maps).mean((2, 3)))
    return np.concatenate(E), np.concatenate(A)
