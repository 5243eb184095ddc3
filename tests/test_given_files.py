"""Files that a user names, of every kind: a pipe, a device or a bomb in their place ends at once, in one line."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from atlas.analysis.index import Index
from atlas.errors import Refused
from atlas.model import tensorfiles
from atlas.model.directions import Directions
from atlas.sources import spec
from atlas.store.check import check_folder
from atlas.store.store import Store
from decompose.opening import word_list
from decompose.studies.published import read_published
from tests.fakes import fake_store


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def vast(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


UNREADABLE = [os.mkfifo, endless, vast]
LIMIT = "not a regular file|the limit for such a file is"


def line_of(call: Callable[[], object], says: str) -> None:
    with pytest.raises(Refused, match=says) as refused:
        call()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("make", UNREADABLE)
@pytest.mark.parametrize("name", ["units.json", "country.npy", "textNeurons.js", "NeuronFamilies.svelte"])
def test_the_articles_tables(name: str, make: Callable, tmp_path: Path) -> None:
    place = {"textNeurons.js": "emotions/semantic", "NeuronFamilies.svelte": "x"}.get(name, "regional")
    (tmp_path / "static" / place).mkdir(parents=True)
    make(tmp_path / "static" / place / name)
    line_of(lambda: read_published(tmp_path), LIMIT)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("units.json", b"[" * 100_000),
        ("country.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<u8', 'fortran_order': False, 'shape': (9999999999999,), }"),
        ("country.npy", b"\x93NUMPY\x01\x00\x08\x00{'descr'"),
    ],
)
def test_a_hostile_table_of_the_article(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "static" / "regional").mkdir(parents=True)
    (tmp_path / "static" / "regional" / name).write_bytes(content.ljust(128) if name[-1] == "y" else content)
    line_of(lambda: read_published(tmp_path), f"cannot read .*{name}")


@pytest.mark.parametrize("make", UNREADABLE)
def test_lists_of_words(make: Callable, tmp_path: Path) -> None:
    make(tmp_path / "list.txt")
    line_of(lambda: word_list(tmp_path / "list.txt"), f"{LIMIT}|is not a file")
    line_of(lambda: spec.parse(f"words:{tmp_path / 'list.txt'}"), f"{LIMIT}|neither a file")


def unlistable(path: Path) -> None:
    path.write_bytes(b"\x00\x01\x02")


@pytest.mark.parametrize("make", [*UNREADABLE, unlistable])
@pytest.mark.parametrize("name", ["notes.txt", "metadata.csv", "metadata.jsonl", "metadata.parquet"])
def test_texts_and_tables_in_a_folder_refuse_no_picture(name: str, make: Callable, tmp_path: Path) -> None:
    Image.new("RGB", (20, 20), "red").save(tmp_path / "a.png")
    make(tmp_path / name)
    (item,) = spec.parse(str(tmp_path))
    assert item.load is not None
    assert item.load().size == (20, 20)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_store(tmp_path_factory.mktemp("given"), 12, 4, 4, neurons=6, dim=8, shard_rows=8, derived=False).path


@pytest.mark.parametrize("make", [os.mkfifo, endless])
@pytest.mark.parametrize("name", ["store.json", "rejects.parquet", "shards/00000/shard.json", "shards/00000/max.npy"])
def test_files_of_a_store(name: str, make: Callable, made: Path, tmp_path: Path) -> None:
    path = shutil.copytree(made, tmp_path / "store")
    (path / name).unlink()
    make(path / name)
    if name in ("store.json", "shards/00000/shard.json"):
        line_of(lambda: Store.open(path), "not a regular file|cannot be read")
    assert any(Path(name).name in fault for fault in check_folder(path).faults)


@pytest.mark.parametrize("make", [os.mkfifo, endless, lambda path: path.write_text('{"format": 1, "rows": 3}')])
@pytest.mark.parametrize("name", ["index.json", "vectors.faiss"])
def test_an_index(name: str, make: Callable, tmp_path: Path) -> None:
    Index.build(np.eye(4, dtype=np.float32)).save(tmp_path)
    (tmp_path / name).unlink()
    make(tmp_path / name)
    line_of(lambda: Index.open(tmp_path), "not a regular file|does not describe an index|cannot be read")


def test_tensors_that_unpack_to_more_than_they_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorfiles, "_LARGE", 2**20)
    np.savez_compressed(tmp_path / "a.npz", read=np.zeros((600, 600)))
    line_of(lambda: Directions.load(tmp_path / "a.npz"), "would unpack to")
    torch.save({"state_dict": {"encoder.weight": torch.zeros(1).expand(600, 600)}}, tmp_path / "a.pt")
    line_of(lambda: Directions.load(tmp_path / "a.pt"), "repeats few numbers")


def test_an_archive_that_is_cut_off(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", read=np.zeros((3, 8)))
    whole = (tmp_path / "a.npz").read_bytes()
    for end in (10, len(whole) // 2, len(whole) - 3):
        (tmp_path / "a.npz").write_bytes(whole[:end])
        line_of(lambda: Directions.load(tmp_path / "a.npz"), "as npz")
