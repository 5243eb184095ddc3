"""Text files of any encoding: their lines, and their content. What is no regular file, or too large, is refused."""

import json
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TextIO

from atlas.errors import Refused
from atlas.sources.decoding import read_bytes
from atlas.sources.values import decode_text, guess_encoding

MAX_CAPTION = 2**20  # bytes of a file with the texts of one picture
MAX_LIST = 2**26  # bytes of a list of words that is held in memory
MAX_TABLE = 2**32  # bytes of a table or list that is read line by line
MAX_RECORDS = 2**28  # bytes of a table that is read at once
_LONGEST_LINE = 2**24  # characters
_SAMPLE = 1 << 20  # bytes from which an encoding is told


def read_lines(file: Path, encoding: str | None = None) -> Iterator[tuple[int, str]]:
    """Yield (number, line) for every line that is not blank, without surrounding white space and byte order marks."""
    with file.open(encoding=encoding or text_encoding(file), errors="replace") as text:
        for number, line in enumerate(bounded_lines(text, file), 1):
            if line := line.strip().strip("\ufeff\u200b\x00").strip():
                yield number, line


def read_list(file: Path) -> list[str]:
    """The lines of a list of words or texts, such as `read_lines` yields.

    Raises `Refused` for what is no regular file, no text, or too large to be held in memory.
    """
    check_regular(file, MAX_LIST)
    return [line for _, line in read_lines(file)]


def bounded_lines(text: TextIO, file: Path) -> Iterator[str]:
    """Yield the lines of an open text file. Raises `Refused` for one that no memory needs to hold."""
    for number, line in enumerate(iter(partial(text.readline, _LONGEST_LINE), ""), 1):
        if len(line) == _LONGEST_LINE:
            raise Refused(f"{file}: line {number} is longer than {_LONGEST_LINE:,} characters")
        yield line


def read_text(file: Path) -> str:
    """The content of a small text file. Raises `Unreadable` if it is no regular file, or a large one."""
    return decode_text(read_bytes(file, MAX_CAPTION))


def read_given_json(file: Path) -> object:
    """What a JSON file that the user names holds.

    Raises `Refused` for what is no regular file or too large, and `ValueError` for what is no JSON.
    """
    check_regular(file, MAX_RECORDS)
    try:
        return json.loads(file.read_text("utf-8-sig"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def check_regular(file: Path, most: int = MAX_TABLE) -> None:
    """Raise `Refused` unless a file is a regular one, of at most so many bytes."""
    try:
        status = file.stat()
    except OSError as error:
        raise Refused(f"{file}: cannot be read ({(error.strerror or 'unknown').lower()})") from None
    if not stat.S_ISREG(status.st_mode):
        raise Refused(f"{file}: not a regular file")
    if status.st_size > most:
        raise Refused(f"{file}: {status.st_size:,} bytes, the limit for such a file is {most:,}")


def text_encoding(file: Path) -> str:
    """The encoding of a text file: UTF-16 with a byte order mark, UTF-8 if it decodes, else the one it looks like.

    Raises `Refused` for what is no regular file, no text, or too large.
    """
    check_regular(file)
    head = b""
    try:
        with file.open("rb") as raw:
            head = raw.read(_SAMPLE)
        if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return "utf-16"
        if b"\0" in head.rstrip(b"\0\r\n"):
            raise Refused(f"{file}: not a text file (it holds null bytes)")
        with file.open(encoding="utf-8") as text:
            while text.read(_SAMPLE):
                pass
    except UnicodeDecodeError:
        return guess_encoding(_beyond_ascii(file))
    except OSError as error:
        raise Refused(f"{file}: cannot be read ({(error.strerror or 'unknown').lower()})") from None
    return "utf-8-sig"


def _beyond_ascii(file: Path) -> bytes:
    """The lines of a file that hold letters beyond ASCII, from the first one on, up to the size of a sample."""
    with file.open("rb") as raw:
        found = b""
        for line in iter(partial(raw.readline, _LONGEST_LINE), b""):
            if not line.isascii():
                found += line
            if len(found) > _SAMPLE:
                break
    return found
