"""Rows in = rows out + rejects, and a caption ends at its own picture: over orders, names, nestings, dialects."""

import base64
import csv
import io
import json
import os
import shutil
import tarfile
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from webdataset.tariterators import group_by_keys

from atlas.cli import main
from atlas.errors import Refused
from atlas.sources.decoding import Unreadable
from atlas.sources.look import look_at
from atlas.sources.spec import parse
from atlas.sources.tablepictures import decode_cell
from atlas.sources.values import cell_texts, decode_text
from tests.inputs import PNG, image_bytes, told, write_tar

EXAMPLES = settings(
    max_examples=int(os.environ.get("ATLAS_EXAMPLES", "15")), deadline=None, database=None, derandomize=True,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


STEMS = st.lists(st.from_regex(r"[a-zé猫][a-z0-9 _é猫-]{0,5}(\.v[0-9])?", fullmatch=True), min_size=1, max_size=6,
                 unique_by=str.casefold)  # fmt: skip
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=30)


def plain(texts):
    """Texts that are neither empty nor a null, and that differ from one another."""
    return texts.map(lambda text: f"x {' '.join(text.split())}".strip())


def folder_of(files):
    root = Path(tempfile.mkdtemp())
    for name, content in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def lost(tally):
    return sum(note.count for note in tally.notes.values() if note.kind == "lost")


# -- folders and tars --------------------------------------------------------------------------------------------------


@st.composite
def samples(draw):
    """Files of pictures and captions, and {picture: caption}; captions beside them, or in a folder of their own."""
    stems, apart = draw(STEMS), draw(st.booleans())
    homes = draw(st.sampled_from(["", "a/", "a/b/"]))
    files, expected, strays = [], {}, 0
    for stem in stems:
        picture = f"{homes}{'images/' if apart else ''}{stem}{draw(st.sampled_from(['.jpg', '.JPG', '.png', '.webp']))}"
        files.append((picture, PNG))
        expected[picture] = ""
        text = draw(plain(WORDS))
        content = text.encode()
        if draw(st.booleans()):
            text, content = f"{text} é東�", f"{text} é東".encode() + b"\xff"
        where = f"{homes}{'captions/' if apart else ''}"
        stem = unicodedata.normalize(draw(st.sampled_from(["NFC", "NFD"])), stem)
        suffix = draw(st.sampled_from(["", ".txt", ".TXT", ".caption", ".json", "+.txt"]))
        if suffix == "+.txt" and not apart:
            files.append((f"{unicodedata.normalize('NFD', picture)}.txt", content))
        elif suffix == ".json":
            files.append((f"{where}{stem}.json", json.dumps({"caption": text}, ensure_ascii=False).encode()))
        elif suffix and suffix[0] == ".":
            files.append((f"{where}{stem}{suffix}", content))
        else:
            continue
        expected[picture] = text
    if draw(st.booleans()):
        files.append((f"{homes}{'captions/' if apart else ''}zz no picture.txt", b"stray"))
        strays = 1
    return draw(st.permutations(files)), expected, strays


def check_samples(items, tally, expected, strays, start):
    found = {item.id.removeprefix(start): item.caption for item in items}
    assert found.keys() == expected.keys()
    assert {name: text.split() for name, text in found.items()} == {
        name: next(iter(cell_texts(text)), "").split() for name, text in expected.items()
    }
    assert lost(tally) == strays


@EXAMPLES
@given(samples())
def test_folders(sample):
    files, expected, strays = sample
    root = folder_of(files)
    try:
        items, tally = told(parse(str(root)))
        check_samples(items, tally, expected, strays, f"{root.name}/")
    finally:
        shutil.rmtree(root)


@EXAMPLES
@given(samples())
def test_tars(sample):
    files, expected, strays = sample
    root = Path(tempfile.mkdtemp())
    try:
        linked = next(name for name in expected)
        second = f"{linked.rpartition('/')[0]}/zz linked.png".lstrip("/")  # another name of a picture, without a text
        files, expected = [*files, (second, Path(linked))], {**expected, second: ""}
        write_tar(root / "s.tar", files)
        items, tally = told(parse(str(root / "s.tar")))
        check_samples(items, tally, expected, strays, "s.tar/")
        assert all(item.load().size == (8, 6) for item in items)
    finally:
        shutil.rmtree(root)


@EXAMPLES
@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from("abcdef"), st.booleans(), plain(WORDS)),
            min_size=1, max_size=4, unique_by=lambda each: each[0],
        ),
        min_size=2, max_size=4,
    ),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_joined_shards_have_the_samples_of_webdataset(shards, marked, text_first):
    """Shards joined by `tar -A` (no end mark between them) and by `cat`, with repeated keys."""
    members, parts, theirs = [], [], []
    for samples in shards:
        parts.append([])
        for key, described, text in samples:
            files = [(f"{key}.png", PNG), (f"{key}.txt", text.encode())][: 1 + described]
            parts[-1] += files[::-1] if text_first else files
        assume(marked or not members or members[-1][0][0] != parts[-1][0][0][0])  # else webdataset refuses, too
        members += parts[-1]
        theirs += group_by_keys({"fname": name, "data": data, "__url__": ""} for name, data in parts[-1])
    assume(marked or not text_first or all(described for samples in shards for _, described, _ in samples))
    root = Path(tempfile.mkdtemp())
    try:
        for part in parts if marked else [members]:
            write_tar(root / "part.tar", part)
            with (root / "s.tar").open("ab") as joined:
                joined.write((root / "part.tar").read_bytes())
        items, tally = told(parse(str(root / "s.tar")))
        assert [item.caption for item in items] == [first(sample.get("txt", b"").decode()) for sample in theirs]
        assert (lost(tally), sum(tally.reasons.values())) == (0, 0)
    finally:
        shutil.rmtree(root)


