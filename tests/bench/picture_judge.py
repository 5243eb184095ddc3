"""A judge of drawings that is no network: HOG and coarse colour, whitened, nearest centroid over names.

No gradient of a model reaches these features, so that a drawing cannot please them by tricks that please the model.

    X (n, f) features of images of 64 pixels    y (n,) numbers of their names
"""

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

SIDE, CELL, BINS = 64, 8, 9
CLIPPED, STEADY = 0.2, 1e-2  # of blocks of HOG
COLOUR_CELLS, COLOUR_WEIGHT = 4, 2.0
SHRINKAGE = 0.3  # towards the mean variance, of the covariance within names

Images = UInt8[np.ndarray, "n h w 3"]


class PictureJudge:
    """Centroids of names in whitened features, and the ranks that it gives to images."""

    def __init__(self, X: Float[np.ndarray, "n f"], y: Int[np.ndarray, " n"], names: list[str]):
        self.names, self.mean = names, X.mean(0)
        centroids = np.stack([X[y == i].mean(0) for i in range(len(names))])
        rest = X - centroids[y]
        S = rest.T @ rest / len(rest)
        S = (1 - SHRINKAGE) * S + SHRINKAGE * np.trace(S) / len(S) * np.eye(len(S))
        variance, axes = np.linalg.eigh(S)
        self.whiten = (axes / np.sqrt(variance)).astype(np.float32)
        self.centroids = self._unit(centroids)

    def _unit(self, X: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "n f"]:
        Z = (X - self.mean) @ self.whiten
        return Z / np.maximum(np.linalg.norm(Z, axis=1, keepdims=True), 1e-12)

    def ranks(self, X: Float[np.ndarray, "n f"], wanted: list[list[str]]) -> Int[np.ndarray, " n"]:
        """The rank, 1 is best, of the best of each image's names."""
        scores, place = self._unit(X) @ self.centroids.T, {name: i for i, name in enumerate(self.names)}
        own = [max(row[place[name]] for name in names) for row, names in zip(scores, wanted, strict=True)]
        return 1 + (scores > np.array(own)[:, None]).sum(1)


def picture_features(images: Images) -> Float[np.ndarray, "n f"]:
    """HOG and coarse colour of images of any size."""
    small = [
        np.asarray(Image.fromarray(x).resize((SIDE, SIDE), Image.Resampling.BOX), np.float32) / 255 for x in images
    ]
    blocks = [np.stack(small[i : i + 256]) for i in range(0, len(small), 256)]
    return np.concatenate([np.concatenate([_hog(x), COLOUR_WEIGHT * _colour(x)], 1) for x in blocks])


def _hog(x: Float[np.ndarray, "n s s 3"]) -> Float[np.ndarray, "n f"]:
    """Histograms of oriented gradients (Dalal and Triggs 2005), of the colour with the steepest gradient."""
    steps = np.zeros((2, *x.shape), np.float32)
    steps[0][:, 1:-1], steps[1][:, :, 1:-1] = x[:, 2:] - x[:, :-2], x[:, :, 2:] - x[:, :, :-2]
    steepest = np.hypot(*steps).argmax(3)[..., None]
    down, across = (np.take_along_axis(each, steepest, 3)[..., 0] for each in steps)
    size, angle = np.hypot(down, across), (np.arctan2(down, across) % np.pi) / np.pi * BINS
    low, n, k = np.floor(angle).astype(int), len(x), SIDE // CELL
    over = angle - low
    found = np.zeros((n, k, k, BINS), np.float32)
    for b in range(BINS):
        share = size * ((low % BINS == b) * (1 - over) + ((low + 1) % BINS == b) * over)
        found[..., b] = share.reshape(n, k, CELL, k, CELL).sum((2, 4))
    blocks = np.concatenate([found[:, i : k - 1 + i, j : k - 1 + j] for i in (0, 1) for j in (0, 1)], -1)
    for _ in range(2):
        blocks /= np.sqrt((blocks**2).sum(-1, keepdims=True) + STEADY)
        blocks = np.minimum(blocks, CLIPPED)
    return blocks.reshape(n, -1)


def _colour(x: Float[np.ndarray, "n s s 3"]) -> Float[np.ndarray, "n f"]:
    step = SIDE // COLOUR_CELLS
    return x.reshape(len(x), COLOUR_CELLS, step, COLOUR_CELLS, step, 3).mean((2, 4)).reshape(len(x), -1)
