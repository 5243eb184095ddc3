"""`atlas check`: every file of a Store against its checksum, everything that does not belong there, all faults."""

import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from atlas.errors import Refused
from atlas.formatting import Record
from atlas.store.derived import MADE_FILE, read_made, verify_parents
from atlas.store.files import disk_faults, remove_if_empty, sha256
from atlas.store.lock import writer_lock
from atlas.store.manifest import (
    LISTING_FILE,
    LOCK_FILE,
    MANIFEST_FILE,
    PARTIAL,
    PENDING,
    REJECTS_FILE,
    Manifest,
    manifest_digest,
    read_manifest,
    settle,
    stored_file,
)
from atlas.store.part import fill_command
from atlas.store.shards import open_shard

_NOT_DERIVED = ("shards", PARTIAL, PENDING)


@dataclass
class CheckedFolder:
    """What a check found: faults, what can be removed because it can be made again, and the commands that make it."""

    faults: list[str] = field(default_factory=list)
    removable: list[Path] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    shards: int = 0
    rows: int = 0


def derived_names(path: Path) -> list[str]:
    """Names of all parts derived from the Store at `path`, sorted."""
    made = [file.parent.relative_to(path) for file in path.rglob(MADE_FILE)]
    return sorted(name.as_posix() for name in made if name.parts and name.parts[0] not in _NOT_DERIVED)


def read_listing(path: Path, name: str, manifest: Manifest) -> pa.Table:
    """listing.parquet or rejects.parquet of a Store. Raises `Refused` if it is damaged."""
    file = stored_file(path, name)
    if fault := _listing_fault(file, manifest):
        raise Refused(f"{fault}; restore it, or remove {path} and collect again")
    return pq.read_table(file)


def refuse_damaged_listings(path: Path, manifest: Manifest) -> None:
    """Raise `Refused` if listing.parquet or rejects.parquet of a finished Store is damaged."""
    for name in manifest.get("files", {}):
        if fault := _listing_fault(stored_file(path, name), manifest):
            raise Refused(f"{fault}; restore it, or remove {path} and collect again")


def _listing_fault(file: Path, manifest: Manifest) -> str | None:
    try:
        expected, found = manifest.get("files", {}).get(file.name), sha256(file)
    except Refused as refused:
        return str(refused)
    if expected not in (None, found):
        return f"{file} is damaged: expected sha256 {str(expected)[:12]}, got {found[:12]}"
    try:
        pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        return f"{file} cannot be read ({' '.join(str(error).split())[:100]})"
    return None


def check_folder(path: Path) -> CheckedFolder:
    """Check every file of the Store at `path`. Raises `Refused` only if there is no Store at all."""
    found = CheckedFolder()
    try:
        manifest = read_manifest(path)
    except Refused as refused:
        if not (path / MANIFEST_FILE).exists():
            raise
        found.faults.append(str(refused))
        return found
    if not manifest["complete"]:
        found.faults.append(f"{path} is not finished; run the command that began it again and it goes on")
        return found
    known = {path / MANIFEST_FILE, path / LOCK_FILE}
    for name in (LISTING_FILE, REJECTS_FILE):
        file = stored_file(path, name)
        known |= {file, path / name}
        if (fault := _listing_fault(file, manifest)) and (file.exists() or "files" in manifest):
            found.faults.append(fault)
    known |= _check_shards(path, manifest, found)
    known |= _check_derived(path, manifest, found)
    _name_strays(path, known, found)
    found.faults[:] = dict.fromkeys(found.faults)  # a part at fault is met again by those made from it
    return found


def find_damage(path: Path, manifest: Manifest) -> list[str]:
    """The files of a Store and of its derived parts that are missing or not as they were written, one line each."""
    files = [stored_file(path, name) for name in manifest.get("files", {})]
    found = CheckedFolder([fault for file in files if (fault := _listing_fault(file, manifest))])
    _check_shards(path, manifest, found)
    for name in derived_names(path):
        try:
            found.faults += checksum_faults(path / name, read_made(path / name)["files"])
        except Refused as refused:
            found.faults.append(str(refused))
    return found.faults


