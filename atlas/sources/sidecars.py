"""SidecarTexts beside pictures: which text file belongs to which picture, in folders and in tar shards alike.

A caption ends at its own picture, whatever the order, the folder, the case of the suffix or the dots in the name.
Paths are relative and written with slashes.
"""

import json
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import PurePosixPath

from atlas.sources.columns import ROLES, plain_name
from atlas.sources.items import TEXT_ROLES, Note
from atlas.sources.values import cell_texts, first_text, guess_encoding

CAPTION_SUFFIXES = (".txt", ".caption", ".captions", ".text", ".cap", ".prompt", ".tags")  # the first one is used
SIDECAR_SUFFIXES = frozenset((*CAPTION_SUFFIXES, ".cls", ".json"))
_ASIDE = frozenset(("seg", "segmentation", "mask", "masks", "depth", "alpha", "matte", "normal", "normals", "canny",
                    "edge", "edges", "panoptic", "instance", "semantic", "label", "annotation", "sketch", "cond",
                    "control", "conditioning"))  # fmt: skip
_MASK = re.compile(r"[_-](masks?|seg|segmentation|depth|masklabel|condlabel)(?=\.|$)", re.IGNORECASE)  # a_mask.png
_NUMBERED = re.compile(r"v?\d", re.IGNORECASE)  # such parts of a name are no kind of view: a.1.jpg, a.v2.jpg
_SAID = frozenset(("caption", "captions", "text", "txt", "tags", "prompt", "meta", "metadata", "info", "json"))
_CLASSES = frozenset(("cls", "class", "label", "target"))  # middles of names, of texts that name a class: a.cls.txt
_SAID |= _CLASSES
_LANGUAGE = re.compile(r"([a-z]{2})([_-][a-z]{2,4})?", re.IGNORECASE)  # a.en.txt, a.pt-BR.txt


@dataclass(frozen=True)
class SidecarTexts:
    """What the sidecar files of one picture say."""

    captions: tuple[str, ...] = ()
    label: str = ""
    group: str = ""
    split: str = ""
    key: str = ""  # img2dataset's key of the sample
    origin: str = ""  # where the caption was found
    named_by: str = "files beside the pictures"  # where the label was found
    numbers: str = ""  # a text that was left out, because it holds numbers alone
    broken: str = ""  # a file that is said to be JSON and is not
    encoding: str = ""  # in which its text was read, if that is not UTF-8
    other: str = ""  # a text of another kind, left out because there is a caption
    silent: str = ""  # JSON that says nothing of the picture
    replaced: str = ""  # a text with bytes that are no letters

    def notes(self) -> Iterator[Note]:
        """What was taken from them, and what was not."""
        if self.captions:
            yield Note("taken", f"captions: {self.origin}")
        if self.numbers:
            text = "texts of numbers alone, as detectors are trained on, are no captions"
            yield Note("left", text, 1, self.numbers)
        if self.other:
            yield Note("left", "texts of another kind, of pictures that have a caption", 1, self.other)
        if self.encoding:
            yield Note("taken", f"texts beside pictures that are not UTF-8, read as {self.encoding}")
        if self.replaced:
            yield Note("left", "texts beside pictures with broken letters, shown as \ufffd", 1, self.replaced)
        if self.silent:
            yield Note("left", "JSON files beside pictures that hold no caption, class, group or split", 1, self.silent)
        if self.broken:
            yield Note("left", "files beside pictures that are said to be JSON and are not", 1, self.broken)


def split_name(path: str) -> tuple[str, str, str]:
    """Folder with its slash, stem and lower-case suffix of a path."""
    folder, slash, name = path.rpartition("/")
    stem, suffix = os.path.splitext(name)
    return folder + slash, stem, suffix.lower()


