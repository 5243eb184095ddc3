"""Files that survive a crash: checksums, sealed JSON, arrays, and folders that are synced before a rename counts.

A *sealed* JSON file ends with the sha256 of its own text, so that any changed byte is noticed when it is read.
"""

import ctypes
import errno
import glob
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from atlas.errors import Refused
from atlas.formatting import Record

_SEAL = "sha256"
_NO_WRITING = (errno.EACCES, errno.EPERM, errno.EROFS)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_SPOKEN = (*_FULL, *_NO_WRITING, errno.EIO, errno.EINTR, errno.EFBIG, errno.ESTALE)  # by libraries, in words alone
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux's renameat2
_HERE = -100  # AT_FDCWD: paths are relative to the working folder


class NotWritable(Refused):
    """A folder that one may only read."""


# -- checksums and JSON ------------------------------------------------------------------------------------------------


def sha256(path: Path) -> str:
    """Sha256 of a file, in hexadecimal. Raises `Refused` if the file cannot be read."""
    try:
        _refuse_devices(path)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Refused(f"{path} cannot be read ({_reason(error)}); restore it") from None


def read_json(path: Path) -> Record:
    """Read a JSON object from a file. Raises `Refused` if it cannot be read, or was changed after it was sealed."""
    try:
        _refuse_devices(path)
        text = path.read_text("utf-8")
        content = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        reason = _reason(error) if isinstance(error, OSError) else " ".join(str(error).split())[:100]
        raise Refused(f"{path} cannot be read as JSON ({reason}); restore it, or make the folder anew") from None
    if not isinstance(content, dict):
        raise Refused(f"{path} holds no JSON object; restore it, or make the folder anew")
    last = str(next(reversed(content.values()), ""))
    unsealed = _SEAL not in content and re.fullmatch("[0-9a-f]{64}", last)  # the name of the seal itself was changed
    if unsealed or (_SEAL in content and text != _sealed(content)):
        raise Refused(f"{path} was changed after it was written; restore it, or make the folder anew")
    content.pop(_SEAL, None)
    return content


def _refuse_devices(path: Path) -> None:
    """Raise an `OSError` for what never ends, or never begins: a pipe, a device."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file")


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write a sealed JSON file under another name, sync it and rename it: readers see the old or the new content."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(_sealed(content))
    replace_file(partial, path)


def _sealed(content: Mapping[str, object]) -> str:
    plain = {name: value for name, value in content.items() if name != _SEAL}
    try:
        digest = hashlib.sha256(_rendered(plain).encode()).hexdigest()
    except UnicodeEncodeError:  # a lone surrogate
        return ""
    return _rendered(plain | {_SEAL: digest})


def _rendered(content: Mapping[str, object]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def describe_files(folder: Path) -> dict[str, Record]:
    """Size and sha256 of all files under a folder: {relative path: {"bytes", "sha256"}}, sorted by path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in files
    }


# -- writing -----------------------------------------------------------------------------------------------------------


def save_array(path: Path, array: np.ndarray) -> None:
    """Write a .npy file. An error names its cause, such as a full disk, which `numpy.save` leaves out."""
    array = np.ascontiguousarray(array)  # the header says in which order the numbers follow
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.data)


def sync_folder(folder: Path) -> None:
    """Sync all files and folders below a folder to the disk; files get the mode that the umask asks for."""
    mask = os.umask(0)
    os.umask(mask)
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            path.chmod(0o666 & ~mask)
            _sync(path)
        _sync(Path(place))


def replace_file(partial: Path, target: Path) -> None:
    """Sync a file, rename it over another, and sync the folder."""
    _sync(partial)
    partial.replace(target)
    _sync(target.parent)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Context that yields where to write a file, which is renamed to `path` if no error occurs."""
    _remove_leftovers(path)
    partial = path.with_name(f".{path.name[:200]}.{os.getpid()}.partial")
    try:
        with disk_faults(path):
            yield partial
            replace_file(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    """Remove what killed writers of this file have left: partial files with the number of a process that is gone."""
    for left in path.parent.glob(f".{glob.escape(path.name[:200])}.*.partial"):
        number = left.name.split(".")[-2]
        try:
            os.kill(int(number) if number.isdecimal() else 0, 0)
        except ProcessLookupError:
            left.unlink(missing_ok=True)
        except (OSError, OverflowError):  # another user's process
            continue


def put_folder(partial: Path, target: Path) -> None:
    """Sync a finished folder and rename it to its place; a folder that was there is exchanged in one step."""
    sync_folder(partial)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        partial.replace(target)
    elif not _exchange(partial, target):  # a file system that cannot exchange: for a moment nothing is there
        old = partial.with_name(partial.name + "-old")
        shutil.rmtree(old, ignore_errors=True)
        target.replace(old)
        partial.replace(target)
        shutil.rmtree(old)
    _sync(target.parent)
    shutil.rmtree(partial, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap the names of two folders in one step, where the system can (Linux); says whether it did."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    return rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system without sync, such as some network ones
            raise
    finally:
        os.close(handle)


def remove_if_empty(folder: Path) -> None:
    """Remove a folder if it is there and holds nothing."""
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()


# -- faults ------------------------------------------------------------------------------------------------------------


@contextmanager
def disk_faults(place: Path) -> Iterator[None]:
    """Turn errors of the disk, raised by any library while `place` is written, into `Refused` with one line."""
    try:
        yield
    except Refused:
        raise
    except Exception as error:  # FAISS and safetensors raise errors of their own for a full disk
        code = getattr(error, "errno", None) or next((c for c in _SPOKEN if os.strerror(c) in str(error)), None)
        if code in _FULL:
            raise Refused(f"the disk of {place} is full; free some space, then the same command continues") from None
        if code in _NO_WRITING:
            raise NotWritable(f"{place} cannot be written ({os.strerror(code).lower()})") from None
        if code not in (None, errno.ENOENT) and (isinstance(error, OSError) or code in _SPOKEN):
            where = getattr(error, "filename", None) or place
            raise Refused(
                f"{where}: {os.strerror(code).lower()}; the same command goes on from what is finished"
            ) from None
        raise


def _reason(error: Exception) -> str:
    strerror = getattr(error, "strerror", None)
    return str(strerror or " ".join(str(error).split())[:100] or type(error).__name__).lower()
