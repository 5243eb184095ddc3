"""Two kills of each command: nothing finished is lost, and the rerun ends with the undisturbed run's bytes."""

from pathlib import Path

import pytest

from tests import kills


@pytest.mark.slow
def test_killed_at_any_moment_every_command_ends_with_the_same_bytes(tmp_path: Path) -> None:
    counts = kills.kill(tmp_path, trials=2)
    for name, count in counts.items():
        print(f"{name}: {count}")
    assert sum(count.trials for count in counts.values()) == 20
    assert {name: (c.lost, c.other, c.left) for name, c in counts.items()} == dict.fromkeys(counts, (0, 0, 0))
