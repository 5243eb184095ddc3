"""Tensors in files: safetensors, torch files read without running code, and what a file is that holds none."""

import json
import re
import zipfile
from collections.abc import Mapping
from io import BufferedReader, BytesIO
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load
from torch import Tensor

from atlas.errors import Refused
from atlas.sources.signatures import advice_on, head_of, is_picture_head, kind_of_file

_LARGE = 2**30  # bytes that any file may unpack to
_MOST_TIMES = 100  # and beyond that, times its own size


def tensor_file(path: Path, skip_line: bool = False) -> Mapping[str, object]:
    """The content of a file of tensors, by name; other entries of a torch file too. Told by content, not by suffix.

    `skip_line`: leave out a first line, which some libraries write before the tensors. Raises Refused, with the cause
    in one line.
    """
    if path.exists() and not path.is_file():
        raise Refused(f"cannot read {path}: not a regular file")
    try:
        head = head_of(path)
    except OSError as error:
        raise Refused(f"cannot read {path}: {(error.strerror or 'unknown').lower()}") from None
    if not head:
        raise Refused(f"cannot read {path}: it is empty, 0 bytes")
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:  # the length of its header
        return _safetensors_file(path)
    if (kind := kind_of_file(head)) in ("LFS", "HTML", "zeros", "text"):
        raise Refused(f"cannot read {path}: {re.sub('not (the|a) picture', 'not the weights', advice_on(kind))}")
    if head[:2] in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05") or skip_line:
        return _torch_file(path, skip_line)
    if kind := kind or ("a picture" if is_picture_head(head) else _other_format(head)):
        raise Refused(f"cannot read {path}: it is {kind}, no file of tensors: give safetensors or a torch file")
    return _safetensors_file(path)


def _safetensors_file(path: Path) -> Mapping[str, object]:
    try:
        return load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise Refused(f"cannot read {path} as safetensors: {' '.join(str(error).split())[:120]}") from None


def _other_format(head: bytes) -> str:
    """The format of weights that are not read, by a file's first bytes; "" for others."""
    if head[:4] == b"GGUF":
        return "GGUF"
    if head[:1] == b"\x08" and (b"onnx" in head.lower() or b"pytorch" in head):
        return "ONNX"
    if 0x80 < head[0] < 0x90 or head[:1] in (b"\xde", b"\xdf"):
        return "msgpack, as Flax writes it"
    return ""


def safetensors_metadata(path: Path) -> dict[str, object]:
    """The entries that a safetensors file holds beside its tensors, parsed where they are JSON; none of other files."""
    try:
        with safe_open(path, "numpy") as file:
            found = file.metadata() or {}
    except (OSError, SafetensorError):
        return {}
    return {name: _parsed(each) for name, each in found.items()}


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


class Unread:
    """Stands for an object in a torch file whose class is neither imported nor called; its values are kept."""

    def __init__(self, *values: object):
        self.values = values

    def __setstate__(self, state: object) -> None:
        self.__dict__.update(state if isinstance(state, dict) else {"state": state})


def refuse_bombs(path: Path) -> None:
    """Raise `Refused` for a zip archive, such as torch and NumPy write, that unpacks to much more than it holds."""
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return  # no zip, or one that its reader refuses
    if unpacked > max(_LARGE, _MOST_TIMES * size):
        raise Refused(f"{path} holds {size:,} bytes and would unpack to {unpacked:,}")


def _torch_file(path: Path, skip_line: bool) -> Mapping[str, object]:
    refuse_bombs(path)
    try:
        with path.open("rb") as file:  # opened here: torch takes a path for safetensors by its suffix
            content = _loaded(BytesIO(file.read().partition(b"\n")[2]) if skip_line else file)
    except Exception as error:  # damaged archives raise many types of error
        if any(sign in str(error) for sign in ("eights_only", "eights only", "nsupported")):
            raise _objects(path) from None
        cut = head_of(path).startswith(b"PK") and not zipfile.is_zipfile(path)
        reason = "the file was not written to the end" if cut else " ".join(str(error).split())[:120]
        raise Refused(f"cannot read {path}: {reason}") from None
    if isinstance(content, Unread):
        raise _objects(path)
    if not isinstance(content, Mapping):
        raise Refused(f"{path} holds a {type(content).__name__}, and no tensors by name")
    if name := _numpy_array(content):
        raise Refused(f"{path} holds NumPy arrays, such as {name}: save them as tensors, torch.from_numpy(array)")
    weights = [each for each in content.values() if isinstance(each, Tensor | Mapping)]
    if not weights and any(isinstance(each, Unread) for each in content.values()):
        raise _objects(path)
    _refuse_repeated(content, path)
    return content


def _numpy_array(content: Mapping[str, object]) -> str:
    """The name of an array of NumPy where a checkpoint holds no tensors; "" if it holds some, or neither."""
    inside = [_numpy_array(each) for each in content.values() if isinstance(each, Mapping)]
    if any(isinstance(each, Tensor) for each in content.values()):
        return ""
    arrays = (name for name, each in content.items() if type(each).__module__.startswith("numpy."))
    return next((str(name) for name in (*arrays, *inside) if name), "")


def _loaded(source: BufferedReader | BytesIO) -> object:
    """The content of a torch file. Objects of other classes than torch's tensors become `Unread`: no code is run."""
    try:
        return torch.load(source, map_location="cpu", weights_only=True)
    except Exception:  # also of damaged files, which the second reading refuses as well
        source.seek(0)
        names = torch.serialization.get_unsafe_globals_in_checkpoint(source)
        stands = [_standing_for(name) for name in names]
        if not stands:
            raise
    source.seek(0)
    with torch.serialization.safe_globals(stands):  # pyright: ignore[reportArgumentType]
        return torch.load(source, map_location="cpu", weights_only=True)


def _standing_for(name: str) -> type[Unread]:
    module, _, last = name.rpartition(".")
    return type(last, (Unread,), {"__module__": module, "__qualname__": last})


def _objects(path: Path) -> Refused:
    return Refused(
        f"{path} is a pickle of objects (a whole model, or its configuration), which may run code: "
        "save its state dict, torch.save(model.state_dict(), file), or safetensors"
    )


def _refuse_repeated(content: Mapping[str, object], path: Path) -> None:
    """Raise `Refused` for a tensor with strides of 0 that represents many more numbers than it stores."""
    for name, each in content.items():
        if isinstance(each, Mapping):
            _refuse_repeated(each, path)
        elif isinstance(each, torch.Tensor) and each.nbytes > max(_LARGE, each.untyped_storage().nbytes()):
            raise Refused(f"cannot read {path}: {name} repeats few numbers, {each.nbytes:,} bytes in all")
