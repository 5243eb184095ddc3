"""Forward passes of the embedded CLIP for training, equal to open_clip's and faster."""

import open_clip
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from atlas.model.layers import OpenClip

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


def see(visual: OpenClip, pixels: Tensor, still: int = 0) -> tuple[Tensor, Tensor]:
    """Embeddings (n, d) and mean activations of the last block's neurons (n, neurons), of normalised pixels.

    Equal to open_clip's forward pass, whose attention pool computes all positions and returns the first. The first
    `still` stages, and the stem with them, get no gradient.
    """
    return conclude(visual, begin(visual, pixels, still))


def begin(visual: OpenClip, pixels: Tensor, still: int = 0) -> Tensor:
    """Output of the third stage (n, channels, h, w), of normalised pixels."""
    trained = torch.is_grad_enabled()
    with torch.set_grad_enabled(trained and not still):
        x = visual.stem(pixels)
    for number, stage in enumerate((visual.layer1, visual.layer2, visual.layer3), 1):
        with torch.set_grad_enabled(trained and number > still):
            x = stage(x)
    return x


def conclude(visual: OpenClip, features: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings and mean activations, as `see` returns them, of the third stage's output."""
    pool, tokens = visual.attnpool, visual.layer4(features).flatten(2).mT
    mean = tokens.mean(1, keepdim=True)
    tokens = torch.cat([mean, tokens], 1) + pool.positional_embedding.to(tokens.dtype)
    query, key, value = pool.q_proj(tokens[:, :1]), pool.k_proj(tokens), pool.v_proj(tokens)
    query, key, value = (t.unflatten(-1, (pool.num_heads, -1)).transpose(1, 2) for t in (query, key, value))
    weight = (query @ key.mT * query.shape[-1] ** -0.5).softmax(-1)
    return pool.c_proj((weight @ value).transpose(1, 2).flatten(1)), mean[:, 0]


def train_mode(model: OpenClip, still: int) -> None:
    """Training mode, in which batch norms of the first `still` stages, and of the stem, keep their statistics."""
    model.train()
    visual = model.visual
    stages = (visual.layer1, visual.layer2, visual.layer3)[:still]
    for module in (visual.bn1, visual.bn2, visual.bn3, *stages) if still else ():
        module.eval()


def say(model: OpenClip, tokens: Tensor) -> Tensor:
    """Text embeddings (n, d) of token ids, equal to `encode_text` and faster: positions after the end are left out.

    Many texts are encoded in three groups by length.
    """
    ends = tokens.argmax(1)
    if len(tokens) < MANY:
        return _say(model, tokens, ends)
    order = ends.argsort()
    return torch.cat([_say(model, tokens[group], ends[group]) for group in order.tensor_split(3)])[order.argsort()]


def _say(model: OpenClip, tokens: Tensor, ends: Tensor) -> Tensor:
    length = int(ends.max()) + 1
    x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernel takes twice as long for a dozen tokens on a CPU
        x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    return x[torch.arange(len(x)), ends] @ model.text_projection