@pytest.mark.parametrize("packed", [False, True])
def test_sidecars_that_say_nothing_are_named(tmp_path, packed):
    files = [
        ("a.png", PNG),
        ("a.json", b"{broken"),
        ("c.json", b'{"shapes": [{"label": "cat"}]}'),
        ("b.png", PNG),
        ("b.txt", b"0 0.5 0.5 0.1 0.2\n1 0.1 0.2 0.3 0.4"),
    ]
    files += [("b_mask.png", PNG), ("c.png", PNG), ("d_mask.png", PNG)]
    if packed:
        write_tar(tmp_path / "s.tar", files)
    else:
        for name, content in files:
            (tmp_path / name).write_bytes(content)
    items, tally = told(parse(str(tmp_path / "s.tar" if packed else tmp_path)))
    assert [Path(item.id).name for item in items] == ["a.png", "b.png", "c.png", "d_mask.png"]
    assert not any(item.caption for item in items)
    left = [(note.text.split()[0], note.example) for note in tally.notes.values() if note.kind == "left"]
    assert set(left) == {("files", "a.json"), ("JSON", "c.json"), ("texts", "b.txt"), ("masks", "b_mask.png")}


def test_a_tar_in_directory_order_with_masks(tmp_path):
    names = ("a.jpg", "b.jpg", "a.seg.png", "a.txt", "b.txt", "b.cls", "a.json")
    content = {"a.txt": b"of a", "b.txt": b"of b", "b.cls": b"7", "a.json": b'{"label": "cat"}'}
    write_tar(tmp_path / "s.tar", [(name, content.get(name, PNG)) for name in names])
    items, tally = told(parse(str(tmp_path / "s.tar")))
    assert [(item.caption, item.label) for item in items] == [("of a", "cat"), ("of b", "7")]
    assert any("masks" in line and "a.seg.png" in line for line in tally.lines())


# -- tables ------------------------------------------------------------------------------------------------------------

NULLS = ("", "NaN", "null", "None", "N/A", "<NA>")


@EXAMPLES
@given(
    st.lists(st.one_of(plain(WORDS), st.sampled_from(NULLS)), min_size=1, max_size=8),
    st.sampled_from([",", "\t", ";", "|"]),
    st.sampled_from([("filepath", "title"), ("image_path", "prompt"), ("Image", "Caption"), ("file_name", "text")]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from([".csv", ".tsv", ".txt"]),
)
def test_tables(captions, sign, names, encoding, quoting, suffix):
    root = Path(tempfile.mkdtemp())
    try:
        (root / "a.png").write_bytes(PNG)
        written = [text.replace("x ", "x\n", 1) if i % 3 == 2 else text for i, text in enumerate(captions)]
        with (root / f"t{suffix}").open("w", encoding=encoding, newline="") as file:
            rows = csv.writer(file, delimiter=sign, quoting=quoting)
            rows.writerows([names, *(("a.png", text) for text in written)])
        items, tally = told(parse(str(root / f"t{suffix}")))
        assert len(items) == len(captions)
        expected = ["" if text in NULLS else " ".join(text.split()) for text in captions]
        assert [" ".join(item.caption.split()) for item in items] == [first(text) for text in expected]
        assert sum(tally.reasons.values()) == 0
    finally:
        shutil.rmtree(root)


def first(text):
    return " ".join(next(iter(cell_texts(text)), "").split())


@EXAMPLES
@given(st.lists(st.sampled_from(["good", "wide", "no image", "gone"]), min_size=1, max_size=12), st.booleans())
def test_one_bad_line_is_one_reject_with_its_number(lines, as_json):
    root = Path(tempfile.mkdtemp())
    try:
        (root / "a.png").write_bytes(PNG)
        if as_json:
            cells = {"good": '{"image": "a.png", "text": "x"}', "wide": "{broken", "no image": '{"text": "x"}'}
            body = [cells.get(line, '{"image": "gone.png"}') for line in ["good", *lines]]
            name, start = "t.jsonl", 1
        else:
            cells = {"good": "a.png,x", "wide": "a.png,x,y", "no image": ",x"}
            body = ["image,text", *(cells.get(line, "gone.png,x") for line in ["good", *lines])]
            name, start = "t.csv", 2
        (root / name).write_text("\n".join(body))
        items, tally = told(parse(str(root / name)))
        assert len(items) == len(lines) + 1
        for number, (line, item) in enumerate(zip(["good", *lines], items, strict=True), start):
            if line == "good":
                assert item.load().size == (8, 6)
                continue
            with pytest.raises(Unreadable, match="no such file" if line == "gone" else f"line {number} "):
                item.load()
        assert sum(tally.reasons.values()) == sum(line != "good" for line in lines)
    finally:
        shutil.rmtree(root)


def test_quotes_that_are_letters_swallow_no_rows(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    rows = ['a "quoted" dog', '"begins with one', "plain", 'a 15" screen', '"whole"', "last"]
    body = "\n".join(["caption\timage", *(f"{text}\ta.png" for text in rows)])
    (tmp_path / "t.tsv").write_text(body)
    found = [item.caption for item in parse(str(tmp_path / "t.tsv"))]
    assert found == ['a "quoted" dog', '"begins with one', "plain", 'a 15" screen', "whole", "last"]
    (tmp_path / "long.csv").write_text(f"image,text\na.png,{'y' * 300_000}\n")
    assert [len(item.caption) for item in parse(str(tmp_path / "long.csv"))] == [300_000]


def test_tables_of_others(tmp_path):
    (tmp_path / "Images").mkdir()
    (tmp_path / "Images/1.jpg").write_bytes(image_bytes(form="JPEG"))
    (tmp_path / "captions.txt").write_text('image,caption\n1.jpg,A dog .\n1.jpg,"A dog, running ."\n')  # Flickr8k
    items = list(parse(str(tmp_path / "captions.txt")))
    assert [item.caption for item in items] == ["A dog .", "A dog, running ."]
    assert items[1].load().size == (8, 6)
    (tmp_path / "bare.tsv").write_text("Images/1.jpg\tno line names the columns\n")
    assert [item.caption for item in parse(str(tmp_path / "bare.tsv"))] == ["no line names the columns"]
    (tmp_path / "sjis.csv").write_bytes("image,caption\nImages/1.jpg,赤い花が咲いている\n".encode("cp932"))
    assert next(iter(parse(str(tmp_path / "sjis.csv")))).caption == "赤い花が咲いている"
    (tmp_path / "odd.csv").write_bytes("image~caption\nImages/1.jpg~猫\n".encode("euc_jp"))
    assert next(iter(parse(f"{tmp_path}/odd.csv?sep=~&encoding=euc_jp"))).caption == "猫"
    (tmp_path / "laion.csv").write_text("URL,TEXT\nhttps://host/a.jpg,a\n")
    with pytest.raises(Refused, match=r"addresses \(column URL\): download them first"):
        parse(str(tmp_path / "laion.csv"))
    (tmp_path / "blip.json").write_text(json.dumps([{"image": "Images/1.jpg", "caption": ["one", "two"]}]))
    (item,) = parse(str(tmp_path / "blip.json"))
    assert (item.caption, item.captions) == ("one", ("one", "two"))
    (tmp_path / "pairs.json").write_text(json.dumps({"Images/1.jpg": "one"}))
    (tmp_path / "Flickr8k.token.txt").write_text("1.jpg#0\tone\n1.jpg#1\ttwo\n")
    for name, captions in (("pairs.json", ["one"]), ("Flickr8k.token.txt", ["one", "two"])):
        items = list(parse(str(tmp_path / name)))
        assert [item.caption for item in items] == captions
        assert items[-1].load().size == (8, 6)


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        (None, ()), (float("nan"), ()), ("NaN", ()), ("  ", ()), ("\\N", ()), (["a", None, "b"], ("a", "b")),
        (b"caf\xc3\xa9", ("café",)), ({"raw": "a", "tokens": ["x"]}, ("a",)), (3.0, ("3",)), (7, ("7",)),
        ("['a dog', 'two']", ("a dog", "two")), ("b'abc'", ("abc",)), ("[a dog]", ("[a dog]",)), ("[]", ()),
        ("['a dog' 'two']", ("a dog", "two")), ({"caption": ["x", "y"]}, ("x", "y")), ("nandu", ("nandu",)),
        (pd.NA, ()), (pd.Series(["a", "b"]).to_numpy(), ("a", "b")), ("a\nb", ("a b",)), ([["a"], ["b"]], ("a", "b")),
    ],
)  # fmt: skip
def test_values_that_are_no_text(value, texts):
    assert cell_texts(value) == texts


