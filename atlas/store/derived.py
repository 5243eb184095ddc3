"""Verifies what was derived from a Store: parents, sizes and checksums, each file once in a process."""

from collections.abc import Mapping
from pathlib import Path

from threadpoolctl import threadpool_info

from atlas.errors import Refused
from atlas.formatting import Record
from atlas.store.files import read_json, sha256
from atlas.store.manifest import check_types
from atlas.store.part import fill_command

MADE_FILE = "made.json"
_WHOLE_BYTES = 2**29  # bytes that one process verifies in full; beyond that, one file in `_ONE_IN`
_ONE_IN = 16
_TYPES = {"of": dict, "recipe": dict, "files": dict}

_verified: set[tuple[str, int, int, int]] = set()
_spent = [0]  # bytes that were verified


def read_made(folder: Path) -> Record:
    """The made.json of a derived folder. Raises `Refused` if it is damaged."""
    made = read_json(folder / MADE_FILE)
    check_types(folder / MADE_FILE, made, _TYPES)
    return made


def threads_in_use() -> int:
    """The threads of the libraries for linear algebra that this process has loaded (BLAS, OpenMP): the most of any."""
    return max((int(pool["num_threads"]) for pool in threadpool_info()), default=1)


def verify_part(
    root: Path, name: str, digest: str, command: str | None = None, below: tuple[str, ...] = ()
) -> tuple[Path, Record]:
    """The folder of a derived part, and its made.json.

    `root`: folder of the Store; `digest`: the Store's sha256; `command`: makes the part, if made.json names none.
    Raises `Refused` if the part is missing, damaged, or stale (a parent has changed since); the message names the
    command that makes it again.
    """
    folder = root / name
    if not (folder / MADE_FILE).exists():
        raise Refused(f"{folder} is not there yet; make it: {fill_command(command, root)}")
    if name in below:
        raise Refused(f"{folder / MADE_FILE} names itself as a parent; make {folder} again")
    made = read_made(folder)
    again = fill_command(str(made["command"]) if made.get("command") else command, root)
    verify_parents(root, name, made, digest, again, below)
    for file, stat in made["files"].items():
        verify_file(folder / file, stat, f"restore it, or make {folder} again: {again}")
    return folder, made


def verify_parents(root: Path, name: str, made: Record, digest: str, again: str, below: tuple[str, ...] = ()) -> None:
    """Raise `Refused` if a part is stale: a parent of it is missing, damaged or has changed since."""
    folder = root / name
    for parent, expected in made["of"].items():
        if parent == "store":
            found = digest
        else:
            verify_part(root, parent, digest, below=(*below, name))
            found = sha256(root / parent / MADE_FILE)
        if found != expected:
            raise Refused(
                f"{folder} was made of {parent} {str(expected)[:12]}, but {parent} is now {found[:12]}; "
                f"make it again: {again}"
            )


def verify_file(file: Path, stat: Mapping[str, object], remedy: str) -> None:
    """Raise `Refused` unless a file has the expected size and, on its first use in this process, its sha256.

    `remedy`: what the user can do. Beyond 512 MB a process verifies every sixteenth file; `atlas check` verifies all.
    """
    check_size(file, stat, remedy)
    status = file.stat()
    key = (str(file), status.st_size, status.st_mtime_ns, status.st_ino)
    if key in _verified:
        return
    _verified.add(key)
    if _spent[0] < _WHOLE_BYTES or len(_verified) % _ONE_IN == 0:
        _spent[0] += status.st_size
        if (found := sha256(file)) != stat.get("sha256"):
            _verified.discard(key)
            raise Refused(
                f"{file} is damaged: expected sha256 {str(stat.get('sha256'))[:12]}, got {found[:12]}; {remedy}"
            )


def check_size(file: Path, stat: Mapping[str, object], remedy: str) -> None:
    """Raise `Refused` unless the file is there and has the expected number of bytes."""
    expected, found = stat.get("bytes"), file.stat().st_size if file.is_file() else None
    if found != expected:
        state = "is missing" if found is None else f"has {found} bytes"
        raise Refused(f"{file} {state}, expected {expected} bytes; {remedy}")
