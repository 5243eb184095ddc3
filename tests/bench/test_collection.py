"""`collect` against a bare loop of the same model, and its memory against the number of rows.

pytest tests/bench/test_collection.py -s
"""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import atlas

MEMORY = """
import resource, sys
from functools import partial
import numpy as np
from PIL import Image
import atlas
from atlas import derivation
from atlas.items import Item

def noise(i):
    return Image.fromarray(np.random.default_rng(i).integers(0, 256, (16, 16, 3), np.uint8))

class Synthetic:
    name = "synthetic"
    def __iter__(self):
        for i in range(int(sys.argv[1])):
            yield Item(f"synthetic/{i}", "image", "synthetic", str(i), str(i), "noise", 0, 0, partial(noise, i))

store = atlas.collect(Synthetic(), atlas.Clip("mini"), sys.argv[2])
collected = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
derivation.summarise_neurons(store)
print(collected, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def photos(folder: Path, count: int, side: int) -> Path:
    """JPEGs of smooth noise: about as many bytes a pixel as photographs have."""
    folder.mkdir()
    for i in range(count):
        rough = np.random.default_rng(i).integers(0, 256, (side // 6, side // 6, 3), np.uint8)
        Image.fromarray(rough).resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{i}.jpg", quality=90)
    return folder


def bare_rate(clip: atlas.Clip, count: int, batch: int) -> float:
    """Images a second of the model alone, over float batches that are ready."""
    side = clip.image_size
    ready = torch.randn(batch, 3, side, side).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        clip.model.encode_image(ready)
        began = time.perf_counter()
        for _ in range(count // batch):
            clip.model.encode_image(ready)
    return count / (time.perf_counter() - began)


@pytest.mark.parametrize(
    ("name", "count", "side", "share"), [("RN50", 640, 300, 0.9), ("mini", 4096, 72, 0.6)], ids=["RN50", "mini"]
)
def test_collect_keeps_up_with_the_bare_model(tmp_path: Path, name: str, count: int, side: int, share: float) -> None:
    clip, folder = atlas.Clip(name, device="cpu"), photos(tmp_path / "photos", count, side)
    before = bare_rate(clip, count // 4, 64)
    began = time.perf_counter()
    atlas.collect(str(folder), clip, tmp_path / "store")
    rate = count / (time.perf_counter() - began)
    bare = (before + bare_rate(clip, count // 4, 64)) / 2  # a shared machine drifts: once before, once after
    print(f"\n{name}: collect {rate:.1f}/s, bare {bare:.1f}/s, ratio {rate / bare:.2f}")
    assert rate >= share * bare


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    peaks = []
    for count in (10_000, 100_000):
        out = str(tmp_path / str(count))
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(count), out], check=True, stdout=subprocess.PIPE, text=True
        )
        peaks.append([int(kib) / 1024 for kib in done.stdout.split()])
    (small, small_stats), (large, large_stats) = peaks
    print(
        f"\npeak MB, 10,000 | 100,000 rows: {small:.0f} | {large:.0f}, with stats {small_stats:.0f} | {large_stats:.0f}"
    )
    assert large <= 1.15 * small
    assert large_stats <= 1.15 * small_stats
