"""Icons: how large the pictures inside are, which Pillow decodes whatever size the icon itself names."""

import re
from collections.abc import Iterator

_WINDOWS, _APPLE, _PNG = b"\0\0\1\0", b"icns", b"\x89PNG\r\n\x1a\n"
_HEADER = re.compile(rb"IHDR(?P<wide>.{4})(?P<high>.{4})|ihdr(?P<rows>.{4})(?P<columns>.{4})", re.DOTALL)


def icon_size(encoded: bytes) -> tuple[int, int]:
    """Width and height of the largest picture inside an icon of Windows or macOS, by its own header; else zeros."""
    sizes: Iterator[tuple[int, int]] = iter(())
    if encoded.startswith(_WINDOWS):
        sizes = _inside_windows(encoded)
    elif encoded.startswith(_APPLE):
        sizes = _inside_apple(encoded)
    return max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))


def _inside_windows(encoded: bytes) -> Iterator[tuple[int, int]]:
    for entry in range(int.from_bytes(encoded[4:6], "little")):
        at = int.from_bytes(encoded[18 + 16 * entry : 22 + 16 * entry], "little")
        if encoded[at : at + len(_PNG)] == _PNG:
            yield int.from_bytes(encoded[at + 16 : at + 20]), int.from_bytes(encoded[at + 20 : at + 24])
        else:  # a bitmap, twice as high: its colours, then its transparency
            width, height = encoded[at + 4 : at + 8], encoded[at + 8 : at + 12]
            yield int.from_bytes(width, "little"), abs(int.from_bytes(height, "little", signed=True)) // 2


def _inside_apple(encoded: bytes) -> Iterator[tuple[int, int]]:
    for found in _HEADER.finditer(encoded):  # of PNG, or of JPEG 2000, which names the height first
        width, height = found["wide"] or found["columns"], found["high"] or found["rows"]
        yield int.from_bytes(width), int.from_bytes(height)
