"""Columns of data as classic scripts, because a page that is opened from a file may load scripts but not fetch data.

A script calls `atlas.data(name, columns, packed)`: a gzipped buffer in base64, and for each column its place there.
Numbers are typed arrays; wide ones are stored byte plane by byte plane, which compresses better. Strings are one UTF-8
blob with offsets or, where they are many, one a line; a list of strings would be several times as large.
"""

import gzip
import json
import math
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int16

Column = np.ndarray | Sequence[str]

BLOB_STRINGS = 4096  # so many strings are stored one a line: finding line ends is cheaper than offsets
GZIP_LEVEL, LARGE_TABLE = (
    9,
    1 << 23,
)  # gzip's level, and the bytes above which it is lowered, because it would take minutes


def column_script(name: str, columns: Mapping[str, Column], piece: int = 0) -> str:
    """The JavaScript that hands columns to a page: integers of up to 32 bits, float32, and strings.

    `piece`: the number of the script in its table, because scripts may arrive in any order.
    """
    described, parts, at = {}, [], 0

    def put(array: np.ndarray) -> int:
        nonlocal at
        data = np.ascontiguousarray(array).tobytes()
        data += bytes(-len(data) % 8)  # typed arrays start at multiples of their item size
        parts.append(data)
        at += len(data)
        return at - len(data)

    for key, column in columns.items():
        if isinstance(column, np.ndarray):
            described[key] = {"type": column.dtype.name, "shape": list(column.shape)}
            if column.dtype.itemsize > 1 and (column.ndim > 1 or column.dtype.itemsize == 4):
                described[key]["planes"] = True
                column = np.ascontiguousarray(column).view(np.uint8).reshape(-1, column.dtype.itemsize).T
            described[key]["at"] = put(column)
        elif len(column) >= BLOB_STRINGS and not any("\n" in text for text in column):
            blob = np.frombuffer("\n".join(column).encode("utf-8", "replace"), np.uint8)
            described[key] = {"type": "lines", "rows": len(column), "size": len(blob), "at": put(blob)}
        else:
            encoded = [text.encode("utf-8", "replace") for text in column]
            offsets = np.cumsum([0, *map(len, encoded)], dtype=np.uint32)
            blob = np.frombuffer(b"".join(encoded), np.uint8)
            described[key] = {"type": "text", "rows": len(encoded), "bytes": put(blob), "at": put(offsets)}
    packed = b64encode(gzip.compress(b"".join(parts), GZIP_LEVEL if at < LARGE_TABLE else 6, mtime=0)).decode()
    number = f",{piece}" if piece else ""
    return f'atlas.data({safe_json(name)},{safe_json(described)},"{packed}"{number});\n'


def cut_columns(columns: Mapping[str, Column], count: int) -> Iterator[dict[str, Column]]:
    """Columns cut into `count` pieces in order, each column by its own length; the page joins them."""
    for i in range(count):
        ends = {key: (i * len(column) // count, (i + 1) * len(column) // count) for key, column in columns.items()}
        yield {key: column[slice(*ends[key])] for key, column in columns.items()}


def safe_json(content: object) -> str:
    """JSON that is safe inside a script element: <, >, & and line separators are escaped."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return "".join(_ESCAPED.get(letter, letter) for letter in text) if not set(text) <= _SAFE else text


_ESCAPED = {letter: f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}
_SAFE = set(map(chr, range(128))) - set("<>&")


def encode_levels(values: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Codes of values into their distinct levels, and the levels in order of first appearance."""
    levels = {level: code for code, level in enumerate(dict.fromkeys(values))}
    codes = np.fromiter((levels[value] for value in values), np.uint32, len(values))
    return codes.astype(smallest_unsigned(len(levels))), list(levels)


def smallest_unsigned(bound: int) -> type[np.unsignedinteger]:
    """The smallest unsigned type for values below `bound`."""
    return np.uint8 if bound <= 1 << 8 else np.uint16 if bound <= 1 << 16 else np.uint32


LOW_STEP, STEP_COUNT = -(1 << 15), 1 << 16  # places are int16
SPAN_STEPS = 65_000  # along the longer side of a map


def quantised_places(xy: Float[np.ndarray, "n 2"]) -> Int16[np.ndarray, "n 2"]:
    """Places as int16 steps, both axes to one scale: a step is a pixel at about 65-fold zoom of 1,000 pixels."""
    *middle, step = place_steps(xy)
    return np.round((xy - np.asarray(middle, xy.dtype)) / step).astype(np.int16)


def place_steps(xy: Float[np.ndarray, "n 2"]) -> tuple[float, float, float]:
    """How to compute places from `quantised_places`: x and y of step 0, and the length of a step."""
    low, high = xy.min(0), xy.max(0)
    span = float((high - low).max())
    if not math.isfinite(span):
        return 0.0, 0.0, 1.0
    x, y = ((low + high) / 2).tolist()
    return x, y, span / SPAN_STEPS if span > 0 else 1.0
