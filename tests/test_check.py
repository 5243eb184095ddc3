"""`atlas check` finds every changed byte, missing and planted file, names them all, and repairs what can be derived."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from atlas import cli
from atlas.errors import Refused
from atlas.store import derived
from atlas.store.derived import verify_file
from atlas.store.files import put_folder, read_json, sha256, write_json
from atlas.store.store import Part, Store
from decompose import cli as decompose_cli
from tests.fakes import fake_store

ONE = Part("neurons/one", "atlas one {store}")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = fake_store(tmp_path_factory.mktemp("made"), 12, 4, 4, neurons=6, dim=8, shard_rows=8, derived=False)
    with store.deriving(ONE, {"k": 3}) as folder:
        (folder / "a.txt").write_text("derived\n")
    manifest = read_json(store.path / "store.json")
    shutil.copyfile(store.path / "rejects.parquet", store.path / "listing.parquet")
    files = {name: sha256(store.path / name) for name in ("listing.parquet", "rejects.parquet")}
    write_json(store.path / "store.json", manifest | {"files": files})
    assert Store.open(store.path).check() == []
    return store.path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    """A copy, to be spoilt."""
    return shutil.copytree(made, tmp_path / "store")


def files(path: Path) -> list[str]:
    return sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())


def faults(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What `atlas check` says; it must not end in a traceback."""
    code, said = cli.main(["check", str(path)]), capsys.readouterr()
    return said.out + said.err if code else ""


@pytest.mark.parametrize("places", [2, pytest.param(64, marks=pytest.mark.slow)])
def test_a_changed_byte_of_any_file_is_found(places: int, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    unseen = []
    for name in files(path):
        if name == ".lock":
            continue
        whole = (path / name).read_bytes()
        for at in random.choice(len(whole), min(places, len(whole)), replace=False).tolist():
            flipped = bytearray(whole)
            flipped[at] ^= 1 << int(random.integers(8))
            (path / name).write_bytes(flipped)
            if Path(name).name not in faults(path, capsys):
                unseen.append((name, at))
        (path / name).write_bytes(whole)
    assert unseen == []
    assert faults(path, capsys) == ""


def test_every_fault_is_named(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path / "shards" / "00000" / "max.npy").unlink()
    (path / "shards" / "00001" / "mean.npy").write_bytes(b"")
    (path / "rejects.parquet").unlink()
    (path / "neurons" / "one" / "a.txt").write_text("other")
    (path / "site" / "data").mkdir(parents=True)
    (path / "site" / "data" / "evil.js").write_text("alert(1)")
    shutil.copytree(path / "shards" / "00000", path / "shards" / "00077")
    (path / "partial" / "half").mkdir(parents=True)
    (path / "partial" / "half" / "a.npy").touch()
    said = faults(path, capsys)
    for name in (
        "max.npy",
        "mean.npy",
        "rejects.parquet",
        "one/a.txt",
        "evil.js",
        "00077",
        "partial/half/a.npy was left",
    ):
        assert name in said, name


def test_repair_removes_what_can_be_derived_and_names_the_command(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path / "neurons" / "one" / "a.txt").write_text("other")
    (path / "notes.txt").write_text("mine")
    assert cli.main(["check", str(path), "--repair"]) == 1
    assert f"then: atlas one {path}" in capsys.readouterr().err
    assert not (path / "neurons" / "one").exists()
    assert (path / "notes.txt").read_text() == "mine"


def test_repair_names_the_commands_in_an_order_in_which_they_work(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store.open(path)
    for name, command, of in (
        ("layout/b", "atlas b", [ONE]),
        ("index/a", "atlas a", [ONE]),
        ("layout/c", "atlas a", []),
    ):
        with store.deriving(Part(name, f"{command} {{store}}"), {}, of) as folder:
            (folder / "b.txt").write_text("derived\n")
        (path / name / "b.txt").write_text("other")
    (path / "neurons" / "one" / "a.txt").write_text("other")
    assert cli.main(["check", str(path), "--repair"]) == 1
    lines = [line.partition("then: ")[2] for line in capsys.readouterr().err.splitlines()]
    assert lines == [f"atlas {name} {path}" for name in ("one", "a", "b")]


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{}",
        "[" * 9999,
        '{"of": {"neurons/one": "x"}, "files": {}, "recipe": {}}',
        '{"of": 3}',
        "nul",
        '"\\ud800"',
    ],
)
@pytest.mark.parametrize("name", ["store.json", "neurons/one/made.json", "shards/00000/shard.json"])
def test_any_json_in_the_place_of_ours_is_a_line(
    content: str, name: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path / name).write_text(content)
    assert Path(name).name in faults(path, capsys)
    with pytest.raises(Refused):
        Store.open(path).derived(ONE)


