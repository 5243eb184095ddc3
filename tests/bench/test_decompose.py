"""What decompose costs: factors of a stream, and the study of feelings on the demo's Store.

pytest tests/bench/test_decompose.py -s
"""

import subprocess
import sys
import time
from pathlib import Path

import pytest

DEMO = Path("outputs/demo")  # where `atlas demo` puts it

STREAM = """
import resource, sys, time
import numpy as np
from decompose import SparseNMF

class Planted:
    dtype = np.dtype(np.float32)

    def __init__(self, rows):
        rng = np.random.default_rng(0)
        self.Z, self.D = (rng.gamma(0.3, size=size).astype(np.float32) for size in ((rows, 16), (16, 1024)))
        self.shape = rows, 1024

    def __len__(self):
        return len(self.Z)

    def __getitem__(self, rows):
        return self.Z[rows] @ self.D

SparseNMF(4, random_state=0).fit(Planted(2000))  # whatever is loaded or kept for good
A, start, began = Planted(int(sys.argv[1])), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
model = SparseNMF(16, alpha=0.01, random_state=0).fit(A)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) / 1024, time.perf_counter() - began)
"""


def test_factors_of_a_stream_take_no_more_memory_for_more_rows() -> None:
    peaks = []
    for rows in (20_000, 100_000):
        done = subprocess.run([sys.executable, "-c", STREAM, str(rows)], check=True, stdout=subprocess.PIPE, text=True)
        megabytes, seconds = map(float, done.stdout.split())
        peaks.append(megabytes)
        print(f"\n{rows:,} x 1,024: {seconds:.0f} s, {megabytes:.0f} MB above start")
    assert peaks[1] <= peaks[0] + 16  # the codes of 80,000 rows alone are 5 MB


@pytest.mark.skipif(not (DEMO / "neurons").exists(), reason="the demo is not there; make it: atlas demo")
def test_feelings_on_the_demo_take_less_than_two_minutes() -> None:
    began = time.perf_counter()
    run = [sys.executable, "-c", "import sys; from decompose.cli import main; sys.exit(main())"]
    done = subprocess.run([*run, "emotions", "--store", str(DEMO)], check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - began
    print(f"\n{seconds:.0f} s\n{done.stdout}")
    assert seconds < 120
