"""Tar shards of images with the texts that belong to them, as webdataset, img2dataset and plain tar write them."""

import os
import re
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from PIL import Image

from atlas.sources.columns import PICTURE_SUFFIXES
from atlas.sources.decoding import Unreadable, decode
from atlas.sources.files import NOT_IMAGES, folder_class
from atlas.sources.items import (
    SPLITS,
    Distinct,
    Item,
    Note,
    image_item,
    only_items,
    printable_line,
    raise_unreadable,
    refused_item,
    size_and_mtime,
)
from atlas.sources.leftovers import notes_on_others
from atlas.sources.metadata import METADATA_NAMES, FolderMetadata, nearest_first, read_metadata, with_rows
from atlas.sources.sidecars import (
    CAPTION_SUFFIXES,
    SIDECAR_SUFFIXES,
    match_across,
    match_beside,
    read_sidecars,
    split_name,
    without_masks,
)
from atlas.sources.signatures import HEAD, is_picture_head
from atlas.sources.tarmembers import plain_path, read_members
from atlas.sources.textfiles import MAX_CAPTION, MAX_RECORDS

_SPLIT_AT_THE_END = re.compile(rf"(?<=-)({'|'.join(SPLITS)})(?=(-\d+|-of)*$)")


@dataclass(frozen=True)
class Tars:
    """Tar shards: key.jpg with key.txt, key.cls and key.json, in any order, or in folders of their own.

    Listing reads headers and texts only. Images are read by their offset, so the shards need not be unpacked.
    """

    name: str
    spec: str
    files: tuple[tuple[str, Path], ...]  # (prefix of the ids, path of the shard)
    beside: tuple[Note, ...] = ()  # on other files of the same folder

    def __iter__(self) -> Iterator[Item]:
        return only_items(self.entries())

    def entries(self) -> Iterator[Item | Note]:
        """Items, and notes on the members that are left out and on texts that belong to no picture."""
        for inside, file in self.files:
            size, mtime = size_and_mtime(file)
            members = read_members(file)
            distinct = Distinct()
            if len(members.groups) > 1:
                yield Note("taken", f"{len(members.groups)} shards in one: each keeps its own texts", 1, file.name)
            for group in members.groups:
                yield from self._group(inside, file, group, (size, mtime), distinct)
            for link in members.dead:
                if split_name(link.name)[2] in PICTURE_SUFFIXES:
                    reason = f"a link to {printable_line(link.linkname)[:80]}, which is no file of the shard"
                    id = distinct(f"{self.name}/{inside}{plain_path(link.name)}")
                    yield replace(refused_item(id, self.spec, reason), mtime=mtime)
                else:
                    yield Note("left", "links in shards to what is no file of the shard", 1, link.name)
            if members.fault:
                reason = f"the shard breaks off or is no tar: {members.fault}"
                item = refused_item(f"{self.name}/{inside}(rest)", self.spec, reason)
                yield replace(item, size=size, mtime=mtime)
        yield from self.beside

    def _group(
        self, inside: str, file: Path, members: list[tarfile.TarInfo], state: tuple[int, int], distinct: Distinct
    ) -> Iterator[Item | Note]:
        """Items and notes of members of a shard whose paths differ; `state`: the shard's size and time of change."""
        named = {plain_path(member.name): member for member in members}
        with file.open("rb") as shard:

            def content(path: str, most: int = MAX_CAPTION) -> bytes:
                shard.seek(named[path].offset_data)
                return shard.read(min(named[path].size, most))

            pictures = [path for path in named if _is_picture(path, partial(content, path, HEAD))]
            sorted_out = _matched(pictures, [path for path in named if _is_text(path)])
            known = sorted_out.known
            others = [path for path in named if path not in known]
            tables = _tables(others, named, content)
            for path in sorted_out.pictures:
                member, texts = named[path], sorted_out.texts.get(path, ())
                said = read_sidecars({each: content(each) for each in texts if not named[each].issparse()}, path)
                said = with_rows(said, path, tables)
                yield from said.notes()
                folder, split = folder_class(path.split("/")[:-1], "")
                if said.label or folder:
                    yield Note("taken", "labels: " + (said.named_by if said.label else "folders in the shards"))
                described = {"caption": said.captions, "label": (said.label or folder,), "group": (said.group,)}
                described["split"] = (said.split or split or split_of_path(inside),)
                id = distinct(f"{self.name}/{inside}{path}")
                fault = _fault(member, [named[each] for each in texts], state[0])
                load = partial(_decode_slice, file, member.offset_data, member.size)
                if fault:
                    load = partial(raise_unreadable, fault)
                yield image_item(id, self.spec, described, load, member.size, state[1])
        for table in tables.values():
            yield from table.notes()
        yield from sorted_out.notes()
        yield from notes_on_others([path for path in others if path not in tables], "in shards")


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


