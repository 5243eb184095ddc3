"""Commands at once on one Store: each succeeds or is told to wait, and the end is that of one after the other."""

from pathlib import Path

import pytest

from tests import pairs


@pytest.mark.slow
def test_commands_at_once_end_as_one_after_the_other(tmp_path: Path) -> None:
    tally = pairs.at_once(tmp_path, [("append", "stats"), ("dream", "dream"), ("label", "page")], processes=(2,))
    print(tally)
    assert (tally.runs, tally.faults) == (3, [])
