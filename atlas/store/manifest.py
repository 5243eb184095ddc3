"""store.json: its content, typed, and where it is found.

A run in progress keeps its own store.json in the folder `pending`; the finished Store beside it stays readable. The run
is committed when pending/store.json says that it is complete: from then on readers take pending's files, until they
have been moved to their places (`settle`).
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from atlas.errors import Refused
from atlas.formatting import Record
from atlas.store.files import read_json, replace_file

STORE_FORMAT = 1
MANIFEST_FILE, LISTING_FILE, REJECTS_FILE = "store.json", "listing.parquet", "rejects.parquet"
PENDING = "pending"  # folder of a run in progress
PARTIAL = "partial"  # the folder that holds a part while it is being written
LOCK_FILE = ".lock"  # held by whoever writes


class Request(TypedDict):
    """What a collection was asked for; equal requests over equal sources give identical Stores."""

    model: Record  # `atlas.model.description.ModelDescription`; this module does not import the models
    sources: list[str]
    seed: int
    thumb: int


class Manifest(TypedDict):
    """The content of store.json. A generation is the rows and shards that one run, or one --append, added."""

    format: int
    complete: bool
    request: Request
    listing: str
    generations: list[dict[str, int]]
    versions: NotRequired[dict[str, str]]
    shards: NotRequired[dict[str, str]]
    files: NotRequired[dict[str, str]]  # sha256 of listing.parquet and rejects.parquet
    sources: NotRequired[list[str]]  # the sources as they were named last, where that differs from the request
    remade: NotRequired[dict[str, str]]  # of a run in progress: folders of shards that are made again, by number


_TYPES = {"complete": bool, "request": dict, "generations": list, "shards": dict, "files": dict}
_REQUEST_TYPES = {"model": dict, "sources": list, "seed": int, "thumb": int}


def read_manifest(path: Path) -> Manifest:
    """The manifest of the Store at `path`: the last one that was committed, else the one of the run in progress.

    Raises `Refused` if there is none, and if it is damaged or has another format.
    """
    for _ in range(3):  # a writer may be moving it from pending to its place
        for place in (path / PENDING, path):
            file = place / MANIFEST_FILE
            if file.exists() and (found := read_if_there(file)) and (place == path or found["complete"]):
                return found
        if (path / PENDING / MANIFEST_FILE).exists():
            return cast(Manifest, read_if_there(path / PENDING / MANIFEST_FILE))
    raise Refused(f"{path} holds no Store (no store.json); make one: atlas collect SOURCE {path}")


def read_if_there(file: Path) -> Manifest | None:
    """A manifest; None if the file is gone. Raises `Refused` if it is damaged or has another format."""
    try:
        content = read_json(file)
    except Refused:
        if not file.exists():
            return None
        raise
    if content.get("format") != STORE_FORMAT:
        raise Refused(f"{file} has format {content.get('format')!r}; this version reads {STORE_FORMAT}")
    check_types(file, content, {name: kind for name, kind in _TYPES.items() if name in content or name == "complete"})
    check_types(file, content, {"request": dict})
    check_types(file, content["request"], _REQUEST_TYPES)
    if content["complete"]:
        check_types(file, content, {"shards": dict})
    return cast(Manifest, content)


def check_types(file: Path, content: Record, types: dict[str, type]) -> None:
    """Raise `Refused` unless a JSON object has these keys with values of these types."""
    for name, kind in types.items():
        if not isinstance(content.get(name), kind):
            raise Refused(f"{file}: {name} is missing or is no {kind.__name__}; restore it, or make the folder anew")


def manifest_digest(manifest: Manifest) -> str:
    """Sha256 of a Store: of its request and the sha256 of its shards."""
    shards = {name.partition(".")[0]: digest for name, digest in manifest.get("shards", {}).items()}
    content = {"request": manifest["request"], "shards": shards if "shards" in manifest else None}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def stored_file(path: Path, name: str) -> Path:
    """Where listing.parquet or rejects.parquet of the committed state is."""
    pending = path / PENDING / name
    committed = read_if_there(path / PENDING / MANIFEST_FILE) if pending.exists() else None
    return pending if committed and committed["complete"] else path / name


def settle(path: Path) -> Manifest | None:
    """Move what a finished run left in `pending` to its place, and remove what no run needs; the writer calls it.

    Returns the manifest of the finished Store, or None if there is none.
    """
    pending = path / PENDING
    shutil.rmtree(path / PARTIAL, ignore_errors=True)
    begun = read_if_there(pending / MANIFEST_FILE)
    if begun is None or begun["complete"]:
        for name in (LISTING_FILE, REJECTS_FILE, MANIFEST_FILE) if begun else ():
            if (pending / name).exists():
                replace_file(pending / name, path / name)
        shutil.rmtree(pending, ignore_errors=True)
        begun = None
    finished = read_if_there(path / MANIFEST_FILE)
    if finished and begun is None and (path / "shards").is_dir():
        for folder in (path / "shards").iterdir():
            if folder.name not in finished.get("shards", {}):
                shutil.rmtree(folder, ignore_errors=True)
    return finished
