"""Text files of any encoding: their lines, and their content."""

from collections.abc import Iterator
from pathlib import Path

from atlas.errors import Refused
from atlas.sources.values import decode_text, guess_encoding

_SAMPLE = 1 << 20  # bytes from which an encoding is told


def read_lines(file: Path, encoding: str | None = None) -> Iterator[tuple[int, str]]:
    """Yield (number, line) for every line that is not blank, without surrounding white space and byte order marks."""
    with file.open(encoding=encoding or text_encoding(file), errors="replace") as text:
        for number, line in enumerate(text, 1):
            if line := line.strip().strip("\ufeff\u200b\x00").strip():
                yield number, line


def read_text(file: Path) -> str:
    """The content of a small text file."""
    return decode_text(file.read_bytes())


def text_encoding(file: Path) -> str:
    """The encoding of a text file: UTF-16 with a byte order mark, UTF-8 if it decodes, else the one it looks like."""
    head = b""
    try:
        with file.open("rb") as raw:
            head = raw.read(_SAMPLE)
        if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return "utf-16"
        with file.open(encoding="utf-8") as text:
            while text.read(_SAMPLE):
                pass
    except UnicodeDecodeError:
        return guess_encoding(head if not head.isascii() else _beyond_ascii(file))
    except OSError as error:
        raise Refused(f"{file}: cannot be read ({(error.strerror or 'unknown').lower()})") from None
    return "utf-8-sig"


def _beyond_ascii(file: Path) -> bytes:
    """The lines of a file that hold letters beyond ASCII, from the first one on, up to the size of a sample."""
    with file.open("rb") as raw:
        found = b""
        for line in raw:
            if not line.isascii():
                found += line
            if len(found) > _SAMPLE:
                break
    return found
