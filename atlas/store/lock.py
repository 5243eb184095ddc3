"""The lock that every writer of a Store takes: one at a time; readers need none."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from atlas.errors import Refused
from atlas.store.files import disk_faults
from atlas.store.manifest import LOCK_FILE

_PATIENCE = 60.0  # seconds for which a derivation waits


@contextmanager
def writer_lock(path: Path, wait: float = _PATIENCE) -> Iterator[None]:
    """Hold the lock of the Store at `path`; a thread that holds it may take it again.

    Raises `Refused` if another process still holds it after `wait` seconds, and `NotWritable` if one may only read.
    """
    lock = filelock.FileLock(path / LOCK_FILE, is_singleton=True)
    with disk_faults(path):
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            if wait:
                print(f"{path} is being written by another run; waiting for it", file=sys.stderr)
            try:
                lock.acquire(timeout=wait)
            except filelock.Timeout:
                message = f"{path} is being written by another run; wait for it, or choose another folder"
                raise Refused(message) from None
    try:
        yield
    finally:
        lock.release()
