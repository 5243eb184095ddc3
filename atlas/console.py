"""The command line: commands and their options, progress, tables, one-line errors and exit codes."""

import argparse
import json
import math
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stdout, suppress
from io import TextIOWrapper
from typing import NamedTuple, NoReturn, TextIO, TypeGuard, TypeVar, cast

from tqdm import tqdm

from atlas.errors import Misuse, Refused
from atlas.formatting import Record, escape_controls, format_p
from atlas.option_types import some_text

T = TypeVar("T")
_CELL_WIDTH = 70  # longest text of a table cell, in characters
_BEFORE = "before"  # name of the functions that flags call before the command
_DECIMALS = 5  # most decimals of a number in a table
_SECONDS_BETWEEN_LINES = 15.0  # between two lines of progress where stderr is not a terminal
_PROBABILITY = re.compile(r"(?:^|_)[pq](?:_|$)")  # column names of p-values and false discovery rates


# -- commands ----------------------------------------------------------------------------------------------------------

Command = Callable[..., int]


class Option(NamedTuple):
    """One argument of a command, in the form that argparse's `add_argument` takes."""

    names: tuple[str, ...]
    settings: Record


def option(*names: str, **settings: object) -> Option:
    """Declare an argument of a command; takes what `argparse.ArgumentParser.add_argument` takes.

    Options without a default are None if they are not given; `options_given` leaves them out, so that the default of
    the called function applies. The help text ends with that default in brackets. A value without a type is a text
    that is not blank.
    """
    typed = {"type", "action", "choices"} & set(settings) or not names
    return Option(names, settings if typed else settings | {"type": some_text})


def beforehand(name: str, call: Callable[[Record], None], help: str) -> Option:
    """Declare a flag of a command; where it is given, `call` gets the values of all options before the command runs."""
    return Option((name,), {"action": "append_const", "const": call, "dest": _BEFORE, "help": help})


