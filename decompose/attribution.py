"""Attribution: the contribution of each neuron to the logit of a text, and how complete that account is.

The bilinear form of Goh et al. 2021 ("Multimodal Neurons in Artificial Neural Networks"): with x_img a layer's
activations, the unnormalised logit is x_img^T W x_text plus a constant. So W x_text is a weight on every neuron.

    A (n, u) activations    W (u, e) basis    E (n, e) image embeddings    X (t, e) text embeddings
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from atlas.errors import Refused
from atlas.model.clip import Clip, Pictures
from atlas.model.directions import Directions
from atlas.model.layers import Layer, Token, layer_replaced
from atlas.store.store import Store
from atlas.vectors import column_correlations, scaled_rows
from decompose.prompting import Templates, concept_embeddings
from decompose.renderings import spread_over_things
from decompose.responses import Responses


def attribute(
    clip: Clip,
    texts: str | Sequence[str],
    templates: Templates = None,
    store: Store | None = None,
    directions: Directions | None = None,
) -> Float[np.ndarray, "t k"]:
    """W x_text: the change of each text's unnormalised logit for one unit of each neuron, or of each direction.

    With a Store it is the change for one standard deviation over the Store's images (`response_spread`). So a neuron
    that never fires there has 0, however large its basis row. Raises Refused for a Store of another model.
    """
    W = clip.basis()
    V = W if directions is None else directions.basis(W)
    found = concept_embeddings(clip, texts, templates) @ V.T
    if store is not None:
        found = found * response_spread(store, clip, directions)
    return found.astype(np.float32)


def hooked_layer(clip: Clip) -> tuple[Layer, Token]:
    """The layer that the model reads, and which of its tokens it reads."""
    layer = next(each for each in clip.layers() if each.path == clip.layer)
    return layer, "cls" if layer.cls and clip.token == "cls" else "patches"


def check_model(store: Store, clip: Clip) -> None:
    """Raise Refused unless the Store was made by this model, with the same weights, layer and tokens."""
    made, here = store.request["model"], clip.describe()
    if made["weights_sha256"] != here["weights_sha256"]:
        raise Refused(
            f"{store.path} was made by {made['name']} (weights {made['weights_sha256'][:12]}), not by {clip.name} "
            f"({here['weights_sha256'][:12]}); open the Store's own model, or collect one with this"
        )
    if store.layer != clip.layer:
        raise Refused(f"{store.path} is of layer {store.layer}, the model reads {clip.layer}: name the Store's layer")
    tokens = [model["token"] or "patches" for model in (made, here)]
    if tokens[0] != tokens[1]:
        raise Refused(f"{store.path} is of token {tokens[0]}, the model reads {tokens[1]}: Clip(token={tokens[0]!r})")


def response_spread(store: Store, clip: Clip, directions: Directions | None = None) -> Float[np.ndarray, " k"]:
    """Standard deviation of each neuron or direction over the Store's images, or over its words without images.

    See `spread_over_things`; raises Refused for a Store of another model.
    """
    check_model(store, clip)
    return spread_over_things(store, directions)


# -- completeness ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Completeness:
    """The unnormalised logits of n images and t texts as a sum: contributions + constant + residual."""

    contributions: Float[np.ndarray, "n t u"]  # each neuron's activation, averaged over positions, times W x_text
    constant: Float[np.ndarray, "n t"]  # the logit when every neuron of the layer is silent
    logit: Float[np.ndarray, "n t"]
    residual: Float[np.ndarray, "n t"]  # the part that the bilinear form does not explain


def completeness(clip: Clip, images: Pictures, texts: str | Sequence[str], templates: Templates = None) -> Completeness:
    """Logits split into the contribution of each neuron, a constant, and a residual.

    The constant comes from a forward pass with the layer set to 0. The residual is the part that the bilinear form does
    not explain. It is 0, to rounding, in two cases: an attention pool without positions on a constant map, and the
    hidden units of the CLS token in a ViT's last block. If a layer norm follows ("direct effect"), its scale is held
    at the image's own in both passes.
    """
    X = concept_embeddings(clip, texts, templates)
    pictures = [images] if isinstance(images, str) or not isinstance(images, Sequence | np.ndarray) else images
    found = [_take_apart(clip, pictures[i : i + 1], X) for i in range(len(pictures))]
    if not found:
        raise Refused("no image given; give at least one")
    contributions, constant, logit = (np.stack(parts) for parts in zip(*found, strict=True))
    return Completeness(contributions, constant, logit, logit - constant - contributions.sum(2))


def _take_apart(clip: Clip, image: Pictures, X: Float[np.ndarray, "t e"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Contributions (t, u), constant (t,) and logit (t,) of one image, with and without the layer."""
    maps = clip.activations(image)
    if clip.rectified():
        maps = np.maximum(maps, 0)
    layer, token = hooked_layer(clip)
    with _held_scale(clip), layer_replaced(clip.model, layer, lambda x: torch.cat([x, torch.zeros_like(x)]), token):
        whole, silent = _unnormalised(clip, image) @ X.T
    own = (
        image if clip.basis_kind == "direct effect" else None
    )  # the scale of this image; other layers have one basis for all images
    return maps[0].mean((1, 2)) * (X @ clip.basis(images=own).T), silent, whole


