"""`Item`, one input that is loaded lazily; `Note`, what a source says of its files; `Source`, which lists both."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NoReturn, Protocol, runtime_checkable

from PIL import Image

from atlas.sources.decoding import Unreadable

TEXT_ROLES = ("caption", "label", "group", "split")  # what texts say of a picture
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}  # one name for each split, whoever names it
SHELVES = frozenset(("images", "image", "imgs", "img", "jpegimages", "jpegs", "data"))  # folders that are no class
_OF_SPLITS = SHELVES | {"set", "dataset", "split"}  # what stands beside a split in a name: train_images, "test set"
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u200b\ufeff]")


@dataclass(frozen=True, slots=True)
class Item:
    """One image, rendered word or text. Cheap to create and to pickle: nothing is read before `load` is called.

    `load` returns the RGB image or raises `decoding.Unreadable`; it is None for a text, which is its own caption.
    `size` and `mtime` show whether a file has changed; both are 0 where there is no file.
    """

    id: str  # unique within the source and the same on every run: "emoji/Appl/U+1F600", "photos/cats/001.jpg"
    kind: str  # "image", "word" (an image of a word) or "text"
    source: str  # the spec of its source
    caption: str
    label: str  # the subject: name of the emoji, the word, the folder of the picture
    group: str  # the style: vendor, font, top folder
    size: int  # in bytes
    mtime: int  # time of the last change, in ns
    load: Callable[[], Image.Image] | None
    split: str = ""  # of the data set: train, validation, test
    captions: tuple[str, ...] = ()  # all of them, where there are several


@dataclass(frozen=True, slots=True)
class Note:
    """What a source says besides its items. Notes with the same kind and text are counted together."""

    kind: Literal["taken", "left", "lost"]  # what was taken for what; files left out; texts that belong to no picture
    text: str
    count: int = 1
    example: str = ""


@runtime_checkable
class Source(Protocol):
    """An object that lists items lazily, in a fixed order, and the same items each time."""

    @property
    def name(self) -> str:
        """Prefix of the ids."""
        ...

    def __iter__(self) -> Iterator[Item]: ...


@runtime_checkable
class Telling(Protocol):
    """A source that also says what it took for what, and what it left out."""

    def entries(self) -> Iterator[Item | Note]:
        """Items and notes, in a fixed order."""
        ...


def split_of_folder(name: str) -> str:
    """The split that a folder is named after: train, val2017, test_images, "Training Set"; "" for other names."""
    words = [word for word in re.findall(r"[^\W\d_]+", name.lower()) if word not in _OF_SPLITS]
    return SPLITS.get(words[0], "") if len(words) == 1 else ""


def only_items(entries: Iterator[Item | Note]) -> Iterator[Item]:
    """The items among items and notes."""
    return (entry for entry in entries if isinstance(entry, Item))


class Distinct:
    """Makes ids unique: repeated ids get a number (a.jpg, a.jpg#2, a.jpg#3)."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def __call__(self, id: str) -> str:
        """The id itself the first time, afterwards the id with the next free number."""
        first = id
        while id in self._seen:
            self._seen[first] += 1
            id = f"{first}#{self._seen[first]}"
        self._seen[id] = 1
        return id


def printable_line(text: object) -> str:
    """Text on one line, without control characters, invisible marks or lone surrogates; "" for None."""
    line = " ".join(_UNPRINTABLE.sub("", "" if text is None else str(text)).split())
    return line.encode("utf-8", "backslashreplace").decode("utf-8")


def identifier(text: str) -> str:
    """A path as part of an id; unprintable characters are escaped, so that different files have different ids."""
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(c if c.isprintable() and c != "\\" else ascii(c)[1:-1] for c in text)


def size_and_mtime(path: Path) -> tuple[int, int]:
    """Size in bytes and time of the last change in ns; zeros if there is no such file."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # a name with a null byte, or one that is too long
        return 0, 0
    return status.st_size, status.st_mtime_ns


def image_item(
    id: str,
    spec: str,
    texts: Mapping[str, Sequence[str]],
    load: Callable[[], Image.Image],
    size: int = 0,
    mtime: int = 0,
) -> Item:
    """The item of an image. `texts`: those of each role (caption, label, group, split), of which the first is used."""
    caption, label, group, split = (next(iter(texts.get(role, ())), "") for role in TEXT_ROLES)
    captions, split = tuple(texts.get("caption", ())), SPLITS.get(split.lower(), split)
    several = captions if len(captions) > 1 else ()
    return Item(identifier(id), "image", spec, caption, label, group, size, mtime, load, split, several)


def refused_item(id: str, spec: str, reason: str, texts: Mapping[str, Sequence[str]] | None = None) -> Item:
    """An item that is known to be unreadable, so that it is listed with its reason."""
    return image_item(id, spec, texts or {}, partial(raise_unreadable, reason))


def reason_known(item: Item) -> str:
    """Why an item is known to be unreadable before it is loaded; "" if that is not known."""
    load = item.load
    return str(load.args[0]) if isinstance(load, partial) and load.func is raise_unreadable else ""


def raise_unreadable(reason: str) -> NoReturn:
    """The `load` of an item that is known to be unreadable: it raises, so that the item is listed with its reason."""
    raise Unreadable(reason)
