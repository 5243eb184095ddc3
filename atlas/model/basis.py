"""W of the bilinear form: what one unit of a neuron adds to the image embedding before it is normalised.

The unit stands after the layer's ReLU, if one closes it, and at every position. Three ways, by family:
the attention pool's own matrices (Goh et al. 2021, "Multimodal Neurons"), the direct effect through the final layer
norm, and for everything else the Jacobian averaged over images.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from timm.layers.mlp import Mlp
from timm.models.vision_transformer import Block
from timm.models.vision_transformer_relpos import RelPosBlock
from torch import Tensor, nn

from atlas.model.layers import Layer, closing_relu, pooled_token, step_added, tower_embeddings

BasisKind = Literal["exact on homogeneous maps", "direct effect", "averaged Jacobian"]


def basis_kind(model: Any, layer: Layer) -> BasisKind:
    """Which of the three ways `bilinear` takes for this layer."""
    if _feeds_attention_pool(model, layer):
        return "exact on homogeneous maps"
    return "direct effect" if _residual_path(model.visual, layer.path) else "averaged Jacobian"


def bilinear_basis(model: Any, layer: Layer, images: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "u d"]:
    """W (neurons, dim) of a layer, from the current weights.

    `images`, preprocessed, are those whose layer-norm scales or Jacobians are averaged; an attention pool needs none.
    """
    if _feeds_attention_pool(model, layer):
        return attention_pool_basis(model.visual.attnpool)
    if path := _residual_path(model.visual, layer.path):
        return direct_effect(model, path, images)
    return averaged_jacobian(model, layer, images)


def attention_pool_basis(pool: Any) -> Float[Tensor, "u d"]:
    """(W_o W_v)^T. Exact where all positions hold the same values and the positional embedding is zero: whatever the
    attention's weights are, they then average equal values, and the values pass through W_v and W_o alone.
    """
    with torch.no_grad():
        return (pool.c_proj.weight @ pool.v_proj.weight).T.float()


def averaged_jacobian(model: Any, layer: Layer, images: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "u d"]:
    """Derivative of the embedding by a step taken at every position of the layer at once, averaged over images."""
    delta = torch.zeros(layer.neurons, device=images.device, requires_grad=True)
    with torch.enable_grad(), step_added(model, layer, delta):
        mean = tower_embeddings(model, images).mean(0)
    columns = [torch.autograd.grad(each, delta, retain_graph=True)[0] for each in mean]
    return torch.stack(columns, dim=1)


@dataclass(frozen=True, slots=True)
class _ResidualPath:
    """The way of an MLP's hidden units to the embedding: residual stream, final layer norm, pooling, projection."""

    write: Float[Tensor, "w u"]  # what each unit writes into the residual stream
    norm: nn.LayerNorm
    project: Float[Tensor, "w d"]
    cls: bool  # CLS pooling; else the patches' average
    prefix: int  # tokens before the patches


def direct_effect(model: Any, path: _ResidualPath, images: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "u d"]:
    """What a unit adds through the residual stream, with the final layer norm's scale held at its mean 1/sigma.

    The mean is over `images`, and over their patches where the norm comes before an average over these.
    """
    seen: list[Tensor] = []
    hook = path.norm.register_forward_pre_hook(lambda _, args: seen.append(args[0].float()))
    try:
        with torch.no_grad():
            tower_embeddings(model, images)
    finally:
        hook.remove()
    tokens = seen[0]
    if tokens.ndim == 3:
        tokens = tokens[:, :1] if path.cls else tokens[:, path.prefix :]
    scale = (tokens.var(-1, unbiased=False) + path.norm.eps).rsqrt().mean()
    with torch.no_grad():
        centred = path.write - path.write.mean(0)
        return (centred * path.norm.weight[:, None] * scale).T.float() @ path.project.float()


def _feeds_attention_pool(model: Any, layer: Layer) -> bool:
    """Is this the map a ModifiedResNet pools: its last stage, that stage's last block, or the ReLU that closes it?"""
    if not isinstance(model.visual, ModifiedResNet):
        return False
    module = model.get_submodule(layer.path)
    return (closing_relu(module) or module) is closing_relu(model.visual.layer4)


def _residual_path(visual: Any, path: str) -> _ResidualPath | None:
    """The way to the embedding of the last MLP's hidden units; None for other layers, and for towers whose way is not
    linear but for one layer norm (attention poolers, gated or normalised projections, blocks that norm afterwards).
    """
    if isinstance(visual, VisionTransformer):
        return _open_clip_path(visual, path)
    return _timm_path(visual, path) if isinstance(visual, TimmModel) else None


def _open_clip_path(visual: VisionTransformer, path: str) -> _ResidualPath | None:
    last = len(visual.transformer.resblocks) - 1
    if path != f"visual.transformer.resblocks.{last}.mlp.gelu" or visual.attn_pool is not None:
        return None
    block: Any = visual.transformer.resblocks[last]
    write = _scaled(block.mlp.c_proj.weight, block.ls_2)
    norm: Any = visual.ln_post
    project = torch.eye(len(write), device=write.device) if visual.proj is None else visual.proj.detach()
    return _ResidualPath(write, norm, project, pooled_token(visual) == "cls", 1)


def _timm_path(visual: TimmModel, path: str) -> _ResidualPath | None:
    trunk: Any = visual.trunk
    block: Any = trunk.blocks[-1] if getattr(trunk, "blocks", None) else None
    if not isinstance(block, (Block, RelPosBlock)) or getattr(trunk, "attn_pool", None) is not None:
        return None
    mlp: Any = block.mlp
    norms: list[Any] = [norm for norm in (trunk.norm, trunk.fc_norm) if not isinstance(norm, nn.Identity)]
    head: list[Any] = [
        module for module in (trunk.head, *visual.head.children()) if not isinstance(module, nn.Identity | nn.Dropout)
    ]
    plain = (
        path == f"visual.trunk.blocks.{len(trunk.blocks) - 1}.mlp.act"
        and isinstance(mlp, Mlp)
        and isinstance(mlp.norm, nn.Identity)
        and trunk.global_pool in ("token", "avg")
        and not getattr(trunk, "pool_include_prefix", False)
        and len(norms) == 1
        and isinstance(norms[0], nn.LayerNorm)
        and all(isinstance(module, nn.Linear) for module in head)
    )
    if not plain:
        return None
    write = _scaled(mlp.fc2.weight, block.ls2)
    project = torch.eye(len(write), device=write.device)
    for linear in head:
        project = project @ linear.weight.detach().T
    return _ResidualPath(write, norms[0], project, trunk.global_pool == "token", trunk.num_prefix_tokens)


def _scaled(weight: Float[Tensor, "w u"], layer_scale: nn.Module) -> Float[Tensor, "w u"]:
    """An output matrix times the LayerScale that follows it, if one does."""
    gamma = getattr(layer_scale, "gamma", None)
    return weight.detach() if gamma is None else gamma.detach()[:, None] * weight.detach()
