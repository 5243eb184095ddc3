"""What 10,000 pictures cost that need no caption, table or shard: against a bare loop, and an older version.

    pytest tests/bench/test_listing_cost.py -s
    ATLAS_BEFORE=FOLDER pytest tests/bench/test_listing_cost.py -s     # beside a checkout of an older version

Processor time, the least of five runs in processes of their own, one after the other by turns.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

HERE, COUNT, RUNS = Path(__file__).parents[2], 10_000, 5
ATLAS = """
import sys, time
from atlas.sources.spec import join
began = time.process_time()
source = join([sys.argv[1]])
items = [entry for entry in getattr(source, "entries", source.__iter__)() if hasattr(entry, "load")]
for item in items:
    item.load()
print(time.process_time() - began, len(items))
"""
BARE = """
import os, sys, time
from PIL import Image
began, count = time.process_time(), 0
for folder, folders, files in os.walk(sys.argv[1]):
    folders.sort()
    for name in sorted(files):
        path = os.path.join(folder, name)
        os.stat(path)
        with Image.open(path) as image:
            image.convert("RGB")
        count += 1
print(time.process_time() - began, count)
"""
COLLECT = """
import sys, tempfile, time
import atlas, torch
torch.set_num_threads(1)
clip = atlas.Clip("mini", device="cpu")
with tempfile.TemporaryDirectory() as out:
    began = time.process_time()
    store = atlas.collect([sys.argv[1]], clip, out + "/store")
    print(time.process_time() - began, len(store))
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEGs of 128 px in 50 folders."""
    home = tmp_path_factory.mktemp("photos")
    rough = np.random.default_rng(0).integers(0, 256, (COUNT, 12, 12, 3), np.uint8)
    for i, pixels in enumerate(rough):
        (folder := home / f"class{i % 50:02d}").mkdir(exist_ok=True)
        picture = Image.fromarray(pixels).resize((128, 128), Image.Resampling.BICUBIC)
        picture.save(folder / f"{i:05d}.jpg", quality=90)
    return home


def seconds(code: str, photos: Path, tree: Path = HERE) -> float:
    """Processor seconds of a script that reads all pictures with the packages of a tree."""
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, str(photos)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tree, env=environment)
    spent, count = done.stdout.split()[-2:]
    assert int(count) == COUNT
    return float(spent)


def test_a_folder_is_read_nearly_as_fast_as_by_a_bare_loop(photos: Path) -> None:
    pairs = [(seconds(ATLAS, photos), seconds(BARE, photos)) for _ in range(RUNS)]
    ours, bare = map(min, zip(*pairs, strict=True))
    print(f"\nlist and decode {COUNT:,} pictures: {ours:.2f} s, a bare loop {bare:.2f} s: {ours / bare:.2f}")
    assert ours < 2 * bare


@pytest.mark.skipif("ATLAS_BEFORE" not in os.environ, reason="ATLAS_BEFORE: the folder of an older version")
@pytest.mark.parametrize("code", [ATLAS, COLLECT], ids=["list and decode", "collect"])
def test_a_folder_costs_what_it_cost_before(photos: Path, code: str) -> None:
    before = Path(os.environ["ATLAS_BEFORE"])
    pairs = [(seconds(code, photos), seconds(code, photos, before)) for _ in range(RUNS)]
    now, then = map(min, zip(*pairs, strict=True))
    print(f"\n{COUNT:,} pictures: {now:.2f} s, before {then:.2f} s: {now / then:.3f}")
    assert now < (1.03 if code is COLLECT else 1.1) * then  # a run costs 3 % more at most
