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

from atlas.formatting import Record

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
    """The same picture in nine formats."""
    from PIL import Image

    image = Image.fromarray(random.integers(0, 255, (60, 80, 3), np.uint8))
    found = []
    for format in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO", "JPEG2000"):
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
    return arrays(random) if kind == "npy" else tensors(random)


def arrays(random: np.random.Generator) -> list[tuple[str, bytes]]:
    """Arrays as a Store's shard has them, and as a published table is."""
    from atlas.store.files import save_array

    shapes = {"embedding": (30, 16), "max": (30, 64)}
    found = {name: random.normal(size=shape).astype(np.float16) for name, shape in shapes.items()}
    found |= {"argmax": random.integers(0, 9, (30, 64)).astype(np.uint16)}
    found |= {"country": random.integers(0, 255, (2, 40)).astype(np.uint8)}
    with tempfile.TemporaryDirectory() as folder:
        for name, array in found.items():
            save_array(Path(folder, f"{name}.npy"), array)
        return [(f"{name}.npy", Path(folder, f"{name}.npy").read_bytes()) for name in found]


def tensors(random: np.random.Generator) -> list[tuple[str, bytes]]:
    """Files of tensors: directions as they are saved, components, an autoencoder with a rule, a model's weights."""
    from safetensors.numpy import save
    from safetensors.torch import save as save_weights

    from atlas.model.directions import Directions
    from atlas.model.weights import untrained_weights

    D = random.normal(size=(6, 64)).astype(np.float32)
    shapes = {"W_enc": (64, 6), "W_dec": (6, 64), "b_enc": (6,), "b_dec": (64,), "threshold": (6,)}
    latents = {name: np.abs(random.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.safetensors")
        path.write_bytes(save(latents, {"architecture": "jumprelu"}))
        ruled = Directions.load(path)[[4, 1]]
        found = [("sae.safetensors", path.read_bytes())]
        kinds = {"components": Directions.components(np.abs(D)), "neurons": Directions.neurons([3, 5], 64)}
        for name, each in {**kinds, "ruled": ruled}.items():
            each.save(path)
            found.append((f"{name}.safetensors", path.read_bytes()))
    return [*found, ("weights.safetensors", save_weights(untrained_weights(_tower(), 0)))]


def _tower() -> str:
    """The name of a small model, made known to open_clip."""
    from tests.towers import register_towers, tower

    with tempfile.TemporaryDirectory() as folder:
        register_towers(Path(folder))
    return tower("resnet")


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


def _read_array(path: Path) -> None:
    """Read an array of a shard of 30 rows whose checksum is not among those compared, or a table of the article."""
    from atlas.store import derived
    from atlas.store.shards import Shard
    from decompose.studies.published import read_published

    if path.stem == "country":
        target = path.parent / "static" / "regional" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        places = [{"properties": {"name": str(i)}} for i in range(40)]
        (target.parent / "units.json").write_text('[["a", 1], ["b", 2]]')
        (target.parent / "geo.json").write_text(json.dumps({"countries": places, "cities": []}))
        path.replace(target)
        read_published(path.parent)
        return
    derived._WHOLE_BYTES, derived._ONE_IN = 0, 10**9
    files: dict[str, Record] = {path.name: {"bytes": path.stat().st_size, "sha256": ""}}
    np.asarray(Shard(path.parent, "image", 0, 30, files).array(path.stem))


def _read_tensors(path: Path) -> None:
    from atlas.model.clip import Clip
    from atlas.model.directions import Directions

    if path.stem == "weights":
        Clip(_tower(), pretrained=str(path), device="cpu")
    else:
        Directions.load(path).activations(np.ones((3, 64), np.float32))


def reader(kind: str, folder: Path) -> Callable[[Path], object]:
    """What reads a file of a kind as a user would have it read."""
    if kind == "picture":
        from atlas.sources.decoding import decode

        return decode
    if kind == "npy":
        return _read_array
    if kind == "safetensors":
        return _read_tensors
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
        for file, whole in files:  # what is refused whole says nothing once it is damaged
            (folder / file).write_bytes(whole)
            read(folder / file)
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
