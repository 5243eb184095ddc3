"""The item of one image file, and files that are not where a table says, but in a folder beside it."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from atlas.sources.columns import is_address
from atlas.sources.decoding import decode
from atlas.sources.items import Item, Note, image_item, raise_unreadable, size_and_mtime

_CAPTION_NUMBER = re.compile(r"#\d+$")  # Flickr8k names each caption of a picture: a.jpg#0


def image_file_item(id: str, spec: str, path: Path, texts: Mapping[str, Sequence[str]]) -> Item:
    """The item of one image file, with its texts by role; a missing file is listed with the reason."""
    size, mtime = size_and_mtime(path)
    load = partial(decode, path)
    if not mtime:
        address = is_address(id.partition("/")[2]) or str(path).startswith("data:")
        reason = "an address, not a file: download it first" if address else "no such file"
        load = partial(raise_unreadable, reason)
    return image_item(id, spec, texts, load, size, mtime)


class PathFinder:
    """Finds the files that a table names: in the table's folder, in a folder inside that, or in a folder beside it."""

    def __init__(self, home: Path):
        self.home, self.inside, self.found = home, "", 0
        self._folders: list[str] | None = None
        self._around: list[str] | None = None

    def find(self, path: str) -> Path:
        """The path of a named file; relative to `home` if there is no such file anywhere."""
        if self.inside and (file := self._at(self.inside, path)):
            return file
        if file := self._at("", path):
            return file
        if "\\" in path and (file := self._at("", path.replace("\\", "/"))):  # written on Windows
            return file
        if is_address(path):
            return self.home / path
        for folder in (*self._beside(), *self._beside_home()):
            if file := self._at(folder, path):
                self.inside = folder
                return file
        plain = _CAPTION_NUMBER.sub("", path)
        return self.home / path if plain == path else self.find(plain)

    def _at(self, folder: str, path: str) -> Path | None:
        file = self.home / folder / path
        try:
            there = file.exists()
        except (OSError, ValueError):  # a name that is too long, or with a null byte
            return None
        self.found += bool(there and folder)
        return file if there else None

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

    def notes(self) -> list[Note]:
        """Where the files were found, if that is not where the table says."""
        return [Note("taken", f"files found in {self.inside}/, beside the table", self.found)] if self.inside else []
