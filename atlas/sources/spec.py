"""Specs: the text that a user types for a source, such as a folder or "emoji", becomes a `Source`.

emoji  words  words:countries?fonts=open-sans,pt-serif&sizes=24,48  texts:captions.txt?template=a photo of {}
photos/  paths.txt  captions.csv  shards/{00000..00099}.tar  rows.parquet  folder:emoji  hf:beans:train
"""

import codecs
import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from urllib.parse import unquote

from braceexpand import braceexpand

from atlas.errors import Refused
from atlas.formatting import Record
from atlas.sources import builtin
from atlas.sources.archives import Tars
from atlas.sources.columnar import COLUMNAR_SUFFIXES, Parquet
from atlas.sources.columns import PICTURE_SUFFIXES, ROLES
from atlas.sources.dialects import SEPARATORS
from atlas.sources.files import Folder, holds_pictures
from atlas.sources.huggingface import HuggingFace
from atlas.sources.items import Item, Note, Source, Telling, only_items
from atlas.sources.leftovers import COMPRESSED, notes_on_others
from atlas.sources.records import TABLE_SUFFIXES
from atlas.sources.tables import Paths, Table, table_of_texts
from atlas.sources.textfiles import read_given_json

__all__ = ["Item", "Source", "join", "parse"]
_PACKAGED = ("emoji", "words", "texts")
_PACKED = (".tar", *COLUMNAR_SUFFIXES)
_MOST_SHARDS = 1_000_000


def parse(spec: str) -> Source:
    """The source of a spec; it lists at least one item.

    Raises `Refused` if there is nothing at the path, if it holds no images, for an unknown option or value, and for a
    missing package.
    """
    body, options = _split(spec)
    kind, _, rest = body.partition(":")
    if kind in _PACKAGED:
        source = _packaged(spec, kind, rest, options)
    elif kind == "hf":
        source = _hugging_face(spec, rest, _options(spec, options, _COLUMNS))
    elif kind == "folder":
        _options(spec, options, {})
        source = _folder(spec, Path(rest).expanduser().absolute())
    else:
        source = _path(spec, body, options)
    if next(iter(source), None) is None:
        raise Refused(f"{spec}: no {'texts' if kind == 'texts' else 'words' if kind == 'words' else 'images'} in it")
    return source


@dataclass(frozen=True)
class Joined:
    """Several sources, one after the other, as one source."""

    name: str
    parts: tuple[Source, ...]

    def __iter__(self) -> Iterator[Item]:
        return only_items(self.entries())

    def entries(self) -> Iterator[Item | Note]:
        """Items and notes of all parts."""
        times: dict[str, int] = {}
        for part in self.parts:
            times[part.name] = times.get(part.name, 0) + 1
            entries = part.entries() if isinstance(part, Telling) else iter(part)
            if times[part.name] == 1:
                yield from entries
                continue
            second = f"{part.name}~{times[part.name]}"  # so that a later source never changes the ids of an earlier one
            for entry in entries:
                named = isinstance(entry, Item)
                yield replace(entry, id=second + entry.id[len(part.name) :]) if named else entry


def join(sources: Iterable[Source | str]) -> Source:
    """Join sources, or specs of sources, to one source.

    Ids stay unique: of two folders named photos, the ids of the second one begin with photos~2. Raises `Refused` if
    no source is given, or the same one twice.
    """
    parts = tuple(parse(source) if isinstance(source, str) else source for source in sources)
    if not parts:
        raise Refused("no source given: name a folder, a table, shards, or emoji, words or texts")
    for number, part in enumerate(parts):
        if part in parts[:number]:
            raise Refused(f"{getattr(part, 'spec', part.name)}: given twice")
    return parts[0] if len(parts) == 1 else Joined(" + ".join(part.name for part in parts), parts)


def source_key(spec: str) -> str:
    """What a spec names, without the place of its folder or file: the same source elsewhere has the same key."""
    body, options = _split(spec)
    kind, _, rest = body.partition(":")
    if kind in _PACKAGED or kind == "hf":
        body = f"{kind}:{Path(rest).name if kind in ('words', 'texts') else rest}"
    else:
        body = _name(Path(rest if kind == "folder" else body).expanduser())
    return "&".join([body, *(f"{name}={options[name]}" for name in sorted(options))])


