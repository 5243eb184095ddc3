"""System calls that fail: for every n, the n-th write, rename or sync of a run fails, and the run ends in one line.

The run that follows, without a fault, ends with the bytes of a run that nothing disturbed.
"""

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import atlas
from atlas.analysis import derivation, parts
from atlas.analysis.queries import export_parquet
from atlas.errors import Refused
from atlas.store.files import disk_faults

CODES = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS)
CALLS: dict[str, tuple[object, str]] = {
    "fsync": (os, "fsync"),
    "rename": (Path, "replace"),
    "folder": (Path, "mkdir"),
    "table": (pq, "write_table"),
    "array": (np.lib.format, "write_array_header_1_0"),
}


class Failing:
    """Makes the n-th call of a function fail."""

    def __init__(self, n: int, code: int, call: Callable):
        self.n, self.code, self.call, self.calls = n, code, call, 0

    def __call__(self, *args: object, **options: object) -> object:
        self.calls += 1
        if self.calls == self.n:
            raise OSError(self.code, os.strerror(self.code))
        return self.call(*args, **options)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults") / "photos"
    folder.mkdir()
    for i in range(3):
        noise = np.random.default_rng(i).integers(0, 256, (20, 20, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")
    (folder / "bad.png").write_bytes(b"x")
    return folder


@pytest.fixture(scope="module")
def whole(pictures: Path, clip: atlas.Clip) -> Path:
    store = atlas.collect(str(pictures), clip, pictures.parent / "whole" / "store")
    derivation.summarise_neurons(store)
    return store.path


def content(path: Path) -> dict[str, bytes]:
    files = [file for file in path.rglob("*") if file.is_file() and file.name != ".lock"]
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def until_it_succeeds(
    run: Callable[[], object], check: Callable[[], None], call: str, code: int, step: int, patch: pytest.MonkeyPatch
) -> int:
    """Let call 1, 1 + step, ... fail, each in a run of its own, until a run makes fewer calls; returns their number."""
    place, name = CALLS[call]
    for n in range(1, 1000, step):
        failing = Failing(n, code, getattr(place, name))
        with patch.context() as inner:
            inner.setattr(place, name, lambda *args, failing=failing, **options: failing(*args, **options))
            with suppress(Refused):
                run()
        check()
        if failing.calls < n:
            return n
    raise AssertionError("it never ends")


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("call", CALLS)
def test_every_call_of_a_collection_may_fail(
    call: str, step: int, pictures: Path, whole: Path, clip: atlas.Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "store"
    expected = {name: data for name, data in content(whole).items() if not name.startswith("neurons/")}

    def check() -> None:
        assert content(atlas.collect(str(pictures), clip, out).path) == expected
        shutil.rmtree(out)

    for code in CODES if step == 1 else CODES[:1]:
        until_it_succeeds(lambda: atlas.collect(str(pictures), clip, out), check, call, code, step, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
def test_every_call_of_a_derivation_may_fail(
    call: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = atlas.Store.open(shutil.copytree(whole, tmp_path / "store"))
    before = content(store.path)

    def check() -> None:
        assert content(store.path) == before, "the part that was there stays, or is the same again"
        assert store.current(parts.STATS)

    for code in CODES[:2]:
        until_it_succeeds(lambda: derivation.summarise_neurons(store), check, call, code, 1, monkeypatch)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EINTR])
@pytest.mark.parametrize("kind", [RuntimeError, OSError])
def test_a_fault_of_the_disk_that_a_library_tells_in_words_is_a_line(code: int, kind: type, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=str(tmp_path)) as refused, disk_faults(tmp_path):
        raise kind(f"write error in a.faiss: 0 != 1 ({os.strerror(code)})")
    assert "\n" not in str(refused.value)
    with pytest.raises(kind, match="a mistake"), disk_faults(tmp_path):
        raise kind("a mistake")


def test_an_export_removes_what_a_killed_one_left(whole: Path, tmp_path: Path) -> None:
    gone, living = tmp_path / ".a.parquet.999999999.partial", tmp_path / f".a.parquet.{os.getppid()}.partial"
    for left in (gone, living):
        left.touch()
    export_parquet(atlas.Store.open(whole), tmp_path / "a.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == [living.name, "a.parquet"]
