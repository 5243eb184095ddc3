"""Arrays and texts as notebooks hold them: lists, pandas and Polars columns, memory maps, tensors."""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Literal, ParamSpec, TypeVar

import numpy as np

from atlas.errors import Refused

P = ParamSpec("P")
R = TypeVar("R")
Numbers = Literal[1, 2, "positions", "marks"]
Wanted = Numbers | Literal["texts"]
_AXES = {1: "one axis", "marks": "one axis", 2: "two axes, rows and columns", "positions": "two axes, rows and columns"}


def accepts(**wanted: Wanted) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: these arguments may be anything that holds numbers (with one or two axes), positions, marks (true or
    false, one axis) or texts.

    The function gets NumPy arrays and lists of text. An argument that cannot be one is refused, and named.
    """

    def mark(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: P.args, **options: P.kwargs) -> R:
            given = signature.bind(*args, **options)
            for name, kind in wanted.items():
                value = given.arguments.get(name)
                if value is not None:
                    read = given_texts(value, name) if kind == "texts" else given_array(value, kind, name)
                    given.arguments[name] = read
            return function(*given.args, **given.kwargs)

        return call

    return mark


def given_array(value: object, kind: Numbers, name: str) -> object:
    """An array of numbers; memory maps and other objects that can be sliced stay what they are."""
    found = _plain(value, name)
    if isinstance(found, np.ndarray):
        if kind == "marks" and found.dtype.kind == "b":
            return _with_axes(found, kind, name)
        if found.dtype.kind in "OVUSb":
            try:
                found = found.astype(np.float32)
            except (ValueError, TypeError) as error:
                raise Refused(f"{name} holds what is no number ({' '.join(str(error).split())[:80]})") from None
        if found.dtype.kind not in "fiu":
            raise Refused(f"{name} holds {found.dtype}, and numbers are needed")
        if kind == "positions":
            if found.dtype.kind == "f":
                if not np.isfinite(found).all() or (found != np.rint(found)).any():
                    raise Refused(f"{name} holds fractions, and positions are whole numbers")
                found = found.astype(np.int64)
        elif kind == "marks":
            if not np.isin(found, (0, 1)).all():
                raise Refused(f"{name} holds other numbers than 0 and 1: give true or false for each row")
            found = found.astype(bool)
        elif found.dtype.kind != "f":
            found = found.astype(np.float32)
    return _with_axes(found, kind, name)


def _with_axes(found: object, kind: Numbers, name: str) -> object:
    shape = tuple(getattr(found, "shape", ()))
    if len(shape) != (1 if kind in (1, "marks") else 2):
        raise Refused(f"{name} is an array of shape {shape}; it needs {_AXES[kind]}")
    return found


def without_tensor(value: object) -> object:
    """A tensor, on any device, and half precision as an array that all can read; anything else as it is."""
    if getattr(value, "dtype", None) == np.float16:
        return value.astype(np.float32)  # pyright: ignore[reportAttributeAccessIssue]
    if not hasattr(value, "detach"):
        return value
    tensor = value.detach().cpu()  # pyright: ignore[reportAttributeAccessIssue]
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()


def _plain(value: object, name: str) -> object:
    """A value as a NumPy array, or as it is if it can be sliced like one."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise Refused(f"{name} has masked values: fill them, or leave their rows out")
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "detach"):
        return without_tensor(value)
    for method in ("toarray", "to_numpy"):  # sparse matrices; pandas, Polars and Arrow
        if hasattr(value, method):
            try:
                return np.asarray(getattr(value, method)())
            except (ValueError, TypeError) as error:
                raise Refused(f"{name} cannot be read as an array ({' '.join(str(error).split())[:80]})") from None
    if hasattr(value, "shape") and hasattr(value, "__getitem__"):
        return value
    if isinstance(value, str | bytes | dict) or not isinstance(value, Iterable):
        raise Refused(f"{name} is a {type(value).__name__}, and an array of numbers is needed")
    try:
        rows = [_plain(row, name) if hasattr(row, "detach") else row for row in value]
        return np.asarray(rows)
    except (ValueError, TypeError) as error:
        raise Refused(f"{name} cannot be read as an array ({' '.join(str(error).split())[:80]})") from None


def given_texts(value: object, name: str) -> list[str]:
    """A list of texts; missing values are empty."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise Refused(f"{name} is a {type(value).__name__}; give a list of texts, one for each row")
    method = next((each for each in ("to_list", "to_pylist", "tolist") if hasattr(value, each)), None)
    cells = getattr(value, method)() if method else list(value)
    if not isinstance(cells, list):
        raise Refused(f"{name} is a single value; give a list of texts, one for each row")
    return [_text(cell) for cell in cells]


def _text(cell: object) -> str:
    if isinstance(cell, str):
        return cell
    missing = cell is None or type(cell).__name__ in ("NAType", "NaTType") or (isinstance(cell, float) and cell != cell)
    return "" if missing else cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell)
