"""Layouts in which a usual name is not where the picture, the caption or the split is."""

import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from atlas.errors import Refused
from atlas.sources.spec import parse
from tests.inputs import PNG, told, write_tar

CELLS = {"number": [7, 8], "text": ["7", "8"], "address": ["http://host/a.png", "http://host/b.png"]}


def size_of(item):
    assert item.load is not None
    return item.load().size


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("cells", CELLS)
def test_the_column_of_pictures_is_told_by_its_cells_too(tmp_path, form, cells):
    (tmp_path / "imgs").mkdir()
    for name in "ab":
        (tmp_path / f"imgs/{name}.png").write_bytes(PNG)
    paths = ["imgs/a.png", "imgs/b.png"]
    table = pd.DataFrame({"image": CELLS[cells], "thumb": ["x.png"] * 2, "local_path": paths, "caption": ["x", "y"]})
    file = tmp_path / f"t.{form}"
    match form:
        case "csv":
            table.to_csv(file, index=False)
        case "jsonl":
            table.to_json(file, orient="records", lines=True)
        case _:
            table.to_parquet(file)
    items, tally = told(parse(str(file)))
    assert [(item.caption, size_of(item)) for item in items] == [("x", (8, 6)), ("y", (8, 6))]
    assert not tally.reasons
    asked, tally = told(parse(f"{file}?image=thumb"))
    assert tally.reasons.total() == len(asked) == 2


@pytest.mark.parametrize(
    ("form", "cell"), [("jsonl", "paths"), ("parquet", "paths"), ("parquet", "bytes"), ("parquet", "structs")]
)
def test_rows_of_several_pictures_are_said(tmp_path, form, cell):
    (tmp_path / "a.png").write_bytes(PNG)
    one = {"paths": "a.png", "bytes": PNG, "structs": {"bytes": PNG, "path": "a.png"}}[cell]
    rows = [{"images": [one, one], "text": "two"}, {"images": [one], "text": "one"}]
    file = tmp_path / f"t.{form}"
    if form == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), file)
    items, tally = told(parse(str(file)))
    assert [(item.caption, size_of(item)) for item in items] == [("two", (8, 6)), ("one", (8, 6))]
    assert "column images holds lists of pictures: the first of each row is used" in "\n".join(tally.lines())


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        ("train2017", "train"), ("val2014", "validation"), ("test1", "test"), ("train_images", "train"),
        ("images_test", "test"), ("Training Set", "train"), ("train station", ""), ("testing", "test"), ("10_dog", ""),
    ],
)  # fmt: skip
def test_folders_of_a_split_are_no_classes(tmp_path, folder, split):
    (tmp_path / folder / "cat").mkdir(parents=True)
    for name in ("a.png", "cat/b.png"):
        (tmp_path / folder / name).write_bytes(PNG)
    write_tar(tmp_path / "s.tar", [(f"{folder}/a.png", PNG), (f"{folder}/cat/b.png", PNG)])
    for spec, home in ((tmp_path, tmp_path.name), (tmp_path / "s.tar", "")):
        items = list(parse(str(spec)))
        assert [(item.label, item.split) for item in items] == [(home if split else folder, split), ("cat", split)]


@pytest.mark.parametrize(
    ("shard", "split"),
    [
        ("beans-train.arrow", "train"), ("imagenet-1k-validation-00000-of-00002.arrow", "validation"),
        ("cifar_test_003.arrow", "test"), ("train-stations.arrow", "train"), ("my-train-stations.arrow", ""),
    ],
)  # fmt: skip
def test_shards_name_their_split_at_the_end_too(tmp_path, shard, split):
    with pa.OSFile(str(tmp_path / shard), "wb") as file:
        table = pa.table({"image": [PNG]})
        with pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    assert [item.split for item in parse(str(tmp_path / shard))] == [split]


