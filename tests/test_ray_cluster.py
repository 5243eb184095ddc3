"""A Ray cluster of two nodes with working folders of their own: one is killed while it works, and nothing changes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes import photos
from tests.kills import content

pytest.importorskip("ray", reason="the extra `ray` is not installed")

ROOT = Path(__file__).parent.parent
SOURCES = ["photos", "words:emotions?fonts=open-sans&sizes=32", "texts:emotions"]
PLAIN = """
import sys, torch
torch.set_num_threads(1)
import atlas, atlas.store.listing
atlas.store.listing.SHARD_ROWS = 8
sources, engine, out = sys.argv[3:], sys.argv[1], sys.argv[2]
atlas.collect(sources, atlas.Clip("mini", device="cpu"), out, engine=engine)
"""
ON_CLUSTER = f"""
import os, signal, sys, threading, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
here, nodes, cluster = os.getcwd(), [], Cluster()
for name in ("one", "other"):
    os.makedirs(name)
    os.chdir(name)
    nodes.append(cluster.add_node(num_cpus=1, include_dashboard=False))
    os.chdir(here)
ray.init(address=cluster.address)

def at_work(node):
    # whether a worker of the node is inside a shard, by the name that Ray gives the process; it is held there
    raylet = node.all_processes["raylet"][0].process.pid
    for child in Path(f"/proc/{{raylet}}/task/{{raylet}}/children").read_text().split():
        title = Path(f"/proc/{{child}}/cmdline")
        if title.read_bytes().startswith(b"ray::_make"):
            os.kill(int(child), signal.SIGSTOP)
            time.sleep(0.01)
            if title.read_bytes().startswith(b"ray::_make"):
                return True
            os.kill(int(child), signal.SIGCONT)
    return False

def kill():
    while not at_work(nodes[1]):
        time.sleep(0.001)
    cluster.remove_node(nodes[1], allow_graceful=False)
    print("a node was killed", file=sys.stderr)

threading.Thread(target=kill, daemon=True).start()
{PLAIN}
print(sorted(path.name for name in ("one", "other") for path in Path(here, name).iterdir()))
ray.shutdown()
cluster.shutdown()
"""


def run(code: str, place: Path, engine: str, out: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    words = [sys.executable, "-c", code, engine, out, *SOURCES]
    return subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True, timeout=900, check=False)


@pytest.mark.slow
def test_a_killed_node_costs_time_alone(tmp_path: Path) -> None:
    photos(tmp_path / "photos", 60)
    for engine, code in (("local", PLAIN), ("ray", ON_CLUSTER)):
        (tmp_path / engine).mkdir()
        (tmp_path / engine / "photos").symlink_to(tmp_path / "photos")
        done = run(code, tmp_path / engine, engine, "store")
        assert done.returncode == 0, done.stderr[-2000:]
    assert "a node was killed" in done.stderr
    assert "a worker died at shard" in done.stderr
    assert done.stdout.splitlines()[-1] == "[]", "nothing was written into the nodes' own folders"
    assert content(tmp_path / "ray" / "store") == content(tmp_path / "local" / "store")
