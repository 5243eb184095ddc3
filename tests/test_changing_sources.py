"""Sources that change while they are collected, and after: every listed item becomes a row or a reject."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

import atlas
from atlas.errors import Refused
from atlas.sources import spec
from atlas.sources.items import Item
from atlas.store import shard_writer
from atlas.store.listing import shard_name
from tests.fakes import photos


class Changing:
    """A source that changes right after it was listed."""

    def __init__(self, folder: Path, change: Callable[[], None]):
        self.inner, self.change, self.name, self.walks = spec.parse(str(folder)), change, folder.name, 0

    def __iter__(self) -> Iterator[Item]:
        yield from self.inner
        self.walks += 1
        if self.walks == 1:
            self.change()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return photos(tmp_path / "photos", 5)


def reasons(store: atlas.Store) -> dict[str, str]:
    return {Path(row["id"]).name: row["reason"].partition(" (")[0] for row in store.rejects.to_pylist()}


def ids(store: atlas.Store) -> list[str]:
    return [Path(id).name for id in store.rows["id"].to_pylist()]


def kill(monkeypatch: pytest.MonkeyPatch, collect: Callable[[], object], after: int = 0) -> None:
    """Run `collect`, which ends as if killed: it writes `after` shards and not the next one."""
    write, calls = shard_writer.write_shard, []

    def die(*args: object) -> None:
        calls.append(1)
        if len(calls) > after:
            raise KeyboardInterrupt
        write(*args)

    with monkeypatch.context() as patch:
        patch.setattr(shard_writer, "write_shard", die)
        with pytest.raises(KeyboardInterrupt):
            collect()


def test_what_changes_while_it_is_collected_is_a_reject_and_nothing_unlisted_comes_in(
    clip: atlas.Clip, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change() -> None:
        photos(folder, 3, seed=1)
        (folder / "0-00001.png").unlink()
        Image.new("RGB", (9, 9)).save(folder / "0-00002.png")

    store = atlas.collect(Changing(folder, change), clip, tmp_path / "store")
    assert ids(store) == ["0-00000.png", "0-00003.png", "0-00004.png"]
    assert reasons(store) == {"0-00001.png": "gone since it was listed", "0-00002.png": "changed since it was listed"}
    assert "3 items appeared after the listing; --append" in capsys.readouterr().err
    assert store.check() == []


def test_what_had_changed_is_taken_in_by_the_next_run(clip: atlas.Clip, folder: Path, tmp_path: Path) -> None:
    before = atlas.collect(str(folder), clip, tmp_path / "before")
    source = Changing(folder, lambda: os.utime(folder / "0-00002.png", ns=(1, 1)))
    store = atlas.collect(source, clip, tmp_path / "store")
    assert ids(store) == ["0-00000.png", "0-00001.png", "0-00003.png", "0-00004.png"]
    again = atlas.collect(source, clip, store.path)
    assert ids(again) == ids(before)
    assert len(again.rejects) == 0
    assert [path.name for path in (store.path / "shards").iterdir()] == ["00000.1"]
    assert again.check() == []


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_what_could_not_be_read_for_a_passing_reason_is_tried_again(
    clip: atlas.Clip, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    whole = atlas.collect(str(folder), clip, tmp_path / "whole")
    read = Path.read_bytes

    def fail(path: Path) -> bytes:
        if path.name == "0-00001.png":
            raise OSError(code, os.strerror(code))
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fail)
        store = atlas.collect(str(folder), clip, tmp_path / "store")
        assert reasons(store) == {"0-00001.png": os.strerror(code).lower()}
        assert atlas.collect(str(folder), clip, store.path).digest == store.digest, "it still cannot be read"
    assert atlas.collect(str(folder), clip, store.path).digest == whole.digest


def test_a_killed_run_goes_on_although_files_were_added_and_then_appends(
    clip: atlas.Clip, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "store"
    kill(monkeypatch, lambda: atlas.collect(str(folder), clip, out))
    with pytest.raises(Refused, match="is not finished"):
        atlas.Store.open(out)
    photos(folder, 2, seed=1)
    assert ids(atlas.collect(str(folder), clip, out)) == [f"0-{i:05d}.png" for i in range(5)]
    with pytest.raises(Refused, match=r"2 added .*--append"):
        atlas.collect(str(folder), clip, out)
    assert len(atlas.collect(str(folder), clip, out, append=True)) == 7

    other = tmp_path / "other"
    (folder / "1-00000.png").rename(tmp_path / "1-00000.png")
    kill(monkeypatch, lambda: atlas.collect(str(folder), clip, other))
    (tmp_path / "1-00000.png").rename(folder / "1-00000.png")
    assert len(atlas.collect(str(folder), clip, other, append=True)) == 7


def test_a_killed_append_leaves_the_finished_store_and_can_be_finished(
    clip: atlas.Clip, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = atlas.collect(str(folder), clip, tmp_path / "store")
    photos(folder, 2, seed=1)
    kill(monkeypatch, lambda: atlas.collect(str(folder), clip, store.path, append=True))
    left = atlas.Store.open(store.path)
    assert (len(left), left.digest, left.check()) == (5, store.digest, [])
    photos(folder, 1, seed=2)
    longer = atlas.collect(str(folder), clip, store.path, append=True)
    assert ids(longer)[5:] == ["1-00000.png", "1-00001.png", "2-00000.png"]
    assert len(set(ids(longer))) == 8
    assert longer.check() == []


def test_a_commit_that_was_interrupted_shows_the_new_state(
    clip: atlas.Clip, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = atlas.collect(str(folder), clip, tmp_path / "store")
    photos(folder, 2, seed=1)
    whole = atlas.collect(str(folder), clip, tmp_path / "whole")
    from atlas.store import collection

    with monkeypatch.context() as patch:
        patch.setattr(collection, "settle", kill_at_second_call(collection.settle))
        with pytest.raises(KeyboardInterrupt):
            atlas.collect(str(folder), clip, store.path, append=True)
    assert (store.path / "pending" / "store.json").exists()
    new = atlas.Store.open(store.path)
    assert len(new) == len(whole) == 7
    assert (new.check(), len(new.rejects)) == ([], 0)
    assert atlas.collect(str(folder), clip, store.path).digest == new.digest
    assert not (store.path / "pending").exists()


def kill_at_second_call(function: Callable) -> Callable:
    calls = []

    def die(*args: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return function(*args)

    return die


def test_a_shard_that_is_missing_is_made_again(clip: atlas.Clip, folder: Path, tmp_path: Path) -> None:
    store = atlas.collect([str(folder), "words:emotions?fonts=open-sans&sizes=32"], clip, tmp_path / "store")
    shutil.rmtree(store.path / "shards" / "00000")
    with pytest.raises(Refused, match="00000 is missing"):
        atlas.Store.open(store.path)
    again = atlas.collect(store.request["sources"], clip, store.path)
    assert (again.digest, again.check()) == (store.digest, [])


def test_a_shard_that_cannot_be_made_again_is_a_refusal_and_spoils_nothing(
    clip: atlas.Clip, folder: Path, tmp_path: Path
) -> None:
    store = atlas.collect(str(folder), clip, tmp_path / "store")
    shard = shutil.move(store.path / "shards" / "00000", tmp_path / "kept")
    for file in folder.iterdir():
        file.write_bytes(b"x")
    with pytest.raises(Refused, match="every input was refused, 5 in all"):
        atlas.collect(str(folder), clip, store.path)
    assert not (store.path / "pending").exists()
    (store.path / "shards").mkdir(exist_ok=True)
    shutil.move(shard, store.path / "shards" / "00000")
    assert atlas.Store.open(store.path).check() == []


def test_touched_files_and_another_spelling_or_place_are_the_same_request(
    clip: atlas.Clip, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = atlas.collect(str(folder), clip, tmp_path / "store")
    monkeypatch.chdir(tmp_path)
    for spelling in ("photos", "photos/", "./photos", f"{folder}/"):
        assert atlas.collect(spelling, clip, store.path).digest == store.digest
    for path in folder.iterdir():
        os.utime(path, ns=(5, 5))
    assert atlas.collect("photos", clip, store.path).digest == store.digest
    moved = tmp_path / "elsewhere" / "photos"
    moved.parent.mkdir()
    folder.rename(moved)
    assert atlas.collect(str(moved), clip, store.path).digest == store.digest
    photos(moved, 1, seed=1)
    os.utime(moved / "0-00000.png", ns=(7, 7))
    assert len(atlas.collect(str(moved), clip, store.path, append=True)) == 6


def test_a_file_with_other_content_and_the_same_size_is_named(clip: atlas.Clip, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, colour in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (9, 9), colour).save(folder / f"{name}.bmp")
    store = atlas.collect(str(folder), clip, tmp_path / "store")
    Image.new("RGB", (9, 9), "green").save(folder / "a.bmp")
    with pytest.raises(Refused, match=r"1 changed \(such as photos/a.bmp\); collect them into another folder"):
        atlas.collect(str(folder), clip, store.path)


def test_a_caption_that_changed_since_is_told(clip: atlas.Clip, folder: Path, tmp_path: Path) -> None:
    caption = folder / "0-00002.txt"
    caption.write_text("a red cat")
    before = atlas.collect(str(folder), clip, tmp_path / "before")
    caption.write_text("a blue dog")
    with pytest.raises(Refused, match=r"1 with other captions or labels \(such as photos/0-00002.png\)"):
        atlas.collect(str(folder), clip, before.path)
    caption.write_text("a red cat")
    assert atlas.collect(str(folder), clip, before.path).digest == before.digest


def test_a_caption_that_changes_while_it_is_collected_is_a_reject(
    clip: atlas.Clip, folder: Path, tmp_path: Path
) -> None:
    source = Changing(folder, lambda: (folder / "0-00002.txt").write_text("a blue dog"))
    store = atlas.collect(source, clip, tmp_path / "store")
    assert reasons(store) == {"0-00002.png": "changed since it was listed"}
    again = atlas.collect(source, clip, store.path)
    assert again.rows["caption"].to_pylist() == ["", "", "a blue dog", "", ""]
    assert atlas.collect(str(folder), clip, store.path).digest == again.digest


def test_files_that_are_gone_leave_their_rows(
    clip: atlas.Clip, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = atlas.collect(str(folder), clip, tmp_path / "store")
    (folder / "0-00003.png").unlink()
    assert atlas.collect(str(folder), clip, store.path).digest == store.digest
    assert "1 files are gone (such as photos/0-00003.png); their rows stay" in capsys.readouterr().err


def test_a_folder_of_something_else_is_left_as_it_is(clip: atlas.Clip, folder: Path) -> None:
    before = sorted(folder.iterdir())
    with pytest.raises(Refused, match="is no Store"):
        atlas.collect(str(folder), clip, folder)
    assert sorted(folder.iterdir()) == before


def test_names_of_shards_sort_as_their_numbers() -> None:
    numbers = [0, 9, 10, 99_999, 100_000, 123_456, 1_000_000]
    assert sorted(map(shard_name, numbers)) == [shard_name(number) for number in numbers]


def test_a_touched_file_is_compared_among_shards_of_others(clip: atlas.Clip, folder: Path, tmp_path: Path) -> None:
    sources = [str(folder), "texts:emotions"]
    store = atlas.collect(sources, clip, tmp_path / "store")
    os.utime(folder / min(path.name for path in folder.iterdir()))
    assert len(atlas.collect(sources, clip, tmp_path / "store")) == len(store)


@pytest.mark.parametrize(
    "name", ["listing.parquet", "rejects.parquet", "shards/00000/rows.parquet", "shards/00000/content.npy"]
)
@pytest.mark.parametrize("at", [0.5, -0.1])
def test_what_is_damaged_is_named_when_it_is_collected_into(
    name: str, at: float, clip: atlas.Clip, folder: Path, tmp_path: Path
) -> None:
    store = atlas.collect(str(folder), clip, tmp_path / "store")
    content = bytearray((store.path / name).read_bytes())
    content[int(at * len(content))] ^= 8
    (store.path / name).write_bytes(content)
    os.utime(folder / min(path.name for path in folder.iterdir()))
    photos(folder, 7)
    for append in (False, True):
        with pytest.raises(Refused, match=f"{name} (is damaged|cannot be read)") as refused:
            atlas.collect(str(folder), clip, store.path, append=append)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("append", [False, True])
def test_a_damaged_listing_of_a_killed_run_is_named(
    append: bool, clip: atlas.Clip, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "store"
    if append:
        atlas.collect(str(folder), clip, out)
        photos(folder, 7)
    kill(monkeypatch, lambda: atlas.collect(str(folder), clip, out, append=append))
    (out / "pending" / "listing.parquet").write_bytes(b"PAR1 and nothing else PAR1")
    with pytest.raises(Refused, match=f"is damaged; remove {out / 'pending' if append else out}, then the same"):
        atlas.collect(str(folder), clip, out, append=append)
    shutil.rmtree(out / "pending" if append else out)
    assert len(atlas.collect(str(folder), clip, out, append=append)) == (7 if append else 5)