def test_texts_in_several_languages_are_captions_of_one_picture(tmp_path):
    texts = {"a.de.txt": "eine Katze", "a.en.txt": "a cat", "a.pt-BR.txt": "um gato"}
    (tmp_path / "a.png").write_bytes(PNG)
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    write_tar(tmp_path / "s.tar", [("a.png", PNG), *((name, text.encode()) for name, text in texts.items())])
    for spec in (tmp_path, tmp_path / "s.tar"):
        (item,) = parse(str(spec))
        assert item.captions == ("a cat", "eine Katze", "um gato")  # English first, as in cells of several languages


def test_what_is_said_of_several_pictures_together_is_named(tmp_path):
    pair = [("0.input.png", PNG), ("0.target.png", PNG), ("0.json", b'{"prompt": "make it red"}'), ("0.cls", b"3")]
    write_tar(tmp_path / "s.tar", [*pair, ("note.json", b"{}")])
    items, tally = told(parse(str(tmp_path / "s.tar")))
    assert [item.caption for item in items] == ["", ""]
    assert "without a picture: 2 texts that belong to no picture (0.json)" in tally.lines()
    assert "left out: 1 other files, which are no pictures (note.json)" in tally.lines()


def test_ids_escape_a_backslash_once(tmp_path):
    write_tar(tmp_path / "s.tar", [("cats\\a.png", PNG)])
    assert [item.id for item in parse(str(tmp_path / "s.tar"))] == ["s.tar/cats\\\\a.png"]


def test_texts_of_another_kind_take_no_place_of_a_caption(tmp_path):
    texts = {"a.license.txt": "CC BY", "a.txt": "a cat", "a.prompt.txt": "draw a cat", "b.blip.txt": "a dog"}
    members = [("a.png", PNG), ("b.png", PNG), *((name, text.encode()) for name, text in texts.items())]
    write_tar(tmp_path / "s.tar", members)
    items, tally = told(parse(str(tmp_path / "s.tar")))
    assert [item.captions or (item.caption,) for item in items] == [("a cat", "draw a cat"), ("a dog",)]
    assert "captions: .blip.txt files of the same names" in tally.lines()
    assert "left out: 1 texts of another kind, of pictures that have a caption (a.license.txt)" in tally.lines()


@pytest.mark.parametrize("name", ["t.tar", "t.parquet", "t.arrow"])
def test_a_pointer_to_a_shard_is_named(tmp_path, name):
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n")
    said = "a Git LFS pointer, not the file: git lfs pull brings it"
    if name == "t.tar":
        assert said in str(told(parse(str(tmp_path / name)))[1].reasons)
    else:
        with pytest.raises(Refused, match=said):
            parse(str(tmp_path / name))


def test_splits_may_be_the_keys_of_a_json_file(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    rows = {"train": [{"image": "a.png", "text": "x"}], "val": [{"image": "a.png", "text": "y"}, "no record"]}
    (tmp_path / "t.json").write_text(json.dumps(rows))
    items, tally = told(parse(str(tmp_path / "t.json")))
    assert [(item.caption, item.split) for item in items[:2]] == [("x", "train"), ("y", "validation")]
    assert tally.reasons == {"line 3 is not a JSON object": 1}


@pytest.mark.parametrize("name", ["person_keypoints_val2017.json", "stuff_train2017.json", "panoptic_val2017.json"])
def test_annotations_of_coco_of_all_kinds_are_named(tmp_path, name):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / f"annotations/{name}").write_text("{}")
    _, tally = told(parse(str(tmp_path)))
    assert "annotations; name the file to read them" in "".join(tally.lines())


def test_the_nearest_table_describes_a_picture(tmp_path):
    members = [("x/1.png", PNG), ("metadata.jsonl", b'{"file_name": "x/1.png", "text": "of all", "label": "cat"}\n'),
               ("x/metadata.jsonl", b'{"file_name": "1.png", "text": "of x"}\n')]  # fmt: skip
    for name, content in members:
        (tmp_path / "it" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "it" / name).write_bytes(content)
    write_tar(tmp_path / "s.tar", members)
    for spec in (tmp_path / "it", tmp_path / "s.tar"):
        (item,), tally = told(parse(str(spec)))
        assert (item.caption, item.label) == ("of x", "cat")
        assert "captions of metadata.jsonl, of pictures that have another" in "\n".join(tally.lines())
