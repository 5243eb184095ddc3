"""How the latents of a sparse autoencoder answer: thresholds, the k largest, and inputs that are normalised first.

A (n, u) activations of u neurons    Z (n, k) activations of k latents
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from atlas.errors import Refused

Standard = Literal["none", "layer_norm", "constant_norm_rescale"]
_LAYER_NORM_EPSILON = 1e-5


@dataclass(frozen=True)
class LatentRule:
    """All K latents of one autoencoder, which compete or have thresholds. `latents` of Directions number them."""

    read: Float[np.ndarray, "K u"]
    bias: Float[np.ndarray, " K"]
    threshold: Float[np.ndarray, " K"] | None = None  # latents at or below it are silent
    top: int = 0  # how many latents of a row are active at most; 0: all of them
    standard: Standard = "none"  # how each row of A is normalised first
    signed: bool = False  # whether activations below zero stay; they do where no ReLU follows TopK

    def __post_init__(self) -> None:
        held = [each for each in (self.read, self.bias, self.threshold) if each is not None]
        if any(len(each) != len(self.read) for each in held):
            raise Refused(
                f"{len(self.read)} latents do not fit {[len(each) for each in held[1:]]} biases or thresholds"
            )
        if self.top > len(self.read):
            raise Refused(f"k = {self.top}, and there are {len(self.read)} latents")
        if not all(np.isfinite(each).all() for each in held[:2]) or np.isnan(held[-1]).any():
            raise Refused("a latent holds values that are not finite")

    def activations(self, A: Float[np.ndarray, "n u"], some: Int[np.ndarray, " k"]) -> Float[np.ndarray, "n k"]:
        """Activations of some latents; with `top`, all are computed, because they compete."""
        A = normalised_rows(A, self.standard)
        chosen = slice(None) if self.top else some
        Z = A @ self.read[chosen].T + self.bias[chosen]
        Z = Z if self.signed else np.maximum(Z, 0)
        if self.threshold is not None:
            Z = np.where(self.threshold[chosen] < Z, Z, 0)
        if not self.top:
            return Z
        if self.top < Z.shape[1]:
            silent = np.argpartition(-Z, self.top - 1, axis=1)[:, self.top :]
            np.put_along_axis(Z, silent, 0, axis=1)
        return Z[:, some]

    def rows(self, some: Int[np.ndarray, " k"]) -> "LatentRule":
        """The rule of some latents alone; all of them stay where they compete."""
        if self.top:
            return self
        threshold = None if self.threshold is None else self.threshold[some]
        return LatentRule(self.read[some], self.bias[some], threshold, 0, self.standard, self.signed)


def normalised_rows(A: Float[np.ndarray, "n u"], standard: Standard) -> Float[np.ndarray, "n u"]:
    """Rows of A as the autoencoder was trained on them."""
    if standard == "none":
        return A
    if standard == "constant_norm_rescale":
        norms = np.linalg.norm(A, axis=1, keepdims=True)
        return A * np.divide(np.sqrt(A.shape[1]), norms, out=np.zeros_like(norms), where=norms > 0)
    centred = A - A.mean(1, keepdims=True)
    return centred / (centred.std(1, keepdims=True, ddof=1) + _LAYER_NORM_EPSILON)
