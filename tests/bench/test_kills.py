"""200 kills over ten commands, with their counts: `pytest tests/bench/test_kills.py -s`."""

from pathlib import Path

import pytest

from tests import kills


def test_two_hundred_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atlas.store.listing.SHARD_ROWS", kills.SHARD_ROWS)
    counts = kills.kill(tmp_path, trials=20)
    for name, count in counts.items():
        print(f"\n{name}: {count}", end="")
    assert all((count.lost, count.other, count.left) == (0, 0, 0) for count in counts.values())