def alike(name: str) -> str:
    """A name without regard to case, and to how its accents are written (macOS writes them apart from the letter)."""
    return name.casefold() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def without_masks(pictures: Sequence[str], strict: bool) -> tuple[list[str], list[str]]:
    """Pictures of one folder, and what only goes with one of them: s0.seg.png and s0_mask.png are no second photos.

    `strict`: webdataset's rule, by which all files of a key are one sample. Otherwise only the usual names of masks
    count. Numbers (s0.1.png) are pictures of their own.
    """
    if not any(name.count(".") > 1 or _MASK.search(name) for name in (path.rpartition("/")[2] for path in pictures)):
        return list(pictures), []
    plain = {stem for _, stem, _ in map(split_name, pictures)}
    kept, masks = [], []
    for path in pictures:
        _, stem, _ = split_name(path)
        key, _, middle = stem.partition(".")
        aside = bool(middle) and key in plain and (middle.lower() in _ASIDE or (strict and not _NUMBERED.match(middle)))
        aside |= bool(mask := _MASK.search(stem)) and stem[: mask.start()] in plain
        (masks if aside else kept).append(path)
    return kept, masks


def match_beside(pictures: Sequence[str], texts: Sequence[str], strict: bool) -> tuple[dict[str, list[str]], list[str]]:
    """The texts of each picture of one folder, {picture: texts}, and the texts that belong to none.

    `strict`: the key of webdataset, the name up to its first dot, joins files too, if one picture alone has it.
    """
    exact, loose, keys = defaultdict(list), defaultdict(list), defaultdict(list)
    for path in pictures:
        name, (_, stem, _) = path.rpartition("/")[2], split_name(path)
        for each in {stem, name}:
            exact[each].append(path)
            loose[alike(each)].append(path)
        keys[alike(name.partition(".")[0])].append(path)
    found: dict[str, list[str]] = defaultdict(list)
    lost = []
    for path in texts:
        stem = split_name(path)[1]
        key, _, middle = stem.partition(".")
        alone = keys.get(alike(key), []) if len(keys.get(alike(key), ())) == 1 else []
        owners = exact.get(stem) or loose.get(alike(stem))
        said = middle.lower() in _SAID or _LANGUAGE.fullmatch(middle) or (strict and not _NUMBERED.match(middle))
        if not owners and middle and said:
            owners = exact.get(key) or loose.get(alike(key)) or alone
        if not owners and strict and not middle:
            owners = alone
        for owner in owners or ():
            found[owner].append(path)
        lost += [] if owners else [path]
    return dict(found), lost


