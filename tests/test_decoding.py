"""Images of every kind are read right, or refused with a reason; never a crash, a warning or a blank."""

import pickle
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from atlas.sources import decoding
from atlas.sources.decoding import Unreadable, decode


def saved(image, form, **options):
    out = BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def photo(w=64, h=48):
    """Smooth, with no two quarters alike: red grows to the right, green downwards."""
    x, y = np.meshgrid(np.linspace(0, 255, w), np.linspace(0, 255, h))
    return Image.fromarray(np.stack([x, y, 128 + 0 * x], -1).astype(np.uint8))


def png(width, height, depth, colour, rows, extra=b""):
    """A PNG written by hand, for what Pillow cannot write."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = b"".join(b"\0" + row for row in rows)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(body))
        + chunk(b"IEND", b"")
    )


def near(image, expected, within=8):
    pixels = np.asarray(image, np.int16)
    assert image.mode == "RGB"
    assert pixels.shape == (*np.shape(expected)[:2], 3)
    assert np.abs(pixels - np.asarray(expected, np.int16)).max() <= within


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM", "GIF", "AVIF", "JPEG2000", "ICO"])
def test_formats(form, tmp_path):
    picture = photo(64, 64)
    options = {"quality": 95} if form in ("JPEG", "AVIF", "WEBP") else {}
    data = saved(picture, form, **options)
    near(decode(data), picture, within=40)
    (tmp_path / "misnamed.txt.gif").write_bytes(data)
    assert decode(tmp_path / "misnamed.txt.gif").tobytes() == decode(data).tobytes()


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame(form):
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue", "lime")]
    data = saved(
        frames[0], form, save_all=True, append_images=frames[1:], **({} if form == "GIF" else {"lossless": True})
    )
    near(decode(data), frames[0])


def test_several_pages():
    pages = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue")]
    near(decode(saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])), pages[0])


def test_cmyk():
    picture = photo()
    cmyk = picture.convert("CMYK")
    near(decode(saved(cmyk, "JPEG", quality=95)), picture, within=12)  # Pillow writes Adobe's inverted form
    near(decode(saved(cmyk, "TIFF")), picture, within=2)


def test_sixteen_bit_is_scaled_not_clipped():
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(1, -1).repeat(4, 0)
    grey = np.arange(256)[None, :, None].repeat(4, 0).repeat(3, 2)
    near(decode(saved(Image.fromarray(ramp), "PNG")), grey, within=1)
    near(decode(saved(Image.fromarray(ramp), "TIFF")), grey, within=1)
    big_endian = [row.astype(">u2").tobytes() for row in np.stack([ramp, ramp[:, ::-1], 0 * ramp], -1)]
    colour = np.stack([np.arange(256), np.arange(256)[::-1], 0 * np.arange(256)], -1)[None].repeat(4, 0)
    near(decode(png(256, 4, 16, 2, big_endian)), colour, within=1)
    half = [struct.pack(">HH", 65535, 32768) * 3]  # white at half opacity stays white; black would turn grey
    near(decode(png(3, 1, 16, 4, half)), np.full((1, 3, 3), 255), within=1)


@pytest.mark.parametrize("scale", [0.05, 1, 2, 10, 255, 1000])
def test_float_and_integer_depths(scale):
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(1, -1).repeat(4, 0)
    grey = np.arange(256)[None, :, None].repeat(4, 0).repeat(3, 2)
    image = decode(saved(Image.fromarray(ramp * scale), "TIFF"))
    near(image, grey, within=1)
    assert (decoding.STRETCHED in image.info) == (scale not in (1, 255))
    near(decode(saved(Image.fromarray((ramp * 65535).astype(np.int32)), "TIFF")), grey, within=1)


@pytest.mark.parametrize("bits", [9, 10, 12, 13, 14, 15])
def test_few_bits_of_grey_are_stretched_and_said(bits):
    ramp = np.linspace(0, 2**bits - 1, 256).astype(np.uint16).reshape(1, -1).repeat(4, 0)
    grey = np.arange(256)[None, :, None].repeat(4, 0).repeat(3, 2)
    for form in ("PNG", "TIFF"):
        image = decode(saved(Image.fromarray(ramp), form))
        near(image, grey, within=1)
        assert image.info[decoding.STRETCHED] == bits
    invalid = ramp.copy()
    invalid[0, 0] = 65535  # depth cameras mark pixels without a value so
    marked = np.asarray(decode(saved(Image.fromarray(invalid), "PNG")))
    near(Image.fromarray(marked[1:]), grey[1:], within=1)
    more = decode(saved(Image.fromarray((ramp.astype(int) * 60000 // ramp.max()).astype(np.uint16)), "PNG"))
    assert decoding.STRETCHED not in more.info  # with 16 bits the file means what it says


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("form", [2, 4, 6])  # RGB, grey and alpha, RGB and alpha
def test_few_bits_of_colour_are_stretched_and_said(bits, form):
    ramp = np.linspace(0, 2**bits - 1, 256).astype(np.uint16)
    full = np.full(256, 65535, np.uint16)
    bands = {2: [ramp, ramp[::-1], 0 * ramp], 4: [ramp, full], 6: [ramp, ramp[::-1], 0 * ramp, full]}[form]
    image = decode(png(256, 4, 16, form, [np.stack(bands, -1).astype(">u2").tobytes()] * 4))
    wanted = np.arange(256)
    shades = [wanted, wanted, wanted] if form == 4 else [wanted, wanted[::-1], 0 * wanted]
    near(image, np.stack(shades, -1)[None].repeat(4, 0), within=2 ** (16 - bits) * 2)  # Pillow keeps the high byte
    assert image.info[decoding.STRETCHED] == bits


def test_a_camera_s_file_is_not_shown_by_its_preview(tmp_path):
    (tmp_path / "a.NEF").write_bytes(saved(photo(), "TIFF"))
    with pytest.raises(Unreadable, match="RAW of a camera"):
        decode(tmp_path / "a.NEF")


def test_no_finite_pixel():
    with pytest.raises(Unreadable, match="no finite pixel"):
        decode(saved(Image.fromarray(np.full((2, 2), np.nan, np.float32)), "TIFF"))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1", "L"])
def test_transparency_shows_white(mode):
    picture = Image.new("RGBA", (16, 8), (0, 0, 0, 0))
    picture.paste((0, 0, 0, 255), (0, 0, 8, 8))
    expected = np.zeros((8, 16, 3), int)
    expected[:, 8:] = 255
    if mode in ("1", "L"):
        picture = Image.fromarray(expected.astype(np.uint8)).convert(mode)
        near(decode(saved(picture, "PNG")), expected)
    elif mode == "P":
        palette = picture.convert("P")
        index = palette.getpixel((0, 0))
        palette = Image.new("P", (16, 8), index + 1)
        palette.putpalette([0, 0, 0] * 256)
        palette.paste(index, (0, 0, 8, 8))
        for form, clear in (("PNG", index + 1), ("GIF", index + 1), ("PNG", bytes([255] * (index + 1) + [0]))):
            near(decode(saved(palette, form, transparency=clear)), expected)
    else:
        near(decode(saved(picture.convert(mode), "PNG")), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_camera_is_turned_back(orientation):
    turned_by = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # what the camera did: Pillow's transpositions by number
    picture = photo()
    stored = picture.transpose(Image.Transpose(turned_by[orientation])) if orientation > 1 else picture
    exif = Image.Exif()
    exif[0x0112] = orientation
    for form, options in (("JPEG", {"quality": 95}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        near(decode(saved(stored, form, exif=exif, **options)), picture, within=16)


def test_a_broken_orientation_costs_no_picture():
    near(decode(saved(photo(), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")), photo())


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM", "GIF", "AVIF", "JPEG2000", "ICO", "QOI"])
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.9])
def test_truncated(form, kept):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    data = saved(noise, form)
    with pytest.raises(Unreadable) as refusal:
        decode(data[: int(len(data) * kept)])
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 130
    assert "0x7" not in str(refusal.value)  # an address differs from run to run


def test_damage_never_escapes():
    """Every fifth byte of small files overwritten in turn: pixels or Unreadable, nothing else (warnings are errors)."""
    rng = np.random.default_rng(1)
    for form in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "ICO", "BMP"):
        data = saved(photo(16, 16), form)
        for at in range(0, len(data), max(1, len(data) // 60)):
            broken = bytearray(data)
            broken[at : at + 3] = rng.integers(0, 256, 3, np.uint8).tobytes()
            with suppress(Unreadable):
                assert decode(bytes(broken)).mode == "RGB"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty: 0 bytes"),
        (b"<!DOCTYPE html><title>404</title>", "an HTML page, not a picture: the download failed"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript: convert it to PNG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC: convert it, or pip install pillow-heif"),
        (b"\xff\x0a\x7f\x01 more", "JPEG XL: convert it, or pip install pillow-jxl-plugin"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "RAW of a camera"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer, not the picture"),
        (b"%PDF-1.7\n", "PDF"),
        (b"PK\x03\x04\x14\0", r"an archive \(zip\), not a picture"),
        (b'{"error": "no"}', "JSON, not a picture"),
        (b"no picture, but a line of words", "text, not a picture"),
        (bytes(900), "zeros alone"),
        (b"\xde\xad\xbe\xef" * 4, "not an image that can be read: it starts with de ad be ef$"),
        (b"PASSWORD=x\0y\xff", "not an image that can be read$"),
        (png(60_000, 60_000, 8, 2, []), "too large"),
        (png(12_000, 12_000, 8, 2, []), "too large: 12000 x 12000 pixels"),
        (saved(Image.new("L", (1, 101)), "PNG"), "too thin: 1 x 101"),
    ],
)
def test_refused_with_a_reason(data, reason, tmp_path):
    (tmp_path / "file.jpg").write_bytes(data)
    for given in (data, tmp_path / "file.jpg"):
        with pytest.raises(Unreadable, match="^" + reason.replace("?", r"\?")):
            decode(given)


def test_not_a_file(tmp_path):
    with pytest.raises(Unreadable, match="no such file"):
        decode(tmp_path / "gone.jpg")
    with pytest.raises(Unreadable, match="not a file"):
        decode(tmp_path)


def test_smallest_and_thinnest():
    near(decode(saved(Image.new("RGB", (1, 1), "red"), "PNG")), [[(255, 0, 0)]])
    assert decode(saved(Image.new("L", (1, 100)), "PNG")).size == (1, 100)


def test_at_least_keeps_what_is_asked_for():
    data = saved(photo(1600, 1200), "JPEG", quality=95)
    small = decode(data, at_least=224)
    assert small.size == (400, 300)
    near(small, photo(1600, 1200).resize((400, 300), Image.Resampling.BOX), within=12)
    assert decode(data, at_least=1000).size == (1600, 1200)
    assert decode(saved(photo(), "JPEG"), at_least=224).size == (64, 48)
    assert decode(saved(photo(), "PNG"), at_least=8).size == (64, 48)


def test_threads_and_warnings(recwarn):
    """A picture that makes Pillow warn (108 million pixels are more than it likes) stays silent in any thread."""
    quiet = saved(photo(), "PNG")
    loud = png(10_000, 10_000, 1, 0, [bytes(1250)] * 10_000)
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(BytesIO(loud)).close()
    recwarn.clear()
    with ThreadPoolExecutor(4) as pool:
        sizes = [image.size for image in pool.map(decode, [quiet] * 40 + [loud] + [quiet] * 40)]
    assert sizes.count((10_000, 10_000)) == 1
    assert not recwarn.list


def test_the_reason_travels():
    assert str(pickle.loads(pickle.dumps(Unreadable("too thin")))) == "too thin"
    assert decoding.MAX_PIXELS < 2 * Image.MAX_IMAGE_PIXELS
