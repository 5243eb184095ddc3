"""Text embeddings that are kept on disk, so that a second question to a model is answered at once.

They lie in one SQLite file in the user's cache folder, by the checksum of the model's text tower. Nothing depends on
the file: it may be deleted at any time, and where it cannot be read or written, texts are embedded again.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from platformdirs import user_cache_path

from atlas.formatting import Record

CACHE_VARIABLE = "MULTIMODAL_ATLAS_CACHE"  # names another folder than the user's cache folder
MOST_MEGABYTES = 500  # of the file; the models that were asked longest ago go first
_AT_ONCE = 500  # texts of one query
_TABLES = """
CREATE TABLE IF NOT EXISTS models(id INTEGER PRIMARY KEY, weights TEXT UNIQUE, name TEXT, used REAL);
CREATE TABLE IF NOT EXISTS texts(model INTEGER, text TEXT, row BLOB, PRIMARY KEY(model, text)) WITHOUT ROWID;
"""


def cache_file() -> Path:
    """The file of kept texts."""
    place = os.environ.get(CACHE_VARIABLE)
    return (Path(place) if place else user_cache_path("multimodal-atlas")) / "texts.sqlite"


@dataclass(frozen=True)
class KeptTexts:
    """Embeddings of one model's texts. `weights`: checksum of its text tower; `name`: the model's name, for lists."""

    weights: str
    name: str

    @classmethod
    def of(cls, sha256: str, name: str, device: str) -> "KeptTexts":
        """Those of a text tower, by the checksum of its weights, on one kind of device: others round differently."""
        return cls(f"{sha256} {name} {device}", name)

    def embed(
        self,
        texts: Sequence[str],
        encode: Callable[[list[str]], Float[np.ndarray, "n d"]],
        unread: Callable[[list[str]], list[str]] = lambda _: [],
    ) -> Float[np.ndarray, "n d"]:
        """Embeddings of the texts in their order: those kept, and those that `encode` computes, which are kept then.

        `unread`: the texts that the model cannot read. They are not kept, so that they are noticed each time.
        """
        different = list(dict.fromkeys(texts))
        rows = self._read(different)
        if missing := [text for text in different if text not in rows]:
            found = dict(zip(missing, encode(missing), strict=True))
            rows |= found
            nothing = set(unread(missing))
            self._write({text: row for text, row in found.items() if text not in nothing})
        return np.stack([rows[text] for text in texts])

    def known(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"] | None:
        """Embeddings of the texts in their order, if all of them are kept; None otherwise."""
        rows = self._read(list(dict.fromkeys(texts)))
        return np.stack([rows[text] for text in texts]) if rows.keys() >= set(texts) else None

    def _read(self, texts: Sequence[str]) -> dict[str, Float[np.ndarray, " d"]]:
        rows: dict[str, np.ndarray] = {}
        try:
            with _opened() as file:
                model = self._model(file)
                for start in range(0, len(texts), _AT_ONCE):
                    some = texts[start : start + _AT_ONCE]
                    marks = ", ".join("?" * len(some))
                    query = f"SELECT text, row FROM texts WHERE model = ? AND text IN ({marks})"
                    found = file.execute(query, (model, *some))
                    rows |= {text: np.frombuffer(row, np.float32) for text, row in found}
        except (sqlite3.Error, OSError):
            return {}
        return rows

    def _write(self, rows: Mapping[str, Float[np.ndarray, " d"]]) -> None:
        try:
            with _opened() as file:
                model = self._model(file)
                kept = [(model, text, row.astype(np.float32).tobytes()) for text, row in rows.items()]
                file.executemany("INSERT OR REPLACE INTO texts VALUES (?, ?, ?)", kept)
                _make_room(file, model)
        except (sqlite3.Error, OSError):
            return  # the answer is right without the file

    def _model(self, file: sqlite3.Connection) -> int:
        """The number of the model in the file; it counts as used now."""
        insert = "INSERT INTO models(weights, name, used) VALUES (?, ?, ?) ON CONFLICT(weights)"
        file.execute(f"{insert} DO UPDATE SET used = excluded.used", (self.weights, self.name, time.time()))
        return file.execute("SELECT id FROM models WHERE weights = ?", (self.weights,)).fetchone()[0]


def kept_models() -> list[Record]:
    """The models whose texts are kept: model, weights, texts, megabytes, used (UTC); the last used first."""
    if not cache_file().exists():
        return []
    query = """SELECT name AS model, weights, count(text) AS texts, round(total(length(row) + length(text)) / 1e6, 1)
        AS megabytes, datetime(used, 'unixepoch') AS used FROM models LEFT JOIN texts ON model = id
        GROUP BY id ORDER BY models.used DESC"""
    with _opened() as file:
        found = file.execute(query)
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found]


def forget_texts() -> None:
    """Delete all kept texts."""
    cache_file().unlink(missing_ok=True)


@contextmanager
def _opened() -> Iterator[sqlite3.Connection]:
    """The open file, made if need be; what is written in the context is written whole or not at all."""
    path = cache_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=10)) as file, file:
        try:
            file.executescript(_TABLES)
        except sqlite3.DatabaseError as fault:
            if "not a database" in str(fault):
                path.unlink()  # the next question begins a new one
            raise
        yield file


def _make_room(file: sqlite3.Connection, model: int) -> None:
    """Delete texts until the file is small enough: first of the models used longest ago, in the end of this one."""
    for (oldest,) in file.execute("SELECT id FROM models ORDER BY id = ?, used", (model,)).fetchall():
        size = file.execute("SELECT total(length(row) + length(text)) FROM texts").fetchone()[0]
        if size <= MOST_MEGABYTES * 1e6:
            return
        file.execute("DELETE FROM texts WHERE model = ?", (oldest,))
        file.execute("DELETE FROM models WHERE id = ?", (oldest,))
