"""Names of open_clip, each once with random weights: layers, and finite activations of two pictures; or one line.

    python -m tests.bench.test_openclip_names RESULTS.jsonl            # all names that RESULTS lacks
    python -m tests.bench.test_openclip_names RESULTS.jsonl --table    # RESULTS as the table that the package reads

A name is a process of its own, with 10 GB of memory and 600 s; its result is kept at once, so that a run can go on
later. Names that need more memory, by the number of their parameters, are not run; small ones come first, and those for
which the memory is not free now are left to a later run. ATLAS_NAMES chooses names by a
pattern; as a test, those that build in a few seconds are tried, and the table must say the same of them.
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
from atlas.model.names import TABLE, name_results
from atlas.model.weights import parameter_count
from atlas.sources.decoding import free_memory

SMALL = r"^(RN50|RN101|ViT-[SBM]-(16|32)|ViT-B-16-SigLIP|convnext_tiny|MobileCLIP-S1|ViTamin-S|PE-Core-T|roberta)"
NAMES = [name for name in open_clip.list_models() if re.search(os.environ.get("ATLAS_NAMES", SMALL), name)]
MEMORY, SECONDS = 10 * 10**9, 600
BESIDE = 10**9  # bytes for the libraries and the activations of two pictures


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
    print(json.dumps(found := tried(name)))
    said = next(row for row in name_results() if row["name"] == name)
    assert ("layers" in found) == (said["result"] == "works")


def size_of(name):
    """Bytes that a name needs, by the number of its parameters; 0 where its text tower cannot be made to count them."""
    try:
        return 4 * parameter_count(name) + BESIDE
    except (OSError, RuntimeError):
        return 0


def room_for(size, minutes=5):
    """Whether so much memory becomes free within some minutes, and as much again as others need to go on."""
    until = time.monotonic() + 60 * minutes
    while free_memory() < size + BESIDE:
        if time.monotonic() > until:
            return False
        time.sleep(5)
    return True


def apart(name):
    """The result of one name in a process of its own, with what it took; an end by memory or time is a result too."""
    if (size := size_of(name)) > MEMORY:
        return {"name": name, "memory": size}
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
    names = [each for each in open_clip.list_models() if re.search(pattern, each) and each not in kept]
    for name in sorted(names, key=size_of):
        if size_of(name) < MEMORY and not room_for(size_of(name)):
            print(f"{name}: the memory is not free now", flush=True)
            continue
        found = apart(name)
        with results.open("a") as file:
            file.write(json.dumps(found) + "\n")
        print(json.dumps(found), flush=True)


def result_of(found):
    """A line of the results as a row of the table: parameters, and the default layer or what the name lacks."""
    name, size = found["name"], size_of(found["name"])
    row = {"name": name, "result": "works"} | ({"parameters": (size - BESIDE) // 4} if size else {})
    if "layers" in found:
        return row | {"layers": found["layers"], "layer": found["layer"], "shape": found["shape"][1:]}
    if size > MEMORY:
        return row | {"result": "memory", "lacks": f"{size / 1e9:.0f} GB"}
    if "text tower" in found.get("refused", ""):
        return row | {"result": "text tower", "lacks": open_clip.get_model_config(name)["text_cfg"]["hf_model_name"]}
    return row | {"result": "refused", "lacks": found.get("refused") or found["failed"]}


def write_table(results):
    """Write the table of the package from a file of results."""
    found = {each["name"]: each for each in map(json.loads, results.read_text().splitlines())}
    rows = [json.dumps(result_of(found[name])) for name in open_clip.list_models() if name in found]
    head = f'"open_clip": "{open_clip.__version__}", "gigabytes": {MEMORY // 10**9}'
    TABLE.write_text(f'{{{head}, "names": [\n' + ",\n".join(rows) + "\n]}\n")


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        print(json.dumps(tried(sys.argv[2])))
    elif sys.argv[2:] == ["--table"]:
        write_table(Path(sys.argv[1]))
    else:
        main(Path(sys.argv[1]))
