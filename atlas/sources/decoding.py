"""Decode an image file of any format to RGB, or say in one line why it cannot be decoded.

The format is told by the content, not by the file name. Of an animation the first frame is used, transparent pixels
become white, more than 8 bits are scaled (not clipped; stretched where few of them are used), and EXIF orientation
is applied.
"""

import errno
import hashlib
import stat
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from io import BytesIO
from pathlib import Path
from threading import Condition, Lock

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from atlas.sources.depths import depth_of, is_deep, stretched_colours
from atlas.sources.icons import icon_size
from atlas.sources.signatures import RAW_SUFFIXES, advice_on, head_of, kind_of_file

MAX_PIXELS = 2**27  # 400 MB as RGB: larger than any photograph, small enough for memory
MAX_BYTES = 2**30  # of an encoded image
MAX_SCANNED = 2**31  # pixels of a progressive JPEG times its scans; the largest photograph may have 16 scans
MAX_SECONDS = 60
MAX_ASPECT = 100  # longest side over shortest: resizing the short side of a thinner strip would need gigabytes
_FORMATS = (
    "PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "ICO", "ICNS", "AVIF", "JPEG2000", "QOI", "PCX",
    "PSD", "SGI", "HEIF", "JXL",
)  # fmt: skip  # without EPS: Pillow would run Ghostscript on it
_BYTES_A_PIXEL = 12  # of the decoded image and its copies in RGB
_SMALL = 2**25  # bytes that are not counted
_STRIP_PIXELS = 2**20
_MAY_PASS = {
    getattr(errno, name)
    for name in ("EACCES", "EPERM", "EIO", "EMFILE", "ENFILE", "ENOMEM", "EAGAIN", "EINTR", "ESTALE", "ETIMEDOUT")
}
_PLUGINS = {"HEIC": ("pillow_heif", "register_heif_opener"), "JXL": ("pillow_jxl", "")}  # used if they are installed
STRETCHED = "stretched"  # key in `Image.info`: how many bits were stretched to 8
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


TRIED_AGAIN = " (tried again by the next run)"  # ends the reasons that may pass
CONTENT, CONTENT_BYTES = "content", 16  # of a decoded image's `info`: blake2b of the encoded image


class Unreadable(ValueError):  # noqa: N818 - the name states what the file is
    """An input that gives no image. The message is the reason: one short line, the same on every run."""


def decode(data: bytes | Path, at_least: int | None = None) -> Image.Image:
    """Decode an image to 8-bit RGB; its `info` holds the digest of the encoded image.

    `data`: the encoded image, or the path of its file. `at_least`: the number of pixels that both sides must keep; a
    large JPEG is then decoded at a half, a quarter or an eighth of its size, which is much faster (other formats keep
    their size). Raises `Unreadable` with the reason: damage, or bytes, pixels, scans, seconds or memory beyond what is
    allowed.
    """
    encoded = b""
    try:
        encoded = data if isinstance(data, bytes) else read_bytes(data)
        if not encoded:
            raise Unreadable("empty: 0 bytes")
        if isinstance(data, Path) and data.suffix.lower() in RAW_SUFFIXES:  # Pillow would show its small preview
            raise Unreadable(advice_on("RAW"))
        with _silence:
            picture = _decode(encoded, at_least)
    except Unreadable:
        raise
    except MemoryError:
        raise Unreadable(f"the memory is full{TRIED_AGAIN}") from None
    except Exception as error:  # damaged or malicious bytes can raise any exception in Pillow's readers
        raise Unreadable(_reason(error, encoded)) from None
    picture.info = {name: picture.info[name] for name in (STRETCHED,) if name in picture.info}
    picture.info |= {CONTENT: hashlib.blake2b(encoded, digest_size=CONTENT_BYTES).digest()}
    return picture


