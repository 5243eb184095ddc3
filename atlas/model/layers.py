"""Layers of an image tower: which modules can be hooked, and how their tensors become maps (images, neurons, h, w).

The map of a ResNet stage or block is its sum before the closing ReLU; the map of any other module is its output.
Layers are found by one forward pass of blank images: the shape of a module's output tells the order of its axes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from timm.layers.mlp import Mlp
from torch import Tensor, nn

Token = Literal["cls", "patches"]
OpenClip = Any  # an open_clip model, its tower, or a module of it: they share no base class that declares their members
_Args = tuple[object, ...]  # positional arguments of a module's forward, as hooks receive them
_PROBE = 2  # blank images in the survey: no other axis of a tower has length 2, so this length marks the batch axis


@dataclass(frozen=True, slots=True)
class Layer:
    """A module that can be hooked, and how its tensor is read as a map."""

    path: str  # as in model.get_submodule(path)
    neurons: int
    height: int  # of the map; for token layers, of the grid of patches
    width: int
    rectified: bool  # the model applies a ReLU directly to this map (ResNet blocks and stages)
    axes: Literal["NC", "NCHW", "NHWC", "NLD", "LND"]
    prefix: int = 0  # tokens before the patches
    cls: bool = False  # the first of them is a CLS token

    def map(self, raw: Float[Tensor, "..."], token: Token = "patches") -> Float[Tensor, "n u h w"]:
        """The module's tensor as a map (a view); token="cls" gives the CLS token alone, as a map of one position."""
        if self.axes == "NC":
            return raw[:, :, None, None]
        if self.axes == "NCHW":
            return raw
        if self.axes == "NHWC":
            return raw.permute(0, 3, 1, 2)
        tokens = raw.transpose(0, 1) if self.axes == "LND" else raw
        if token == "cls":
            return tokens[:, 0, :, None, None]
        return tokens[:, self.prefix :].transpose(1, 2).unflatten(2, (self.height, self.width))

    def grid(self, token: Token = "patches") -> tuple[int, int]:
        """Height and width of the map."""
        return (1, 1) if token == "cls" else (self.height, self.width)


def survey_layers(visual: nn.Module, image_size: int) -> dict[str, Layer]:
    """All modules of the tower that can be hooked: {path: layer}, in the order in which the tower runs them.

    Modules that do not run exactly once are left out, and so are those whose output is no map, token sequence or
    vector per image. Paths begin with "visual", as in "visual.layer4".
    """
    shapes: dict[str, list[tuple[int, ...]]] = {}

    def note(path: str, module: nn.Module, args: _Args, output: object) -> None:
        tensor = _tensor(output)
        shapes.setdefault(path, []).append(tuple(tensor.shape) if isinstance(tensor, Tensor) else ())

    modules = dict(visual.named_modules(prefix="visual"))
    where = next(visual.parameters())
    with ExitStack() as hooks, torch.no_grad():
        for path, module in modules.items():
            hooks.enter_context(_hook(module.register_forward_hook(partial(note, path))))
        visual(torch.zeros(_PROBE, 3, image_size, image_size, device=where.device, dtype=where.dtype))
    tokens = _token_layout(visual)
    found = (_layer(path, modules[path], calls[0], tokens) for path, calls in shapes.items() if len(calls) == 1)
    return {layer.path: layer for layer in found if layer}


def default_layer(visual: nn.Module, layers: Mapping[str, Layer]) -> str:
    """Path of the default layer: a ResNet's last stage, the hidden units of a ViT's last MLP, else the last stage."""
    candidates = []
    if isinstance(visual, ModifiedResNet):
        candidates = ["visual.layer4"]
    elif isinstance(visual, VisionTransformer):
        candidates = [f"visual.transformer.resblocks.{len(visual.transformer.resblocks) - 1}.mlp.gelu"]
    elif isinstance(visual, TimmModel):
        trunk: OpenClip = visual.trunk
        blocks = getattr(trunk, "blocks", [])
        if len(blocks) and (mlp := getattr(blocks[-1], "mlp", None)):
            # A gated MLP multiplies after its activation; its fc2 then reads the output of `norm`.
            hidden = "act" if isinstance(mlp, Mlp) else "norm"
            candidates.append(f"visual.trunk.blocks.{len(blocks) - 1}.mlp.{hidden}")
        candidates += [f"visual.trunk.{stage['module']}" for stage in list(getattr(trunk, "feature_info", []))[-1:]]
    maps = [path for path, layer in layers.items() if layer.height > 1]
    return next(path for path in (*candidates, *maps[::-1], "visual") if path in layers)


def pooled_token(visual: nn.Module) -> Token | None:
    """The tokens that the tower pools, "cls" or "patches"; None for a tower without tokens."""
    if _token_layout(visual) is None:
        return None
    if isinstance(visual, VisionTransformer):
        return "cls" if visual.attn_pool is None and visual.pool_type == "tok" else "patches"
    return "cls" if getattr(visual.trunk, "global_pool", "") == "token" else "patches"


def closing_relu(module: nn.Module) -> nn.ReLU | None:
    """The ReLU that ends a residual block or the last block of a stage; None for any other module."""
    if isinstance(module, nn.Sequential) and len(module):
        return closing_relu(module[-1])
    if not hasattr(module, "downsample"):  # open_clip's and timm's blocks all have it
        return None
    act = getattr(module, "act3", None) or getattr(module, "act2", None)
    return act if isinstance(act, nn.ReLU) else None


