"""Decode an image file of any format to RGB, or say in one line why it cannot be decoded.

The format is told by the content, not by the file name. Of an animation the first frame is used, transparent pixels
become white, more than 8 bits are scaled (not clipped), and EXIF orientation is applied.
"""

import warnings
from contextlib import suppress
from importlib import import_module
from io import BytesIO
from pathlib import Path
from threading import Lock

import numpy as np
from PIL import Image, UnidentifiedImageError

from atlas.sources.signatures import RAW_SUFFIXES, advice_on, head_of, kind_of_file

MAX_PIXELS = 2**27  # 400 MB as RGB: larger than any photograph, small enough for memory
MAX_ASPECT = 100  # longest side over shortest: resizing the short side of a thinner strip would need gigabytes
_FORMATS = (
    "PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "ICO", "ICNS", "AVIF", "JPEG2000", "QOI", "PCX",
    "PSD", "SGI", "HEIF", "JXL",
)  # fmt: skip  # without EPS: Pillow would run Ghostscript on it
_PLUGINS = {"HEIC": ("pillow_heif", "register_heif_opener"), "JXL": ("pillow_jxl", "")}  # used if they are installed
_FEW_BITS = 12  # of grey in a file of 16: such pictures would be nearly black
STRETCHED = "stretched"  # key in `Image.info`: how many bits of grey were stretched to 8
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Unreadable(ValueError):  # noqa: N818 - the name states what the file is
    """An input that gives no image. The message is the reason: one short line, the same on every run."""


def decode(data: bytes | Path, at_least: int | None = None) -> Image.Image:
    """Decode an image to 8-bit RGB.

    `data`: the encoded image, or the path of its file. `at_least`: the number of pixels that both sides must keep; a
    large JPEG is then decoded at a half, a quarter or an eighth of its size, which is much faster (other formats keep
    their size). Raises `Unreadable` with the reason.
    """
    try:
        with _silence:
            return _decode(data, at_least)
    except Unreadable:
        raise
    except Exception as error:  # damaged or malicious bytes can raise any exception in Pillow's readers
        raise Unreadable(_reason(error, data)) from None


def _decode(data: bytes | Path, at_least: int | None) -> Image.Image:
    if isinstance(data, Path) and not data.is_file():
        raise Unreadable("not a file" if data.exists() else "no such file")
    if not (len(data) if isinstance(data, bytes) else data.stat().st_size):
        raise Unreadable("empty: 0 bytes")
    if isinstance(data, Path) and data.suffix.lower() in RAW_SUFFIXES:  # Pillow would show its small preview
        raise Unreadable(advice_on("RAW"))
    with _opened(data) as image:
        _check_size(*image.size)
        if at_least and image.format in ("JPEG", "MPO"):
            image.draft(None, (at_least, at_least))  # type: ignore[arg-type] - None: the mode stays
        image.load()
        upright = _UPRIGHT.get(_orientation(image))
        picture = rgb(image)
    return picture.transpose(upright) if upright is not None else picture


def _opened(data: bytes | Path) -> Image.Image:
    """The image, not yet decoded; of a kind that Pillow reads with a plugin alone, with that if it is installed."""
    source = BytesIO(data) if isinstance(data, bytes) else data
    known = [name for name in _FORMATS if name not in ("HEIF", "JXL") or name in Image.OPEN]
    try:
        return Image.open(source, formats=known)
    except UnidentifiedImageError:
        module, function = _PLUGINS.get(kind_of_file(head_of(data)), ("", ""))
        with suppress(ImportError):
            plugin = import_module(module) if module else None
            if plugin is not None:
                if function:
                    getattr(plugin, function)()
                return Image.open(BytesIO(data) if isinstance(data, bytes) else data, formats=_FORMATS)
        raise


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise Unreadable(f"too large: {width} x {height} pixels, the limit is {MAX_PIXELS:,} in all")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise Unreadable(f"too thin: {width} x {height} pixels, the limit is {MAX_ASPECT}:1")


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # with a damaged tag the image is used as it is stored
        return 1


def rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to a new RGB image."""
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        picture = Image.fromarray(_eight_bits(values, image.mode)).convert("RGB")
        if bits := _few_bits(values):
            picture.info[STRETCHED] = bits
        return picture
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        paper = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(paper, picture).convert("RGB")
    return image.convert("RGB")


def _few_bits(values: np.ndarray) -> int:
    """How many bits an image of 16-bit grey uses, if they are 12 or fewer, as of microscopes and X-rays; else 0."""
    if values.dtype.kind not in "iu" or not values.size or values.min() < 0 or values.max() >= 2**_FEW_BITS:
        return 0
    return int(values.max()).bit_length()


def _eight_bits(values: np.ndarray, mode: str) -> np.ndarray:
    """Scale grey values of any depth to 8 bits: integers from 0..65,535, floats from 0..1 or 0..255, else by range.

    Integers of 12 bits or fewer are scaled by their range too: cameras store them in files of 16 bits.
    """
    values = values.astype(np.float64)
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise Unreadable("no finite pixel")
    low, high = float(finite.min()), float(finite.max())
    if low >= 0 and high < 2**_FEW_BITS and mode != "F":
        low = low if low < high else 0.0
    elif low >= 0 and high <= 65535 and mode != "F":
        low, high = 0.0, 65535.0
    elif low >= 0 and high <= 255 and mode == "F":
        low, high = 0.0, 255.0 if high > 1 else 1.0
    scaled = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) * (255 / max(high - low, 1e-300))
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


def _reason(error: Exception, data: bytes | Path) -> str:
    """The reason as one short line, without memory addresses or paths."""
    if isinstance(error, UnidentifiedImageError):
        head = head_of(data)
        kind = kind_of_file(head)
        return advice_on(kind) if kind else f"not an image that can be read: it starts with {head[:12]!r}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, Image.DecompressionBombError):
        return "too large: a decompression bomb"
    text = " ".join(str(error).split()) or type(error).__name__
    return f"damaged: {text[:100]}"


class _Silence:
    """Silences Pillow's warnings while any thread decodes.

    `warnings.catch_warnings` is not thread-safe: it changes the state of the whole process, so a thread that leaves
    it would switch warnings on for the others. This class enters it with the first thread and leaves with the last.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._filters = Lock(), 0, warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._filters.__exit__(None, None, None)


_silence = _Silence()
