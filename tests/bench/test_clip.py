"""How fast images are embedded, beside what the processor can do: `pytest tests/bench/test_clip.py -s`."""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from atlas.model.clip import Clip
from atlas.model.layers import tower_embeddings

ROUNDS = 9


def test_embedding_runs_at_the_speed_of_a_matrix_product_and_beats_the_unfolded_tower() -> None:
    """Folded and unfolded side by side in every round: a shared processor drifts by a half within a minute."""
    clip, square = Clip("mini", device="cpu"), torch.randn(2048, 2048)
    pixels = np.random.default_rng(0).integers(0, 256, (512, 96, 96, 3), np.uint8)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        tower_embeddings(clip.model, clip._normalised(pixels[:1]))

    def unfolded() -> None:
        with torch.no_grad():
            for start in range(0, len(pixels), 32):
                tower_embeddings(clip.model, clip._normalised(pixels[start : start + 32]))

    operations = len(pixels) * counter.get_total_flops()
    pairs = [
        (operations / seconds(lambda: clip.encode_images(pixels)), operations / seconds(unfolded))
        for _ in range(ROUNDS)
    ]
    ours, plain = np.median(pairs[1:], axis=0)
    product = np.median([2 * 2048**3 / seconds(lambda: square @ square) for _ in range(40)])
    print(
        f"\n{len(pixels) * ours / operations:.0f} images/s: {ours / 1e9:.0f} GFLOP/s, "
        f"{ours / product:.2f} of a matrix product's, {ours / plain:.2f} times the unfolded tower's"
    )
    assert ours > 0.35 * product
    assert ours > 1.05 * plain


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
