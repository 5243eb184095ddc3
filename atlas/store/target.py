"""The folder that a collection is written into: it holds nothing else, no other request, and the disk has room."""

import shutil
from pathlib import Path
from typing import cast

from atlas.errors import Misuse, Refused
from atlas.formatting import Record
from atlas.model.clip import Clip
from atlas.sources import spec
from atlas.store.files import disk_faults
from atlas.store.manifest import LOCK_FILE, MANIFEST_FILE, PENDING, REJECTS_FILE, Request

_THUMB_BYTES = 1500  # mean size of a 64-pixel WebP, rounded up; used only to estimate the space needed


def make_folder(out: Path) -> None:
    """Make the folder. Raises `Refused` if it cannot be made, or holds something else."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Misuse(f"cannot make the folder {str(out)[:200]}: {reason}; name another one") from None
    with disk_faults(out):
        if not {path.name for path in out.iterdir()} & {LOCK_FILE, MANIFEST_FILE, PENDING}:
            refuse_other_content(out)  # before the lock, which would stay there


def refuse_other_content(out: Path) -> None:
    """Raise `Refused` for a folder, without a Store, that holds anything else than a refused run leaves."""
    if others := [path.name for path in out.iterdir() if path.name not in (LOCK_FILE, REJECTS_FILE)]:
        raise Refused(f"{out} holds {others[0]} and is no Store; name a new or empty folder")


def refuse_other_request(held: Request, asked: Request, out: Path) -> None:
    """Raise `Refused` if a folder holds the Store of another request, with what differs."""
    keys = [list(map(spec.source_key, request["sources"])) for request in (held, asked)]
    for name in asked:
        one, other = (cast(Record, each).get(name) for each in (held, asked))
        if one == other or (name == "sources" and keys[0] == keys[1]):
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            name, one, other = next((k, one.get(k), other[k]) for k in other if one.get(k) != other[k])
        raise Refused(f"{out} was collected with {name} = {one}, and this asks for {other}; name another folder")


def check_disk(out: Path, clip: Clip, rows: int) -> None:
    """Raise `Refused` if the disk has no room for so many more rows."""
    numbers = clip.dim + sum(4 * layer.neurons for layer in clip.layers() if layer.path in clip.hooked)
    need, free = rows * (2 * numbers + _THUMB_BYTES), shutil.disk_usage(out).free
    if need > free:
        raise Refused(
            f"{out} needs about {need / 1e6:,.1f} MB for {rows:,} rows, and its disk has {free / 1e6:,.1f} MB free; "
            "name a folder on a larger disk, fewer layers or fewer inputs"
        )
