"""Progress on stderr: a bar on a terminal, a plain line now and then where there is none."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 15.0


class Progress:
    """Counts `unit`s done of `total`; shows rate and time left. Use as a context manager, or through `track`."""

    def __init__(self, total: int, what: str, unit: str = "rows"):
        self.total, self.what, self.unit, self.done = total, what, unit, 0
        self.began = self.said = time.monotonic()
        terminal = sys.stderr.isatty()
        self.bar = tqdm(total=total, desc=what, unit=f" {unit}", unit_scale=True, leave=False) if terminal else None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()
        if kind is None and self.done:
            self._say()

    def advance(self, count: int) -> None:
        """`count` more are done."""
        self.done += count
        if self.bar is not None:
            self.bar.update(count)
        elif self.done < self.total and time.monotonic() - self.said > SECONDS_BETWEEN_LINES:
            self.said = time.monotonic()
            self._say()

    def _say(self) -> None:
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
    """The items, with progress shown as they are taken."""
    with Progress(total, what, unit) as progress:
        for item in items:
            yield item
            progress.advance(1)
