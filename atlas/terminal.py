"""What commands print, and how they end: rows as aligned columns or as JSON, one line for a mistake, an exit code."""

import argparse
import json
import math
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from atlas.errors import Refused

LONGEST = 70  # letters of a cell
DECIMALS = 5  # of a figure, at most
LEAST = 1e-5  # of a probability that is written out
_PROBABILITY = re.compile(r"(?:^|_)[pq](?:_|$)")  # names of columns of p-values and false discovery rates


def table(rows: Sequence[dict[str, Any]], as_json: bool = False) -> None:
    """Print rows, all of the same columns, aligned, numbers to the right; or as JSON, whole."""
    if as_json:
        print(json.dumps(rows, ensure_ascii=False, indent=1))
        return
    if not rows:
        return
    columns = []
    for name in rows[0]:
        values = [row[name] for row in rows]
        likely = _PROBABILITY.search(name) and _numbers(values)
        cells = [name, *(map(chance, values) if likely else _column(values))]
        width = max(map(len, cells))
        columns.append([cell.rjust(width) if _numbers(values) else cell.ljust(width) for cell in cells])
    for line in zip(*columns, strict=True):
        print("  ".join(line).rstrip())


def chance(p: float | None) -> str:
    """A p-value or false discovery rate as people write it, wherever one is shown: never 0, for none is."""
    if p is None or p != p:
        return "–"
    if p < 1e-3:
        return "< 1e-5" if p < LEAST else f"{p:.0e}".replace("e-0", "e-")
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def answer(program: str, args: argparse.Namespace, interrupted: str = "interrupted") -> int:
    """Run `args.function`; returns its exit code: 0 done, 1 something was refused, 130 interrupted."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"{program}: {message}", file=sys.stderr)
            return args.function(args)
    except Refused as refused:
        print(f"{program}: {refused}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{program}: {interrupted}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0


def _numbers(values: Sequence[Any]) -> bool:
    return all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values)


def _column(values: Sequence[Any]) -> list[str]:
    """Cells of a column; figures with as many decimals as give the largest of them three digits."""
    if not _numbers(values) or not any(isinstance(value, float) for value in values):
        return [_shown(value) for value in values]
    largest = max((abs(value) for value in values if value is not None and math.isfinite(value)), default=0)
    decimals = min(max(2 - math.floor(math.log10(largest)), 0), DECIMALS) if largest else 0
    return [_figure(value, decimals) for value in values]


def _figure(value: float | None, decimals: int) -> str:
    """A number with so many decimals; one that they do not show, by its magnitude."""
    if value is None:
        return ""
    cell = f"{value:.{decimals}f}"
    return f"{value:.0e}" if value and math.isfinite(value) and float(cell) == 0 else cell


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(inner)}" for key, inner in value.items())
    return " ".join(str(value).split())[:LONGEST]