def _check_shards(path: Path, manifest: Manifest, found: CheckedFolder) -> set[Path]:
    known, start, damaged = set(), 0, False
    for name, expected in manifest.get("shards", {}).items():
        folder = path / "shards" / name
        known.add(folder / "shard.json")
        faults = []
        try:
            shard = open_shard(folder, str(expected), start)
        except Refused as refused:
            faults.append(str(refused))
            known |= set(folder.rglob("*"))
        else:
            known |= {folder / file for file in shard.files}
            faults += checksum_faults(folder, shard.files)
            start += shard.rows
            found.shards, found.rows = found.shards + 1, start
        damaged = damaged or bool(faults)
        found.faults += faults
    if damaged:
        sources = shlex.join(map(str, manifest["request"]["sources"]))
        found.commands.append(f"(remove the damaged shards) atlas collect {sources} {shlex.quote(str(path))} ...")
    return known


def checksum_faults(folder: Path, files: Mapping[str, Record]) -> Iterator[str]:
    """The files that are missing or whose sha256 differs from the listed one, one line each."""
    for file, stat in files.items():
        expected = str(stat.get("sha256")) if isinstance(stat, dict) else "nothing"
        try:
            if (got := sha256(folder / file)) != expected:
                yield f"{folder / file}: expected sha256 {expected[:12]}, got {got[:12]}"
        except Refused as refused:
            yield str(refused)


def _check_derived(path: Path, manifest: Manifest, found: CheckedFolder) -> set[Path]:
    known: set[Path] = set()
    digest, commands, parents = manifest_digest(manifest), dict[str, str](), dict[str, list[str]]()
    for name in derived_names(path):
        folder, again = path / name, f"(the command that made {path / name})"
        known.add(folder / MADE_FILE)
        try:
            made = read_made(folder)
            parents[name] = list(made["of"])
            again = fill_command(str(made["command"]), path) if made.get("command") else again
            known |= {folder / file for file in made["files"]}
            faults = list(checksum_faults(folder, made["files"]))
            if not faults:
                verify_parents(path, name, made, digest, again)
        except Refused as refused:
            faults = [str(refused)]
            known |= set(folder.rglob("*"))
        if faults:
            found.faults += faults
            found.removable.append(folder)
            commands[name] = again
    found.commands += _parents_first(commands, parents)
    return known


def _parents_first(commands: Mapping[str, str], parents: Mapping[str, Sequence[str]]) -> list[str]:
    """The commands of parts, each after the commands that make the parents of what it makes."""
    before: dict[str, list[str]] = {command: [] for command in commands.values()}
    for name, command in commands.items():
        needed = [commands[parent] for parent in parents.get(name, ()) if parent in commands]
        before[command] += [each for each in needed if each != command]
    try:
        return list(TopologicalSorter(before).static_order())
    except CycleError:  # in a made.json that someone changed
        return list(before)


def _name_strays(path: Path, known: set[Path], found: CheckedFolder) -> None:
    """Add a fault for each file that nothing lists; leftovers of killed runs are named as that."""
    in_progress = (path / PENDING / MANIFEST_FILE).exists()
    for file in sorted(path.rglob("*")):
        inside = file.relative_to(path).parts
        if file in known or (file.is_dir() and not file.is_symlink()):
            continue
        if inside[0] == PENDING or (in_progress and inside[0] == "shards"):
            continue  # of a run in progress
        what = "was left by a killed run" if inside[0] == PARTIAL else "belongs to no part of the Store"
        found.faults.append(f"{file} {what}")
        found.removable += [file] if inside[0] == PARTIAL else []


def repair_folder(path: Path, found: CheckedFolder) -> list[str]:
    """Remove the derived parts that a check found at fault, and what killed runs left; returns what was removed.

    Shards and files that nothing lists are kept: they may be all that is left of something.
    """
    removed = []
    with disk_faults(path), writer_lock(path):
        settle(path)
        for place in found.removable:
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            elif place.exists() or place.is_symlink():
                place.unlink()
                remove_if_empty(place.parent)
            removed.append(str(place))
    return removed
