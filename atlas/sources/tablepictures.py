"""The picture in a cell of a table: encoded bytes, a path, base64, a struct of bytes or a path, or pixels."""

from base64 import b64decode
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import numpy as np
from PIL import Image

from atlas.sources.columns import plain_name
from atlas.sources.decoding import Unreadable, decode, said_stretched
from atlas.sources.depths import Depth, depth_of
from atlas.sources.imagefile import PathFinder
from atlas.sources.items import Note, printable_line
from atlas.sources.signatures import is_picture_head

# Names inside structs, compared as names of columns are
BYTES_NAMES = ("bytes", "data", "imagebytes", "imgbytes", "content", "image", "img", "jpg", "jpeg", "png", "base64")
PATH_NAMES = ("path", "filename", "filepath", "imagepath", "file", "src")
_URL_SAFE = str.maketrans("-_", "+/")  # base64 of addresses
_LONGEST_PATH = 4096  # characters; longer texts are images in base64


def decode_cell(cell: object, folder: Path) -> Image.Image:
    """The image of one cell: bytes, a path, base64, a struct of bytes or path, pixels, or the first of a list."""
    if isinstance(cell, Mapping):
        return decode_cell(cell_of_struct(cell), folder)
    if cell is None or (isinstance(cell, str | bytes | list) and not cell):
        raise Unreadable("the row holds no image")
    if isinstance(cell, bytes):
        return _decode_bytes(cell)
    if isinstance(cell, str):
        return decode_encoded(cell) if holds_encoded(cell) else decode(PathFinder(folder).find(cell))
    if isinstance(cell, list) and not isinstance(cell[0], int | float | list):
        return decode_cell(cell[0], folder)
    return _of_numbers(cell)


def note_on_several(column: str) -> Note:
    """What to say of a column in which a row holds several pictures."""
    return Note("taken", f"column {printable_line(column)} holds lists of pictures: the first of each row is used")


def cell_of_struct(struct: Mapping[str, object]) -> object:
    """The bytes in a struct, else its path; None if it holds neither."""
    plain = {plain_name(str(name)): value for name, value in struct.items() if value is not None}
    return next((plain[name] for name in (*BYTES_NAMES, *PATH_NAMES) if name in plain), None)


def _decode_bytes(data: bytes) -> Image.Image:
    start = data[:64]
    if start.isascii() and (start.startswith(b"data:") or holds_encoded(start.decode())):
        return decode_encoded(data.decode("ascii", "replace"))
    return decode(data)


def _of_numbers(cell: object) -> Image.Image:
    """An image of numbers: encoded bytes as a list, or pixels (h, w), (h, w, 1, 3 or 4) or (3, h, w)."""
    try:
        values = np.asarray(cell)
    except ValueError:
        raise Unreadable("the row holds lists of different lengths, which are no image") from None
    if values.ndim == 1 and values.dtype.kind in "iu" and len(values) > 8:
        if values.min() < -128 or values.max() > 255:
            raise Unreadable("the row holds numbers, and neither the bytes of an image nor its pixels")
        encoded = (values % 256).astype(np.uint8).tobytes()
        try:
            return decode(encoded)
        except Unreadable as unreadable:
            if "not an image that can be read" in str(unreadable):
                shape = f"{len(values):,} numbers in one list: no encoded image, and pixels need rows (height, width)"
                raise Unreadable(f"the row holds {shape}") from None
            raise
    if values.ndim == 3 and values.shape[0] in (1, 3, 4) and values.shape[2] not in (1, 3, 4):
        values = values.transpose(1, 2, 0)
    if values.ndim not in (2, 3) or values.dtype.kind not in "biuf" or (values.ndim == 3 and values.shape[2] > 4):
        raise Unreadable(f"the row holds numbers of shape {values.shape}, which are no image")
    if not np.isfinite(values).all():
        raise Unreadable("the row holds pixels that are not finite")
    values = values.astype(np.uint8) if values.dtype.kind == "b" else values
    eight_bits = values.dtype.kind in "iu" and values.min() >= 0 and values.max() <= 255
    depth = None if eight_bits else depth_of([values], values.dtype.kind in "iu")
    depth = depth or Depth(0.0, 1.0 if values.max() <= 1 else 255.0)
    pixels = depth.scaled(values)
    picture = Image.fromarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels).convert("RGB")
    return said_stretched(picture, depth.bits)


def holds_encoded(text: str) -> bool:
    """Whether a text is an encoded image: a data address, base64, or hexadecimal digits."""
    return text.startswith("data:") or len(text) > _LONGEST_PATH or bool(_encoding_of(text))


def _encoding_of(text: str) -> str:
    """ "hex" or "base64" if so decoded a text begins as pictures do; "" otherwise."""
    start = "".join(text[:128].split())[:64]
    if len(start) < 64:
        return ""
    for name, decoded in (("hex", bytes.fromhex), ("base64", partial(b64decode, validate=True))):
        with suppress(ValueError):
            if is_picture_head(decoded(start.translate(_URL_SAFE))):
                return name
    return ""


def decode_encoded(text: str) -> Image.Image:
    """The image in a data address, in base64 or in hexadecimal digits."""
    body = "".join((text.partition(",")[2] if text.startswith("data:") else text).split())
    try:
        encoded = bytes.fromhex(body) if _encoding_of(body) == "hex" else None
        encoded = encoded or b64decode(unquote(body).translate(_URL_SAFE) + "=" * (-len(body) % 4), validate=True)
    except ValueError:
        raise Unreadable("a text that is neither a path nor base64") from None
    return decode(encoded)
