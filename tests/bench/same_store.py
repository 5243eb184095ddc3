"""Are two Stores the same to the byte? `python -m tests.bench.same_store BEFORE AFTER`

Compares every file of shards, statistics, indexes, layouts and labels, and what each made.json says of recipe and
files. What else a made.json holds (the command, the checksums of its parents' made.json) may differ.
"""

import json
import sys
from pathlib import Path

from atlas.store.files import sha256

FOLDERS = ("shards", "neurons", "index", "layout")
COMPARED = ("made", "recipe", "files")  # entries of made.json


def content(path: Path) -> object:
    """What must be the same: the checksum of a file, some entries of a made.json."""
    if path.name != "made.json":
        return sha256(path)
    made = json.loads(path.read_text("utf-8"))
    return {name: made[name] for name in COMPARED}


def files(store: Path) -> dict[str, Path]:
    """The compared files by their path within the Store."""
    found = (path for folder in FOLDERS for path in (store / folder).rglob("*") if path.is_file())
    return {path.relative_to(store).as_posix(): path for path in found}


def main() -> int:
    """Print each difference; exit code 1 if there are any."""
    before, after = (files(Path(argument)) for argument in sys.argv[1:3])
    differing = [name for name in before if name in after and content(before[name]) != content(after[name])]
    lines = [f"differs: {name}" for name in differing]
    lines += [f"only before: {name}" for name in before if name not in after]
    lines += [f"only after: {name}" for name in after if name not in before]
    print(*sorted(lines), f"{len(before)} files compared, {len(lines)} differences", sep="\n")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
