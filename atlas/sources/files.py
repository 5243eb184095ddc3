"""A folder of image files, with the captions and classes that lie beside them."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from atlas.errors import Refused
from atlas.sources.columns import PICTURE_SUFFIXES
from atlas.sources.decoding import TRIED_AGAIN, Unreadable, read_bytes
from atlas.sources.imagefile import image_file_item
from atlas.sources.items import (
    SHELVES,
    Item,
    Note,
    only_items,
    printable_line,
    raise_unreadable,
    refused_item,
    split_of_folder,
)
from atlas.sources.leftovers import notes_on_others
from atlas.sources.metadata import METADATA_NAMES, FolderMetadata, nearest_first, read_metadata, with_rows
from atlas.sources.sidecars import (
    CAPTION_SUFFIXES,
    SIDECAR_SUFFIXES,
    SidecarTexts,
    match_across,
    match_beside,
    read_sidecars,
    split_name,
    without_masks,
)
from atlas.sources.signatures import head_of, is_picture_head
from atlas.sources.tables import table_of_texts
from atlas.sources.textfiles import MAX_CAPTION

# Files with other suffixes are looked into; those that are no images are left out, in a line of the summary.
NOT_IMAGES = frozenset((
    ".txt", ".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".md", ".rst", ".html", ".htm", ".xml", ".yaml", ".yml",
    ".toml", ".ini", ".cfg", ".log", ".py", ".ipynb", ".sh", ".npy", ".npz", ".pt", ".pth", ".ckpt", ".safetensors",
    ".pkl", ".h5", ".hdf5", ".parquet", ".arrow", ".feather", ".db", ".sqlite", ".tar", ".zip", ".gz", ".tgz", ".bz2",
    ".xz", ".zst", ".7z", ".rar", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".mp3", ".wav", ".flac", ".ogg", ".mp4",
    ".mov", ".avi", ".mkv", ".webm", ".cls", ".caption", ".captions", ".text", ".cap", ".prompt", ".tags", ".index",
    ".id", ".url", ".lock", ".bin",
))  # fmt: skip
_Place = tuple[tuple[int, int], ...]  # device and inode of a folder and of those around it
_SILENT = SidecarTexts()
_DEEPEST = 100  # folders in folders


@dataclass
class _Outline:
    """What a folder holds besides pictures and the texts beside them, found by one look over its names."""

    metadata: dict[str, FolderMetadata] = field(default_factory=dict)  # by the path of the table
    texts: list[str] = field(default_factory=list)  # that belong to no picture of their own folder
    moved: dict[str, list[str]] = field(default_factory=dict)  # texts of a picture that lie in another folder
    left: list[str] = field(default_factory=list)  # files left out
    masks: list[str] = field(default_factory=list)
    named_by: dict[str, None] = field(default_factory=dict)  # what named the classes, in order


@dataclass(frozen=True)
class Folder:
    """All images below a folder, sorted by name, without hidden files.

    Captions are read from the files beside a picture (a.txt, a.caption, a.json, a.jpg.txt), from folders of texts
    with the same names, and from metadata.csv, .jsonl or .parquet. The label is the folder, a split is no label.
    """

    name: str
    spec: str
    root: Path

    def __iter__(self) -> Iterator[Item]:
        return only_items(self.entries())

    def entries(self) -> Iterator[Item | Note]:
        """Items, and notes on captions and on the files left out."""
        outline = _outline(self.root)
        yield from self._below(self.root, "", (), outline)
        for table in outline.metadata.values():
            yield from table.notes()
        yield from _notes(self.spec, outline)

    def _below(self, folder: Path, inside: str, above: _Place, outline: _Outline) -> Iterator[Item | Note]:
        try:
            entries, here = _listed(folder, above)
        except Unreadable as unreadable:
            if not above:
                raise Refused(f"{folder}: {unreadable}") from None
            yield refused_item(f"{self.name}/{inside}", self.spec, f"a folder that {unreadable}{TRIED_AGAIN}")
            return
        files = {entry.name: entry for entry in entries if not _is_folder(entry)}
        pictures, texts, _ = sorted_files(files, Path(folder))
        beside = match_beside(pictures, texts, False)[0] if texts else {}
        chosen = set(pictures)
        for entry in entries:
            if entry.name not in files:
                yield from self._below(Path(entry.path), f"{inside}{entry.name}/", here, outline)
            elif entry.name in chosen:
                sidecars = [f"{inside}{name}" for name in beside.get(entry.name, ())]
                yield from self._entry(inside, entry.name, sidecars, outline)

    def _entry(self, inside: str, name: str, sidecars: list[str], outline: _Outline) -> Iterator[Item | Note]:
        path = f"{inside}{name}"
        sidecars += outline.moved.get(path, ())
        said, fault = _read(self.root, sidecars, name) if sidecars else (_SILENT, "")
        said = with_rows(said, path, outline.metadata)
        folders = inside.split("/")[:-1]
        label, split = folder_class(folders, self.name)
        if said.key and said.key.startswith(label):
            label = ""  # the shard of img2dataset
        yield from said.notes()
        if said.label or label:
            outline.named_by[said.named_by if said.label else "the folder of a picture"] = None
        label, group = said.label or label, said.group or (folders[0] if folders else self.name)
        texts = {"caption": said.captions, "label": (printable_line(label),), "group": (printable_line(group),)}
        texts["split"] = (said.split or split,)
        item = image_file_item(f"{self.name}/{path}", self.spec, self.root / path, texts)
        yield replace(item, load=partial(raise_unreadable, fault)) if fault else item


def folder_class(folders: Sequence[str], home: str) -> tuple[str, str]:
    """Label and split of a picture by its folders: the innermost one that is neither a split nor a shelf."""
    splits = [split_of_folder(name) for name in folders]
    split = next(filter(None, splits), "")
    classes = [name for name, named in zip(folders, splits, strict=True) if not named and name.lower() not in SHELVES]
    return (classes[-1] if classes else home), split


def holds_pictures(root: Path) -> bool:
    """Whether there is a picture below a folder, told by names alone where these are telling."""
    return _first_picture(root, ()) is not None


def _first_picture(folder: Path, above: _Place) -> Path | None:
    entries, here = _listed_if_possible(folder, above)
    for entry in entries:
        if not _is_folder(entry) and is_picture(entry.name, Path(entry.path)):
            return Path(entry.path)
    inner = (_first_picture(Path(entry.path), here) for entry in entries if _is_folder(entry))
    return next((path for path in inner if path), None)


def is_picture(name: str, path: Path) -> bool:
    """Whether a file is a picture, or one that is damaged: by its suffix or, if that is unknown, by its first bytes."""
    suffix = os.path.splitext(name)[1].lower()
    if suffix in PICTURE_SUFFIXES:
        return True
    if suffix in NOT_IMAGES:
        return False
    try:
        head = head_of(path) if path.is_file() else b""
    except OSError:
        return True
    return is_picture_head(head) if head else True


def sorted_files(
    names: Sequence[str] | dict[str, os.DirEntry[str]], folder: Path
) -> tuple[list[str], list[str], list[str]]:
    """The files of one folder as pictures, texts that may belong to them, and others (masks among them)."""
    pictures, texts, others = [], [], []
    for name in names:
        suffix = os.path.splitext(name)[1].lower()
        if suffix in SIDECAR_SUFFIXES:
            texts.append(name)
        elif suffix in PICTURE_SUFFIXES or (suffix not in NOT_IMAGES and is_picture(name, folder / name)):
            pictures.append(name)
        else:
            others.append(name)
    kept, masks = without_masks(pictures, False)
    return kept, texts, others + masks


def _outline(root: Path) -> _Outline:
    found = _Outline()
    _look_over(root, "", (), found)
    found.metadata = nearest_first(found.metadata)
    if found.texts:
        found.moved, lost = match_across(_all_pictures(root, "", ()), found.texts)
        found.texts = [path for path in lost if split_name(path)[2] in CAPTION_SUFFIXES]
        found.left += [path for path in lost if split_name(path)[2] not in CAPTION_SUFFIXES]  # of something else
    return found


def _is_table(file: Path) -> bool:
    """Whether a text file is a table; one that cannot be read is none, and refuses no pictures."""
    try:
        return table_of_texts(file)
    except (Refused, OSError):
        return False


def _look_over(folder: Path, inside: str, above: _Place, found: _Outline) -> None:
    entries, here = _listed_if_possible(folder, above)
    pictures, texts, others = sorted_files([entry.name for entry in entries if not _is_folder(entry)], folder)
    if tables := [name for name in (*texts, *others) if name.lower() in METADATA_NAMES]:
        found.metadata |= {f"{inside}{name}": read_metadata(folder / name, inside) for name in tables}
    for name in match_beside(pictures, texts, False)[1] if texts else ():
        if name not in tables:
            is_table = name.lower().endswith(".txt") and _is_table(folder / name)
            (found.left if is_table else found.texts).append(f"{inside}{name}")
    for name in others:
        suffix = os.path.splitext(name)[1].lower()
        if suffix in PICTURE_SUFFIXES:
            found.masks.append(f"{inside}{name}")
        elif name not in tables:
            found.left.append(f"{inside}{name}")
    for entry in entries:
        if _is_folder(entry):
            _look_over(Path(entry.path), f"{inside}{entry.name}/", here, found)


def _all_pictures(folder: Path, inside: str, above: _Place) -> Iterator[str]:
    entries, here = _listed_if_possible(folder, above)
    pictures, _, _ = sorted_files([entry.name for entry in entries if not _is_folder(entry)], folder)
    yield from (f"{inside}{name}" for name in pictures)
    for entry in entries:
        if _is_folder(entry):
            yield from _all_pictures(Path(entry.path), f"{inside}{entry.name}/", here)


def _notes(spec: str, outline: _Outline) -> Iterator[Note]:
    """Where labels came from; files left out, and how to ask for them; texts that belong to no picture."""
    for named_by in outline.named_by:
        yield Note("taken", f"labels: {named_by}")
    yield from notes_on_others(outline.left, "beside the pictures", spec)
    if outline.masks:
        yield Note("left", "masks of other pictures", len(outline.masks), outline.masks[0])
    if outline.texts:
        yield Note("lost", "texts that belong to no picture", len(outline.texts), outline.texts[0])


def _read(root: Path, sidecars: Sequence[str], picture: str) -> tuple[SidecarTexts, str]:
    """What the sidecars of a picture say; and why one of them cannot be read, or ""."""
    contents: dict[str, bytes] = {}
    for path in sidecars:
        try:
            contents[path] = read_bytes(root / path, MAX_CAPTION)
        except Unreadable as unreadable:
            return _SILENT, f"its caption {printable_line(path.rpartition('/')[2])}: {unreadable}"
    return read_sidecars(contents, picture), ""


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _listed(folder: Path, above: _Place) -> tuple[list[os.DirEntry[str]], _Place]:
    """The visible entries of a folder, sorted, and its place; none of a link to a folder around it.

    Raises `Unreadable` if it cannot be listed.
    """
    try:
        status = folder.stat()
        here = status.st_dev, status.st_ino
        if here in above:  # following it would never end
            return [], above
        with os.scandir(folder) as entries:
            shown = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise Unreadable(f"cannot be listed ({(error.strerror or 'unknown').lower()})") from None
    if len(above) >= _DEEPEST:
        raise Unreadable(f"lies in more than {_DEEPEST} others and is not looked into")
    return sorted(shown, key=lambda entry: entry.name), (*above, here)


def _listed_if_possible(folder: Path, above: _Place) -> tuple[list[os.DirEntry[str]], _Place]:
    """The same, with no entries where `Folder` lists a reject."""
    try:
        return _listed(folder, above)
    except Unreadable:
        return [], above
