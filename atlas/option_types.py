"""Types of the values that options take: each reads the text that was typed, or says what is wrong with it."""

import argparse
import math
import os
import re
from collections.abc import Callable
from pathlib import Path

_LARGEST = 10**9  # of real numbers without another limit: what is computed from them stays finite
_LONGEST_NAME = 255  # bytes of a file's name, on every common file system


def whole_number(low: int = 0, high: int = 2**31 - 1) -> Callable[[str], int]:
    """The type of an option that takes a whole number from `low` to `high`."""

    def read(text: str) -> int:
        if not re.fullmatch("[+-]?[0-9]{1,18}", text) or not low <= int(text) <= high:
            upper = f"to {high:,}" if high < 2**31 - 1 else "on"
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is no whole number from {low:,} {upper}")
        return int(text)

    return read


def real_number(low: float | int, high: float | int = _LARGEST, above: bool = False) -> Callable[[str], float]:
    """The type of an option that takes a number from `low` to `high`; `above`: `low` itself is not allowed."""

    def read(text: str) -> float:
        value = float(text) if re.fullmatch(r"[+-]?([0-9]+\.?|[0-9]*\.[0-9]+)(e[+-]?[0-9]+)?", text, re.I) else math.nan
        if not math.isfinite(value) or not low <= value <= high or (above and value == low):
            limits = f"above {low:g}" if above else f"from {low:g}"
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is no number {limits} to {high:g}")
        return value

    return read


def path_name(text: str) -> Path:
    """The type of an option that takes a path: one that a file system can hold."""
    if "\0" in text or not text or any(len(os.fsencode(part)) > _LONGEST_NAME for part in Path(text).parts):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} cannot be a path: it is empty, too long, or holds a null byte")
    return Path(text)


def some_text(text: str) -> str:
    """The type of an option that takes a text that is not blank."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the text is empty; give one")
    return text
