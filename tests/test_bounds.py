"""Inputs that would take for ever, or all memory: each ends soon, with a reason."""

import io
import os
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from atlas.errors import Refused
from atlas.sources import decoding, spec
from atlas.sources.decoding import TRIED_AGAIN, Unreadable, decode
from atlas.sources.items import Item


def outcome(item: Item) -> str:
    """The reason for which an item is refused; "" if it is not."""
    try:
        if item.load:
            item.load()
    except Unreadable as unreadable:
        return str(unreadable)
    return ""


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(out, "PNG")
    return out.getvalue()


# -- captions and folders ----------------------------------------------------------------------------------------------


def large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(300_000_000)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (os.mkfifo, "its caption a.txt: not a file"),
        (lambda path: path.symlink_to("/dev/zero"), "its caption a.txt: not a file"),
        (large, "its caption a.txt: too large: 300,000,000 bytes"),
        (Path.mkdir, ""),
        (lambda path: path.write_text("a red square"), ""),
    ],
)
def test_a_caption_is_a_regular_file_of_bounded_size(make: Callable, says: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    make(tmp_path / "a.txt")
    (item,) = spec.parse(str(tmp_path))
    assert outcome(item).startswith(says)
    assert bool(outcome(item)) == bool(says)


def test_a_folder_that_cannot_be_listed_is_one_reject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "closed", "z"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(picture())
    scan = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = {item.id.partition("/")[2]: outcome(item) for item in spec.parse(str(tmp_path))}
    assert found == {
        "a/1.png": "",
        "closed/": f"a folder that cannot be listed (permission denied){TRIED_AGAIN}",
        "z/1.png": "",
    }


def test_names_that_are_equal_once_escaped_have_two_ids(tmp_path: Path) -> None:
    for name in (b"latin\xe9.png", rb"latin\udce9.png"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(picture())
    ids = [item.id for item in spec.parse(str(tmp_path))]
    assert len(set(ids)) == 2


# -- tables and lists --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b"[" * 100_000, "line 1 is not JSON"),
        ("a.jsonl", b'{"path": "x' + b"y" * 2**24, "line 1 is longer than"),
        ("a.csv", b"path,caption\n\x00\x01a.png,b", "not a text file"),
        ("a.txt", b"\xff\xd8\xff\xe0\x00\x10JFIF" * 100, "not a text file"),
    ],
)
def test_what_is_no_table_is_refused(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Refused, match=says) as refused:
        spec.parse(str(tmp_path / name))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt", "a.parquet"])
