"""Item: one thing to look at, before anything has been read of it. And what every source must be able to do."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol, runtime_checkable

from PIL import Image

from atlas.sources.decoding import Unreadable

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u200b\ufeff]")


@dataclass(frozen=True, slots=True)
class Item:
    """One image, rendered word or text. Cheap to make and to send to another process: nothing is read before `load`."""

    id: str  # unique in its source and the same on every run: "emoji/Appl/U+1F600", "photos/cats/001.jpg"
    kind: str  # "image", "word" (an image that shows one) or "text"
    source: str  # the spec it came from
    caption: str
    label: str  # what it shows: the emoji's name, the word, the folder a picture lies in
    group: str  # how it shows it: the vendor, the font, the top folder
    size: (
        int  # bytes, and the time of the last change in ns: together they tell a changed file; 0 where there is no file
    )
    mtime: int
    load: (
        Callable[[], Image.Image] | None
    )  # the RGB image, or decoding.Unreadable; None for a text, which is its caption


@runtime_checkable
class Source(Protocol):
    """Anything that lists items in a fixed order, lazily, and the same each time."""

    @property
    def name(self) -> str:
        """What its ids begin with."""
        ...

    def __iter__(self) -> Iterator[Item]: ...


class Distinct:
    """Ids that are asked for twice get a number: a.jpg, a.jpg#2, a.jpg#3."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def __call__(self, id: str) -> str:
        """The id itself the first time, then the next free numbered one."""
        first = id
        while id in self._seen:
            self._seen[first] += 1
            id = f"{first}#{self._seen[first]}"
        self._seen[id] = 1
        return id


def printable_line(text: object) -> str:
    """Any text on one line, without control characters and invisible marks, in what UTF-8 can hold; None is empty."""
    line = " ".join(_UNPRINTABLE.sub("", "" if text is None else str(text)).split())
    return line.encode("utf-8", "backslashreplace").decode("utf-8")


def identifier(text: str) -> str:
    """A path as part of an id: what cannot be printed is escaped, so that two files never share one."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def size_and_mtime(path: Path) -> tuple[int, int]:
    """Size in bytes and time of the last change in ns; zeros for a file that is not there."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # a name with a null byte, or longer than names can be
        return 0, 0
    return status.st_size, status.st_mtime_ns


def raise_unreadable(reason: str) -> NoReturn:
    """The `load` of an item that is already known to be lost, so that it is listed with the others refused."""
    raise Unreadable(reason)
