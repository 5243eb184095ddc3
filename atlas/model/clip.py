"""`Clip`: an open_clip model, its embeddings of images and texts, and the activations of its layers.

Images are given as paths, PIL images or uint8 arrays. Results are float32 NumPy arrays on every device.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from atlas.errors import Refused
from atlas.model import basis, layers, weights
from atlas.model.description import ModelDescription, choose_device, describe_preprocessing
from atlas.model.folding import fold_batch_norms
from atlas.model.kept_texts import KeptTexts
from atlas.model.layers import Layer, OpenClip, Token
from atlas.model.pictures import Picture, Pictures, colour_triple, listed_pictures, model_side, open_picture
from atlas.model.tokens import untrained_texts
from atlas.sources import decoding

__all__ = ["Clip", "ModelDescription", "Picture", "Pictures", "Readout"]
_IMAGES_A_BATCH, _TEXTS_A_BATCH = 32, 256  # images on a CPU (larger batches leave its caches); texts, images on a GPU
_REFERENCE_IMAGES = 4
_KEPT_FROM = 64  # texts: of a shorter list the checksum would take longer than the embeddings


@dataclass(frozen=True, slots=True)
class Readout:
    """The result of one forward pass: embeddings of unit norm, and the maps of hooked layers before a closing ReLU."""

    embedding: Float[np.ndarray, "n d"]
    maps: dict[str, Float[Tensor, "n _ _ _"]]  # layer path -> (n, neurons, height, width), on the model's device


class Clip:
    """An open_clip model: embeddings of images and texts, and the activations of its layers.

    `name`: "mini" (embedded, works offline), or any name of open_clip.list_models(). `pretrained`: one of open_clip's
    tags, or a checkpoint file; None means the embedded weights for "mini", and random ones otherwise. `layer`: a path
    of `layers()`, or several paths to be read in one pass; None means the last stage of a ResNet, the hidden units of
    the last MLP of a ViT, and the last stage of other towers. `device`: "cpu", "cuda", ...; None or "auto" takes CUDA
    if there is a GPU. `token`: "cls" or "patches" of token layers; None means those that the tower pools.

    Raises `Refused` for an unknown name, tag, file, layer, token or device.

    >>> clip = Clip("mini", device="cpu")
    >>> clip.dim, clip.neurons, clip.image_size, clip.layer
    (256, 1024, 96, 'visual.layer4')
    """

    def __init__(
        self,
        name: str = "mini",
        pretrained: str | Path | None = None,
        layer: str | Sequence[str] | None = None,
        device: str | None = None,
        token: Token | None = None,
    ):
        self.name, self.pretrained = name, pretrained
        self.device = choose_device(device)
        model: OpenClip
        model, self._origin = weights.load_model(name, pretrained)
        # Channels last is the faster memory format for convolutions: by a fifth for RN50 on a CPU, by more for mini.
        self.model: OpenClip = model.eval().requires_grad_(False).to(self.device, memory_format=torch.channels_last)
        self.preprocessing = PreprocessCfg(**self.model.visual.preprocess_cfg)
        self.image_size = model_side(self.preprocessing.size)
        self._moments = (colour_triple(self.preprocessing.mean), colour_triple(self.preprocessing.std))
        # Resize and crop of the model; `_normalised` replaces the last two steps, to floats and normalisation.
        steps: OpenClip = image_transform_v2(self.preprocessing, is_train=False)
        self._resize: list[Callable] = steps.transforms[:-2]
        self._layers = layers.survey_layers(self.model.visual, self.image_size)
        paths = [layer] if isinstance(layer, str) else layer or [layers.default_layer(self.model.visual, self._layers)]
        self.hooked = tuple(dict.fromkeys(paths))
        self._token, self._keeps = _checked(token), False
        self.token: Token | None = token or layers.pooled_token(self.model.visual)
        self._hooked: dict[Layer, Token] = {self._find(path): self._choose(self._find(path)) for path in self.hooked}

    def __repr__(self) -> str:
        return (
            f"Clip({self.name!r}, pretrained={self.pretrained!r}, layer={self.hooked!r}, device={str(self.device)!r})"
        )

    @property
    def layer(self) -> str:
        """The first hooked layer, which activations(), basis() and attribution() use if no layer is named."""
        return self.hooked[0]

    @property
    def neurons(self) -> int:
        """Number of neurons of the first hooked layer."""
        return self._layers[self.layer].neurons

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self._layers["visual"].neurons

    @property
    def logit_scale(self) -> float:
        """Inverse temperature of the model's cosines."""
        return float(self.model.logit_scale.exp())

    @property
    def basis_kind(self) -> basis.BasisKind:
        """How basis() is computed for the first hooked layer."""
        return basis.basis_kind(self.model, self._layers[self.layer])

    @cached_property
    def tokenizer(self) -> Callable[[list[str]], Tensor]:
        """open_clip's tokenizer of this model; it gives token ids (n, context length) and cuts longer texts."""
        weights.register_mini()  # in another process, open_clip does not know mini yet
        return weights.find_tokenizer(self.name, self.pretrained)

    def layers(self) -> list[Layer]:
        """All layers that can be hooked, in the order in which the image tower runs them."""
        return list(self._layers.values())

    def grid(self, layer: str | None = None) -> tuple[int, int]:
        """Height and width of a layer's map; (1, 1) if the CLS token is read."""
        found = self._find(layer or self.layer)
        return found.grid(self._choose(found))

    def rectified(self, layer: str | None = None) -> bool:
        """Whether the model applies a ReLU directly to this layer's map (blocks and stages of ResNets)."""
        return self._find(layer or self.layer).rectified

    def describe(self) -> ModelDescription:
        """The model, its weights' checksum, layers and preprocessing; equal descriptions read images alike."""
        hooked = [
            {"path": each.path, "neurons": each.neurons, "grid": list(each.grid(token)), "rectified": each.rectified}
            for each, token in self._hooked.items()
        ]
        return {
            "name": self.name,
            "pretrained": Path(self.pretrained).name if self.pretrained else None,
            "origin": self._origin,
            "weights_sha256": weights.weights_sha256(self.model),
            "dim": self.dim,
            "layers": hooked,
            "token": self.token,
            "preprocessing": describe_preprocessing(self.preprocessing, self.image_size),
        }

    def prepare(self, image: Image.Image) -> UInt8[np.ndarray, "s s 3"]:
        """Resize and crop an image as the model does; returns pixels. Thread-safe."""
        picture = decoding.rgb(image) if image.mode != "RGB" else image
        for step in self._resize:
            picture = step(picture)
        return np.asarray(picture)

    def read(self, pixels: UInt8[np.ndarray, "n s s 3"]) -> Readout:
        """Embeddings and hooked maps of prepared images, in one forward pass."""
        return self._read(self._tower(len(pixels), self._hooked), pixels, self._hooked)

    def encode_images(self, images: Pictures) -> Float[np.ndarray, "n d"]:
        """Image embeddings (n, dim) of unit norm.

        `images`: paths, PIL images, or a uint8 array (n, h, w, 3). Raises `Refused` for an unreadable file and for
        arrays of other shapes or types.
        """
        images = listed_pictures(images, self.image_size)
        tower = self._tower(len(images), {})
        rows = [self._read(tower, pixels, {}).embedding for pixels in self._batches(images)]
        return np.concatenate(rows) if rows else np.zeros((0, self.dim), np.float32)

    def activations(
        self,
        images: Pictures,
        layer: str | None = None,
        token: Token | None = None,
    ) -> Float[np.ndarray, "n u h w"]:
        """Activation maps (n, neurons, h, w) of a layer, before its closing ReLU if it has one.

        `images`: as in encode_images. `layer`: a path of layers(); the first hooked layer by default. `token`: "cls"
        (then h = w = 1) or "patches", for token layers only.

        >>> from PIL import Image
        >>> clip = Clip("mini", device="cpu")
        >>> clip.activations([Image.new("RGB", (40, 30), "red"), Image.new("RGB", (30, 40), "blue")]).shape
        (2, 1024, 3, 3)
        """
        found = self._find(layer or self.layer)
        choice = self._choose(found, _checked(token))
        images = listed_pictures(images, self.image_size)
        wanted: dict[Layer, Token] = {found: choice}
        tower = self._tower(len(images), wanted)
        maps = [self._read(tower, each, wanted).maps[found.path].cpu().numpy() for each in self._batches(images)]
        return np.concatenate(maps) if maps else np.zeros((0, found.neurons, *found.grid(choice)), np.float32)

    def encode_texts(self, texts: Sequence[str] | str) -> Float[np.ndarray, "n d"]:
        """Text embeddings (n, dim) of unit norm; texts longer than the model's context are cut.

        >>> texts = Clip("mini", device="cpu").encode_texts(["a cat", "a dog"])
        >>> texts.shape, (texts**2).sum(axis=1).round(3).tolist()
        ((2, 256), [1.0, 1.0])
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        if self._keeps and len(texts) >= _KEPT_FROM:
            kept = KeptTexts.of(weights.text_sha256(self.model), self.name, self.device.type)
            return kept.embed(texts, self._encode_texts, self.untrained_texts)
        return self._encode_texts(texts)

    def untrained_texts(self, texts: Sequence[str]) -> list[str]:
        """The texts of which the model has learned no token (`atlas.model.tokens`)."""
        return untrained_texts(self.model, self.tokenizer, texts)

    def keep_texts(self) -> None:
        """From now on keep the embeddings of long lists of texts in the user's cache folder (`atlas.model.kept_texts`).

        They are kept by the checksum of the text tower, so a model with other weights never gets them.
        """
        self._keeps = True

    def _encode_texts(self, texts: list[str]) -> Float[np.ndarray, "n d"]:
        rows = [np.zeros((0, self.dim), np.float32)]
        for start in range(0, len(texts), _TEXTS_A_BATCH):
            tokens = self.tokenizer(texts[start : start + _TEXTS_A_BATCH]).to(self.device)
            with torch.no_grad(), self._autocast():
                rows.append(_unit(self.model.encode_text(tokens)))
        return np.concatenate(rows)

    def basis(self, layer: str | None = None, images: Pictures | None = None) -> Float[np.ndarray, "u d"]:
        """W (neurons, dim) of the bilinear form, computed from the current weights.

        Row i is the change of the unnormalised image embedding if neuron i rises by one at every position, after the
        closing ReLU. `basis_kind` names the computation. `images`: those over which layer-norm scales and Jacobians
        are averaged; four images of seeded noise by default.
        """
        if images is None:
            side = self.image_size
            images = np.random.default_rng(0).integers(0, 256, (_REFERENCE_IMAGES, side, side, 3), np.uint8)
        pixels = np.concatenate(list(self._batches(listed_pictures(images, self.image_size))))
        return basis.bilinear_basis(self.model, self._find(layer or self.layer), self._normalised(pixels)).cpu().numpy()

    def attribution(self, texts: Sequence[str] | str, layer: str | None = None) -> Float[np.ndarray, "n u"]:
        """Attribution (n, neurons) of texts to neurons: text embeddings @ basis.T."""
        return self.encode_texts(texts) @ self.basis(layer).T

    def respond(self, x: Float[Tensor, "n 3 s s"], tower: torch.nn.Module | None = None) -> Float[Tensor, "n u h w"]:
        """Maps of the first hooked layer for images `x` (colours 0 to 1, on the device); gradients reach `x`.

        `tower`: used in place of the model; `stand_in` gives one that is faster over many passes.
        """
        return self.respond_and_embed(x, tower)[0]

    def respond_and_embed(
        self, x: Float[Tensor, "n 3 s s"], tower: torch.nn.Module | None = None
    ) -> tuple[Float[Tensor, "n u h w"], Float[Tensor, "n d"]]:
        """As `respond`, with the embeddings before they are normalised."""
        mean, std = self._shift_and_scale()
        with layers.record_maps(tower or self.model, self._first()) as maps:
            E = layers.tower_embeddings(tower or self.model, (x - mean) / std)
        return maps[self.layer], E

    def precedes(self, path: str) -> bool:
        """Whether a layer runs before the first hooked layer."""
        paths = list(self._layers)
        return paths.index(self._find(path).path) < paths.index(self.layer)

    def layer_map(self, path: str, raw: Float[Tensor, "..."]) -> Float[Tensor, "n c h w"]:
        """The tensor of a layer's module as a map, of the patches if it has tokens."""
        return self._find(path).map(raw, "patches")

    def stand_in(self) -> torch.nn.Module:
        """The model with folded batch norms if the first hooked layer allows it: numerically equivalent, faster."""
        return self._tower(2 * _IMAGES_A_BATCH, self._first())

    def _first(self) -> dict[Layer, Token]:
        """The first hooked layer and its token."""
        return {layer: token for layer, token in self._hooked.items() if layer.path == self.layer}

    def _tower(self, images: int, tokens: dict[Layer, Token]) -> torch.nn.Module:
        """The model, or its folded image tower if there are many images, on a CPU, and no convolution is read."""
        pays = images >= 2 * _IMAGES_A_BATCH and self.device.type == "cpu"
        reads = (self.model.get_submodule(layer.path) for layer in tokens)
        return (
            fold_batch_norms(self.model)
            if pays and not any(isinstance(m, torch.nn.Conv2d) for m in reads)
            else self.model
        )

    def _read(self, tower: torch.nn.Module, pixels: np.ndarray, tokens: dict[Layer, Token]) -> Readout:
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (self.image_size, self.image_size, 3):
            side = self.image_size
            raise Refused(f"{self.name} reads uint8 pixels (n, {side}, {side}, 3), got {pixels.dtype} {pixels.shape}")
        with torch.no_grad(), self._autocast(), layers.record_maps(tower, tokens) as maps:
            embedding = layers.tower_embeddings(tower, self._normalised(pixels))
        return Readout(_unit(embedding), {layer.path: maps[layer.path] for layer in tokens})

    def _normalised(self, pixels: np.ndarray) -> Float[Tensor, "n 3 s s"]:
        """Move pixels to the device as bytes, a quarter of the size of floats, and normalise them there."""
        raw = torch.from_numpy(np.require(pixels, requirements=["C", "W"]))  # torch takes no read-only array
        if self.device.type == "cuda":
            raw = raw.pin_memory().to(self.device, non_blocking=True)
        x = raw.permute(0, 3, 1, 2).to(self.device, torch.float32).div_(255)  # channels last, as the bytes are
        mean, std = self._shift_and_scale()
        return x.sub_(mean).div_(std)

    def _shift_and_scale(self) -> tuple[Tensor, Tensor]:
        mean, std = (torch.tensor(each, device=self.device).view(3, 1, 1) for each in self._moments)
        return mean, std

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, enabled=self.device.type == "cuda")

    def _batches(self, images: Sequence[Picture] | np.ndarray) -> Iterator[UInt8[np.ndarray, "n s s 3"]]:
        """Yield prepared pixels batch by batch; files are opened when their batch is due."""
        size = _IMAGES_A_BATCH if self.device.type == "cpu" else _TEXTS_A_BATCH
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            if isinstance(batch, np.ndarray):
                yield batch
            else:
                yield np.stack([self.prepare(open_picture(each)) for each in batch])

    def _find(self, path: str) -> Layer:
        if path not in self._layers:
            near = (
                f" (near: visual.{path})"
                if f"visual.{path}" in self._layers
                else weights.similar_names(path, self._layers)
            )
            raise Refused(f"{self.name} has no layer {path!r} that can be hooked{near}; `atlas layers` lists them")
        return self._layers[path]

    def _choose(self, layer: Layer, token: Token | None = None) -> Token:
        """The tokens to read of a layer: those asked for, otherwise those that the tower pools."""
        asked = token or self._token
        if asked == "cls" and not layer.cls:
            raise Refused(f"{layer.path} of {self.name} has no CLS token: leave token out, or ask for 'patches'")
        return "cls" if layer.cls and (asked or self.token) == "cls" else "patches"


def _unit(embedding: Float[Tensor, "n d"]) -> Float[np.ndarray, "n d"]:
    return normalize(embedding.float(), dim=-1).cpu().numpy()


def _checked(token: Token | None) -> Token | None:
    if token not in (None, "cls", "patches"):
        raise Refused(f"token is 'cls' or 'patches', not {token!r}")
    return token
