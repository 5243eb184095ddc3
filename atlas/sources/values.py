"""Cells as text: what tables, sidecar files and Parquet hold for a caption or a label becomes lines of plain text."""

import ast
import json
import math
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress

from charset_normalizer import from_bytes

from atlas.sources.items import printable_line

# How readers and writers of tables spell a missing value; compared without regard to case.
NULLS = frozenset((
    "", "nan", "-nan", "null", "none", "na", "n/a", "#n/a", "#na", "#n/a n/a", "<na>", "\\n", "1.#ind", "-1.#ind",
    "1.#qnan", "-1.#qnan",
))  # fmt: skip
_TEXT_KEYS = ("caption", "captions", "text", "raw", "prompt", "title", "description", "en", "eng", "english", "name")
_ENCODINGS = ["cp932", "gb18030", "big5", "euc_kr", "euc_jp", "cp1251", "koi8_r"]
_WHOLE_LETTERS = 2  # of UTF-8 beyond ASCII for a broken one: other encodings form fewer by chance
_SAMPLE = 1 << 16  # bytes from which an encoding is told
_LONGEST_LITERAL = 100_000  # characters of a list that was written as text


def cell_texts(value: object) -> tuple[str, ...]:
    """The texts of one cell, each on one line: several for a list, none for a missing value."""
    if value is None or value is NotImplemented:
        return ()
    if isinstance(value, str):
        return _of_string(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return cell_texts(decode_text(bytes(value)))
    if isinstance(value, float):
        return () if math.isnan(value) else (str(int(value)) if value.is_integer() else str(value),)
    if isinstance(value, Mapping):
        return _of_mapping(value)
    for method in ("as_py", "tolist"):  # scalars of Arrow; arrays and scalars of NumPy
        if hasattr(value, method):
            return cell_texts(getattr(value, method)())
    if isinstance(value, Iterable):
        return tuple(text for each in value for text in cell_texts(each))
    return _of_string(str(value))


def first_text(value: object) -> str:
    """The first text of a cell; "" if there is none."""
    found = cell_texts(value)
    return found[0] if found else ""


def _of_string(text: str) -> tuple[str, ...]:
    line = printable_line(text)
    if line.lower() in NULLS:
        return ()
    if line[0] in "[({b" and line[-1] in "])}'\"" and len(line) < _LONGEST_LITERAL:
        literal = _literal(line)
        if literal is not None:
            return cell_texts(literal)
    return (line,)


def _literal(text: str) -> object:
    """The list, mapping or bytes that Python, NumPy or JSON wrote as this text; None for a text of words."""
    if not re.match(r"b['\"]|[\[({]\s*(b?['\"]|None|null|nan|\]|\})", text):
        return None
    numpy = re.fullmatch(r"\[(?:\s*(?:'[^']*'|\"[^\"]*\"))+\s*\]", text)  # NumPy writes no commas
    if numpy:
        return [part[1:-1] for part in re.findall(r"'[^']*'|\"[^\"]*\"", text)]
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return None


def _of_mapping(value: Mapping[object, object]) -> tuple[str, ...]:
    named = {str(key).lower(): each for key, each in value.items()}
    known = [found for key in _TEXT_KEYS if key in named and (found := cell_texts(named[key]))]
    return known[0] if known else tuple(text for each in value.values() for text in cell_texts(each))


def decode_text(data: bytes) -> str:
    """The text of some bytes: UTF-16 with a byte order mark, UTF-8, else the encoding that they look like.

    Bytes that are no letters in it become the replacement character.
    """
    return data.decode(guess_encoding(data), "replace").removeprefix("\ufeff")


def guess_encoding(data: bytes) -> str:
    """The encoding of a text's bytes: UTF-8 also where a few letters are broken, as in text that was cut or mixed.

    Where most bytes beyond ASCII stand alone, they are Windows-1252 letters.
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    with suppress(UnicodeDecodeError):
        data.decode("utf-8")
        return "utf-8-sig"
    text = data.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    whole = sum(not letter.isascii() for letter in text) - broken
    if whole >= _WHOLE_LETTERS * broken or (whole and broken == 1 and text[-1] == "\ufffd"):
        return "utf-8-sig"
    sample = data[:_SAMPLE]
    runs = [len(run) for run in re.findall(rb"[\x80-\xff]+", sample)]
    if 2 * sum(run for run in runs if run > 1) < sum(runs):
        return "cp1252"
    best = from_bytes(sample, cp_isolation=_ENCODINGS).best()
    return best.encoding if best else "cp1252"