def test_an_edited_request_is_noticed(path: Path) -> None:
    text = (path / "store.json").read_text()
    (path / "store.json").write_text(text.replace('"seed": 0', '"seed": 1'))
    with pytest.raises(Refused, match="was changed after it was written"):
        Store.open(path)
    (path / "store.json").write_text(json.dumps(json.loads(text)))
    with pytest.raises(Refused, match="was changed after it was written"):
        Store.open(path)


def test_a_damaged_array_is_refused_when_it_is_read(path: Path) -> None:
    file = path / "shards" / "00000" / "embedding.npy"
    content = bytearray(file.read_bytes())
    content[-5] ^= 4
    file.write_bytes(content)
    with pytest.raises(Refused, match=r"embedding.npy is damaged: .* remove .* and collect again"):
        Store.open(path).array("embedding", "image")


@pytest.mark.parametrize("name", ["shards/00000/embedding.npy", "neurons/one/a.txt", "rejects.parquet"])
def test_what_a_sample_leaves_out_is_found_with_verify(
    name: str, path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(derived, "_WHOLE_BYTES", 0)
    monkeypatch.setattr(derived, "_ONE_IN", 10**9)
    asked = ["export", str(path), str(path.parent / "rows.pq")]
    assert cli.main([*asked, "--verify"]) == 0
    content = bytearray((path / name).read_bytes())
    content[-3] ^= 4
    (path / name).write_bytes(content)
    capsys.readouterr()
    assert cli.main(asked) == 0
    assert cli.main([*asked, "--verify"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert name in line
    assert f"atlas check {path} names all" in line
    assert name in faults(path, capsys)


def test_a_fault_is_said_once(path: Path) -> None:
    store = Store.open(path)
    for name in ("two", "three"):
        with store.deriving(Part(f"neurons/{name}", f"atlas {name} {{store}}"), {}, of=(ONE,)) as folder:
            (folder / "b.txt").write_text("from one\n")
    made = path / "neurons/one/made.json"
    made.write_text(made.read_text("utf-8").replace('"k": 3', '"k": 4'), "utf-8")
    faults = Store.open(path).check()
    assert any("neurons/one/made.json" in fault for fault in faults)
    assert len(faults) == len(set(faults))


@pytest.mark.parametrize(("old", "new"), [(b"<f2", b"<i2"), (b"(8, 8)", b"(8, 4)"), (b"(8, 8)", b"(4, 8)")])
def test_a_header_is_checked_at_each_use(old: bytes, new: bytes, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(derived, "_WHOLE_BYTES", 0)
    monkeypatch.setattr(derived, "_ONE_IN", 10**9)
    file = path / "shards" / "00000" / "embedding.npy"
    content = file.read_bytes()
    assert old in content
    file.write_bytes(content.replace(old, new, 1))
    with pytest.raises(Refused, match=r"embedding.npy cannot be read \(its header says"):
        Store.open(path).array("embedding", "image")


def test_verify_needs_a_store(capsys: pytest.CaptureFixture[str]) -> None:
    assert decompose_cli.main(["search", "pizza", "--verify"]) == 2
    assert "add --store OUT" in capsys.readouterr().err


def test_a_folder_is_exchanged_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    monkeypatch.setattr(Path, "replace", None)  # a rename, which would leave a moment without the folder
    put_folder(tmp_path / "new", tmp_path / "old")
    assert files(tmp_path) == ["old/new"]


def test_a_store_that_changed_meanwhile_is_not_derived_from(path: Path) -> None:
    store = Store.open(path)
    manifest = read_json(path / "store.json")
    write_json(path / "store.json", manifest | {"request": manifest["request"] | {"seed": 9}})
    with pytest.raises(Refused, match="has changed while this ran"), store.deriving(ONE, {}):
        pass


def test_a_part_that_was_made_again_meanwhile_is_no_parent(path: Path) -> None:
    store, other = Store.open(path), Store.open(path)
    store.derived(ONE)
    with other.deriving(ONE, {"k": 4}) as folder:
        (folder / "a.txt").write_text("newer\n")
    with pytest.raises(Refused, match="neurons/one has changed while"), store.deriving(Part("two", "x"), {}, [ONE]):
        pass


@pytest.mark.parametrize("threads", [1, 2])
def test_a_part_says_on_how_many_threads_it_rests(threads: int, path: Path) -> None:
    with threadpool_limits(threads), Store.open(path).deriving(ONE, {}) as folder:
        (folder / "a.txt").write_text("derived\n")
    assert read_json(path / "neurons" / "one" / "made.json")["threads"] == threads


def test_a_file_is_verified_again_after_it_changed(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"12")
    stat = {"bytes": 2, "sha256": sha256(file)}
    verify_file(file, stat, "")
    file.write_bytes(b"21")
    with pytest.raises(Refused, match="is damaged"):
        verify_file(file, stat, "")
