"""The item of one image file, and files that are not where a table says, but in a folder beside it."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from atlas.sources.columns import is_address, looks_like_picture
from atlas.sources.decoding import decode
from atlas.sources.items import Item, Note, image_item, raise_unreadable, size_and_mtime

_USUAL_SUFFIXES = (".jpg", ".png", ".jpeg", ".webp", ".JPG", ".PNG", ".JPEG")  # tried where names have none
_SEARCHED = 1000  # names that are looked for in other folders too
_CAPTION_NUMBER = re.compile(r"#\d+$")  # Flickr8k names each caption of a picture: a.jpg#0


def image_file_item(id: str, spec: str, path: Path, texts: Mapping[str, Sequence[str]]) -> Item:
    """The item of one image file, with its texts by role; a missing file is listed with the reason."""
    size, mtime = size_and_mtime(path)
    load = partial(decode, path)
    if not mtime:
        address = is_address(id.partition("/")[2]) or str(path).startswith("data:")
        missing = "no such file" if path.suffix else "no such file, with or without a suffix"
        reason = "an address, not a file: download it first" if address else missing
        load = partial(raise_unreadable, reason)
    return image_item(id, spec, texts, load, size, mtime)


class PathFinder:
    """Finds the files that a table names: in its own folder, in a folder inside that, or in one beside it.

    A name may lack its suffix, be written as on another system, or be the address of a file (file://).
    """

    def __init__(self, home: Path):
        self.home, self.inside = home, ""  # the folder in which the last file was found
        self._homes: dict[str, int] = {}  # how many were found in which folder
        self._suffix = ""  # that names lack
        self._several, self._example, self._searched = 0, "", 0
        self._folders: list[str] | None = None
        self._around: list[str] | None = None

    def find(self, path: str) -> Path:
        """The path of a named file; relative to `home` if there is no such file anywhere."""
        if is_address(path):
            return self._at("", path) or self.home / path
        for name in _spellings(path):
            if file := self._somewhere(name):
                return file
        return self._without_suffix(path) or self.home / path

    def _somewhere(self, path: str) -> Path | None:
        if file := self._at("", path):
            return file
        if self.inside and (file := self._at(self.inside, path)):
            self._look_for_others(path)
            return file
        for folder in (*self._beside(), *self._beside_home()):
            if folder != self.inside and (file := self._at(folder, path)):
                self.inside = folder
                self._look_for_others(path)
                return file
        return None

    def _look_for_others(self, path: str) -> None:
        """Count a name that another folder has as well, so that it may be another picture."""
        self._searched += 1
        self._homes[self.inside] = self._homes.get(self.inside, 0) + 1
        if self._searched <= _SEARCHED:
            other = next((each for each in self._beside() if each != self.inside and self._at(each, path)), None)
            if other is not None:
                self._several += 1
                self._example = self._example or f"{self.inside}/{path}, {other}/{path}"

    def _without_suffix(self, path: str) -> Path | None:
        if looks_like_picture(path) or not path:
            return None
        for suffix in dict.fromkeys((self._suffix, *_USUAL_SUFFIXES)):
            if suffix and (file := self._somewhere(path + suffix)):
                self._suffix = suffix
                return file
        return None

    def _at(self, folder: str, path: str) -> Path | None:
        file = self.home / folder / path
        try:
            return file if file.exists() else None
        except (OSError, ValueError):  # a name that is too long, or with a null byte
            return None

    def _beside(self) -> list[str]:
        if self._folders is None:
            try:
                inside = sorted(path for path in self.home.iterdir() if path.is_dir() and path.name[0] != ".")
            except OSError:
                inside = []
            deeper = [path for folder in inside[:20] for path in (folder / folder.name,) if path.is_dir()]
            self._folders = [path.relative_to(self.home).as_posix() for path in [*inside, *deeper][:100]]
        return self._folders

    def _beside_home(self) -> list[str]:
        """Folders beside that of the table: COCO's annotations/ lies beside train2017/ and images/."""
        if self.home.name.lower() not in ("annotations", "annotation", "labels", "captions", "metadata"):
            return []
        if self._around is None:
            folders = [path for depth in ("*", "*/*") for path in sorted(self.home.parent.glob(depth)) if path.is_dir()]
            self._around = ["..", *(f"../{path.relative_to(self.home.parent).as_posix()}" for path in folders[:100])]
        return self._around

    def notes(self) -> Iterator[Note]:
        """Where the files were found, if that is not where the table says."""
        if self._homes:
            few = ", ".join(f"{folder}/" for folder in list(self._homes)[:3])
            more = f" and {len(self._homes) - 3:,} more folders" if len(self._homes) > 3 else ""
            yield Note("taken", f"files found in {few}{more}, beside the table", self._searched)
        if self._suffix:
            yield Note("taken", f"names without suffixes: {self._suffix} files")
        if self._several:
            said = "of the first 1,000 " if self._searched > _SEARCHED else ""
            text = f"{said}{self._several:,} rows name a file of several folders ({self._example}): the first is taken"
            yield Note("taken", text)


def _spellings(path: str) -> Iterator[str]:
    """A path as it is written, and as it may be meant: of Windows, macOS, a file's address, Flickr8k's captions."""
    yield path
    if path.startswith("file:"):
        yield unquote(urlsplit(path).path)
    elif "%" in path:
        yield unquote(path)
    if "\\" in path:
        yield path.replace("\\", "/")
    if not path.isascii():
        yield from {unicodedata.normalize(form, path) for form in ("NFC", "NFD")} - {path}
    if (plain := _CAPTION_NUMBER.sub("", path)) != path:
        yield from _spellings(plain)
