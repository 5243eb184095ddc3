"""Pictures behind a Store are read in full where they still lie; where they do not, their thumbnails stand in."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

import atlas
from atlas.store.originals import original_pictures

SIDE, COUNT = 300, 6


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(COUNT):
        rough = np.random.default_rng(i).integers(0, 256, (30, 30, 3), np.uint8)
        Image.fromarray(rough).resize((SIDE, SIDE)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def store(photos, clip, tmp_path):
    return atlas.collect(str(photos), clip, tmp_path / "out")


def full(clip, photos, *numbers):
    return np.stack([clip.prepare(Image.open(photos / f"{i}.png")) for i in numbers])


def test_pictures_come_in_full_in_the_order_that_is_asked_for(store, clip, photos, capsys):
    assert (original_pictures(store, clip, [4, 0, 4]) == full(clip, photos, 4, 0, 4)).all()
    assert capsys.readouterr().err == ""


def test_a_changed_or_broken_file_is_shown_by_its_thumbnail(store, clip, photos, capsys):
    expected, before = full(clip, photos, 0, 1, 2), os.stat(photos / "2.png")
    Image.new("RGB", (SIDE, SIDE)).save(photos / "1.png")
    (photos / "2.png").write_bytes(bytes(before.st_size))  # as long and as old as it was, but no picture
    os.utime(photos / "2.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    found = original_pictures(store, clip, [0, 1, 2])
    assert (found[0] == expected[0]).all()
    for thumbnail, picture in zip(found[1:], expected[1:], strict=True):
        assert (thumbnail != picture).any()
        assert np.abs(thumbnail.astype(float) - picture).mean() < 40  # blurred, but the same picture
    assert "2 of 3 original images" in capsys.readouterr().err


def test_without_its_source_a_store_has_thumbnails(store, clip, photos, capsys):
    shutil.rmtree(photos)
    assert original_pictures(store, clip, range(COUNT)).shape == (COUNT, clip.image_size, clip.image_size, 3)
    assert "6 of 6 original images" in capsys.readouterr().err


def test_packaged_pictures_are_found_again(clip, tmp_path, capsys):
    store = atlas.collect("words?top=5&fonts=pt-serif", clip, tmp_path / "words")
    assert len(original_pictures(store, clip, [1, 3])) == 2
    assert capsys.readouterr().err.count("stand in") == 0
