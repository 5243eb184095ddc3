"""The members of a tar shard: files and links to files, in groups within which no path repeats."""

import tarfile
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from posixpath import dirname, normpath
from typing import BinaryIO

from atlas.formatting import Record
from atlas.sources.items import printable_line
from atlas.sources.signatures import head_of, kind_of_file, never_arrived

MAX_HEADER = 2**20  # bytes of a tar header that tells about the next member
_ABOUT_NEXT = frozenset(
    (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
)
_TAR_FAULTS = (tarfile.TarError, OSError, ValueError, RecursionError)
_MOST_LINKS = 40  # of a link to a link


@dataclass
class Members:
    """The visible files of a shard, in order; links stand for the files that they lead to."""

    groups: list[list[tarfile.TarInfo]] = field(default_factory=list)  # shards that were joined have a group each
    dead: list[tarfile.TarInfo] = field(default_factory=list)  # links to what is no file of the shard
    fault: str = ""  # why the shard cannot be read to its end


def read_members(file: Path) -> Members:
    """Read the headers of a shard. Shards that were joined, by `cat` or `tar -A`, are read to the end."""
    if not file.is_file():
        return Members(fault="not a regular file")
    found, fault = list[list[tarfile.TarInfo]](), ""
    try:
        with file.open("rb") as shard:
            start: int | None = 0
            while start is not None:
                found.append([])
                shard.seek(start)
                start = _read_part(shard, found[-1])
    except _TAR_FAULTS as error:
        kind = kind_of_file(head_of(file)) if not any(found) else ""
        fault = never_arrived(file) or f"it is {kind}" if kind else printable_line(error) or type(error).__name__
    members = Members(fault=fault)
    for part in found:
        all_files = {plain_path(member.name): member for member in part if not member.issym()}
        for group in _without_repeats([member for member in part if not member.isdir()]):
            members.groups.append(_followed(group, all_files, members.dead))
    return members


def _read_part(shard: BinaryIO, found: list[tarfile.TarInfo]) -> int | None:
    """Read the members up to an end mark; the place of what follows that, None if there are zeros alone."""
    start = shard.tell()
    # not "r": offsets mean nothing in a compressed file
    with tarfile.open(fileobj=shard, mode="r:", tarinfo=_CheckedInfo) as tar:
        for member in tar:
            if member.size < 0:  # by a header of PAX, which is read after the member's own
                raise tarfile.HeaderError(f"a member of {member.size:,} bytes")
            found.append(member)
        if not found and tar.offset == start:  # tarfile takes a damaged header for the end
            raise tarfile.HeaderError("no header where a member should begin")
        end = tar.offset
    shard.seek(end)
    while block := shard.read(2**16):
        if rest := block.lstrip(b"\0"):
            return (shard.tell() - len(rest)) // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
    return None


def _followed(
    members: list[tarfile.TarInfo], all_files: Mapping[str, tarfile.TarInfo], dead: list[tarfile.TarInfo]
) -> list[tarfile.TarInfo]:
    """Files and links to files of a group, these with the place of the file's bytes; links to none join `dead`.

    A hard link leads to a file before it, a symbolic one to any: of its own group, if that has it.
    """
    files = {**all_files, **{plain_path(member.name): member for member in members if not member.issym()}}
    links = {plain_path(member.name): member for member in members if member.issym()}
    before: dict[str, tarfile.TarInfo] = {}
    found = []
    for member in members:
        path = plain_path(member.name)
        here: tarfile.TarInfo | None = member
        for _ in range(_MOST_LINKS):
            if here is None or not (here.issym() or here.islnk()):
                break
            place = plain_path(here.linkname)
            if here.issym():
                place = normpath(f"{dirname(plain_path(here.name))}/{here.linkname}".lstrip("/"))
                here = files.get(place) or links.get(place)
            else:
                here = before.get(place) or files.get(place)
        if here is not None and here.isfile():
            before[path] = here
        if PurePosixPath(member.name).name.startswith("."):
            continue
        if here is not None and here.isfile():
            if here is not member:
                here = copy(here)
                here.name = member.name
            found.append(here)
        elif member.issym() or member.islnk():
            dead += [] if here is not None and here.isdir() else [member]
    return found


def _without_repeats(members: list[tarfile.TarInfo]) -> list[list[tarfile.TarInfo]]:
    """The members in groups: one that repeats a path begins the next group, as the samples of another shard."""
    groups, seen = list[list[tarfile.TarInfo]](), set[str]()
    for member in members:
        path = plain_path(member.name)
        if path in seen or not groups:
            groups.append([])
            seen.clear()
        seen.add(path)
        groups[-1].append(member)
    return groups


def plain_path(name: str) -> str:
    """The path of a member without the ./ that tar may write before it."""
    return name.removeprefix("./")


class _CheckedInfo(tarfile.TarInfo):
    """A header of a tar file whose sizes are checked before Python's tarfile follows them.

    Versions of Python differ in what they check: some go round for ever at a negative size (CVE-2025-8194), or at a
    list of holes that does not end.
    """

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.size < 0 or (self.type in _ABOUT_NEXT and self.size > MAX_HEADER):
            raise tarfile.HeaderError(f"a member of {self.size:,} bytes")
        return super()._proc_member(tar)  # type: ignore[misc] - tarfile's own step from header to member

    def _proc_gnusparse_10(self, next: tarfile.TarInfo, pax_headers: Record, tar: tarfile.TarFile) -> None:
        raise tarfile.HeaderError("a sparse member, whose bytes are not as they are named")
