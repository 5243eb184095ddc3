"""Every pair of ten commands at once, in two and in four processes: `pytest tests/bench/test_pairs.py -s`."""

from pathlib import Path

from tests import pairs


def test_every_pair_of_commands_at_once(tmp_path: Path) -> None:
    tally = pairs.at_once(tmp_path, list(pairs.every_pair()), processes=(2, 4))
    print(f"\n{tally}")
    assert tally.faults == []
