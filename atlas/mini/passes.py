"""Forward passes of the embedded CLIP for training, equal to open_clip's and faster."""

from typing import Any

import open_clip
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

MEAN, STD = torch.tensor(open_clip.OPENAI_DATASET_MEAN), torch.tensor(open_clip.OPENAI_DATASET_STD)
BFLOAT16 = (
    torch.backends.cpu.get_cpu_capability() != "AVX2"
)  # where a processor lacks it, bfloat16 takes ten times as long

MANY = 128  # texts


def fast() -> torch.autocast:
    """Forward passes in bfloat16, where the processor has it."""
    return torch.autocast("cpu", torch.bfloat16, enabled=BFLOAT16)


def normalise(pixels: Tensor) -> Tensor:
    """uint8 (n, h, w, 3) -> float32 (n, 3, h, w) with open_clip's mean and spread."""
    return ((pixels.float() / 255 - MEAN) / STD).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def see(visual: Any, pixels: Tensor, frozen: bool = False) -> tuple[Tensor, Tensor]:
    """Embeddings (n, d) and mean activations of the last block's neurons (n, neurons), of normalised pixels.

    Equal to open_clip's forward pass, whose attention pool computes all positions and returns the first. If `frozen`,
    the stem and the first stage get no gradient.
    """
    with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
        x = visual.layer1(visual.stem(pixels))
    tokens = visual.layer4(visual.layer3(visual.layer2(x))).flatten(2).mT
    pool, mean = visual.attnpool, tokens.mean(1, keepdim=True)
    tokens = torch.cat([mean, tokens], 1) + pool.positional_embedding.to(tokens.dtype)
    query, key, value = pool.q_proj(tokens[:, :1]), pool.k_proj(tokens), pool.v_proj(tokens)
    query, key, value = (t.unflatten(-1, (pool.num_heads, -1)).transpose(1, 2) for t in (query, key, value))
    weight = (query @ key.mT * query.shape[-1] ** -0.5).softmax(-1)
    return pool.c_proj((weight @ value).transpose(1, 2).flatten(1)), mean[:, 0]


def train_mode(model: Any, frozen: bool) -> None:
    """Training mode; if `frozen`, batch norms of the stem and the first stage keep their statistics."""
    model.train()
    if frozen:
        visual = model.visual
        for module in (visual.bn1, visual.bn2, visual.bn3, visual.layer1):
            module.eval()


def say(model: Any, tokens: Tensor) -> Tensor:
    """Text embeddings (n, d) of token ids, equal to `encode_text` and faster: positions after the end are left out.

    Many texts are encoded in three groups by length.
    """
    ends = tokens.argmax(1)
    if len(tokens) < MANY:
        return _say(model, tokens, ends)
    order = ends.argsort()
    return torch.cat([_say(model, tokens[group], ends[group]) for group in order.tensor_split(3)])[order.argsort()]


def _say(model: Any, tokens: Tensor, ends: Tensor) -> Tensor:
    length = int(ends.max()) + 1
    x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernel takes twice as long for a dozen tokens on a CPU
        x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    return x[torch.arange(len(x)), ends] @ model.text_projection
