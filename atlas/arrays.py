"""Arrays and texts as notebooks hold them: lists, pandas and Polars columns, memory maps, tensors."""

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any, Literal, ParamSpec, TypeVar, get_args

import numpy as np

from atlas.errors import Refused

P = ParamSpec("P")
R = TypeVar("R")
Numbers = Literal[1, 2, "positions", "marks", "whole numbers"]
Number = Literal["number", "whole number"]
Wanted = Numbers | Number | Literal["texts"]
_TWO = "two axes, rows and columns"
_AXES = {1: "one axis", "marks": "one axis", "whole numbers": "one axis", 2: _TWO, "positions": _TWO}


def accepts(**wanted: Wanted) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: these arguments may be anything that holds numbers (with one or two axes), positions (two axes), whole
    numbers (one axis), one number, one whole number, marks (true or false, one axis) or texts.

    The function gets NumPy arrays and lists of text. An argument that cannot be one is refused, and named; so is one
    that the signature calls an int or a float and that is none.
    """

    def mark(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        kinds = _single_numbers(signature) | wanted

        @functools.wraps(function)
        def call(*args: P.args, **options: P.kwargs) -> R:
            given = signature.bind(*args, **options)
            for name, kind in kinds.items():
                value = given.arguments.get(name)
                if value is not None or (name in given.arguments and signature.parameters[name].default is not None):
                    given.arguments[name] = _given(value, kind, name)
            return function(*given.args, **given.kwargs)

        return call

    return mark


def _single_numbers(signature: inspect.Signature) -> dict[str, Wanted]:
    """The arguments that are annotated as int or float, or as one of them or None."""
    found: dict[str, Wanted] = {}
    for name, parameter in signature.parameters.items():
        types = {*(get_args(parameter.annotation) or [parameter.annotation])} - {type(None)}
        if types and types <= {int, float}:
            found[name] = "number" if float in types else "whole number"
    return found


def _given(value: object, kind: Wanted, name: str) -> object:
    if kind == "texts":
        return given_texts(value, name)
    return given_number(value, kind, name) if kind in ("number", "whole number") else given_array(value, kind, name)


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
        if kind in ("positions", "whole numbers"):
            if found.dtype.kind == "f":
                if not np.isfinite(found).all() or (found != np.rint(found)).any():
                    raise Refused(f"{name} holds fractions, and whole numbers are needed")
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
    if len(shape) != (1 if _AXES[kind] == "one axis" else 2):
        raise Refused(f"{name} is an array of shape {shape}; it needs {_AXES[kind]}")
    return found


def given_number(value: object, kind: Number, name: str) -> Any:
    """A single number, of Python, NumPy or torch, as one of Python; objects that are no number as they are."""
    found = without_tensor(value)
    found = found.item() if isinstance(found, np.ndarray | np.generic) and found.size == 1 else found
    fits = isinstance(found, int) or (kind == "number" and isinstance(found, float) and not math.isnan(found))
    if fits and not isinstance(found, bool):
        return found
    if found is None or isinstance(found, str | bytes | bool | float | list | tuple | dict | np.ndarray):
        raise Refused(f"{name} is {str(value)[:40]!r}, and a {kind} is needed")
    return value


def refuse_masked(value: object, name: str) -> None:
    """Raise Refused for an array some of whose values are masked, because what reads it would read them as numbers."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise Refused(f"{name} has masked values: fill them, or leave their rows out")


def readable_rows(value: object, name: str) -> Any:
    """Rows as scikit-learn reads them: tensors and columns of vectors become arrays, and frames stay, with names."""
    refuse_masked(value, name)
    column = len(getattr(value, "shape", ())) == 1 and (hasattr(value, "to_numpy") or isinstance(value, np.ndarray))
    return _plain(value, name) if column or hasattr(value, "to_pylist") else without_tensor(value)


def without_tensor(value: object) -> object:
    """A tensor, on any device, and half precision as an array that all can read; anything else as it is."""
    if getattr(value, "dtype", None) == np.float16:
        return value.astype(np.float32)  # pyright: ignore[reportAttributeAccessIssue]
    if not hasattr(value, "detach"):
        return value
    tensor = value.detach().cpu()  # pyright: ignore[reportAttributeAccessIssue]
    tensor = tensor.to_dense() if "sparse" in str(tensor.layout) else tensor
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()


def _plain(value: object, name: str) -> object:
    """A value as a NumPy array, or as it is if it can be sliced like one."""
    refuse_masked(value, name)
    if isinstance(value, np.ndarray):
        return _stacked(value, name)
    if hasattr(value, "detach"):
        return without_tensor(value)
    if hasattr(value, "to_pandas") and hasattr(value, "column_names"):  # a table of Arrow
        value = value.to_pandas()  # pyright: ignore[reportAttributeAccessIssue]
    options = {"zero_copy_only": False} if hasattr(value, "to_pylist") else {}  # Arrow's columns
    for method in ("toarray", "to_numpy"):  # sparse matrices; pandas, Polars and Arrow
        if hasattr(value, method):
            try:
                found = np.asarray(getattr(value, method)(**options))
            except (ValueError, TypeError) as error:
                raise Refused(f"{name} cannot be read as an array ({' '.join(str(error).split())[:80]})") from None
            return _stacked(found, name)
    if hasattr(value, "shape") and hasattr(value, "__getitem__"):
        return value
    if isinstance(value, str | bytes | dict) or not isinstance(value, Iterable):
        raise Refused(f"{name} is a {type(value).__name__}, and an array of numbers is needed")
    try:
        rows = [_plain(row, name) if hasattr(row, "detach") else row for row in value]
        return _stacked(np.asarray(rows), name)
    except (ValueError, TypeError) as error:
        raise Refused(f"{name} cannot be read as an array ({' '.join(str(error).split())[:80]})") from None


def _stacked(found: np.ndarray, name: str) -> np.ndarray:
    """A column of vectors, one in each cell, as rows and columns; any other array as it is."""
    if found.dtype != object or found.ndim != 1 or not len(found) or not _is_vector(found[0]):
        return found
    if not all(_is_vector(each) for each in found):
        raise Refused(f"{name} has vectors in some cells only: leave the other rows out")
    rows = [np.asarray(without_tensor(each)) for each in found]
    if len({each.shape for each in rows}) > 1:
        raise Refused(f"{name} is a column of vectors of different lengths, {', '.join(map(str, _lengths(rows)))}")
    return np.stack(rows)


def _is_vector(cell: object) -> bool:
    return isinstance(cell, list | tuple | np.ndarray) or hasattr(cell, "detach")


def _lengths(rows: Sequence[np.ndarray]) -> list[int]:
    return sorted({each.size for each in rows})[:3]


def given_texts(value: object, name: str) -> list[str]:
    """A list of texts; missing values are empty."""
    if isinstance(value, str | bytes | Mapping | Set) or not isinstance(value, Iterable):
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
