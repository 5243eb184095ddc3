"""Any image file, of any age and origin, to RGB pixels, or one line that says why not.

The content decides, never the file's name. Of an animation the first frame counts; what is transparent shows white;
deeper than 8 bits is scaled, not clipped; a turned camera is turned back.
"""

import warnings
from io import BytesIO
from pathlib import Path
from threading import Lock

import numpy as np
from PIL import Image, UnidentifiedImageError

MAX_PIXELS = 2**27  # 400 MB as RGB: more than any camera makes, less than what stops a machine
MAX_ASPECT = 100  # a strip thinner than this is no picture, and resizing its short side would need gigabytes
FORMATS = (
    "PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "ICO", "ICNS", "AVIF", "JPEG2000", "QOI", "PCX",
    "PSD", "SGI",
)  # fmt: skip  # no EPS: Pillow would start Ghostscript on it
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


class Unreadable(ValueError):  # noqa: N818 - it says what the file is
    """An input that gives no picture. The message is the reason, one short line, the same on every run."""


def decode(data: bytes | Path, at_least: int | None = None) -> Image.Image:
    """The image as 8-bit RGB.

    Args:
        data: the encoded image, or the path of its file.
        at_least: pixels that both sides must keep. A large JPEG is then decoded at a half, a quarter or an eighth of
            its size, which is much faster; everything else stays as large as it is.

    Raises:
        Unreadable: with the reason.
    """
    try:
        with _silence:
            return _decode(data, at_least)
    except Unreadable:
        raise
    except Exception as error:  # hostile bytes can raise anything from any of Pillow's readers
        raise Unreadable(_reason(error, data)) from None


def _decode(data: bytes | Path, at_least: int | None) -> Image.Image:
    if isinstance(data, Path) and not data.is_file():
        raise Unreadable("not a file" if data.exists() else "no such file")
    if not (len(data) if isinstance(data, bytes) else data.stat().st_size):
        raise Unreadable("empty: 0 bytes")
    with Image.open(BytesIO(data) if isinstance(data, bytes) else data, formats=FORMATS) as image:
        _check_size(*image.size)
        if at_least and image.format in ("JPEG", "MPO"):
            image.draft(None, (at_least, at_least))  # type: ignore[arg-type] - None: the mode stays
        image.load()
        upright = _UPRIGHT.get(_orientation(image))
        picture = rgb(image)
    return picture.transpose(upright) if upright is not None else picture


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise Unreadable(f"too large: {width} x {height} pixels, the limit is {MAX_PIXELS:,} in all")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise Unreadable(f"too thin: {width} x {height} pixels, the limit is {MAX_ASPECT}:1")


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a broken tag costs the turn, not the picture
        return 1


def rgb(image: Image.Image) -> Image.Image:
    """The pixels as a new RGB image, whatever the mode."""
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(np.asarray(image), image.mode)).convert("RGB")
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        paper = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(paper, picture).convert("RGB")
    return image.convert("RGB")


def _eight_bits(values: np.ndarray, mode: str) -> np.ndarray:
    """Grey of any depth to 8 bits. Integers up to 65,535 are 16-bit; floats up to 1 or to 255 are what they seem."""
    values = values.astype(np.float64)
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise Unreadable("no finite pixel")
    low, high = float(finite.min()), float(finite.max())
    if low >= 0 and high <= 65535 and mode != "F":
        low, high = 0.0, 65535.0
    elif low >= 0 and high <= 255 and mode == "F":
        low, high = 0.0, 255.0 if high > 1 else 1.0
    scaled = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) * (255 / max(high - low, 1e-300))
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


def _reason(error: Exception, data: bytes | Path) -> str:
    """One short line without addresses or machine paths."""
    if isinstance(error, UnidentifiedImageError):
        return f"not an image that can be read: it starts with {_start(data)!r}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, Image.DecompressionBombError):
        return "too large: a decompression bomb"
    text = " ".join(str(error).split()) or type(error).__name__
    return f"damaged: {text[:100]}"


def _start(data: bytes | Path) -> bytes:
    if isinstance(data, bytes):
        return data[:12]
    with data.open("rb") as file:
        return file.read(12)


class _Silence:
    """Keeps Pillow's warnings inside, from the first thread that decodes until the last one is done.

    `warnings.catch_warnings` alone is of no use here: it changes the whole process, so that a thread which ends would
    switch the warnings of another one on again.
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
