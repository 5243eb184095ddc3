import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from atlas.errors import Refused
from atlas.store.files import save_array, write_json
from atlas.store.store import Part, Store
from tests.fakes import fake_store

ONE, TWO = Part("neurons/one", "make one {store}"), Part("neurons/two", "make two {store}")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = {"images": 110, "words": 20, "texts": 10, "shard_rows": 100}
    return fake_store(tmp_path_factory.mktemp("made"), **counts, neurons=6, dim=8).path


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Store:
    """A copy, to be spoilt."""
    return Store.open(shutil.copytree(made, tmp_path / "store"))


def test_arrays_are_slices_over_shards(store: Store) -> None:
    A = store.array("max", "image")
    whole = np.concatenate([np.load(s.folder / "max.npy") for s in store.of_kind("image")])
    assert A.shape == (110, 6)
    np.testing.assert_array_equal(np.asarray(A), whole)
    np.testing.assert_array_equal(A[90:105], whole[90:105])
    np.testing.assert_array_equal(A[::-7], whole[::-7])
    np.testing.assert_array_equal(A[[109, 0, 100, -1]], whole[[109, 0, 100, -1]])
    np.testing.assert_array_equal(A[whole[:, 0] > 1], whole[whole[:, 0] > 1])
    np.testing.assert_array_equal(A[-1], whole[-1])
    with pytest.raises(IndexError):
        A[110]


def test_rows_positions_and_thumbs_agree(store: Store) -> None:
    assert len(store) == 140
    assert "thumb" not in store.rows.column_names
    positions = store.positions("word")
    kinds = store.rows["kind"].to_pylist()
    assert [kinds[p] for p in positions] == ["word"] * 20
    row = store.find(store.rows["id"][105].as_py())
    assert row == 105
    assert store.thumb(105)[8:12] == b"WEBP"
    assert store.thumb(139) == b""


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda s: s.array("min", "image"), "arrays are"),
        (lambda s: s.array("max", "video"), "kinds are"),
        (lambda s: s.array("max"), "texts have no max"),
        (lambda s: s.array("max", "image", layer="visual.layer1"), "was not collected"),
        (lambda s: s.find("no such id"), "no row with the id"),
        (lambda s: s.find(140), "out of range"),
        (lambda s: s.derived(Part("layout/moon", "atlas map {store}")), "not there yet; make it: atlas map"),
    ],
)
def test_what_is_not_there_is_said(store: Store, ask, says: str) -> None:
    with pytest.raises(Refused, match=says):
        ask(store)


def test_opening_notices_what_was_touched(store: Store) -> None:
    shard = store.path / "shards" / "00000"
    before = (shard / "max.npy").read_bytes()
    (shard / "max.npy").write_bytes(before[:-2])
    with pytest.raises(Refused, match=r"max.npy has \d+ bytes, expected \d+ .*, or remove .* and collect again$"):
        Store.open(store.path)
    (shard / "max.npy").write_bytes(before[:-2] + b"xx")
    assert [str(shard / "max.npy") in fault for fault in Store.open(store.path).check()] == [True]
    (shard / "max.npy").write_bytes(before)
    assert Store.open(store.path).check() == []
    content = json.loads((shard / "shard.json").read_text())
    write_json(shard / "shard.json", content | {"rows": 7})
    with pytest.raises(Refused, match="does not match store"):
        Store.open(store.path)


def test_another_format_an_unfinished_store_and_no_store_are_refused(store: Store, tmp_path: Path) -> None:
    manifest = json.loads((store.path / "store.json").read_text())
    for change, says in (({"format": 99}, "format 99"), ({"complete": False}, "not finished")):
        write_json(store.path / "store.json", manifest | change)
        with pytest.raises(Refused, match=says):
            Store.open(store.path)
    (store.path / "store.json").write_text("{")
    with pytest.raises(Refused, match="cannot be read as JSON"):
        Store.open(store.path)
    with pytest.raises(Refused, match="holds no Store"):
        Store.open(tmp_path)


def test_what_is_derived_knows_its_parents(store: Store) -> None:
    def write(name: Part, text: str, of: Sequence[Part] = ()) -> None:
        with store.deriving(name, {}, of=of) as folder:
            (folder / "a.txt").write_text(text)

    write(ONE, "1")
    write(TWO, "2", of=[ONE])
    assert store.derived(TWO).is_dir()
    write(ONE, "1")  # the same content again: nothing is stale
    assert store.current(TWO)
    write(ONE, "changed")
    with pytest.raises(Refused, match=r"neurons/two was made of neurons/one .* is now .*make it again: make two"):
        store.derived(TWO)
    assert any("neurons/two" in fault for fault in store.check())
    store.request["seed"] = 5
    with pytest.raises(Refused, match="was made of store"):
        store.derived(ONE)


def test_a_damaged_derived_file_is_refused_with_the_command_that_makes_it(store: Store) -> None:
    with store.deriving(ONE.made_with(seed=3), {}) as folder:
        (folder / "a.txt").write_text("1")
    says = rf"a.txt (has 2|is) .*make .*{ONE.name} again: make one .*{store.path.name} --seed 3$"
    for damage in (lambda file: file.write_text("12"), lambda file: file.unlink()):
        damage(store.path / ONE.name / "a.txt")
        with pytest.raises(Refused, match=says):
            store.derived(ONE)


def test_a_derivation_that_fails_leaves_what_was_there(store: Store) -> None:
    with store.deriving(ONE, {}) as folder:
        (folder / "a.txt").write_text("whole")
    with pytest.raises(FileNotFoundError), store.deriving(ONE, {}) as folder:
        (folder / "missing" / "a.txt").write_text("half")
    assert (store.derived(ONE) / "a.txt").read_text() == "whole"
    assert not (store.path / "partial").exists()


@pytest.mark.parametrize("change", [lambda whole: whole[:-1], lambda whole: whole + b" "])
def test_a_derived_file_of_another_size_is_refused(store: Store, change) -> None:
    with store.deriving(ONE, {}) as folder:
        (folder / "a.txt").write_text("whole")
    file = store.derived(ONE) / "a.txt"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(Refused, match=r"neurons/one/a.txt"):
        store.derived(ONE)
    assert not store.current(ONE)
    assert store.has(ONE)


@pytest.mark.parametrize("arrange", [np.asarray, np.asfortranarray, lambda A: A.repeat(2, 1)[:, ::2], np.transpose])
def test_an_array_is_read_as_it_was_written_whatever_its_order(arrange, tmp_path: Path) -> None:
    A = arrange(np.arange(12, dtype=np.float32).reshape(3, 4))
    save_array(tmp_path / "a.npy", A)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), A)
