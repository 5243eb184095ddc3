"""Names of open_clip, each once with random weights: layers, and finite activations of two pictures; or one line.

    python -m tests.bench.test_openclip_names RESULTS.jsonl     # all names that RESULTS lacks

A name is a process of its own, with 10 GB of memory and 300 s; its result is kept at once, so that a run can go on
later. ATLAS_NAMES chooses names by a pattern; as a test, those that build in a few seconds are tried.
"""

import json
import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import open_clip
import pytest

from atlas.errors import Refused
from atlas.model.clip import Clip

SMALL = r"^(RN50|RN101|ViT-[SBM]-(16|32)|ViT-B-16-SigLIP|convnext_tiny|MobileCLIP-S1|ViTamin-S|PE-Core-T|roberta)"
NAMES = [name for name in open_clip.list_models() if re.search(os.environ.get("ATLAS_NAMES", SMALL), name)]
MEMORY, SECONDS = 10 * 2**30, 300


def tried(name):
    """What one name gave: its default layer and shapes, or the line that refuses it. Wrong activations raise."""
    try:
        clip = Clip(name, device="cpu")
    except Refused as refused:
        return {"name": name, "refused": str(refused)}
    side = clip.image_size
    pictures = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
    A = clip.activations(pictures)
    assert A.shape == (2, clip.neurons, *clip.grid())
    assert np.isfinite(A).all()
    assert np.isfinite(clip.encode_images(pictures)).all()
    return {"name": name, "layers": len(clip.layers()), "layer": clip.layer, "shape": list(A.shape)}


@pytest.mark.parametrize("name", NAMES)
def test_name(name):
    print(json.dumps(tried(name)))


def apart(name):
    """The result of one name in a process of its own, with what it took; an end by memory or time is a result too."""
    started = time.monotonic()
    command = [sys.executable, "-m", "tests.bench.test_openclip_names", "--one", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        lines = done.stdout.splitlines()
        found = json.loads(lines[-1]) if done.returncode == 0 and lines else {"name": name}
        if done.returncode:
            found["failed"] = " ".join(done.stderr.strip().splitlines()[-1:])[:300] or f"exit {done.returncode}"
    except subprocess.TimeoutExpired:
        found = {"name": name, "failed": f"not done in {SECONDS} s"}
    return {**found, "seconds": round(time.monotonic() - started, 1)}


def main(results):
    """Try each name that is not yet in the file of results, and add its line."""
    kept = {json.loads(line)["name"] for line in results.read_text().splitlines()} if results.exists() else set()
    pattern = os.environ.get("ATLAS_NAMES", "")
    for name in [each for each in open_clip.list_models() if re.search(pattern, each) and each not in kept]:
        found = apart(name)
        with results.open("a") as file:
            file.write(json.dumps(found) + "\n")
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        print(json.dumps(tried(sys.argv[2])))
    else:
        main(Path(sys.argv[1]))