def _is_text(path: str) -> bool:
    return split_name(path)[2] in SIDECAR_SUFFIXES


def _is_picture(path: str, head: "partial[bytes]") -> bool:
    suffix = split_name(path)[2]
    if suffix in PICTURE_SUFFIXES or suffix in NOT_IMAGES:
        return suffix in PICTURE_SUFFIXES
    return is_picture_head(head())


@dataclass
class _Sorted:
    """The members of a group: pictures with the texts of each, masks, and texts that belong to no picture."""

    pictures: list[str] = field(default_factory=list)
    texts: dict[str, list[str]] = field(default_factory=dict)
    masks: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    @property
    def known(self) -> set[str]:
        owned = {text for texts in self.texts.values() for text in texts}
        return {*self.pictures, *owned, *self.masks, *self.lost}

    def notes(self) -> Iterator[Note]:
        if self.masks:
            yield Note("left", "masks and other views of pictures", len(self.masks), self.masks[0])
        if self.lost:
            yield Note("lost", "texts that belong to no picture", len(self.lost), self.lost[0])


def _matched(pictures: Sequence[str], texts: Sequence[str]) -> _Sorted:
    """Match the texts of a group to its pictures."""
    shelves: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for each, paths in enumerate((pictures, texts)):
        for path in paths:
            shelves[split_name(path)[0]][each].append(path)
    found, kept, lost = _Sorted(), set[str](), list[str]()
    for here, beside in shelves.values():
        plain, aside = without_masks(here, True)
        owned, left = match_beside(plain, beside, True)
        kept.update(plain)
        found.masks += aside
        found.texts |= owned
        lost += left
    found.pictures = [path for path in pictures if path in kept]
    if lost:
        moved, lost = match_across(found.pictures, lost)
        for path, more in moved.items():
            found.texts[path] = [*found.texts.get(path, ()), *more]
    keys = {_key(path) for path in pictures}
    found.lost = [path for path in lost if split_name(path)[2] in CAPTION_SUFFIXES or _key(path) in keys]
    return found


def _key(path: str) -> str:
    """webdataset's key of a sample: the path up to the first dot of the name."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{name.partition('.')[0]}"


def _tables(
    paths: Sequence[str], named: Mapping[str, tarfile.TarInfo], content: Callable[[str, int], bytes]
) -> dict[str, FolderMetadata]:
    """The tables among these members that describe pictures, as imagefolder has them, by their paths."""
    found = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        if name.lower() in METADATA_NAMES and named[path].size <= MAX_RECORDS and not named[path].issparse():
            with TemporaryDirectory() as place:  # tables are read from files
                copied = Path(place, name)
                copied.write_bytes(content(path, MAX_RECORDS))
                found[path] = read_metadata(copied, f"{folder}/" if folder else "")
    return nearest_first(found)


def split_of_path(path: str) -> str:
    """The split that a shard's path names: train/0.tar, data/validation-00000-of-00002.parquet, beans-train.arrow."""
    stem = os.path.splitext(path.strip("/"))[0]
    for part in stem.lower().replace(".", "-").replace("_", "-").split("/")[::-1]:
        first = part.partition("-")[0].removeprefix("split=")
        if found := SPLITS.get(first) or SPLITS.get((_SPLIT_AT_THE_END.search(part) or [""])[0]):
            return found
    return ""


def _decode_slice(file: Path, offset: int, size: int) -> Image.Image:
    try:
        with file.open("rb") as shard:
            shard.seek(offset)
            return decode(shard.read(size))
    except OSError as error:
        raise Unreadable(f"its shard cannot be read: {(error.strerror or 'unknown').lower()}") from None
