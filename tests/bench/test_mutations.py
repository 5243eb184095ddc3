"""Damaged inputs, 5,000 pictures and 500 files of each other kind: `pytest tests/bench/test_mutations.py -s`.

Each is read, or refused in one line, within ten seconds; the process stays below 2 GB.
"""

import io
import json
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

KINDS = {
    "picture": 5000, "csv": 500, "jsonl": 500, "json": 500, "tar": 500, "parquet": 500, "npy": 500, "safetensors": 500,
    "store.json": 500,
}  # fmt: skip
SECONDS, MEGABYTES = 10, 2000


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_or_refused(kind: str) -> None:
    command = [sys.executable, "-m", "tests.bench.test_mutations", kind, str(KINDS[kind])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    print(f"\n{kind}: {found}", end="")
    assert found["other"] == found["slow"] == []
    assert found["megabytes"] < MEGABYTES
    assert found.get("read", 0) + found.get("refused", 0) == KINDS[kind]


# -- what is damaged ---------------------------------------------------------------------------------------------------


def pictures(random: np.random.Generator) -> list[tuple[str, bytes]]:
    """The same picture in ten formats."""
    from PIL import Image

    image = Image.fromarray(random.integers(0, 255, (60, 80, 3), np.uint8))
    found = []
    for format in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO", "JPEG2000", "TGA"):
        out = io.BytesIO()
        image.save(out, format)
        found.append((f"a.{format.lower()}", out.getvalue()))
    out = io.BytesIO()
    image.save(out, "JPEG", progressive=True)
    return [*found, ("progressive.jpg", out.getvalue())]


def wholes(kind: str, random: np.random.Generator) -> list[tuple[str, bytes]]:
    """Whole files of a kind: (name, content)."""
    if kind == "picture":
        return pictures(random)
    rows = [{"path": f"{i}.png", "caption": f'a "red", {i}\nsquare', "label": str(i % 3)} for i in range(20)]
    if kind == "csv":
        lines = [",".join('"' + cell.replace('"', '""') + '"' for cell in row.values()) for row in rows]
        return [("a.csv", "\n".join(["path,caption,label", *lines]).encode())]
    if kind == "jsonl":
        return [("a.jsonl", "\n".join(map(json.dumps, rows)).encode())]
    if kind == "json":
        return [("a.json", json.dumps(rows).encode())]
    out = io.BytesIO()
    if kind == "tar":
        with tarfile.open(fileobj=out, mode="w") as tar:
            for i in range(5):
                for name, content in (
                    (f"{i:04}.png", pictures(random)[0][1]),
                    (f"{i:04}.json", b'{"caption": "x"}'),
                    ("n" * 150 + f"{i}.txt", b"x"),
                ):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
        return [("a.tar", out.getvalue())]
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table({"image": [pictures(random)[0][1]] * 8, "caption": [f"a {i}" for i in range(8)]})
        pq.write_table(table, out)
        return [("a.parquet", out.getvalue())]
    D = random.normal(size=(6, 1024)).astype(np.float32)
    if kind == "npy":
        np.save(out, D)
        return [("a.npy", out.getvalue())]
    from safetensors.numpy import save

    return [("a.safetensors", save({"directions": D}))]


def damaged(whole: bytes, random: np.random.Generator) -> bytes:
    """The same with bytes flipped, cut out, repeated, or cut off; more often near its beginning, where headers lie."""
    raw = bytearray(whole)
    for _ in range(random.integers(1, 6)):
        at = int(len(raw) * random.random() ** random.integers(1, 4))
        match random.integers(6):
            case 0 | 1:
                raw[at : at + 1] = bytes([random.integers(256)])
            case 2:
                raw[at : at + 4] = bytes(random.choice([0, 255, 127, 128], 4).astype(np.uint8))
            case 3:
                del raw[at : at + random.integers(1, 60)]
            case 4:
                raw[at:at] = raw[at : at + random.integers(1, 200)] * int(random.integers(1, 4))
            case _:
                del raw[max(at, 1) :]
    return bytes(raw)


# -- how it is read ----------------------------------------------------------------------------------------------------


def read_source(path: Path) -> None:
    """List a source and load what it lists; rejects are right."""
    from atlas.sources.decoding import Unreadable
    from atlas.sources.spec import parse

    for item in parse(str(path)):
        try:
            item.load()  # type: ignore[misc] - a picture always has one
        except Unreadable as unreadable:
            if "\n" in str(unreadable):
                raise ValueError(f"a reason of several lines: {unreadable}") from None


def reader(kind: str, folder: Path) -> Callable[[Path], object]:
    """What reads a file of a kind as a user would have it read."""
    if kind == "picture":
        from atlas.sources.decoding import decode

        return decode
    if kind in ("npy", "safetensors"):
        from atlas.model.directions import Directions

        return Directions.load
    if kind == "store.json":
        from atlas.store.store import Store
        from tests.fakes import fake_store

        store = fake_store(folder / "store", images=30, words=4, texts=4)

        def read(path: Path) -> None:
            (store.path / "store.json").write_bytes(path.read_bytes())
            Store.open(store.path).check()

        return read
    return read_source


def main(kind: str, count: int) -> None:
    """Read `count` damaged files of a kind; print what came of it as JSON."""
    from atlas.errors import Refused
    from atlas.sources.decoding import Unreadable

    random, counts = np.random.default_rng(0), Counter[str]()
    other: list[str] = []
    slow: list[str] = []

    def late(*_: object) -> None:
        raise TimeoutError("ten seconds")

    signal.signal(signal.SIGALRM, late)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        read = reader(kind, folder)
        if kind == "store.json":
            files = [("store.json", (folder / "store" / "store.json").read_bytes())]
        else:
            files = wholes(kind, random)
        for i in range(count):
            file, whole = files[i % len(files)]
            (folder / file).write_bytes(damaged(whole, random))
            began = time.monotonic()
            signal.alarm(SECONDS)
            try:
                read(folder / file)
                counts["read"] += 1
            except (Refused, Unreadable) as refused:
                counts["refused"] += 1
                if "\n" in str(refused):
                    other.append(f"{i}: more than a line: {refused!r}"[:300])
            except Exception as error:
                other.append(f"{i} {file}: {error!r}"[:300])
            finally:
                signal.alarm(0)
            if time.monotonic() - began > SECONDS:
                slow.append(f"{i} {file}")
    status = Path("/proc/self/status").read_text("utf-8")  # not ru_maxrss, which begins with the parent's
    peak = int(status.partition("VmHWM:")[2].split()[0]) // 1024
    print(json.dumps({**counts, "other": other[:20], "slow": slow, "megabytes": peak}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
