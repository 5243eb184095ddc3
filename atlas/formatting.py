"""Numbers and text as people read them: on the terminal, on pages, in Jupyter. Nothing here escapes HTML."""

import math
import unicodedata
from typing import Any

Record = dict[str, Any]  # a row of a table: values by the names of its columns
_LONGEST_CAPTION = 140  # characters shown of a caption
_LEAST_P = 1e-5  # smaller p-values are shown as "< 1e-5": none is ever exactly 0


def display_text(text: str | None) -> str:
    """One line of printable text: control characters become spaces, and a long caption is cut with an ellipsis."""
    text = text or ""
    if not text.isprintable():  # a quick test, true of almost all captions
        text = "".join(c if unicodedata.category(c) not in ("Cc", "Cs") else " " for c in text)
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_CAPTION else line[: _LONGEST_CAPTION - 1].rstrip() + "…"


def format_p(p: float | None) -> str:
    """A p-value or false discovery rate: three decimals at most, "< 1e-5" below that, a dash where there is none."""
    if p is None or p != p:
        return "–"
    if p < 1e-3:
        return "< 1e-5" if p < _LEAST_P else f"{p:.0e}".replace("e-0", "e-")
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def format_number(value: float | None) -> str:
    """A number to three significant digits, with a true minus sign; a dash where there is none."""
    if value is None or value != value:
        return "–"
    text = f"{value:#.3g}".rstrip(".") if abs(value) < 1000 else f"{value:,.0f}"
    return text.replace("-", "−")


def format_difference(value: float | None) -> str:
    """A number to three significant digits that always carries its sign."""
    text = format_number(value)
    return text if text.startswith(("−", "–")) else f"+{text}"


def format_signed(value: float, digits: int) -> str:
    """A number with so many decimals and its sign, a true minus; a number that rounds to zero has no sign."""
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text if float(text.replace("−", "-")) else text[1:]


def json_number(value: float | int | None) -> float | int | None:
    """A number as JSON holds it: four significant digits, None where it is not finite."""
    if value is None or not math.isfinite(value):
        return None
    return int(value) if isinstance(value, int) else float(f"{value:.4g}")
