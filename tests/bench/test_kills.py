"""200 kills over ten commands, with their counts: `pytest tests/bench/test_kills.py -s`."""

from pathlib import Path

from tests import kills


def test_two_hundred_kills(tmp_path: Path) -> None:
    counts = kills.kill(tmp_path, trials=20)
    for name, count in counts.items():
        print(f"\n{name}: {count}", end="")
    assert all((count.lost, count.other, count.left) == (0, 0, 0) for count in counts.values())
