"""Memory and speed of the index: `pytest tests/bench/test_index.py` (not in the default run)."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from atlas.analysis.index import Index
from tests.fakes import clustered, nearest

# Prints the peak of resident memory above start, in bytes. Not ru_maxrss: that is inherited from the parent.
MEASURE = """
import re, sys
import numpy as np
from atlas.analysis.index import Index
vectors = np.load(sys.argv[1], mmap_mode="r")
Index.build(vectors[:300], kind=sys.argv[2])  # libraries and thread pools are up: what follows is the index's own
status = lambda field: 1024 * int(re.search(field + r":\\s+(\\d+)", open("/proc/self/status").read())[1])
start = status("VmRSS")
index = Index.build(vectors, kind=sys.argv[2])
index.save(sys.argv[3])
print(status("VmHWM") - start)
"""


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_build_needs_at_most_1_3_times_the_index(kind, tmp_path):
    np.save(tmp_path / "vectors.npy", clustered(200_000, 256).astype(np.float16))
    asked = [sys.executable, "-c", MEASURE, tmp_path / "vectors.npy", kind, tmp_path / "index"]
    done = subprocess.run(asked, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    ratio = int(done.stdout) / (tmp_path / "index" / "vectors.faiss").stat().st_size
    print(f"{kind}: peak memory above start is {ratio:.2f} of the index")
    assert ratio <= 1.3


def test_ivf_finds_as_exact_search_does(benchmark):
    vectors = clustered(100_000, 256)
    index = Index.build(vectors)
    ids = benchmark(index.search, vectors[:500], 10)[1]
    assert (ids == nearest(vectors[:500], vectors, 10)).mean() > 0.98
