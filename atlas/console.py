"""The terminal: commands and their options, progress, tables, one line for a mistake, exit codes."""

import argparse
import json
import math
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from tqdm import tqdm

from atlas.errors import Refused
from atlas.formatting import format_p

T = TypeVar("T")
_CELL_WIDTH = 70  # characters of a table's cell
_DECIMALS = 5  # of a number in a table, at most
_SECONDS_BETWEEN_LINES = 15.0  # of progress where stderr is not a terminal
_PROBABILITY = re.compile(r"(?:^|_)[pq](?:_|$)")  # names of columns of p-values and false discovery rates


# -- commands ----------------------------------------------------------------------------------------------------------

Command = Callable[..., int]


class Option(NamedTuple):
    """One argument of a command, as argparse's `add_argument` takes it."""

    names: tuple[str, ...]
    settings: dict[str, Any]


def option(*names: str, **settings: Any) -> Option:
    """An argument of a command: what `argparse.ArgumentParser.add_argument` takes."""
    return Option(names, settings)


def takes(*options: Option | Sequence[Option]) -> Callable[[Command], Command]:
    """Decorator: the options of a command, which arrive as the function's keyword arguments."""

    def mark(function: Command) -> Command:
        flat = [each for some in options for each in ((some,) if isinstance(some, Option) else some)]
        function.__dict__["options"] = flat
        return function

    return mark


def exclusive(*options: Option) -> Option:
    """Options of which exactly one must be given."""
    return Option((), {"options": options})


def command_line(program: str, about: str, commands: Sequence[Command]) -> argparse.ArgumentParser:
    """The parser of a program: each command is a function `NAME_command` whose options `takes` listed.

    The first sentence of the function's docstring is its help.
    """
    whole = argparse.ArgumentParser(prog=program, description=about)
    subparsers = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for function in commands:
        doc = (function.__doc__ or "").strip()
        name = function.__name__.removesuffix("_command")
        sub = subparsers.add_parser(name, help=doc.split("\n")[0].rstrip(".").split(";")[0], description=doc)
        sub.set_defaults(function=function)
        for each in function.__dict__.get("options", ()):
            if each.names:
                sub.add_argument(*each.names, **each.settings)
            else:
                group = sub.add_mutually_exclusive_group(required=True)
                for one in each.settings["options"]:
                    group.add_argument(*one.names, **one.settings)
    return whole


def run_command(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None = None, interrupted: str = "interrupted"
) -> int:
    """Run the command of a command line; returns its exit code.

    0 done, 1 something was refused, 2 misuse, 130 interrupted. A mistake is one line on stderr.
    """
    values = vars(parser.parse_args(argv))
    function, program = values.pop("function"), parser.prog
    values.pop("command", None)
    return answer(program, lambda: function(**values), interrupted)


def answer(program: str, function: Callable[[], int], interrupted: str = "interrupted") -> int:
    """Call a function; returns its exit code, or 1 if it was refused, 130 if interrupted."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"{program}: {message}", file=sys.stderr)
            return function()
    except Refused as refused:
        print(f"{program}: {refused}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{program}: {interrupted}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0


# -- progress ----------------------------------------------------------------------------------------------------------


class Progress:
    """Progress on stderr: a bar on a terminal, else a plain line now and then. Use it as a context manager.

    `total` and the counts are of `unit`s; rate and time left are shown.
    """

    def __init__(self, total: int, what: str, unit: str = "rows"):
        self.total, self.what, self.unit, self.done = total, what, unit, 0
        self.began = self.last_line = time.monotonic()
        terminal = sys.stderr.isatty()
        self.bar = tqdm(total=total, desc=what, unit=f" {unit}", unit_scale=True, leave=False) if terminal else None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()
        if kind is None and self.done:
            self._print_line()

    def advance(self, count: int) -> None:
        """Count so many more as done."""
        self.done += count
        if self.bar is not None:
            self.bar.update(count)
        elif self.done < self.total and time.monotonic() - self.last_line > _SECONDS_BETWEEN_LINES:
            self.last_line = time.monotonic()
            self._print_line()

    def _print_line(self) -> None:
        spent = max(time.monotonic() - self.began, 1e-9)
        rate = self.done / spent
        left = f", {max(0, self.total - self.done) / rate:.0f} s left" if 0 < self.done < self.total else ""
        pace = f"{rate:,.0f} {self.unit}/s" if rate >= 1 else f"{1 / rate:.1f} s each"
        print(
            f"{self.what}: {self.done:,} of {self.total:,} {self.unit}, {pace}, {spent:.0f} s{left}",
            file=sys.stderr,
            flush=True,
        )


def track(items: Iterable[T], total: int, what: str, unit: str = "shards") -> Iterator[T]:
    """Yield the items and show progress as they are taken."""
    with Progress(total, what, unit) as progress:
        for item in items:
            yield item
            progress.advance(1)


# -- tables ------------------------------------------------------------------------------------------------------------


def print_table(rows: Sequence[dict[str, Any]], as_json: bool = False) -> None:
    """Print rows of the same columns, aligned, numbers to the right; or as JSON, uncut."""
    if as_json:
        print(json.dumps(rows, ensure_ascii=False, indent=1))
        return
    if not rows:
        return
    columns = []
    for name in rows[0]:
        values = [row[name] for row in rows]
        is_probability = _PROBABILITY.search(name) and _numbers(values)
        cells = [name, *(map(format_p, values) if is_probability else _column(values))]
        width = max(map(len, cells))
        columns.append([cell.rjust(width) if _numbers(values) else cell.ljust(width) for cell in cells])
    for line in zip(*columns, strict=True):
        print("  ".join(line).rstrip())


def _numbers(values: Sequence[Any]) -> bool:
    return all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values)


def _column(values: Sequence[Any]) -> list[str]:
    """Cells of a column; numbers with as many decimals as give the largest of them three digits."""
    if not _numbers(values) or not any(isinstance(value, float) for value in values):
        return [_cell(value) for value in values]
    largest = max((abs(value) for value in values if value is not None and math.isfinite(value)), default=0)
    decimals = min(max(2 - math.floor(math.log10(largest)), 0), _DECIMALS) if largest else 0
    return [_decimal(value, decimals) for value in values]


def _decimal(value: float | None, decimals: int) -> str:
    """A number with so many decimals; one too small for them, by its magnitude."""
    if value is None:
        return ""
    cell = f"{value:.{decimals}f}"
    return f"{value:.0e}" if value and math.isfinite(value) and float(cell) == 0 else cell


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_cell(inner)}" for key, inner in value.items())
    return " ".join(str(value).split())[:_CELL_WIDTH]
