"""W (neurons, dim) of the bilinear form: the change of the image embedding per unit of a neuron's activation.

The activation is meant after the closing ReLU, if there is one, and at every position; the embedding is meant before
normalisation. W is computed in one of three ways, by model family: from the matrices of the attention pool (Goh et al.
2021, "Multimodal Neurons"), as the direct effect through the final layer norm, or as an averaged Jacobian.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from timm.models.vision_transformer import Block
from timm.models.vision_transformer_relpos import RelPosBlock
from torch import Tensor, nn

from atlas.model.layers import (
    Layer,
    Mlp,
    ModifiedResNet,
    OpenClip,
    TimmModel,
    VisionTransformer,
    closing_relu,
    pooled_token,
    step_added,
    tower_embeddings,
)

BasisKind = Literal["exact on homogeneous maps", "direct effect", "averaged Jacobian"]


def basis_kind(model: OpenClip, layer: Layer) -> BasisKind:
    """Which of the three computations `bilinear_basis` uses for this layer."""
    if _feeds_attention_pool(model, layer):
        return "exact on homogeneous maps"
    return "direct effect" if _residual_path(model.visual, layer.path) else "averaged Jacobian"


def bilinear_basis(model: OpenClip, layer: Layer, images: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "u d"]:
    """W (neurons, dim) of a layer, computed from the current weights.

    `images`: preprocessed images over which layer-norm scales or Jacobians are averaged; not used for attention pools.
    """
    if _feeds_attention_pool(model, layer):
        return attention_pool_basis(model.visual.attnpool)
    if path := _residual_path(model.visual, layer.path):
        return direct_effect(model, path, images)
    return averaged_jacobian(model, layer, images)


def attention_pool_basis(pool: OpenClip) -> Float[Tensor, "u d"]:
    """(W_o W_v)^T of an attention pool.

    Exact if all positions hold the same values and the positional embedding is zero: attention then averages equal
    values, whatever its weights, and only W_v and W_o act on them.
    """
    with torch.no_grad():
        return (pool.c_proj.weight @ pool.v_proj.weight).T.float()


def averaged_jacobian(model: OpenClip, layer: Layer, images: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "u d"]:
    """Derivative of the embedding with respect to a step at all positions of the layer, averaged over images."""
    delta = torch.zeros(layer.neurons, device=images.device, requires_grad=True)
    with torch.enable_grad(), step_added(model, layer, delta):
        mean = tower_embeddings(model, images).mean(0)
    columns = [torch.autograd.grad(each, delta, retain_graph=True)[0] for each in mean]
    return torch.stack(columns, dim=1)


@dataclass(frozen=True, slots=True)
class _ResidualPath:
    """The path from an MLP's hidden units to the embedding: residual stream, final layer norm, pooling, projection."""

    write: Float[Tensor, "w u"]  # the vector that each unit adds to the residual stream
    norm: nn.LayerNorm
    project: Float[Tensor, "w d"]
    cls: bool  # CLS pooling; otherwise patches are averaged
    prefix: int  # tokens before the patches


def direct_effect(model: OpenClip, path: _ResidualPath, images: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "u d"]:
    """The direct effect of a unit through the residual stream, with the final layer norm's scale fixed at its mean.

    The mean of 1/sigma is taken over `images`, and over their patches too if the norm comes before average pooling.
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


def _feeds_attention_pool(model: OpenClip, layer: Layer) -> bool:
    """Whether a ModifiedResNet pools this map: its last stage, the last block of that stage, or the closing ReLU."""
    if not isinstance(model.visual, ModifiedResNet):
        return False
    module = model.get_submodule(layer.path)
    return (closing_relu(module) or module) is closing_relu(model.visual.layer4)


def _residual_path(visual: nn.Module, path: str) -> _ResidualPath | None:
    """The path of the last MLP's hidden units to the embedding, if only one layer norm on it is not linear.

    None for other layers, and for towers with attention poolers, gated or normalised projections, or norms after the
    blocks.
    """
    if isinstance(visual, VisionTransformer):
        return _open_clip_path(visual, path)
    return _timm_path(visual, path) if isinstance(visual, TimmModel) else None


def _open_clip_path(visual: VisionTransformer, path: str) -> _ResidualPath | None:
    last = len(visual.transformer.resblocks) - 1
    if path != f"visual.transformer.resblocks.{last}.mlp.gelu" or visual.attn_pool is not None:
        return None
    block: OpenClip = visual.transformer.resblocks[last]
    write = _scaled(block.mlp.c_proj.weight, block.ls_2)
    norm: OpenClip = visual.ln_post
    project = torch.eye(len(write), device=write.device) if visual.proj is None else visual.proj.detach()
    return _ResidualPath(write, norm, project, pooled_token(visual) == "cls", 1)


def _timm_path(visual: TimmModel, path: str) -> _ResidualPath | None:
    trunk: OpenClip = visual.trunk
    block: OpenClip = trunk.blocks[-1] if getattr(trunk, "blocks", None) else None
    if not isinstance(block, (Block, RelPosBlock)) or getattr(trunk, "attn_pool", None) is not None:
        return None
    mlp: OpenClip = block.mlp
    norms: list[OpenClip] = [norm for norm in (trunk.norm, trunk.fc_norm) if not isinstance(norm, nn.Identity)]
    head: list[OpenClip] = [
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
    """An output matrix times the LayerScale after it, if there is one."""
    gamma = getattr(layer_scale, "gamma", None)
    return weight.detach() if gamma is None else gamma.detach()[:, None] * weight.detach()