# -- Parquet and Arrow -------------------------------------------------------------------------------------------------


@EXAMPLES
@given(
    st.lists(st.one_of(plain(WORDS), st.none()), min_size=1, max_size=7),
    st.sampled_from(["binary", "large_binary", "binary_view", "struct", "list", "uint8", "base64", "data", "path"]),
    st.sampled_from(["data/train-00000-of-00001.parquet", "year=1/part-0.PARQUET", "x.parquet", "test/a.arrow"]),
    st.integers(1, 4),
)
def test_columns(captions, form, name, rows):
    cells = {
        "struct": [{"bytes": PNG, "path": None}], "list": [[PNG]], "uint8": [list(PNG)], "path": ["a.png"],
        "base64": [base64.b64encode(PNG).decode()], "data": ["data:image/png;base64," + base64.b64encode(PNG).decode()],
    }.get(form, [PNG])  # fmt: skip
    kinds = {"large_binary": pa.large_binary(), "binary_view": pa.binary_view(), "uint8": pa.list_(pa.uint8())}
    table = pa.table(
        {"image": pa.array(cells * len(captions), kinds.get(form)), "caption": pa.array(captions, pa.string())}
    )
    root = Path(tempfile.mkdtemp())
    try:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        (file.parent / "deep").mkdir()
        if form == "path":
            (file.parent / "deep" / "a.png").write_bytes(PNG)
        if name.endswith(".arrow"):
            with pa.ipc.new_file(file, table.schema) as out:
                out.write_table(table, max_chunksize=rows)
        else:
            pq.write_table(table, file, row_group_size=rows)
        items, _ = told(parse(str(root if form != "path" else file)))
        assert [item.caption.split() for item in items] == [first(text or "").split() for text in captions]
        assert all(item.load().size == (8, 6) for item in items)
        splits = {"data/train-00000-of-00001.parquet": "train", "test/a.arrow": "test"}
        if form != "path":
            assert {item.split for item in items} == {splits.get(name, "")}
    finally:
        shutil.rmtree(root)


def test_what_pandas_and_polars_write(tmp_path):
    frame = {"img": [PNG, PNG, PNG], "prompt": ["a", None, "c"], "target": [1.0, float("nan"), 2.0]}
    pd.DataFrame(frame).to_parquet(tmp_path / "pandas.parquet")
    pl.DataFrame(frame).write_parquet(tmp_path / "polars.parquet")
    pl.DataFrame(frame).write_ipc(tmp_path / "polars.arrow")
    nested = pl.DataFrame({"image": [{"bytes": PNG}] * 3, "caption": [["a", "b"], [], None], "class": ["x", "y", "z"]})
    nested.write_parquet(tmp_path / "nested.parquet")
    for name in ("pandas.parquet", "polars.parquet", "polars.arrow"):
        items = list(parse(str(tmp_path / name)))
        assert [(item.caption, item.label) for item in items] == [("a", "1"), ("", ""), ("c", "2")]
        assert items[2].load().size == (8, 6)
    items = list(parse(str(tmp_path / "nested.parquet")))
    assert [(item.caption, item.captions, item.label) for item in items] == [
        ("a", ("a", "b"), "x"), ("", (), "y"), ("", (), "z"),
    ]  # fmt: skip