def match_across(pictures: Iterable[str], texts: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """The same for texts in folders of their own: images/a.jpg and captions/a.txt, where one folder differs.

    A text is given to a picture only if no other picture fits as well, and if its own folder holds no pictures.
    """
    owners: dict[int, set[str]] = {}
    index: dict[str, list[int]] = defaultdict(list)
    for number, path in enumerate(texts):
        for each in _shortened(path):
            index[each].append(number)
    homes = set()
    for path in pictures:
        homes.add(split_name(path)[0])
        for each in _shortened(path):
            for number in index.get(each, ()):
                owners.setdefault(number, set()).add(path)
    found: dict[str, list[str]] = defaultdict(list)
    lost = []
    for number, path in enumerate(texts):
        fitting = owners.get(number, set())
        if len(fitting) == 1 and split_name(path)[0] not in homes:
            found[next(iter(fitting))].append(path)
        else:
            lost.append(path)
    return dict(found), lost


def _shortened(path: str) -> set[str]:
    """A path without its suffix, and the same with one of its folders left out."""
    *folders, name = path.split("/")
    stem = alike(split_name(name)[1])
    whole = [alike(folder) for folder in folders]
    short = [whole[:i] + whole[i + 1 :] for i in range(len(whole))]
    return {"/".join([*each, stem]) for each in (whole, *short)}


def read_sidecars(contents: Mapping[str, bytes], picture: str) -> SidecarTexts:
    """What a picture's sidecar files say, {path: content}. Text files take precedence over JSON."""
    encodings = {path: guess_encoding(content) for path, content in contents.items()}
    said = {path: contents[path].decode(name, "replace").removeprefix("\ufeff") for path, name in encodings.items()}
    other = next((name for name in encodings.values() if not name.startswith("utf")), "")
    replaced = next((path for path, text in said.items() if "\ufffd" in text), "")
    described: dict[str, object] = {}
    broken = silent = ""
    for path, text in said.items():
        if split_name(path)[2] == ".json":
            found = _json_object(text)
            broken = path if found is None else broken
            silent = path if found is not None and not any(map(cell_texts, found.values())) else silent
            described |= {role: value for role, value in (found or {}).items() if value is not None}
    classes = [text for path, text in said.items() if _names_class(path, picture)]
    written = _surest_first(said, picture)
    numbers = [path for path in written if _is_numbers(said[path])]
    strange = [path for path in written if written[path] is _Kind.OTHER and min(written.values()) is not _Kind.OTHER]
    prose = [said[path] for path in written if path not in numbers + strange]
    captions = tuple(dict.fromkeys(line for text in (*prose, described.get("caption")) for line in cell_texts(text)))
    label = next((line for text in (*classes, described.get("label")) for line in cell_texts(text)), "")
    group, split, key = (first_text(described.get(name)) for name in ("group", "split", "key"))
    ending = next((_ending(path, kind) for path, kind in written.items() if prose), ".json")
    origin = f"{ending} files of the same names" if captions else ""
    return SidecarTexts(
        captions, label, group, split, key, origin, numbers="".join(numbers[:1]), broken=broken, silent=silent,
        other="".join(strange[:1]), encoding=other, replaced=replaced,
    )  # fmt: skip


def _names_class(path: str, picture: str) -> bool:
    """Whether a file beside a picture names its class: a.cls, or a.cls.txt and a.label.txt beside a.jpg."""
    _, stem, suffix = split_name(path)
    middle = stem.rpartition(".")[2].lower() if "." in stem else ""
    return suffix == ".cls" or (middle in _CLASSES and suffix != ".json" and stem != split_name(picture)[1])


class _Kind(IntEnum):
    """How a text's name joins it to a picture a.jpg: a.txt, a.caption.txt, or a.url.txt, which may say anything."""

    OWN, USUAL, OTHER = range(3)


def _surest_first(paths: Iterable[str], picture: str) -> dict[str, _Kind]:
    """The texts of a picture that may be captions, the surest first, with how their names join them to it."""
    order = {suffix: number for number, suffix in enumerate(CAPTION_SUFFIXES)}
    kinds = {path: _kind(path, picture) for path in paths if split_name(path)[2] in order}
    kinds = {path: kind for path, kind in kinds.items() if not _names_class(path, picture)}
    return dict(
        sorted(kinds.items(), key=lambda item: (item[1], order[split_name(item[0])[2]], not _is_english(item[0]), item))
    )


def _kind(path: str, picture: str) -> _Kind:
    stem = split_name(path)[1]
    middle = stem.rpartition(".")[2] if "." in stem else ""
    if not middle or alike(stem) in (alike(split_name(picture)[1]), alike(picture.rpartition("/")[2])):
        return _Kind.OWN
    usual = middle.lower() in _SAID or _LANGUAGE.fullmatch(middle) or _NUMBERED.match(middle)
    return _Kind.USUAL if usual else _Kind.OTHER


def _ending(path: str, kind: _Kind) -> str:
    """The suffix of a text; with the part of its name before that, if that part is unusual."""
    _, stem, suffix = split_name(path)
    return f".{stem.rpartition('.')[2]}{suffix}" if kind is _Kind.OTHER else suffix


def _is_english(path: str) -> bool:
    """Whether a text names English as its language: a.en.txt, a.en-GB.txt."""
    language = _LANGUAGE.fullmatch(split_name(path)[1].rpartition(".")[2])
    return language is not None and language[1].lower() == "en"


def _is_numbers(text: str) -> bool:
    """Whether a text is rows of numbers, such as the boxes that detectors are trained on."""
    return bool(re.fullmatch(r"[-+\d.,\seE]*\d[-+\d.,\seE]*", text)) and len(text.split()) > 3


def _json_object(text: str) -> dict[str, object] | None:
    """The caption, label, group, split and key in a JSON object, by the names that columns of tables have.

    None for what is not JSON.
    """
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(read, str) or (isinstance(read, list) and all(isinstance(each, str) for each in read)):
        return {"caption": read}
    if not isinstance(read, dict):
        return {}
    named = {plain_name(str(key)): value for key, value in reversed(read.items())}
    file = str(named.get("title", "")).lower()  # Google's exports name the file, not the picture, in their title
    if PurePosixPath(file).suffix in (".jpg", ".jpeg", ".png", ".heic", ".gif", ".webp"):
        named.pop("title")
    found: dict[str, object] = {"key": named.get("key")}
    for role in TEXT_ROLES:
        found[role] = next((named[name] for name in ROLES[role] if cell_texts(named.get(name))), None)
    return found
