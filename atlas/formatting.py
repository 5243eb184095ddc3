"""Formatting of numbers and text for the terminal, the pages and Jupyter. None of it escapes HTML."""

import math
import re
import unicodedata
from typing import Any

Record = dict[str, Any]  # one row of a table: values by column name
# Control characters but line ends and tabs, and marks that turn the order of writing round
_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_LONGEST_CAPTION = 140  # characters shown of a caption
_LEAST_P = 1e-5  # smaller p-values are shown as "< 1e-5": a p-value is never exactly 0


def display_text(text: str | None) -> str:
    """Text as one printable line: control characters become spaces, and long text is cut with an ellipsis."""
    text = text or ""
    if not text.isprintable():  # a fast test that almost every caption passes
        text = "".join(c if unicodedata.category(c) not in ("Cc", "Cs") else " " for c in text)
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_CAPTION else line[: _LONGEST_CAPTION - 1].rstrip() + "…"


def escape_controls(text: str) -> str:
    """Text in which characters that act on a terminal, or turn the order of writing round, are shown as escapes."""
    return text if text.isascii() and text.isprintable() else _ACTING.sub(lambda found: _escape(found[0]), text)


def _escape(character: str) -> str:
    return f"\\u{ord(character):04x}"


def format_p(p: float | None) -> str:
    """A p-value or false discovery rate as text: at most three decimals, "< 1e-5" for tiny ones, a dash for None."""
    if p is None or p != p:
        return "–"
    if p < 1e-3:
        return "< 1e-5" if p < _LEAST_P else f"{p:.0e}".replace("e-0", "e-")
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def format_number(value: float | None) -> str:
    """A number with three significant digits and a typographic minus sign; a dash for None and NaN."""
    if value is None or value != value:
        return "–"
    text = f"{value:#.3g}".rstrip(".") if abs(value) < 1000 else f"{value:,.0f}"
    return text.replace("-", "−")


def format_difference(value: float | None) -> str:
    """A number with three significant digits and always a sign."""
    text = format_number(value)
    return text if text.startswith(("−", "–")) else f"+{text}"


def format_signed(value: float, digits: int) -> str:
    """A number with `digits` decimals and a sign (a typographic minus); a number that rounds to zero has no sign."""
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text if float(text.replace("−", "-")) else text[1:]


def json_number(value: float | int | None) -> float | int | None:
    """A number for JSON: four significant digits; None if the number is not finite."""
    if value is None or not math.isfinite(value):
        return None
    return int(value) if isinstance(value, int) else float(f"{value:.4g}")