def _unnormalised(clip: Clip, image: Pictures) -> Float[np.ndarray, "n e"]:
    """Embeddings before normalisation: the output of the whole tower, which has no tokens to choose from."""
    return clip.activations(image, layer="visual", token="patches")[:, :, 0, 0]


@contextmanager
def _held_scale(clip: Clip) -> Iterator[None]:
    """Context manager: the last layer norm of the tower divides every image of a batch by the first one's deviation.

    Does nothing for towers whose basis is not a "direct effect".
    """
    if clip.basis_kind != "direct effect":
        yield
        return
    modules = (clip.model.get_submodule(layer.path) for layer in reversed(clip.layers()))
    norm = next(module for module in modules if isinstance(module, nn.LayerNorm))

    def forward(_: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        (x,) = args
        scale = (x[:1].var(-1, unbiased=False, keepdim=True) + norm.eps).rsqrt()
        return (x - x.mean(-1, keepdim=True)) * scale * norm.weight + norm.bias

    hook = norm.register_forward_hook(forward)
    try:
        yield
    finally:
        hook.remove()


def explained(
    store: Store, clip: Clip, texts: str | Sequence[str], templates: Templates = None
) -> Float[np.ndarray, " t"]:
    """Share of each text's logit over the Store's images that the bilinear form explains: R^2, 0 to 1.

    Both are normalised: with the layer's mean activations a, the form is (a W + c) x_text / |a W + c|. The constant c
    is the embedding with the layer set to 0 if that is the same for all images (attention pools), else 0. R^2 is
    that of the best line of non-negative slope, and 0 for a constant logit.
    """
    check_model(store, clip)
    X, W, c = concept_embeddings(clip, texts, templates), clip.basis(), silent_embedding(clip)
    pairs, embedded = [], store.array("embedding", "image")
    for rows, A in Responses(store.array("mean", "image")):
        E = np.asarray(embedded[rows[0] : rows[-1] + 1], np.float32)
        pairs.append((scaled_rows(A @ W + c) @ X.T, E @ X.T))
    form, logit = (np.concatenate(each).astype(np.float64) for each in zip(*pairs, strict=True))
    return column_correlations(form, logit).clip(0) ** 2


def silent_embedding(clip: Clip) -> Float[np.ndarray, " e"]:
    """The unnormalised embedding with the layer set to 0, if it is the same for every image; zeros for other towers."""
    if clip.basis_kind != "exact on homogeneous maps":
        return np.zeros(clip.dim, np.float32)
    blank = np.zeros((1, clip.image_size, clip.image_size, 3), np.uint8)
    with layer_replaced(clip.model, hooked_layer(clip)[0], torch.zeros_like):
        return _unnormalised(clip, blank)[0]
