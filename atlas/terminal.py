"""What commands print, and how they end: rows as aligned columns or as JSON, one line for a mistake, an exit code."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from atlas.errors import Refused

LONGEST = 70  # letters of a cell


def table(rows: Sequence[dict[str, Any]], as_json: bool = False) -> None:
    """Print rows, all of the same columns, aligned; or as JSON, whole."""
    if as_json:
        print(json.dumps(rows, ensure_ascii=False, indent=1))
        return
    cells = [[_shown(row[name]) for name in rows[0]] for row in rows] if rows else []
    widths = [max(len(name), *(len(row[i]) for row in cells)) for i, name in enumerate(rows[0])] if rows else []
    for line in [list(rows[0]), *cells] if rows else []:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def answer(program: str, args: argparse.Namespace, interrupted: str = "interrupted") -> int:
    """Run `args.function`; returns its exit code: 0 done, 1 something was refused, 130 interrupted."""
    try:
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


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(inner)}" for key, inner in value.items())
    return " ".join(str(value).split())[:LONGEST]