def read_bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    """The content of a regular file of at most `limit` bytes. Raises `Unreadable` with the reason."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable("not a file")
        if status.st_size > limit:
            raise Unreadable(f"too large: {status.st_size:,} bytes, the limit is {limit:,}")
        return path.read_bytes()
    except FileNotFoundError:
        raise Unreadable("no such file") from None
    except OSError as error:
        raise Unreadable(_reason(error)) from None


def _decode(encoded: bytes, at_least: int | None) -> Image.Image:
    inside = icon_size(encoded)
    _check_size(*inside)
    with _memory.reserve(inside[0] * inside[1] * _BYTES_A_PIXEL), _opened(encoded) as image:
        _check_size(*image.size)
        if image.format in ("JPEG", "MPO"):
            _check_scans(encoded, *image.size)
            if at_least:
                image.draft(None, (at_least, at_least))  # type: ignore[arg-type] - None: the mode stays
        with _memory.reserve(0 if any(inside) else image.width * image.height * _BYTES_A_PIXEL):
            deep, bits, pixels = is_deep(image), 0, image
            image.load()
            upright = _UPRIGHT.get(_orientation(image))
            if deep:
                pixels, bits = stretched_colours(image)
            picture = said_stretched(rgb(pixels), bits)
            turned = picture if upright is None else picture.transpose(upright)
            return said_stretched(turned, picture.info.get(STRETCHED, 0))


def _opened(encoded: bytes) -> Image.Image:
    """The image, not yet decoded; of a kind that Pillow reads with a plugin alone, with that if it is installed."""
    known = [name for name in _FORMATS if name not in ("HEIF", "JXL") or name in Image.OPEN]
    try:
        return Image.open(_stream(encoded), formats=known)
    except UnidentifiedImageError:
        module, function = _PLUGINS.get(kind_of_file(head_of(encoded)), ("", ""))
        with suppress(ImportError):
            plugin = import_module(module) if module else None
            if plugin is not None:
                if function:
                    getattr(plugin, function)()
                return Image.open(_stream(encoded), formats=_FORMATS)
        raise


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise Unreadable(f"too large: {width} x {height} pixels, the limit is {MAX_PIXELS:,} in all")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise Unreadable(f"too thin: {width} x {height} pixels, the limit is {MAX_ASPECT}:1")


def _check_scans(encoded: bytes, width: int, height: int) -> None:
    """Refuse a progressive JPEG that is decoded over and over: its time is the number of scans times its pixels."""
    scans = encoded.count(b"\xff\xda")
    if scans * width * height > MAX_SCANNED:
        raise Unreadable(f"too many scans: {scans} of {width} x {height} pixels, the limit is {MAX_SCANNED:,} in all")


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # with a damaged tag the image is used as it is stored
        return 1


def rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to a new RGB image; strip by strip, where the steps between take memory."""
    if image.mode == "F" or image.mode.startswith("I"):
        depth = depth_of((np.asarray(image.crop(box)) for box in _strips(image)), image.mode != "F")
        if depth is None:
            raise Unreadable("no finite pixel")
        picture = _by_strips(image, lambda strip: Image.fromarray(depth.scaled(np.asarray(strip))))
        return said_stretched(picture, depth.bits)
    if image.has_transparency_data:
        return _by_strips(image, _on_white)
    return image.convert("RGB")


def said_stretched(picture: Image.Image, bits: int) -> Image.Image:
    """The picture; its info says how many bits were stretched to 8, if any were."""
    if bits:
        picture.info[STRETCHED] = bits
    return picture


def _by_strips(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    picture = Image.new("RGB", image.size)
    for box in _strips(image):
        picture.paste(convert(image.crop(box)).convert("RGB"), box)
    return picture


def _strips(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    rows = max(1, _STRIP_PIXELS // image.width)
    return ((0, top, image.width, min(top + rows, image.height)) for top in range(0, image.height, rows))


def _on_white(image: Image.Image) -> Image.Image:
    picture = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)


def _reason(error: Exception, encoded: bytes = b"") -> str:
    """The reason as one short line, without memory addresses, paths or the file's content."""
    if isinstance(error, UnidentifiedImageError):
        head = head_of(encoded)
        kind = kind_of_file(head)
        shown = "" if all(32 <= byte < 127 for byte in head[:4]) else f": it starts with {head[:4].hex(' ')}"
        return advice_on(kind) if kind else f"not an image that can be read{shown}"  # a text may be a secret
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower() + (TRIED_AGAIN if error.errno in _MAY_PASS else "")
    if isinstance(error, Image.DecompressionBombError):
        return "too large: a decompression bomb"
    text = " ".join(str(error).split()) or type(error).__name__
    return f"damaged: {text[:100]}"


def _stream(encoded: bytes) -> BytesIO:
    """The bytes as a file; with a limit of time, unless Pillow reads them at once."""
    return _Timed(encoded) if len(encoded) > ImageFile.MAXBLOCK else BytesIO(encoded)


class _Timed(BytesIO):
    """Bytes that can be read for `MAX_SECONDS`: Pillow decodes while it reads, so that a slow decode ends."""

    def __init__(self, content: bytes):
        super().__init__(content)
        self._until = time.monotonic() + MAX_SECONDS

    def read(self, size: int | None = -1, /) -> bytes:
        if time.monotonic() > self._until:
            raise Unreadable(f"it took more than {MAX_SECONDS} s to decode{TRIED_AGAIN}")
        return super().read(size)


class _Memory:
    """The memory that images take while they are decoded: together at most half of what is free."""

    def __init__(self) -> None:
        self._taken, self._change = 0, Condition()

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """Wait until there is room for `size` bytes; `Unreadable` if there is too little for this image alone."""
        if size < _SMALL:
            yield
            return
        with self._change:
            while self._taken and self._taken + size > free_memory() // 2:
                self._change.wait(1.0)
            if size > (free := free_memory()):
                needed = f"it takes {size / 1e9:.1f} GB to decode, and {free / 1e9:.1f} GB are free"
                raise Unreadable(needed + TRIED_AGAIN)
            self._taken += size
        try:
            yield
        finally:
            with self._change:
                self._taken -= size
                self._change.notify_all()


def free_memory() -> int:
    """Bytes of memory that a process may still take; on systems that do not say, 2 GB."""
    free = 2 * 10**9
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) * 1024
        used, most = (Path(f"/sys/fs/cgroup/memory.{name}").read_text() for name in ("current", "max"))
        free = min(free, int(most) - int(used))
    except (OSError, KeyError, ValueError):  # not Linux, or no limit ("max")
        pass
    return max(free, 0)


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


_silence, _memory = _Silence(), _Memory()
