"""Tar shards of images with the texts that belong to them, as webdataset, img2dataset and plain tar write them."""

import tarfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from PIL import Image

from atlas.formatting import Record
from atlas.sources.columns import PICTURE_SUFFIXES
from atlas.sources.decoding import Unreadable, decode
from atlas.sources.files import NOT_IMAGES, SPLITS, folder_class
from atlas.sources.items import (
    Distinct,
    Item,
    Note,
    identifier,
    image_item,
    only_items,
    printable_line,
    raise_unreadable,
    refused_item,
    size_and_mtime,
)
from atlas.sources.sidecars import (
    CAPTION_SUFFIXES,
    SIDECAR_SUFFIXES,
    match_across,
    match_beside,
    read_sidecars,
    split_name,
    without_masks,
)
from atlas.sources.signatures import HEAD, kind_of_file
from atlas.sources.textfiles import MAX_CAPTION

MAX_HEADER = 2**20  # bytes of a tar header that tells about the next member
_ABOUT_NEXT = frozenset(
    (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
)
_TAR_FAULTS = (tarfile.TarError, OSError, ValueError, RecursionError)


@dataclass(frozen=True)
class Tars:
    """Tar shards: key.jpg with key.txt, key.cls and key.json, in any order, or in folders of their own.

    Listing reads headers and texts only. Images are read by their offset, so the shards need not be unpacked.
    """

    name: str
    spec: str
    files: tuple[tuple[str, Path], ...]  # (prefix of the ids, path of the shard)

    def __iter__(self) -> Iterator[Item]:
        return only_items(self.entries())

    def entries(self) -> Iterator[Item | Note]:
        """Items, and notes on masks and on texts that belong to no picture."""
        for inside, file in self.files:
            size, mtime = size_and_mtime(file)
            members, fault = _members(file)
            yield from self._shard(inside, file, members, size, mtime)
            if fault:
                reason = f"the shard breaks off or is no tar: {fault}"
                item = refused_item(f"{self.name}/{inside}(rest)", self.spec, reason)
                yield replace(item, size=size, mtime=mtime)

    def _shard(
        self, inside: str, file: Path, members: list[tarfile.TarInfo], size: int, mtime: int
    ) -> Iterator[Item | Note]:
        distinct = Distinct()
        with file.open("rb") as shard:

            def content(member: tarfile.TarInfo, most: int = MAX_CAPTION) -> bytes:
                shard.seek(member.offset_data)
                return shard.read(min(member.size, most))

            named = {_plain(member.name): member for member in reversed(members)}
            pictures = [path for path in named if _is_picture(path, partial(content, named[path], HEAD))]
            pictures, owned, notes = _matched(pictures, [path for path in named if _is_text(path)])
            chosen = set(pictures)
            for member in members:
                path = _plain(member.name)
                if path not in chosen:
                    continue
                texts = [each for each in owned.get(path, ()) if not named[each].issparse()]
                said = read_sidecars({each: content(named[each]) for each in texts})
                folders = path.split("/")[:-1]
                label, split = folder_class(folders, "")
                yield from said.notes()
                if said.label or label:
                    yield Note(
                        "taken", "labels: .cls or .json files" if said.label else "labels: folders in the shards"
                    )
                said_texts = {"caption": said.captions, "label": (said.label or label,), "group": (said.group,)}
                said_texts["split"] = (said.split or split or split_of_path(inside),)
                id = distinct(identifier(f"{self.name}/{inside}{member.name.removeprefix('./')}"))
                fault = _fault(member, [named[each] for each in texts], size)
                load = partial(_decode_slice, file, member.offset_data, member.size)
                if fault:
                    load = partial(raise_unreadable, fault)
                yield image_item(id, self.spec, said_texts, load, member.size, mtime)
            yield from notes


def _members(file: Path) -> tuple[list[tarfile.TarInfo], str]:
    """The visible files of a shard, and what is wrong with it if it cannot be read to its end."""
    found: list[tarfile.TarInfo] = []
    if not file.is_file():
        return found, "not a regular file"
    try:
        with tarfile.open(
            file, "r:", tarinfo=_CheckedInfo
        ) as tar:  # not "r": offsets mean nothing in a compressed file
            for member in tar:
                if member.size < 0:  # by a header of PAX, which is read after the member's own
                    raise tarfile.HeaderError(f"a member of {member.size:,} bytes")
                if member.isfile() and not PurePosixPath(member.name).name.startswith("."):
                    found.append(member)
    except _TAR_FAULTS as error:
        return found, printable_line(error) or type(error).__name__
    return found, ""


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


def _fault(member: tarfile.TarInfo, texts: Sequence[tarfile.TarInfo], size: int) -> str:
    """Why a picture of a shard of `size` bytes cannot be read, or ""."""
    if member.issparse():
        return "a sparse member: its bytes are not as they are named"
    if member.offset_data + member.size > size:
        return "the shard breaks off within it"
    large = next((text for text in texts if text.size > MAX_CAPTION), None)
    if large is None:
        return ""
    name = printable_line(PurePosixPath(large.name).name)
    return f"its {name} has {large.size:,} bytes, the limit is {MAX_CAPTION:,}"


def _plain(name: str) -> str:
    return name.removeprefix("./")


def _is_text(path: str) -> bool:
    return split_name(path)[2] in SIDECAR_SUFFIXES


def _is_picture(path: str, head: "partial[bytes]") -> bool:
    suffix = split_name(path)[2]
    if suffix in PICTURE_SUFFIXES or suffix in NOT_IMAGES:
        return suffix in PICTURE_SUFFIXES
    return kind_of_file(head()) not in ("text", "JSON", "XML", "HTML", "sound", "a video", "a NumPy array")


def _matched(pictures: Sequence[str], texts: Sequence[str]) -> tuple[list[str], dict[str, list[str]], list[Note]]:
    """Pictures without masks, the texts of each, and notes on what is left."""
    shelves: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for each, paths in enumerate((pictures, texts)):
        for path in paths:
            shelves[split_name(path)[0]][each].append(path)
    kept: list[str] = []
    owned: dict[str, list[str]] = {}
    masks, lost = [], []
    for here, beside in shelves.values():
        plain, aside = without_masks(here, True)
        found, left = match_beside(plain, beside, True)
        kept += plain
        masks += aside
        owned |= found
        lost += left
    if lost:
        moved, lost = match_across(kept, lost)
        for path, more in moved.items():
            owned[path] = [*owned.get(path, ()), *more]
    notes = [Note("left", "masks and other views of pictures", len(masks), masks[0])] if masks else []
    lost = [path for path in lost if split_name(path)[2] in CAPTION_SUFFIXES]
    return kept, owned, notes + ([Note("lost", "texts that belong to no picture", len(lost), lost[0])] if lost else [])


def split_of_path(path: str) -> str:
    """The split that a shard's path names: train/00000.tar, data/validation-00000-of-00002.parquet."""
    for part in path.lower().replace(".", "-").replace("_", "-").split("/")[::-1]:
        first = part.partition("-")[0].removeprefix("split=")
        if first in SPLITS:
            return SPLITS[first]
    return ""


def _decode_slice(file: Path, offset: int, size: int) -> Image.Image:
    try:
        with file.open("rb") as shard:
            shard.seek(offset)
            return decode(shard.read(size))
    except OSError as error:
        raise Unreadable(f"its shard cannot be read: {(error.strerror or 'unknown').lower()}") from None
