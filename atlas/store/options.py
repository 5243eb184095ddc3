"""Options of the commands that read a Store."""

from pathlib import Path

from atlas.console import beforehand
from atlas.errors import Misuse
from atlas.formatting import Record
from atlas.options import ATLAS_OUT


def verify_stores(values: Record) -> None:
    """Read every file of the Stores that a command works on. Raises `Refused` if one is damaged."""
    from atlas.store.store import Store

    folders = [folder for name in ("out", "store", "other") if isinstance(folder := values.get(name), Path)]
    if not folders:
        raise Misuse("--verify reads the files of a Store, and none is named: add --store OUT")
    for folder in folders:
        Store.open(folder, verify=True)


VERIFY_FLAG = beforehand("--verify", verify_stores, "first compare every file of the Store with its checksum")
STORE_READ = (ATLAS_OUT, VERIFY_FLAG)
