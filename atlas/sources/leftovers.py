"""Files that a source leaves out: how many there are of which kind, and how to ask for them."""

import os
import re
from collections.abc import Iterator, Sequence

from atlas.sources.coco import is_coco_name
from atlas.sources.items import Note
from atlas.sources.records import TABLE_SUFFIXES

PACKED = (".tar", ".parquet", ".pq", ".arrow", ".feather")  # sources of their own
COMPRESSED = (".zip", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_MAY_DESCRIBE = re.compile(r"caption|prompt|annot|label|meta|dataset|texts?\b", re.IGNORECASE)


def notes_on_others(paths: Sequence[str], where: str, spec: str | None = None) -> Iterator[Note]:
    """Notes on files that are neither pictures nor texts of pictures.

    `where`: "beside the pictures", "in shards". `spec`: of the folder in which they can be named; None if they cannot.
    """
    kinds: dict[str, list[str]] = {}
    for path in paths:
        kinds.setdefault(_kind(path), []).append(path)
    for kind, found in sorted(kinds.items()):
        example = f"{spec}/{found[0]}" if spec is not None and kind != "compressed" else found[0]
        if kind == "rest":
            yield Note("left", "other files, which are no pictures", len(found), found[0])
        elif kind == "annotations":
            named = "name the file to read them" if spec is not None else f"{where}; unpack and name them to read them"
            yield Note("left", f"annotations; {named}", len(found), example)
        elif kind == "compressed":
            yield Note("left", f"compressed files {where}; unpack them to read them", len(found), example)
        else:
            may = " that may hold captions" if kind == ".json" else ""
            asked = "name the file to read it" if spec is not None else "unpack it and name it to read it"
            yield Note("left", f"{kind} {where}{may}; {asked}", len(found), example)


def _kind(path: str) -> str:
    name = os.path.basename(path)
    suffix = os.path.splitext(name)[1].lower()
    if is_coco_name(path):
        return "annotations"
    if suffix in COMPRESSED:
        return "compressed"
    if suffix == ".json":
        return suffix if _MAY_DESCRIBE.search(name) else "rest"
    return suffix if suffix in (*PACKED, *TABLE_SUFFIXES, ".txt") else "rest"
