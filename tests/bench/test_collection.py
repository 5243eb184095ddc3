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
from atlas.analysis import derivation
from atlas.sources.items import Item

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


class Bare:
    """Runs the bare model over a float batch that is ready, beside every batch that `collect` reads, and times it.

    A shared machine drifts by a half within a minute: side by side, both drift alike.
    """

    def __init__(self, clip: atlas.Clip, batch: int = 64):
        side = clip.image_size
        self.clip, self.collected, self.seconds = clip, clip.read, 0.0
        self.ready = torch.randn(batch, 3, side, side).contiguous(memory_format=torch.channels_last)

    def read(self, pixels: np.ndarray) -> object:
        began = time.perf_counter()
        with torch.no_grad():
            self.clip.model.encode_image(self.ready[: len(pixels)])
        self.seconds += time.perf_counter() - began
        return self.collected(pixels)


@pytest.mark.parametrize(
    ("name", "count", "side", "share"), [("RN50", 384, 300, 0.9), ("mini", 4096, 72, 0.6)], ids=["RN50", "mini"]
)
def test_collect_keeps_up_with_the_bare_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, count: int, side: int, share: float
) -> None:
    clip, folder = atlas.Clip(name, device="cpu"), photos(tmp_path / "photos", count, side)
    bare = Bare(clip)
    clip.read(np.zeros((64, clip.image_size, clip.image_size, 3), np.uint8))  # both warm
    monkeypatch.setattr(clip, "read", bare.read)
    began = time.perf_counter()
    atlas.collect(str(folder), clip, tmp_path / "store")
    seconds = time.perf_counter() - began - bare.seconds
    print(f"\n{name}: {count / seconds:.1f}/s, bare {count / bare.seconds:.1f}/s, ratio {bare.seconds / seconds:.2f}")
    assert bare.seconds >= share * seconds


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
