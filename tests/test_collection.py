import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import atlas
from atlas.errors import Refused
from tests.fakes import photos

SHARD_ROWS = 64  # a real shard has 1,024
COLLECT = f"""
import sys, torch
torch.set_num_threads(1)
import atlas, atlas.store.listing
atlas.store.listing.SHARD_ROWS = {SHARD_ROWS}
sources = [sys.argv[1], "words:emotions?fonts=open-sans&sizes=32", "texts:emotions"]
atlas.collect(sources, atlas.Clip("mini"), sys.argv[2])
"""


@pytest.fixture(scope="module", autouse=True)
def small_shards() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("atlas.store.listing.SHARD_ROWS", SHARD_ROWS)
        yield


def content(store: Path) -> dict[str, bytes]:
    files = [path for path in sorted(store.rglob("*")) if path.is_file() and path.name != ".lock"]
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos(tmp_path_factory.mktemp("data") / "photos", SHARD_ROWS + 10)


@pytest.fixture(scope="module")
def store(folder: Path, clip: atlas.Clip, tmp_path_factory: pytest.TempPathFactory) -> atlas.Store:
    out = tmp_path_factory.mktemp("out") / "store"
    sources = [str(folder), "words:emotions?fonts=open-sans&sizes=32", "texts:emotions"]
    return atlas.collect(sources, clip, out)


def test_numbers_that_are_not_finite_are_refused_at_the_first_batch(folder: Path, tmp_path: Path) -> None:
    clip = atlas.Clip("mini")
    clip.model.visual.layer4[-1].bn3.bias[5] = float("nan")
    first = min(path.name for path in folder.iterdir())
    with pytest.raises(Refused, match=rf"of {folder.name}/{first} holds numbers that are not finite") as refused:
        atlas.collect(str(folder), clip, tmp_path / "out")
    assert "\n" not in str(refused.value)
    assert not list((tmp_path / "out").rglob("mean.npy"))