def options_given(**options: object) -> Record:
    """The options that the user gave: those that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def options_changed(command: Command, **options: object) -> Record:
    """The options whose values differ from the defaults of a command, as in a recorded command line."""
    declared = [each for each in command.__dict__["options"] if each.names]
    defaults = {_destination(each): each.settings.get("default") for each in declared}
    return {name: value for name, value in options.items() if value != defaults[name]}


def _destination(option: Option) -> object:
    """The name under which argparse passes an option: its first long name, else its first."""
    long = [name for name in option.names if name.startswith("--")]
    return option.settings.get("dest") or (long or option.names)[0].lstrip("-").replace("-", "_")


def takes(*options: Option | Sequence[Option]) -> Callable[[Command], Command]:
    """Decorator that declares the options of a command; the function receives them as keyword arguments."""

    def mark(function: Command) -> Command:
        flat = [each for some in options for each in ((some,) if isinstance(some, Option) else some)]
        function.__dict__["options"] = flat
        return function

    return mark


# -- values of options -------------------------------------------------------------------------------------------------


# -- programs ----------------------------------------------------------------------------------------------------------


def exclusive(*options: Option) -> Option:
    """A group of options of which exactly one must be given."""
    return Option((), {"options": options})


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """End with exit code 2 and one line."""
        self.exit(2, f"{self.prog}: {escape_controls(message)} ({self.prog} --help shows all options)\n")


def command_line(program: str, about: str, commands: Sequence[Command]) -> argparse.ArgumentParser:
    """Build the parser of a program. Each command is a function `NAME_command` with options declared by `takes`.

    The docstring of the function is the help of its command.
    """
    whole = _Parser(prog=program, description=about)
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
    """Parse a command line and run its command; returns the exit code.

    Exit codes: 0 success, 1 something was refused, 2 wrong usage, 130 interrupted. An error is one line on stderr.
    """
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a locale without these characters
    for word in sys.argv[1:] if argv is None else argv:
        if not _is_unicode(word):
            parser.error(f"{word!r} is no valid UTF-8; rename the file or folder")
    values = vars(parser.parse_args(argv))
    function, program = values.pop("function"), parser.prog
    values.pop("command", None)
    first: list[Callable[[Record], None]] = values.pop(_BEFORE, None) or []

    def whole() -> int:
        for each in first:
            each(values)
        return function(**values)

    with redirect_stdout(cast(TextIO, _Escaping(sys.stdout, sys.stdout.write))):
        return answer(program, whole, interrupted)


def _open_closed_streams() -> None:
    """Give a process that was started with closed streams some that lead nowhere; Python sets them to None."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - until the process ends


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Escaping:
    """A stream in which characters that would act on a terminal are shown as escapes."""

    def __init__(self, stream: object, write: Callable[[str], int]):
        self._stream, self._write = stream, write

    def write(self, text: str) -> int:
        return self._write(escape_controls(text))

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def answer(program: str, function: Callable[[], int], interrupted: str = "interrupted") -> int:
    """Call a function and return its exit code: 2 for `Misuse`, 1 for `Refused`, 130 if it was interrupted.

    A full disk, a closed pipe and a full memory end in one line too.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"{program}: {message}", file=sys.stderr)
            code = function()
            sys.stdout.flush()
            return code
    except Refused as refused:
        return _end(program, str(refused), 2 if isinstance(refused, Misuse) else 1)
    except KeyboardInterrupt:
        return _end(program, interrupted, 130)
    except BrokenPipeError:
        _discard_output()
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _end(program, f"{where}{(error.strerror or str(error)).lower()}", 1)
    except MemoryError:
        return _end(program, "the memory is full; close other programs, or ask for less at once", 1)


def _end(program: str, message: str, code: int) -> int:
    """Print one line on stderr and return the exit code; standard output that cannot be written is given up."""
    with suppress(OSError):
        print(f"{program}: {escape_controls(' '.join(message.splitlines()))}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:
        _discard_output()
    return code


def _discard_output() -> None:
    """Send what is left of standard output nowhere, so that Python's exit does not fail at it again."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# -- progress ----------------------------------------------------------------------------------------------------------


class Progress:
    """Progress on stderr, used as a context manager: a bar on a terminal, otherwise a plain line every 15 seconds.

    `total`: the work in all, counted in `unit`. Rate and remaining time are shown.
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
        """Add `count` to the work done."""
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
    """Yield the items and show progress."""
    with Progress(total, what, unit) as progress:
        for item in items:
            yield item
            progress.advance(1)


# -- tables ------------------------------------------------------------------------------------------------------------


def print_json(value: object) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, ensure_ascii=False, indent=1))


def print_table(rows: Sequence[Record], as_json: bool = False) -> None:
    """Print rows with the same columns as an aligned table, or as JSON with nothing cut."""
    if as_json:
        print_json(rows)
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


def _numbers(values: Sequence[object]) -> TypeGuard[Sequence[float | None]]:
    return all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values)


def _column(values: Sequence[object]) -> list[str]:
    """Cells of a column; numbers get as many decimals as give the largest one three digits."""
    if not _numbers(values) or not any(isinstance(value, float) for value in values):
        return [_cell(value) for value in values]
    largest = max((abs(value) for value in values if value is not None and math.isfinite(value)), default=0)
    decimals = min(max(2 - math.floor(math.log10(largest)), 0), _DECIMALS) if largest else 0
    return [_decimal(value, decimals) for value in values]


def _decimal(value: float | None, decimals: int) -> str:
    """A number with `decimals` decimals; in scientific notation if that would round it to zero."""
    if value is None:
        return ""
    cell = f"{value:.{decimals}f}"
    return f"{value:.0e}" if value and math.isfinite(value) and float(cell) == 0 else cell


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_cell(inner)}" for key, inner in value.items())
    return " ".join(str(value).split())[:_CELL_WIDTH]
