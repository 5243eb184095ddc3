"""Clip: an open_clip model, the layers that are looked into, and what images and texts make of it.

Images go in as paths, PIL images or uint8 arrays; float32 NumPy arrays come out, on every device.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from jaxtyping import Float, UInt8
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from atlas.errors import Refused
from atlas.model import basis, layers, weights
from atlas.model.folding import fold_batch_norms
from atlas.model.layers import Layer, Token
from atlas.sources import decoding

Picture = str | Path | Image.Image
Pictures = Sequence[Picture] | Picture | np.ndarray
_IMAGES_A_BATCH, _TEXTS_A_BATCH = 32, 256  # images: a CPU's caches hold no more; on a GPU, as many as texts
_REFERENCE_IMAGES = 4


@dataclass(frozen=True, slots=True)
class Readout:
    """One forward pass: embeddings of unit norm, and the hooked maps as they are before a closing ReLU."""

    embedding: Float[np.ndarray, "n d"]
    maps: dict[str, Float[Tensor, "n _ _ _"]]  # layer path -> (n, neurons, height, width), on the model's device


class Clip:
    """An open_clip model whose layers can be read.

    name        "mini" (embedded, works offline), or any name of open_clip.list_models()
    pretrained  one of open_clip's tags or a checkpoint file; None: random weights, or mini's own
    layer       a module path of layers(), or several to be read in one pass; None: the last residual block of a
                ResNet, the last MLP's hidden units of a ViT, the last stage of other towers
    device      "cpu", "cuda", ...; None or "auto": CUDA if there is one
    token       what is read of token layers: "cls" or "patches"; None: what the tower itself pools

    Raises Refused for a name, tag, file, layer, token or device that cannot be had.
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
        self.device = _device(device)
        model: Any
        model, self._origin = weights.load_model(name, pretrained)
        # Channels last is the faster order for convolutions: RN50 by a fifth on CPU, the small embedded model by more.
        self.model = model.eval().requires_grad_(False).to(self.device, memory_format=torch.channels_last)
        self.preprocessing = PreprocessCfg(**self.model.visual.preprocess_cfg)
        self.image_size = _side(self.preprocessing.size)
        self._moments = (_triple(self.preprocessing.mean), _triple(self.preprocessing.std))
        # The model's own resize and crop; the last two steps, to floats and normalised, are `_normalised`.
        steps: Any = image_transform_v2(self.preprocessing, is_train=False)
        self._resize: list[Callable] = steps.transforms[:-2]
        self._layers = layers.survey_layers(self.model.visual, self.image_size)
        paths = [layer] if isinstance(layer, str) else layer or [layers.default_layer(self.model.visual, self._layers)]
        self.hooked = tuple(dict.fromkeys(paths))
        self._token = _checked(token)
        self.token: Token | None = token or layers.pooled_token(self.model.visual)
        self._hooked: dict[Layer, Token] = {self._find(path): self._choose(self._find(path)) for path in self.hooked}

    def __repr__(self) -> str:
        return (
            f"Clip({self.name!r}, pretrained={self.pretrained!r}, layer={self.hooked!r}, device={str(self.device)!r})"
        )

    @property
    def layer(self) -> str:
        """The first hooked layer: what activations(), basis() and attribution() mean when no layer is named."""
        return self.hooked[0]

    @property
    def neurons(self) -> int:
        """Neurons of the first hooked layer."""
        return self._layers[self.layer].neurons

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self._layers["visual"].neurons

    @property
    def basis_kind(self) -> basis.BasisKind:
        """What basis() is for the first hooked layer."""
        return basis.basis_kind(self.model, self._layers[self.layer])

    @cached_property
    def tokenizer(self) -> Callable[[list[str]], Tensor]:
        """open_clip's tokenizer for this model: (n, context length) token ids; longer texts are cut."""
        weights.register_mini()  # a Clip that was sent to another process finds open_clip as it was shipped
        try:
            return open_clip.get_tokenizer(self.name)
        except Exception as error:  # tokenizers from the hub fail in many ways without a network
            raise Refused(f"no tokenizer for {self.name}: {' '.join(str(error).split())[:200]}") from error

    def layers(self) -> list[Layer]:
        """What can be hooked, in the order the image tower runs it: path, neurons, height, width."""
        return list(self._layers.values())

    def grid(self, layer: str | None = None) -> tuple[int, int]:
        """Height and width of a layer's map as it is read: (1, 1) where that is the CLS token."""
        found = self._find(layer or self.layer)
        return found.grid(self._choose(found))

    def rectified(self, layer: str | None = None) -> bool:
        """Does the model put a ReLU right after the map that is read (a ResNet's blocks and stages)?"""
        return self._find(layer or self.layer).rectified

    def describe(self) -> dict[str, Any]:
        """What was asked for and what it came to, as JSON-able values; two equal descriptions read images alike."""
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
            "preprocessing": {
                **{
                    key: list(each) if isinstance(each, tuple) else each
                    for key, each in asdict(self.preprocessing).items()
                },
                "size": self.image_size,
            },
        }

    def prepare(self, image: Image.Image) -> UInt8[np.ndarray, "s s 3"]:
        """The model's own resize and crop, as pixels; safe in threads."""
        picture: Any = decoding.rgb(image) if image.mode != "RGB" else image
        for step in self._resize:
            picture = step(picture)
        return np.asarray(picture)

    def read(self, pixels: UInt8[np.ndarray, "n s s 3"]) -> Readout:
        """Embeddings and the hooked maps of prepared images, in one forward pass."""
        return self._read(self._tower(len(pixels), self._hooked), pixels, self._hooked)

    def encode_images(self, images: Pictures) -> Float[np.ndarray, "n d"]:
        """Embeddings of unit norm. Images: paths, PIL images, or a uint8 array (n, h, w, 3).

        Raises Refused for an unreadable file and for arrays of other shapes or types.
        """
        images = self._listed(images)
        tower = self._tower(len(images), {})
        rows = [self._read(tower, pixels, {}).embedding for pixels in self._batches(images)]
        return np.concatenate(rows) if rows else np.zeros((0, self.dim), np.float32)

    def activations(
        self,
        images: Pictures,
        layer: str | None = None,
        token: Token | None = None,
    ) -> Float[np.ndarray, "n u h w"]:
        """A layer's maps, before its closing ReLU if it has one; by default the first hooked layer's.

        `token` is "cls" (h = w = 1) or "patches", for token layers only. Images as in encode_images.
        """
        found = self._find(layer or self.layer)
        choice = self._choose(found, _checked(token))
        images = self._listed(images)
        wanted: dict[Layer, Token] = {found: choice}
        tower = self._tower(len(images), wanted)
        maps = [self._read(tower, each, wanted).maps[found.path].cpu().numpy() for each in self._batches(images)]
        return np.concatenate(maps) if maps else np.zeros((0, found.neurons, *found.grid(choice)), np.float32)

    def encode_texts(self, texts: Sequence[str] | str) -> Float[np.ndarray, "n d"]:
        """Embeddings of unit norm. Texts longer than the model's context are cut; no texts give shape (0, dim)."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        rows = [np.zeros((0, self.dim), np.float32)]
        for start in range(0, len(texts), _TEXTS_A_BATCH):
            tokens = self.tokenizer(texts[start : start + _TEXTS_A_BATCH]).to(self.device)
            with torch.no_grad(), self._autocast():
                rows.append(_unit(self.model.encode_text(tokens)))
        return np.concatenate(rows)

    def basis(self, layer: str | None = None, images: Pictures | None = None) -> Float[np.ndarray, "u d"]:
        """W of the bilinear form, from the current weights: row i is what one unit of neuron i, after the ReLU and at
        every position, adds to the image embedding before it is normalised. `basis_kind` says how it is come by.

        `images` are those that layer-norm scales and Jacobians are averaged over; by default four of seeded noise.
        """
        if images is None:
            side = self.image_size
            images = np.random.default_rng(0).integers(0, 256, (_REFERENCE_IMAGES, side, side, 3), np.uint8)
        pixels = np.concatenate(list(self._batches(self._listed(images))))
        return basis.bilinear_basis(self.model, self._find(layer or self.layer), self._normalised(pixels)).cpu().numpy()

    def attribution(self, texts: Sequence[str] | str, layer: str | None = None) -> Float[np.ndarray, "n u"]:
        """Each neuron's share in each text: text embeddings @ basis.T."""
        return self.encode_texts(texts) @ self.basis(layer).T

    def respond(self, x: Float[Tensor, "n 3 s s"], tower: torch.nn.Module | None = None) -> Float[Tensor, "n u h w"]:
        """The first hooked layer's maps of pictures (colours 0 to 1, on the device); gradients flow back to them.

        `tower` stands in for the model: what `stand_in` gave, for many passes.
        """
        wanted = self._first()
        mean, std = self._shift_and_scale()
        with layers.record_maps(tower or self.model, wanted) as maps:
            layers.tower_embeddings(tower or self.model, (x - mean) / std)
        return maps[self.layer]

    def precedes(self, path: str) -> bool:
        """Does a layer run before the first hooked one?"""
        paths = list(self._layers)
        return paths.index(self._find(path).path) < paths.index(self.layer)

    def layer_map(self, path: str, raw: Float[Tensor, "..."]) -> Float[Tensor, "n c h w"]:
        """A module's own tensor as a map, of its patches where it has tokens."""
        return self._find(path).map(raw, "patches")

    def stand_in(self) -> torch.nn.Module:
        """The model with its image tower folded, where the first hooked layer allows it; the same numbers, sooner."""
        return self._tower(2 * _IMAGES_A_BATCH, self._first())

    def _first(self) -> dict[Layer, Token]:
        """The first hooked layer alone."""
        return {layer: token for layer, token in self._hooked.items() if layer.path == self.layer}

    def _tower(self, images: int, tokens: dict[Layer, Token]) -> torch.nn.Module:
        """The model, or its folded image tower where that pays (many images, on a CPU) and no convolution is read."""
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
        """Pixels to the device as bytes, a quarter of the floats' traffic, and normalised there."""
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

    def _listed(self, images: Pictures) -> Sequence[Picture] | np.ndarray:
        """Images as something that has a length; an array of another size than the model's as pictures."""
        if isinstance(images, np.ndarray):
            if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
                raise Refused(f"an array of images is uint8 (n, h, w, 3), got {images.dtype} {images.shape}")
            if images.shape[1:3] != (self.image_size, self.image_size):
                return [Image.fromarray(image) for image in images]
            return images
        return [images] if isinstance(images, str | Path | Image.Image) else list(images)

    def _batches(self, images: Sequence[Picture] | np.ndarray) -> Iterator[UInt8[np.ndarray, "n s s 3"]]:
        """Prepared pixels, a batch at a time: files are opened only when their batch comes."""
        size = _IMAGES_A_BATCH if self.device.type == "cpu" else _TEXTS_A_BATCH
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            yield batch if isinstance(batch, np.ndarray) else np.stack([self.prepare(_open(each)) for each in batch])

    def _find(self, path: str) -> Layer:
        if path not in self._layers:
            near = (
                f" (near: visual.{path})"
                if f"visual.{path}" in self._layers
                else weights.similar_names(path, self._layers)
            )
            raise Refused(f"{self.name} has no layer {path!r} that can be hooked{near}; Clip.layers() lists them")
        return self._layers[path]

    def _choose(self, layer: Layer, token: Token | None = None) -> Token:
        """What to read of a layer's tokens: what was asked for, else what the tower pools."""
        asked = token or self._token
        if asked == "cls" and not layer.cls:
            raise Refused(f"{layer.path} of {self.name} has no CLS token: leave token out, or ask for 'patches'")
        return "cls" if layer.cls and (asked or self.token) == "cls" else "patches"