def test_the_layouts_of_hugging_face(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    made = datasets.Dataset.from_dict(
        {"image": [Image.new("RGB", (8, 6))] * 2, "label": [1, 0]}, features=datasets.Features(kinds)
    )
    made.to_parquet(tmp_path / "hub" / "data" / "train-00000-of-00001.parquet")
    datasets.DatasetDict({"train": made, "test": made}).save_to_disk(tmp_path / "saved")
    for name, splits in (("hub", ["train"] * 2), ("saved", ["test", "test", "train", "train"])):
        items = list(parse(str(tmp_path / name)))
        assert [item.split for item in items] == splits
        assert [item.label for item in items[:2]] == ["dog", "cat"]
        assert items[0].load().size == (8, 6)


# -- folders that hold more --------------------------------------------------------------------------------------------


def test_pictures_win_and_the_rest_is_named(tmp_path, capsys):
    root = folder_of([("00000/000000000.jpg", image_bytes(form="JPEG")), ("00000/000000000.txt", b"a dog"),
                      ("00000/000000000.json", b'{"key": "000000000", "caption": "a dog"}'), ("old.tar", b""),
                      ("00000_stats.json", b"{}"), ("README", b"about these photos"), ("more.csv", b"image,text\n"),
                      ("train/cat/a.png", PNG), ("val/dog/b.png", PNG)])  # fmt: skip
    pq.write_table(pa.table({"key": [1], "embedding": [[0.5]]}), root / "00000.parquet")
    items, tally = told(parse(str(root)))
    shutil.copytree(root, tmp_path / "photos")
    assert [(item.caption, item.label, item.split) for item in items] == [
        ("a dog", "", ""), ("", "cat", "train"), ("", "dog", "validation"),
    ]  # fmt: skip
    left = " ".join(line for line in tally.lines() if line.startswith("left out"))
    for name in ("old.tar", "00000.parquet", "more.csv", "name the file to read it"):
        assert name in left
    assert main(["look", str(tmp_path / "photos"), "-n", "1"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("3 inputs (3 pictures) = 3 read + 0 refused")
    assert "captions of 1 of 3 pictures" in shown
    assert "photos/00000/000000000.jpg" in shown
    assert main(["look", str(tmp_path / "photos"), "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert (read["rows"], read["captions"], len(read["first_rows"]), len(read["left"])) == (3, 1, 3, 4)


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("inside", ["", "train/"])
def test_metadata_of_imagefolder(tmp_path, form, inside):
    (tmp_path / inside).mkdir(exist_ok=True)
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / inside / name).write_bytes(PNG)
    frame = pd.DataFrame({"file_name": ["b.png", "a.png", "gone.png"], "text": ["of b", "of a", "lost"]})
    file = tmp_path / inside / f"metadata.{form}"
    if form == "csv":
        frame.to_csv(file, index=False)
    elif form == "jsonl":
        frame.to_json(file, orient="records", lines=True)
    else:
        frame.to_parquet(file)
    items, tally = told(parse(str(tmp_path)))
    assert [item.caption for item in items] == ["of a", "of b", ""]
    assert lost(tally) == 1
    assert any(f"{inside}metadata.{form}: columns: image = file_name, caption = text" in line for line in tally.lines())


def test_texts_of_numbers_are_no_captions(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    (tmp_path / "images/a.png").write_bytes(PNG)
    (tmp_path / "labels/a.txt").write_text("0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.3 0.4\n")
    (item,), tally = told(parse(str(tmp_path)))
    assert item.caption == ""
    assert any("numbers alone" in line for line in tally.lines())


def test_look_counts_what_it_opened(tmp_path):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(PNG if name == "b.jpg" else b"<!doctype html>")
    pq.write_table(pa.table({"image": [list(range(48))]}), tmp_path / "flat.parquet")
    Image.fromarray(np.full((8, 8), 900, np.uint16) + np.arange(8, dtype=np.uint16)).save(tmp_path / "d.png")
    found = look_at([str(tmp_path)])
    assert found.tally.lines()[0] == "4 inputs (4 pictures) = 2 read + 2 refused"
    assert found.rows[-1]["pixels"] == "8 x 8, stretched"
    found = look_at([str(tmp_path)], 2)
    assert found.tally.lines()[0] == "4 inputs (4 pictures) = 3 read + 1 refused; only the first 2 were opened"
    found = look_at([str(tmp_path / "flat.parquet")])
    assert "48 numbers in one list" in found.rows[0]["pixels"]


def test_look_refuses_what_parse_refuses(tmp_path):
    with pytest.raises(Refused, match="no such file"):
        look_at([str(tmp_path / "none")])
    with pytest.raises(Refused, match="show 0 rows or more"):
        look_at(["emoji"], -1)


def coco(root, where, folder):
    """COCO's layout: a JSON file of captions or boxes in `where`, its pictures in `folder`."""
    for number in (9, 25, 30):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / f"{number:012}.png").write_bytes(image_bytes())
    images = [{"id": number, "file_name": f"{number:012}.png"} for number in (30, 9, 25)]
    said = [(25, "a giraffe", 3), (9, "a cat", 4), (9, "a grey cat", 4), (25, "", 4), (77, "of none", 3)]
    annotations = [{"image_id": image, "caption": text, "category_id": kind} for image, text, kind in said]
    categories = [{"id": 3, "name": "giraffe"}, {"id": 4, "name": "cat"}]
    file = root / where / "captions_val2014.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return file


@pytest.mark.parametrize("folder", ["annotations", "val2014", "images/val2014", "."])
def test_annotations_of_coco(tmp_path, folder):
    items = list(parse(str(coco(tmp_path, "annotations", folder))))
    read = {item.id.rsplit("/", 1)[1]: (item.captions or (item.caption,), item.label) for item in items[:3]}
    assert read == {
        "000000000030.png": (("",), ""),
        "000000000009.png": (("a cat", "a grey cat"), "cat"),
        "000000000025.png": (("a giraffe",), ""),
    }
    assert all(item.load().size == (8, 6) for item in items[:3])
    with pytest.raises(Unreadable, match="names no image"):
        items[3].load()
    assert len(items) == 4
    assert items[3].caption == "of none"


def test_numbers_of_coco_may_be_anything(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    images = [{"id": [1], "file_name": "a.png"}, {"id": None, "file_name": "b.png"}, 7]
    annotations = [{"image_id": [1], "category_id": {}, "caption": "one"}, {"image_id": {}, "caption": "lost"}, "no"]
    content = {"images": images, "annotations": annotations, "categories": [{"id": [], "name": "x"}]}
    (tmp_path / "captions_x.json").write_text(json.dumps(content))
    assert [item.caption for item in parse(str(tmp_path / "captions_x.json"))] == ["one", "", "", "lost"]


def test_a_folder_that_holds_annotations_of_coco_names_them(tmp_path, capsys):
    coco(tmp_path, "annotations", "val2014")
    assert main(["look", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert f"annotations; name the file to read them ({tmp_path}/annotations/captions_val2014.json)" in out
    assert main(["look", f"{tmp_path}/annotations/captions_val2014.json"]) == 0
    assert "captions of 3 of 4 pictures" in capsys.readouterr().out


# -- a caption ends at its own picture ---------------------------------------------------------------------------------


def captions_of(root):
    items, tally = told(parse(str(root)))
    return {item.id.partition("/")[2]: item.caption for item in items}, "\n".join(tally.lines())


def test_joined_shards_keep_the_captions_of_each(tmp_path):
    write_tar(tmp_path / "one.tar", [("0.png", PNG), ("0.txt", b"first"), ("1.png", PNG), ("1.txt", b"of one")])
    write_tar(tmp_path / "two.tar", [("0.txt", b"second"), ("0.png", PNG)])
    joined = [*[("0.png", PNG), ("0.txt", b"first"), ("1.png", PNG), ("1.txt", b"of one")], ("0.png", PNG)]
    write_tar(tmp_path / "append.tar", [*joined, ("0.txt", b"second")])
    (tmp_path / "cat.tar").write_bytes((tmp_path / "one.tar").read_bytes() + (tmp_path / "two.tar").read_bytes())
    for name in ("append.tar", "cat.tar"):
        found, said = captions_of(tmp_path / name)
        assert found == {"0.png": "first", "1.png": "of one", "0.png#2": "second"}
        assert "without a picture" not in said
        assert "2 shards in one" in said
    damaged = bytearray((tmp_path / "append.tar").read_bytes())
    damaged[2048:2100] = b"x" * 52  # the header of the second picture
    (tmp_path / "damaged.tar").write_bytes(damaged)
    items, tally = told(parse(str(tmp_path / "damaged.tar")))
    assert [item.id for item in items] == ["damaged.tar/0.png", "damaged.tar/(rest)"]
    assert sum(tally.reasons.values()) == 1


def test_links_in_a_tar_stand_for_their_files(tmp_path):
    files = tmp_path / "photos"
    (files / "sub").mkdir(parents=True)
    (files / "a.png").write_bytes(PNG)
    (files / "a.txt").write_text("of a")
    os.link(files / "a.png", files / "b.png")
    os.link(files / "a.txt", files / "b.txt")
    (files / "sub/c.png").symlink_to("../a.png")
    (files / "sub/d.png").symlink_to("c.png")
    (files / "sub/e.png").symlink_to("/elsewhere/e.png")
    (files / "loop.png").symlink_to("loop.png")
    (files / "more").symlink_to("sub", target_is_directory=True)
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        tar.add(files, "photos")
    items, tally = told(parse(str(tmp_path / "s.tar")))
    found = {Path(item.id).name: item for item in items}
    assert found.keys() == {"a.png", "b.png", "c.png", "d.png", "e.png", "loop.png"}
    assert [found[name].caption for name in ("a.png", "b.png")] == ["of a", "of a"]
    assert all(found[f"{name}.png"].load().size == (8, 6) for name in "abcd")
    assert sum(tally.reasons.values()) == 2
    with pytest.raises(Unreadable, match=r"a link to /elsewhere/e\.png, which is no file of the shard"):
        found["e.png"].load()


def test_links_in_joined_shards_stay_in_their_own(tmp_path):
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for colour in ("red", "blue"):
            link = tarfile.TarInfo("zz.png")
            link.type, link.linkname = tarfile.SYMTYPE, "a.png"
            file = tarfile.TarInfo("a.png")
            file.size = len(image_bytes(colour))
            tar.addfile(file, io.BytesIO(image_bytes(colour)))
            tar.addfile(link)
    shades = [item.load().getpixel((0, 0)) for item in parse(str(tmp_path / "s.tar"))]
    assert shades == [(255, 0, 0), (255, 0, 0), (0, 0, 255), (0, 0, 255)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata.jsonl", b'{"file_name": "x.png", "text": "of x"}\n{"file_name": "gone.png", "text": "lost"}\n'),
        ("metadata.csv", b"file_name,text\nx.png,of x\ngone.png,lost\n"),
    ],
)
def test_tables_inside_a_tar_describe_its_pictures(tmp_path, name, content):
    write_tar(tmp_path / "s.tar", [("ds/x.png", PNG), (f"ds/{name}", content)])
    found, said = captions_of(tmp_path / "s.tar")
    assert found == {"ds/x.png": "of x"}
    assert f"ds/{name}: columns: image = file_name, caption = text" in said
    assert f"1 rows of ds/{name} that name no picture here (gone.png)" in said


def test_what_a_tar_holds_besides_is_named(tmp_path):
    others = ("captions.csv", "x.txt.gz", "inner.tar", "emb.npy", "a.pyd", "a.pickle", "a.cbor", "captions.json")
    members = [("a.png", PNG), ("a.caption.json", b'["one", "two"]'), *((name, b"\xff\xfe\x80x") for name in others)]
    write_tar(tmp_path / "s.tar", members)
    (item,), tally = told(parse(str(tmp_path / "s.tar")))
    assert (item.captions, tally.reasons) == (("one", "two"), {})
    left = {note.text.split(";")[0]: note.count for note in tally.notes.values() if note.kind == "left"}
    assert left == {
        ".csv in shards": 1, ".tar in shards": 1, "compressed files in shards": 1,
        ".json in shards that may hold captions": 1, "other files, which are no pictures": 4,
    }  # fmt: skip


def test_every_table_of_a_folder_is_read_and_what_is_not_used_is_said(tmp_path):
    for name in "abcde":
        (tmp_path / f"{name}.png").write_bytes(PNG)
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,from csv\nc.png,not used\n")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "b.png", "text": "from jsonl"}\n')
    (tmp_path / "metadata.tsv").write_text("id\ttext\nd\tof d\ne\n")
    (tmp_path / "c.txt").write_text("beside c")
    found, said = captions_of(tmp_path)
    assert list(found.values()) == ["from csv", "from jsonl", "beside c", "of d", ""]
    assert "1 rows of metadata.tsv with fewer cells than columns, which have no caption (line 3)" in said
    assert "left out: 1 captions of metadata.csv, of pictures that have another beside them (not used)" in said


BROKEN = "Überraschung für Zoë, naïve café, 東京".encode().replace("京".encode(), b"\xff")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (BROKEN, "Überraschung für Zoë, naïve café, 東\ufffd"), ("naïve café".encode()[:-1], "naïve caf\ufffd"),
        ("une tasse de café".encode("latin-1"), "une tasse de café"), ("é".encode("latin-1"), "é"),
        ("Beyoncé et un éléphant rosé".encode("latin-1"), "Beyoncé et un éléphant rosé"),
        ("赤い花が咲いている".encode("cp932"), "赤い花が咲いている"), ("a \ufffd b".encode(), "a \ufffd b"),
        ("一只猫坐在红色的沙发上".encode("gb18030"), "一只猫坐在红色的沙发上"),
        ("Кошка сидит на диване".encode("cp1251"), "Кошка сидит на диване"),
    ],
)  # fmt: skip
def test_encodings(content, text):
    assert decode_text(content) == text


def test_broken_letters_are_said(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "a.txt").write_bytes(BROKEN)
    found, said = captions_of(tmp_path)
    assert found["a.png"].startswith("Überraschung für Zoë")
    assert "1 texts beside pictures with broken letters" in said
    rows = [f"a.png,élève à l'école {i}".encode() for i in range(30)]
    (tmp_path / "t.csv").write_bytes(b"\n".join([b"image,caption", *rows, b"a.png,caf\xe9 gar\xe7on"]))
    items, tally = told(parse(str(tmp_path / "t.csv")))
    assert [item.caption for item in items][-2:] == ["élève à l'école 29", "caf\ufffd gar\ufffdon"]
    assert "1 rows of t.csv with broken letters" in "\n".join(tally.lines())
    (tmp_path / "metadata.csv").write_bytes(b"\n".join([b"file_name,text", *rows, b"a.png,caf\xe9 gar\xe7on"]))
    (tmp_path / "lines.txt").write_bytes(b"\n".join([*rows, b"caf\xe9"]))
    assert "1 rows of metadata.csv with broken letters" in captions_of(tmp_path)[1]
    assert "1 lines with broken letters" in captions_of(f"texts:{tmp_path}/lines.txt")[1]
    (tmp_path / "latin.csv").write_bytes("image,caption\na.png,un café".encode("latin-1"))
    assert next(iter(parse(str(tmp_path / "latin.csv")))).caption == "un café"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_may_be_written_apart(tmp_path, form):
    other = "NFD" if form == "NFC" else "NFC"
    name, written = (unicodedata.normalize(each, "café") for each in (form, other))
    for folder, files in {
        "beside": {f"{written}.txt": "of a"}, "apart": {f"captions/{written}.txt": "of a"},
        "meta": {"metadata.csv": f"file_name,text\n{written}.png,of a\n"},
    }.items():  # fmt: skip
        for file, content in {**files, f"{'images/' if folder == 'apart' else ''}{name}.png": PNG}.items():
            path = tmp_path / folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        (item,), tally = told(parse(str(tmp_path / folder)))
        assert (item.caption, lost(tally)) == ("of a", 0)
    (tmp_path / "meta/t.csv").write_text(f"image,caption\n{written}.png,of a\n")
    (item,) = parse(str(tmp_path / "meta/t.csv"))
    assert item.load().size == (8, 6)


def test_the_file_beside_a_table_comes_first(tmp_path):
    for name, colour in (("images/a.png", "red"), ("images/b.png", "red"), ("b.png", "blue")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(image_bytes(colour))
    (tmp_path / "t.csv").write_text("image,caption\na.png,A\nb.png,B\n")
    assert [item.load().getpixel((0, 0)) for item in parse(str(tmp_path / "t.csv"))] == [(255, 0, 0), (0, 0, 255)]


def test_files_of_one_name_in_several_folders_are_said(tmp_path):
    for folder in ("train", "val"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.png").write_bytes(PNG)
    (tmp_path / "t.csv").write_text("image,caption\n1.png,A\n")
    items, tally = told(parse(str(tmp_path / "t.csv")))
    assert items[0].load().size == (8, 6)
    assert "1 rows name a file of several folders (train/1.png, val/1.png)" in "\n".join(tally.lines())


def test_columns_of_one_name_and_short_rows_are_said(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(PNG)
    (tmp_path / "two.csv").write_text("image,caption,caption\na.png,x,y\n")
    found, said = captions_of(tmp_path / "two.csv")
    assert list(found.values()) == ["x"]
    assert "not used: caption (2)" in said
    (tmp_path / "short.csv").write_text("image| number| caption\na.png| 0| x\nb.png| 4   A dog runs\n")  # Flickr30k
    found, said = captions_of(tmp_path / "short.csv")
    assert list(found.values()) == ["x", ""]
    assert "1 rows of short.csv with fewer cells than columns, which have no caption (line 3)" in said


def test_masks_of_trainers_and_texts_that_name_a_class(tmp_path):
    for name in ("a.png", "b.png", "b-masklabel.png", "c.png", "c_condlabel.png", "gas_mask.png"):
        (tmp_path / name).write_bytes(PNG)
    for name, text in (("a.cls.txt", "7"), ("b.label.txt", "cat"), ("b.txt", "a cat")):
        (tmp_path / name).write_text(text)
    write_tar(tmp_path.parent / "s.tar", [(file.name, file.read_bytes()) for file in sorted(tmp_path.iterdir())])
    for spec in (tmp_path, tmp_path.parent / "s.tar"):
        items = list(parse(str(spec)))
        assert [(item.caption, item.label) for item in items][:2] == [("", "7"), ("a cat", "cat")]
        assert [Path(item.id).stem for item in items] == ["a", "b", "c", "gas_mask"]


# -- rows in = rows out + rejects --------------------------------------------------------------------------------------


def test_the_cache_of_a_saved_data_set_is_left_out(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    kinds = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    rows = {"image": [{"bytes": PNG, "path": None}] * 2, "text": ["x", "y"]}
    datasets.Dataset.from_dict(rows, kinds).save_to_disk(tmp_path / "saved")
    used = datasets.load_from_disk(tmp_path / "saved").filter(lambda row: row["text"] == "x")
    used.map(lambda row: {"text": row["text"] + "!"})
    found, said = captions_of(tmp_path / "saved")
    assert list(found.values()) == ["x", "y"]
    assert "left out: 2 files of the cache of a saved data set" in said


def test_shards_beside_other_shards_are_named(tmp_path):
    write_tar(tmp_path / "0.tar", [("a.png", PNG)])
    table = pa.table({"image": [PNG, PNG]})
    pq.write_table(table, tmp_path / "p.parquet")
    pl.DataFrame({"image": [PNG]}).write_ipc(tmp_path / "p.feather")
    found, said = captions_of(tmp_path)
    assert list(found) == ["0.tar/a.png"]
    assert f"1 .parquet beside the shards; name the file to read it ({tmp_path}/p.parquet)" in said
    assert "1 .feather beside the shards" in said
    (tmp_path / "0.tar").unlink()
    pq.write_table(pa.table({"url": ["http://host/a"], "caption": ["x"]}), tmp_path / "a.parquet")
    found, said = captions_of(tmp_path)
    assert list(found) == ["p.parquet/0", "p.parquet/1"]
    assert "1 files of columns that hold no pictures, beside others (a.parquet)" in said
    with pytest.raises(Refused, match="its pictures are addresses"):
        parse(str(tmp_path / "a.parquet"))
    (tmp_path / "q.parquet").write_bytes((tmp_path / "p.parquet").read_bytes()[:-40])
    items, tally = told(parse(str(tmp_path)))
    assert [item.id.partition("/")[2] for item in items] == ["p.parquet/0", "p.parquet/1", "q.parquet/(rest)"]
    assert sum(tally.reasons.values()) == 1


@pytest.mark.parametrize("orient", ["columns", "index", "split", "table", "records"])
def test_json_of_pandas(tmp_path, orient):
    (tmp_path / "a.png").write_bytes(PNG)
    frame = pd.DataFrame({"filename": ["a.png"] * 3, "caption": ["x", None, "z"], "label": [1, 2, 3]})
    frame.to_json(tmp_path / "t.json", orient=orient)
    items, tally = told(parse(str(tmp_path / "t.json")))
    assert [(item.caption, item.label) for item in items] == [("x", "1"), ("", "2"), ("z", "3")]
    assert not tally.reasons
    pd.DataFrame({"id": ["a"], "text": ["x"]}).to_json(tmp_path / "id.json", orient=orient)
    assert [item.caption for item in parse(str(tmp_path / "id.json"))] == ["x"]


@pytest.mark.parametrize(
    "body", ["a man , woman\thttp://host/image?id=5\n", "http://host/image?id=5\tfoo\n", "foo\thttps://host/a.jpg\n"]
)
def test_addresses_without_names_of_columns(tmp_path, body):
    (tmp_path / "t.tsv").write_text(body)
    with pytest.raises(Refused, match=r"its first line holds addresses and no names of columns: download them first"):
        parse(str(tmp_path / "t.tsv"))


def test_a_column_of_addresses_is_told_by_its_cells(tmp_path):
    (tmp_path / "t.csv").write_text("foto,text\nhttps://host/get?name=a.jpg,x\n")
    with pytest.raises(Refused, match=r"its pictures are addresses \(column foto\): download them first"):
        parse(str(tmp_path / "t.csv"))


def test_names_without_suffixes_are_found(tmp_path):
    (tmp_path / "train").mkdir()
    for name in ("x1", "y2"):
        (tmp_path / f"train/{name}.JPEG").write_bytes(image_bytes(form="JPEG"))
    (tmp_path / "labels.csv").write_text("id,breed\nx1,poodle\ny2,pug\n")
    items, tally = told(parse(f"{tmp_path}/labels.csv?label=breed"))
    assert [(item.label, item.load().size) for item in items] == [("poodle", (8, 6)), ("pug", (8, 6))]
    assert "names without suffixes: .JPEG files" in tally.lines()
    (tmp_path / "words.csv").write_text("id,word\n1,cat\n")
    with pytest.raises(Refused, match="no column image, path or file"):
        parse(str(tmp_path / "words.csv"))


@pytest.mark.parametrize(
    "start", ["# made by a tool\nimage,caption\n", "sep=;\nimage;caption\n", "# one\n# two\nimage\tcaption\n"]
)
def test_lines_before_the_names_of_the_columns(tmp_path, start):
    (tmp_path / "a.png").write_bytes(PNG)
    sign = start.splitlines()[-1].removeprefix("image")[0]
    (tmp_path / "t.csv").write_text(f"{start}a.png{sign}x\na.png{sign}# y\n")
    found, said = captions_of(tmp_path / "t.csv")
    assert list(found.values()) == ["x", "# y"]
    assert "of remarks before the columns" in said


def test_binary_strangers_are_no_pictures(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    starts = {"font.ttf": b"\0\1\0\0\xff", "net.onnx": b"\x08\x07\xff", "x.aae": b"bplist00\xff",
              "v.lrv": b"\0\0\0\x18ftypmp42", "x.dat": b"\xff\xfe\0"}  # fmt: skip
    for name, content in starts.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "cut").write_bytes(PNG[:40])  # a picture still, though it has no suffix and is damaged
    items, tally = told(parse(str(tmp_path)))
    assert [Path(item.id).name for item in items] == ["a.png", "cut"]
    assert "left out: 5 other files, which are no pictures (font.ttf)" in tally.lines()


def test_words_that_repeat_are_said_and_tables_of_words_refused(tmp_path):
    (tmp_path / "w.txt").write_text("cat\ndog\ncat\n")
    items, tally = told(parse(f"words:{tmp_path}/w.txt?fonts=open-sans&sizes=24"))
    assert ([item.label for item in items], tally.lines()[-1]) == (
        ["cat", "dog"],
        "left out: 1 lines that repeat a word",
    )
    (tmp_path / "w.csv").write_text("word,kind\ncat,animal\n")
    for kind in ("words", "texts"):
        with pytest.raises(Refused, match="a table; give a text file with one word or text a line"):
            parse(f"{kind}:{tmp_path}/w.csv")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a.png", "one picture: give its folder"), ("t.xlsx", r"\.xlsx: save it as CSV"),
        ("t.csv.gz", "compressed; unpack it first$"), ("s.tar.gz", r"unpack it first \(members are read"),
        ("packed", r"no images in it, but compressed files \(sub/s\.tar\.gz\): unpack them"),
    ],
)  # fmt: skip
def test_advice_on_what_is_no_source(tmp_path, name, reason):
    (tmp_path / "packed/sub").mkdir(parents=True)
    for file in ("a.png", "t.xlsx", "t.csv.gz", "s.tar.gz", "packed/sub/s.tar.gz"):
        (tmp_path / file).write_bytes(PNG)
    with pytest.raises(Refused, match=reason):
        parse(str(tmp_path / name))


# -- values ------------------------------------------------------------------------------------------------------------


def test_maps_of_languages_are_captions(tmp_path):
    captions = pa.array([[("en", "a dog"), ("de", "ein Hund")], None], pa.map_(pa.string(), pa.string()))
    pq.write_table(pa.table({"image": [PNG, PNG], "caption": captions}), tmp_path / "t.parquet")
    assert list(captions_of(tmp_path / "t.parquet")[0].values()) == ["a dog", ""]


DEPTHS = np.random.default_rng(0).integers(0, 4096, (12, 16))


def test_a_picture_whose_name_begins_with_a_number_sign_is_no_remark(tmp_path):
    (tmp_path / "#1.png").write_bytes(PNG)
    (tmp_path / "t.csv").write_text("#1.png,a dog\nb.png,a cat\n")
    assert list(captions_of(tmp_path / "t.csv")[0].values()) == ["a dog", "a cat"]


@pytest.mark.parametrize(
    "pixels", [DEPTHS, DEPTHS * 16, DEPTHS > 2000, DEPTHS / 2047.5 - 1, (DEPTHS / 4095 - 0.45) / 0.225, DEPTHS / 16.06]
)
def test_pixels_of_any_range_are_scaled_not_clipped(tmp_path, pixels):
    found = np.asarray(decode_cell(pixels.tolist(), tmp_path))[:, :, 0]
    pixels = pixels.astype(float)
    wanted = (pixels - pixels.min()) * 255 / np.ptp(pixels)
    assert np.abs(found - wanted).max() <= 1.5


@pytest.mark.parametrize(
    "cell",
    [
        {"data": PNG, "filename": "x"}, {"image_bytes": PNG}, {"bytes": None, "path": "a.png"}, PNG.hex(),
        base64.urlsafe_b64encode(PNG).decode(), base64.encodebytes(PNG).decode(), "file://{tmp}/a%20b.png", "a b",
    ],
)  # fmt: skip
def test_what_carries_a_picture(tmp_path, cell):
    pq.write_table(pa.table({"image": [{"foo": PNG, "bar": 1}]}), tmp_path / "no.parquet")
    with pytest.raises(Refused, match=r"holds structs of foo and bar; give bytes and path$"):
        parse(str(tmp_path / "no.parquet"))
    for name in ("a.png", "a b.png"):
        (tmp_path / name).write_bytes(PNG)
    cell = cell.replace("{tmp}", str(tmp_path)) if isinstance(cell, str) else cell
    pq.write_table(pa.table({"image": [cell], "caption": ["x"]}), tmp_path / "t.parquet")
    specs = ["t.parquet"]
    if isinstance(cell, str):
        pd.DataFrame({"image": [cell], "caption": ["x"]}).to_csv(tmp_path / "t.csv", index=False)
        pd.DataFrame({"image": [cell], "caption": ["x"]}).to_json(tmp_path / "t.jsonl", orient="records", lines=True)
        specs += ["t.csv", "t.jsonl"]
    for spec in specs:
        (item,) = parse(str(tmp_path / spec))
        assert (item.caption, item.load().size) == ("x", (8, 6))
        assert len(item.id) < 200


@pytest.mark.parametrize("written", ["val", "VALID", "validation", "dev"])
def test_a_split_has_one_name(tmp_path, written):
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "a.json").write_text(json.dumps({"split": written, "label": "cat"}))
    (item,), tally = told(parse(str(tmp_path)))
    assert (item.split, item.label) == ("validation", "cat")
    assert "labels: files beside the pictures" in tally.lines()
    assert "labels: the folder of a picture" not in tally.lines()
    (tmp_path / "t.csv").write_text(f"image,label,label_name,split\na.png,3,cat,{written}\n")
    (item,) = parse(str(tmp_path / "t.csv"))
    assert (item.split, item.label) == ("validation", "cat")