WEIGHTS = {  # what is wrong, and what is said of it
    "visual.attnpool.c_proj.weight": (1e38, r"the embedding of photos/.* is zero, or too long to be scaled"),
    "visual.layer4.0.bn3.weight": (1e38, r"holds numbers that are not finite: check the weights"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_embeddings_without_length_and_infinite_activations_are_refused(folder: Path, tmp_path: Path, name) -> None:
    clip = atlas.Clip("mini", device="cpu")
    factor, reason = WEIGHTS[name]
    clip.model.get_parameter(name).data.mul_(factor)
    with pytest.raises(Refused, match=reason):
        atlas.collect(folder, clip, tmp_path / "store")


def test_activations_beyond_half_precision_are_said(folder: Path, tmp_path: Path, capsys) -> None:
    clip = atlas.Clip("mini", device="cpu")
    last = clip.model.get_submodule("visual.layer4")[-1].bn3
    last.bias.data[7] = 1e6
    store = atlas.collect(folder, clip, tmp_path / "store")
    assert (store.array("max", "image")[:][:, 7] == 65504).all()
    said = 3 * len(store)  # max, mean and patch
    assert f"{said} activations are beyond 65,504, the largest of half precision" in capsys.readouterr().err


def test_a_store_holds_what_the_model_says(store: atlas.Store, folder: Path, clip: atlas.Clip) -> None:
    assert store.counts == {"image": SHARD_ROWS + 10, "word": 126, "text": 126}
    names = sorted(folder.iterdir())[:3]
    assert [Path(id).name for id in store.rows["id"].to_pylist()[:3]] == [name.name for name in names]
    A = clip.activations(names)
    np.testing.assert_allclose(store.array("embedding", "image")[:3], clip.encode_images(names), atol=2e-3)
    np.testing.assert_allclose(store.array("max", "image")[:3], A.max((2, 3)), atol=2e-3, rtol=2e-3)
    np.testing.assert_array_equal(store.array("argmax", "image")[:3], A.reshape(3, clip.neurons, -1).argmax(2))
    np.testing.assert_allclose(store.array("mean", "image")[:3], A.clip(0).mean((2, 3)), atol=2e-3, rtol=2e-3)
    row = store.rows.slice(1, 1).to_pylist()[0]
    patch = A[1, :, row["patch_row"], row["patch_col"]]
    np.testing.assert_allclose(store.array("patch", "image")[1], patch, atol=2e-3, rtol=2e-3)
    assert (row["width"], row["height"]) == (30, 20)


def test_it_reads_without_our_code(store: atlas.Store) -> None:
    import duckdb
    import pandas as pd

    shards = store.path / "shards"
    counted = duckdb.sql(f"select kind, count(*) from '{shards}/*/rows.parquet' group by kind").fetchall()
    assert dict(counted) == store.counts
    assert len(pd.read_parquet(shards / "00000" / "rows.parquet")) == SHARD_ROWS
    assert np.load(shards / "00000" / "max.npy").shape == (SHARD_ROWS, 1024)


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    run = [sys.executable, "-c", COLLECT, str(folder)]
    undisturbed, killed = tmp_path / "a", tmp_path / "b"
    subprocess.run([*run, str(undisturbed)], check=True, stderr=subprocess.DEVNULL)
    process = subprocess.Popen([*run, str(killed)], stderr=subprocess.DEVNULL)
    while not (killed / "shards" / "00000").exists() and process.poll() is None:
        time.sleep(0.002)
    assert process.poll() is None, "it ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with pytest.raises(Refused, match="not finished"):
        atlas.Store.open(killed)
    (killed / "partial" / "00007").mkdir(parents=True, exist_ok=True)  # what a kill leaves behind
    subprocess.run([*run, str(killed)], check=True, stderr=subprocess.DEVNULL)
    assert content(undisturbed) == content(killed)


def test_asked_again_it_is_left_as_it_is(store: atlas.Store, folder: Path, clip: atlas.Clip) -> None:
    before = {path: path.stat().st_mtime_ns for path in store.path.rglob("*") if path.name != ".lock"}
    again = atlas.collect(store.request["sources"], clip, store.path)
    assert again.digest == store.digest
    assert before == {path: path.stat().st_mtime_ns for path in store.path.rglob("*") if path.name != ".lock"}


@pytest.mark.parametrize(("change", "named"), [({"seed": 1}, "seed"), ({"source": "words:emotions"}, "sources")])
def test_another_request_is_refused(store: atlas.Store, clip: atlas.Clip, change: dict, named: str) -> None:
    request = {"source": store.request["sources"], "clip": clip, "out": store.path} | change
    with pytest.raises(Refused, match=named):
        atlas.collect(**request)


def test_another_layer_is_refused_and_several_are_kept(store: atlas.Store, tmp_path: Path) -> None:
    two = atlas.Clip("mini", layer=["visual.layer4", "visual.layer3"])
    with pytest.raises(Refused, match="layers"):
        atlas.collect(store.request["sources"], two, store.path)
    both = atlas.collect("words:emotions?fonts=open-sans&sizes=32", two, tmp_path / "two")
    assert both.array("max", "word").shape == (126, 1024)
    assert both.array("max", "word", layer="visual.layer3").shape == (126, 512)
    np.testing.assert_array_equal(both.array("max", "word")[:5], store.array("max", "word")[:5])


def test_added_files_are_appended_and_changed_ones_named(clip: atlas.Clip, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", 5)
    store = atlas.collect(str(folder), clip, tmp_path / "store")
    photos(folder, 3, seed=1)
    with pytest.raises(Refused, match=r"3 added .*--append"):
        atlas.collect(str(folder), clip, store.path)
    longer = atlas.collect(str(folder), clip, store.path, append=True)
    assert len(longer) == 8
    assert longer.rows["id"].to_pylist()[:5] == store.rows["id"].to_pylist()
    assert atlas.collect(str(folder), clip, store.path).digest == longer.digest
    Image.new("RGB", (9, 9)).save(folder / "0-00001.png")
    with pytest.raises(Refused, match=r"1 changed \(such as .*0-00001.png"):
        atlas.collect(str(folder), clip, store.path, append=True)


def test_bad_inputs_are_listed_and_nothing_stands_in_for_them(clip: atlas.Clip, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", 3)
    (folder / "0-00001.png").write_bytes(b"")
    (folder / "note.jpg").write_text("not a picture")
    store = atlas.collect(str(folder), clip, tmp_path / "store")
    assert len(store) == 2
    refused = {Path(row["id"]).name: row["reason"] for row in store.rejects.to_pylist()}
    assert set(refused) == {"0-00001.png", "note.jpg"}
    assert all(refused.values())


def test_nothing_but_bad_inputs_is_an_error(clip: atlas.Clip, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"")
    with pytest.raises(Refused, match="every input was refused"):
        atlas.collect(str(tmp_path / "photos"), clip, tmp_path / "store")


def test_a_second_writer_is_kept_out(store: atlas.Store, clip: atlas.Clip) -> None:
    import filelock

    with filelock.FileLock(store.path / ".lock"), pytest.raises(Refused, match="another run"):
        atlas.collect(store.request["sources"], clip, store.path)


def test_a_full_disk_is_noticed_before_work(
    folder: Path, clip: atlas.Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(Refused, match=r"needs about .* for 74 rows, and its disk has .* free"):
        atlas.collect(str(folder), clip, tmp_path / "store")


def test_a_disk_that_fills_up_leaves_a_store_that_goes_on(
    folder: Path, clip: atlas.Clip, tmp_path: Path, store: atlas.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from atlas.store import shard_writer

    write, calls = shard_writer.write_shard, []

    def full(*args: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        write(*args)

    monkeypatch.setattr(shard_writer, "write_shard", full)
    with pytest.raises(Refused, match="is full"):
        atlas.collect(store.request["sources"], clip, tmp_path / "store")
    monkeypatch.undo()
    assert atlas.collect(store.request["sources"], clip, tmp_path / "store").digest == store.digest


def test_out_of_memory_halves_the_batch(
    clip: atlas.Clip, tmp_path: Path, store: atlas.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    read = clip.read

    def small(pixels: np.ndarray) -> object:
        if len(pixels) > 16:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return read(pixels)

    monkeypatch.setattr(clip, "read", small)
    halved = atlas.collect("words:emotions?fonts=open-sans&sizes=32", clip, tmp_path / "store")
    np.testing.assert_allclose(halved.array("max", "word")[:], store.array("max", "word")[:], atol=2e-3, rtol=2e-3)
    np.testing.assert_allclose(halved.array("patch", "word")[:], store.array("patch", "word")[:], atol=2e-3, rtol=2e-3)


@pytest.mark.slow
def test_ray_makes_the_same_store(folder: Path, clip: atlas.Clip, tmp_path: Path, store: atlas.Store) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    on_ray = tmp_path / "ray"
    code = COLLECT.replace("sys.argv[2])", 'sys.argv[2], engine="ray")')
    subprocess.run([sys.executable, "-c", code, str(folder), str(on_ray)], check=True, stderr=subprocess.DEVNULL)
    local = tmp_path / "local"
    subprocess.run([sys.executable, "-c", COLLECT, str(folder), str(local)], check=True, stderr=subprocess.DEVNULL)
    assert content(on_ray) == content(local)


def test_the_request_says_how_it_was_made(store: atlas.Store, clip: atlas.Clip) -> None:
    request = json.loads((store.path / "store.json").read_text())["request"]
    assert request["model"]["weights_sha256"] == clip.describe()["weights_sha256"]
    assert request["model"]["layers"][0]["path"] == "visual.layer4"
    assert request["model"]["preprocessing"]["size"] == 96


def test_a_file_in_the_place_of_the_store_is_refused(tmp_path: Path, clip: atlas.Clip) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file/out"):
        with pytest.raises(Refused, match="cannot make the folder"):
            atlas.collect("words:emotions", clip, place)
