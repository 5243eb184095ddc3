"""Every pair of ten commands at once, in two and in four processes: `pytest tests/bench/test_pairs.py -s`."""

from pathlib import Path

import pytest

from tests import pairs


@pytest.mark.parametrize("processes", [2, 4])
def test_every_pair_of_commands_at_once(processes: int, tmp_path: Path) -> None:
    tally = pairs.at_once(tmp_path, list(pairs.every_pair()), processes=(processes,))
    print(f"\n{tally}")
    assert tally.faults == []