def tower_embeddings(model: OpenClip, images: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "m d"]:
    """Image embeddings before normalisation; m is n unless `layer_replaced` makes several variants of one image."""
    return _tensor(model.visual(images))


@contextmanager
def record_maps(model: nn.Module, tokens: Mapping[Layer, Token]) -> Iterator[dict[str, Float[Tensor, "n _ _ _"]]]:
    """Context that records the maps of layers during a forward pass: {path: float32 (n, u, h, w)}.

    Each map is a copy, taken before an in-place operation can overwrite it; gradients flow through it. The hooks are
    removed at the end.
    """
    maps: dict[str, Tensor] = {}

    def keep(layer: Layer, module: nn.Module, args: _Args, output: object = None) -> None:
        value = args if output is None else output  # a pre-hook receives no output
        maps[layer.path] = layer.map(_tensor(value), tokens[layer]).to(torch.float32, copy=True)

    with ExitStack() as hooks:
        for layer in tokens:
            module = model.get_submodule(layer.path)
            if relu := closing_relu(module):
                handle = relu.register_forward_pre_hook(partial(keep, layer))
            else:
                handle = module.register_forward_hook(partial(keep, layer))
            hooks.enter_context(_hook(handle))
        yield maps


@contextmanager
def step_added(model: nn.Module, layer: Layer, delta: Float[Tensor, " u"]) -> Iterator[None]:
    """Context in which `delta` is added at every position of a layer, after the closing ReLU if there is one."""
    step = delta[:, None, None] if layer.axes == "NCHW" else delta

    def push(_: nn.Module, args: _Args, output: OpenClip) -> object:
        return (output[0] + step, *output[1:]) if isinstance(output, tuple) else output + step

    with _hook(model.get_submodule(layer.path).register_forward_hook(push)):
        yield


@contextmanager
def layer_replaced(
    model: nn.Module,
    layer: Layer,
    change: Callable[[Float[Tensor, "n u h w"]], Float[Tensor, "m u h w"]],
    token: Token = "patches",
) -> Iterator[None]:
    """Context in which a layer's map is replaced by `change(map)`, after the closing ReLU if there is one.

    With a batch of one image, `change` may return m variants of the map: the rest of the tower then runs once for all
    of them, and the residual stream that bypasses the layer is broadcast. Other tokens keep their values.
    """

    def put(_: nn.Module, args: _Args, output: object) -> object:
        raw = _tensor(output)
        after = change(layer.map(raw, token))
        shape = list(raw.shape)
        shape[layer.axes.index("N")] = len(after)
        value = raw.expand(shape).clone()
        layer.map(value, token).copy_(after)
        return (value, *output[1:]) if isinstance(output, tuple) else value

    with _hook(model.get_submodule(layer.path).register_forward_hook(put)):
        yield


@contextmanager
def _hook(handle: torch.utils.hooks.RemovableHandle) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def _tensor(value: object) -> OpenClip:
    """The output tensor of a module: attention modules and CoCa's tower return it as the first entry of a tuple."""
    return value[0] if isinstance(value, Sequence) and len(value) else value


class _Tokens(NamedTuple):
    """How a tower lays out its token sequences."""

    height: int  # in patches
    width: int
    prefix: int  # tokens before the patches
    cls: bool  # the first of them is a CLS token

    def of(self, length: int) -> "_Tokens":
        """The layout of a sequence of this length; a length that does not fit the patches becomes a grid of one row."""
        if length == self.height * self.width + self.prefix:
            return self
        if length == self.height * self.width:
            return _Tokens(self.height, self.width, 0, False)
        return _Tokens(1, length, 0, False)


def _token_layout(visual: nn.Module) -> _Tokens | None:
    """The token layout of a tower; None if it has no tokens."""
    if isinstance(visual, VisionTransformer):
        return _Tokens(*visual.grid_size, prefix=1, cls=True)
    trunk: OpenClip = getattr(visual, "trunk", None)
    size = getattr(getattr(trunk, "patch_embed", None), "grid_size", None)
    if size is None or not hasattr(trunk, "num_prefix_tokens"):
        return None
    return _Tokens(*size, prefix=trunk.num_prefix_tokens, cls=getattr(trunk, "cls_token", None) is not None)


def _layer(path: str, module: nn.Module, shape: tuple[int, ...], tokens: _Tokens | None) -> Layer | None:
    """The layer of a module whose output for the probe has this shape; None if it is no map, token or vector."""
    rectified = closing_relu(module) is not None
    match shape:
        case (n, u) if n == _PROBE:
            return Layer(path, u, 1, 1, rectified, "NC")
        case (n, u, height, width) if n == _PROBE and height == width:
            return Layer(path, u, height, width, rectified, "NCHW")
        case (n, height, width, u) if n == _PROBE and height == width:
            return Layer(path, u, height, width, rectified, "NHWC")
        case (n, length, u) if n == _PROBE and tokens:
            return Layer(path, u, *tokens.of(length)[:2], rectified, "NLD", *tokens.of(length)[2:])
        case (length, n, u) if n == _PROBE and tokens:
            return Layer(path, u, *tokens.of(length)[:2], rectified, "LND", *tokens.of(length)[2:])
    return None