def _split(spec: str) -> tuple[str, dict[str, str]]:
    """ "words?top=10&side=64" -> ("words", {"top": "10", "side": "64"}); a path that exists is never split."""
    asked = re.fullmatch(r"([^?]+)\?([^?/]*=.*)", spec, re.DOTALL)
    if not asked or Path(spec).exists():
        return spec, {}
    pairs = [pair.partition("=") for pair in asked[2].split("&") if pair]
    return asked[1], {name: unquote(value) for name, _, value in pairs}


def _options(spec: str, given: Mapping[str, str], known: Mapping[str, Callable[[str], object]]) -> Record:
    """The values of the options in `given`, converted by the functions in `known`."""
    for name in given:
        if name not in known:
            raise Refused(f"{spec}: no option {name!r}; it takes {', '.join(known) or 'none'}")
    values = {}
    for name, text in given.items():
        try:
            values[name] = known[name](text)
        except ValueError as error:
            raise Refused(f"{spec}: {name}={text}: {error}") from None
    return values


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ValueError("give one or more, with commas between")
    return names


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("give a whole number from 1 on")
    return int(text)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(_count(number) for number in _names(text))


def _yes(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError("say yes or no")
    return text == "yes"


def _separator(text: str) -> str:
    sign = SEPARATORS.get(text, text.encode().decode("unicode_escape") if text.startswith("\\") else text)
    if len(sign) != 1:
        raise ValueError(f"give one character, or {', '.join(SEPARATORS)}")
    return sign


def _encoding(text: str) -> str:
    try:
        return codecs.lookup(text).name
    except LookupError:
        raise ValueError("no such encoding") from None


_COLUMNS: dict[str, Callable[[str], object]] = dict.fromkeys(ROLES, str)
_TABLE = {**_COLUMNS, "sep": _separator, "encoding": _encoding}
_WORDS = {"top": _count, "fonts": _names, "sizes": _counts, "side": _count, "ink": str, "paper": str}


def _packaged(spec: str, kind: str, rest: str, given: Mapping[str, str]) -> Source:
    if kind == "words":
        return builtin.word_source(spec, rest, **_options(spec, given, _WORDS))
    if kind == "texts":
        return builtin.text_source(spec, rest, **_options(spec, given, {"template": str}))
    if rest:
        raise Refused(f"{spec}: emoji takes options only, as in emoji?vendors=Apple,Google&skin=no")
    return builtin.emoji_source(spec, **_options(spec, given, {"vendors": _names, "skin": _yes}))


def _hugging_face(spec: str, rest: str, columns: Mapping[str, str]) -> Source:
    data, _, split = rest.partition(":")
    if not data:
        raise Refused(f"{spec}: name a data set, as in hf:beans or hf:beans:validation")
    if Path(data).is_dir():
        data = os.path.abspath(data)
    return HuggingFace(Path(data).name, spec, data, split or "train", columns)


def _folder(spec: str, root: Path) -> Folder:
    if not root.is_dir():
        raise Refused(f"{spec}: {'not a folder' if root.exists() else 'no such folder'}")
    return Folder(_name(root), spec, root)


def _name(path: Path) -> str:
    return Path(os.path.abspath(path)).name or "root"


def _path(spec: str, body: str, given: Mapping[str, str]) -> Source:
    """The source at a path: a folder of images or of shards, a list, a table, or a shard."""
    path = Path(body).expanduser().absolute()  # absolute, so that processes with another working folder find it
    if not path.exists():
        return _pattern(spec, body, given)
    if path.is_dir():
        return _directory(spec, path, given)
    if not path.is_file():
        raise Refused(f"{spec}: not a regular file")
    suffix = path.suffix.lower()
    if suffix in TABLE_SUFFIXES or (suffix == ".txt" and (given or table_of_texts(path))):
        columns = _options(spec, given, _TABLE)
        separator, encoding = columns.pop("sep", None), columns.pop("encoding", None)
        return Table(path.name, spec, path, columns, separator, encoding)
    if suffix == ".txt":
        return Paths(path.name, spec, path)
    if suffix in _PACKED:
        return _shards(spec, [path], path.name, path, given)
    raise Refused(f"{spec}: {_advice_on_file(path)}")


def _advice_on_file(path: Path) -> str:
    """What to give instead of a file that is no source."""
    suffix = path.suffix.lower()
    if suffix in COMPRESSED:
        packed = path.name.lower().endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst"))
        return "compressed; unpack it first" + (" (members are read by their place in the file)" if packed else "")
    if suffix in PICTURE_SUFFIXES:
        return "one picture: give its folder"
    if suffix in (".xlsx", ".xls", ".ods", ".numbers"):
        return f"{suffix}: save it as CSV"
    return "give a folder, a .txt list, a .csv, .tsv or .jsonl table, .tar shards, .parquet or .arrow"


def _directory(spec: str, path: Path, given: Mapping[str, str]) -> Source:
    """The source in a folder: pictures, if there is one anywhere below; else tar shards, else Parquet or Arrow."""
    if holds_pictures(path):
        _options(spec, given, {})
        return _folder(spec, path)
    files, cached = _below(path)
    for suffixes in ((".tar",), (".parquet", ".pq"), (".arrow", ".feather")):  # img2dataset: a Parquet beside each tar
        if shards := [file for file in files if file.suffix.lower() in suffixes]:
            chosen = set(shards)
            rest = [str(file.relative_to(path)) for file in files if file not in chosen]
            beside = tuple(notes_on_others(rest, "beside the shards", spec))
            if cached:
                beside += (Note("left", "files of the cache of a saved data set", len(cached), str(cached[0])),)
            return _shards(spec, shards, _name(path), path, given, beside)
    _options(spec, given, {})
    for suffixes, said in (
        (TABLE_SUFFIXES[:-1], "a table ({}): name that, if it lists images"),
        (COMPRESSED, "compressed files ({}): unpack them"),
    ):
        if found := [str(file.relative_to(path)) for file in files if file.suffix.lower() in suffixes]:
            raise Refused(f"{spec}: no images in it, but {said.format(', '.join(found[:3]))}")
    return _folder(spec, path)


def _below(folder: Path) -> tuple[list[Path], list[Path]]:
    """The files below a folder, without hidden ones, in order; and the caches of the data sets that are saved there."""
    found, cached = list[Path](), list[Path]()
    for here, folders, files in os.walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
        rows = _rows_of_saved(Path(here)) if "state.json" in files else None
        for name in files:
            if rows is None or name in rows:
                found += [] if name[0] in "._" or name == "dataset_dict.json" else [Path(here, name)]
            elif name.endswith(".arrow"):
                cached.append(Path(here, name))
    return sorted(found, key=lambda file: os.path.relpath(file, folder).split("/")), cached


def _rows_of_saved(folder: Path) -> set[str] | None:
    """The files of a data set that Hugging Face's library saved here: beside them lie those of its cache."""
    try:
        state = read_given_json(folder / "state.json")
        return {file["filename"] for file in state["_data_files"]} if isinstance(state, dict) else None
    except (Refused, OSError, ValueError, KeyError, TypeError):
        return None


def _pattern(spec: str, body: str, given: Mapping[str, str]) -> Source:
    """The shards that a glob or a brace expression names."""
    try:
        asked = list(islice(braceexpand(body), _MOST_SHARDS + 1))
    except ValueError:
        raise Refused(f"{spec}: unbalanced braces") from None
    if len(asked) > _MOST_SHARDS:
        raise Refused(f"{spec}: braces that name more than {_MOST_SHARDS:,} files")
    found = [file for name in asked for file in (sorted(glob.glob(name)) or [name])]
    files = [Path(file).absolute() for file in dict.fromkeys(found)]
    missing = next((file for file in found if not os.path.isfile(file)), None)
    if missing is not None:
        where = (
            f"{spec}: no such file"
            + (" or folder" if missing == body else "")
            + (f": {missing}" if missing != body else "")
        )
        raise Refused(f"{where} (built in are {', '.join(_PACKAGED)})")
    if len({file.suffix.lower() for file in files}) > 1 or files[0].suffix.lower() not in _PACKED:
        raise Refused(f"{spec}: a pattern names .tar or .parquet shards, all of one kind; for images give their folder")
    parent = Path(os.path.commonpath([os.path.abspath(file.parent) for file in files]))
    return _shards(spec, files, _name(parent), parent, given)


def _shards(
    spec: str, files: list[Path], name: str, parent: Path, given: Mapping[str, str], beside: tuple[Note, ...] = ()
) -> Source:
    """A source of tar or Parquet files; ids contain the path of the file below `parent`, unless it is the only one."""
    inside = [os.path.relpath(file, parent) for file in files]
    named = tuple(("" if place == "." else f"{place}/", file) for place, file in zip(inside, files, strict=True))
    if files[0].suffix.lower() in COLUMNAR_SUFFIXES:
        return Parquet(name, spec, named, _options(spec, given, _COLUMNS), beside)
    _options(spec, given, {})
    return Tars(name, spec, named, beside)
