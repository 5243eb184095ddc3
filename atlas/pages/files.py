"""Addresses of the files that rows were read from, so that a card leads to its picture."""

import os
from pathlib import Path
from urllib.parse import quote

from atlas.store.store import Store


def file_addresses(store: Store) -> list[str]:
    """The address of every row's file, relative to the Store's site; "" where a row has no file of its own there."""
    site = store.path.resolve() / "site"  # the map in one file lies as deep
    sources, ids = (store.table([name])[name].to_pylist() for name in ("source", "id"))
    above = {source: _folder_above(source) for source in set(sources)}
    files = [folder and folder / id for folder, id in zip(map(above.__getitem__, sources), ids, strict=True)]
    return [
        quote(os.path.relpath(file, site).replace(os.sep, "/")) if file and os.path.isfile(file) else ""
        for file in files
    ]


def _folder_above(source: str) -> Path | None:
    """What the ids of a folder's files are relative to; None for other sources, and for a folder that is gone."""
    folder = source.removeprefix("folder:")
    return Path(folder).resolve().parent if os.path.isdir(folder) else None