def test_a_pipe_is_no_table(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(Refused, match="not a regular file"):
        spec.parse(str(tmp_path / name))


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    columns = [pa.array([picture()])] * 2
    pq.write_table(pa.Table.from_arrays(columns, names=["image", "image"]), tmp_path / "a.parquet")
    with pytest.raises(Refused, match="two columns are called 'image'"):
        spec.parse(str(tmp_path / "a.parquet"))


@pytest.mark.parametrize("asked", ["words?side=100000&top=1", "words?sizes=100000&top=1"])
def test_words_of_gigabytes_are_refused(asked: str) -> None:
    with pytest.raises(Refused, match="at most 2,048 pixels"):
        spec.parse(asked)


def test_a_file_of_words_is_text_and_a_word_has_an_end(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF")
    with pytest.raises(Refused, match="not a text file"):
        spec.parse(f"words:{tmp_path}/a.jpg")
    (tmp_path / "long.txt").write_text("a " * 5000)
    item = next(iter(spec.parse(f"words:{tmp_path}/long.txt")))
    assert outcome(item).startswith("too long to be legible: 9,999 characters")


# -- tar shards --------------------------------------------------------------------------------------------------------


def member(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return out.getvalue().rstrip(b"\0").ljust(512 * (1 + -(-len(content) // 512)), b"\0")


def with_size(header: bytes, size: int, kind: bytes = b"0") -> bytes:
    raw = bytearray(header[:512])
    raw[124:136] = size.to_bytes(12, "big", signed=True) if size < 0 else b"%011o\0" % size
    if size >= 8**11:
        raw[124:136] = b"\x80" + size.to_bytes(11, "big")
    raw[156:157] = kind
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw) + header[512:]


GOOD = member("a.png", picture())
HEADER = member("b.png", b"")


@pytest.mark.parametrize(
    "tail",
    [
        with_size(HEADER, -512),
        with_size(HEADER, -(2**60)),
        with_size(HEADER, 2**70),
        with_size(HEADER, 2**40, tarfile.XHDTYPE),
        with_size(HEADER, -1024, tarfile.GNUTYPE_LONGNAME),
        with_size(HEADER, 2**33, tarfile.GNUTYPE_LONGNAME),
        with_size(member("b.png", b"n"), 1, tarfile.GNUTYPE_LONGNAME) * 3000,
        HEADER[:100],
        b"\xff" * 1024,
    ],
)
def test_headers_of_tar_shards_are_checked(tail: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(GOOD + tail + bytes(1024))
    found = [outcome(item) for item in spec.parse(str(tmp_path / "a.tar"))]
    assert found[0] == ""
    assert all(found[1:])
    assert len(found) <= 3


def test_sparse_members_and_captions_of_megabytes_are_rejects(tmp_path: Path) -> None:
    def record(key: str, value: str) -> bytes:
        line = f" {key}={value}\n"
        size = len(line) + 2
        return f"{size}{line}".encode()

    holes = record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") + record("GNU.sparse.name", "s.png")
    pax = with_size(member("pax", holes), len(holes), tarfile.XHDTYPE)
    (tmp_path / "a.tar").write_bytes(GOOD + pax + with_size(member("s.png", b"9" * 512), 512) + bytes(1024))
    found = [outcome(item) for item in spec.parse(str(tmp_path / "a.tar"))]
    assert found[0] == ""
    assert "sparse" in found[1]
    (tmp_path / "b.tar").write_bytes(GOOD + member("a.txt", b"x" * (2**20 + 1)) + bytes(1024))
    (item,) = spec.parse(str(tmp_path / "b.tar"))
    assert outcome(item) == "its a.txt has 1,048,577 bytes, the limit is 1,048,576"


# -- decoding ----------------------------------------------------------------------------------------------------------


def test_scans_are_bounded() -> None:
    out = io.BytesIO()
    Image.new("RGB", (4000, 4000)).save(out, "JPEG", progressive=True)
    whole = out.getvalue()
    decode(whole)
    at = whole.rindex(b"\xff\xda")
    end = whole.rindex(b"\xff\xd9")
    with pytest.raises(Unreadable, match=r"too many scans: \d+ of 4000 x 4000 pixels, the limit is"):
        decode(whole[:end] + whole[at:end] * 400 + whole[end:])


def icon(inside: bytes) -> bytes:
    """A Windows icon that says it is 16 pixels wide, whatever is inside."""
    return struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inside), 22) + inside


def apple_icon(inside: bytes) -> bytes:
    """An icon of macOS that says it is 128 pixels wide, whatever is inside."""
    return b"icns" + struct.pack(">I", 16 + len(inside)) + b"ic07" + struct.pack(">I", 8 + len(inside)) + inside


@pytest.mark.parametrize(
    ("wrap", "form"), [(icon, "PNG"), (icon, "BMP"), (apple_icon, "PNG"), (apple_icon, "JPEG2000")]
)
def test_a_picture_inside_an_icon_is_bounded_too(wrap: Callable, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO()
    Image.new("RGB", (300, 200)).save(out, form)
    inside = out.getvalue()
    if form == "BMP":  # an icon's has no file header, and is twice as high: colours, then transparency
        inside = inside[14:22] + struct.pack("<i", 400) + inside[26:] + bytes(200 * 40)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 50_000)
    monkeypatch.setattr(Image, "open", None)  # Pillow decodes icons when it opens them
    with pytest.raises(Unreadable, match="too large: 300 x 200 pixels"):
        decode(wrap(inside))


def test_a_decode_ends_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    noise, out = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8), io.BytesIO()
    Image.fromarray(noise).save(out, "PNG")  # more than Pillow reads at once
    monkeypatch.setattr(decoding, "MAX_SECONDS", -1)
    with pytest.raises(Unreadable, match=r"it took more than -1 s to decode \(tried again"):
        decode(out.getvalue())


def test_bytes_are_bounded(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(2**30 + 1)
    with pytest.raises(Unreadable, match="too large: 1,073,741,825 bytes"):
        decode(tmp_path / "a.png")


def test_what_the_memory_does_not_hold_is_refused_for_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "free_memory", lambda: 10**7)
    out = io.BytesIO()
    Image.new("L", (3000, 3000)).save(out, "PNG")
    with pytest.raises(Unreadable, match=r"it takes 0.1 GB to decode, and 0.0 GB are free \(tried again"):
        decode(out.getvalue())
    decode(picture())


@pytest.mark.parametrize("mode", ["I;16", "RGBA", "F", "P"])
def test_strips_give_the_same_picture(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 2**16, (37, 11))
    if mode == "I;16":
        image = Image.fromarray(values.astype(np.uint16))
    elif mode == "F":
        image = Image.fromarray((values / 2**16).astype(np.float32))
    else:
        colours = np.random.default_rng(0).integers(0, 256, (37, 11, 4), np.uint8)
        image = Image.fromarray(colours, "RGBA")
    if mode == "P":
        image = image.convert("RGB").quantize(16)
        image.info["transparency"] = 3
    whole = decoding.rgb(image)
    monkeypatch.setattr(decoding, "_STRIP_PIXELS", 20)
    np.testing.assert_array_equal(np.asarray(decoding.rgb(image)), np.asarray(whole))


@pytest.mark.slow
def test_the_largest_grey_picture_takes_two_gigabytes_at_most() -> None:
    import subprocess
    import sys

    code = """
import io, re
from pathlib import Path
from PIL import Image
from atlas.sources.decoding import decode
out = io.BytesIO(); Image.new("I;16", (11580, 11580), 7).save(out, "PNG")
decode(out.getvalue()); print(re.search("VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 2_000_000
