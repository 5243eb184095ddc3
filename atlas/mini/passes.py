"""Forward passes of the embedded CLIP for training: what open_clip computes, and no more than that."""

from typing import Any

import open_clip
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

MEAN, STD = torch.tensor(open_clip.OPENAI_DATASET_MEAN), torch.tensor(open_clip.OPENAI_DATASET_STD)
BFLOAT16 = torch.backends.cpu.get_cpu_capability() != "AVX2"  # where a processor lacks it, it takes ten times as long


def fast() -> torch.autocast:
    """Forward passes in bfloat16, where the processor has it."""
    return torch.autocast("cpu", torch.bfloat16, enabled=BFLOAT16)


def normalise(pixels: Tensor) -> Tensor:
    """uint8 (n, h, w, 3) -> float32 (n, 3, h, w) with open_clip's mean and spread."""
    return ((pixels.float() / 255 - MEAN) / STD).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def see(visual: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """(embedding (n, d), mean activation of each neuron of the last block (n, neurons)) of normalised pixels.

    The same as open_clip's forward pass, whose attention pool computes all positions and returns the first.
    """
    return conclude(visual, begin(visual, pixels))


def begin(visual: Any, pixels: Tensor) -> Tensor:
    """What the third stage makes of normalised pixels: (n, channels, h, w)."""
    x = visual.stem(pixels)
    for stage in (visual.layer1, visual.layer2, visual.layer3):
        x = stage(x)
    return x


def conclude(visual: Any, features: Tensor) -> tuple[Tensor, Tensor]:
    """Embedding and mean activations, as `see` gives them, of the third stage's features."""
    pool, tokens = visual.attnpool, visual.layer4(features).flatten(2).mT
    mean = tokens.mean(1, keepdim=True)
    tokens = torch.cat([mean, tokens], 1) + pool.positional_embedding.to(tokens.dtype)
    query, key, value = pool.q_proj(tokens[:, :1]), pool.k_proj(tokens), pool.v_proj(tokens)
    query, key, value = (t.unflatten(-1, (pool.num_heads, -1)).transpose(1, 2) for t in (query, key, value))
    weight = (query @ key.mT * query.shape[-1] ** -0.5).softmax(-1)
    return pool.c_proj((weight @ value).transpose(1, 2).flatten(1)), mean[:, 0]


def written(visual: Any) -> Tensor:
    """Basis rows (neurons, d): what the last block's neurons write into the embedding, at even attention."""
    return (visual.attnpool.c_proj.weight @ visual.attnpool.v_proj.weight).T


def say(model: Any, tokens: Tensor) -> Tensor:
    """Text embeddings (n, d) of token ids, as `encode_text` gives them, without computing what follows the last end."""
    length = int(tokens.argmax(1).max()) + 1
    x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernel takes twice as long for a dozen tokens on a CPU
        x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    return x[torch.arange(len(x)), tokens.argmax(1)] @ model.text_projection