def _open(picture: Picture) -> Image.Image:
    if isinstance(picture, Image.Image):
        return picture
    try:
        return decoding.decode(Path(picture))
    except decoding.Unreadable as error:
        raise Refused(f"cannot read {picture}: {error}") from error


def _unit(embedding: Float[Tensor, "n d"]) -> Float[np.ndarray, "n d"]:
    return normalize(embedding.float(), dim=-1).cpu().numpy()


def _checked(token: Token | None) -> Token | None:
    if token not in (None, "cls", "patches"):
        raise Refused(f"token is 'cls' or 'patches', not {token!r}")
    return token


def _device(device: str | None) -> torch.device:
    if device in (None, "auto"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        wanted = torch.device(device)
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError) as error:
        raise Refused(
            f"no device {device!r} here: {' '.join(str(error).split())[:120]}; 'auto' takes what there is"
        ) from error
    return wanted


def _triple(value: float | Sequence[float]) -> tuple[float, ...]:
    """Mean or standard deviation of the three colours; a configuration may give one for all."""
    return tuple(value) if isinstance(value, Sequence) else (value,) * 3


def _side(size: int | Sequence[int]) -> int:
    """The side of the square a model reads."""
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise Refused(f"the model reads images of {height} x {width} pixels; only square ones are handled")
    return int(height)
