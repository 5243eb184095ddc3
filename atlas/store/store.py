"""Store: the one thing that flows. A folder of shards that any tool of the ecosystem can read without us.

    store.json           what was asked, versions, counts, and the sha256 of every shard
    listing.parquet      every input that was asked for: id, kind, size, mtime, shard
    rejects.parquet      every input refused, with the reason
    shards/00000/        at most 1,024 rows of one kind (image | word | text)
        shard.json       kind, rows, and size and sha256 of each file beside it
        rows.parquet     id, kind, source, caption, label, group, width, height, patch_row, patch_col, thumb (WebP)
        embedding.npy    (n, e) float16, unit norm; text shards hold no more than this
        max.npy argmax.npy mean.npy patch.npy       (n, u); further layers lie in a folder named by their path
    neurons/ index/ layout/ site/ single/           derived; made.json in each records the sha256 of its parents

A *row* is a position in the Store, 0 .. n-1; everything derived refers to rows by it.
"""

import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from atlas import reprs
from atlas.errors import Refused
from atlas.formatting import display_text
from atlas.store.shards import (
    ARRAYS,
    KINDS,
    ROW_SCHEMA,
    Array,
    Shard,
    check_size,
    checksum_faults,
    describe_files,
    layer_folder,
    read_json,
    sha256,
    write_json,
)

STORE_FORMAT = 1


class Part(NamedTuple):
    """Something derived from a Store: its folder there, and the command that makes it ({store} stands for the path)."""

    name: str
    command: str

    def made_with(self, **options: object) -> "Part":
        """The same part, its command with options: `made_with(min_dist=0.2, k=8)` adds --min-dist 0.2 -k 8.

        True adds a bare flag; None and False add nothing.
        """
        words = [self.command]
        for name, value in options.items():
            if value is not None and value is not False:
                words += [("-" if len(name) == 1 else "--") + name.replace("_", "-")]
                words += [] if value is True else [shlex.quote(str(value))]
        return self._replace(command=" ".join(words))


class Store:
    """A finished collection: `Store.open(path)`; rows, arrays, thumbnails, and what was derived from them."""

    def __init__(self, path: Path, manifest: dict[str, Any], shards: list[Shard]):
        self.path, self.manifest, self.shards = path, manifest, shards
        self._thumbs: tuple[Shard, pa.ChunkedArray] | None = None  # the shard last asked: neighbours come together

    @classmethod
    def open(cls, path: str | Path) -> "Store":
        """Open a Store after checking its format version and the size of every file.

        Raises `Refused` where the folder is no Store, is not finished, or does not match its manifest.
        """
        path = Path(path)
        if not (path / "store.json").exists():
            raise Refused(f"{path} holds no Store (no store.json); make one: atlas collect SOURCE {path}")
        manifest = read_json(path / "store.json")
        if manifest.get("format") != STORE_FORMAT:
            raise Refused(f"{path}/store.json has format {manifest.get('format')!r}; this version reads {STORE_FORMAT}")
        if not manifest["complete"]:
            raise Refused(f"{path} is not finished; run the command that began it again and it goes on")
        return cls(path, manifest, list(_open_shards(path, manifest["shards"])))

    def __len__(self) -> int:
        return sum(shard.rows for shard in self.shards)

    def __repr__(self) -> str:
        counts = ", ".join(f"{n:,} {kind}s" for kind, n in self.counts.items())
        return f"Store({str(self.path)!r}: {counts}; {self.request['model']['name']}, {self.layer})"

    def _repr_html_(self) -> str:
        model = self.request["model"]
        about = {
            "Rows": ", ".join(f"{n:,} {kind}s" for kind, n in self.counts.items()) or "none",
            "Model": " ".join(filter(None, [model["name"], model.get("pretrained")])),
            "Layer": ", ".join(self.layers),
            "Derived": ", ".join(self.everything_derived()) or f"nothing yet: atlas build, or atlas stats {self.path}",
        }
        pieces = [reprs.heading("Store", self.path), reprs.fact_table(about)]
        kind = next((kind for kind in ("image", "word") if kind in self.counts), None)
        if kind:
            spread = np.linspace(0, self.counts[kind] - 1, min(reprs.SHOWN_IN_JUPYTER, self.counts[kind])).astype(int)
            rows = self.positions(kind)[spread].tolist()
            captions = map(display_text, self.rows["caption"].take(rows).to_pylist())
            pieces.append(reprs.thumbnail_strip(map(self.thumb, rows), captions))
        return reprs.notebook_html(pieces)

    @property
    def request(self) -> dict[str, Any]:
        """What was asked: model, layers, preprocessing, sources, seed."""
        return self.manifest["request"]

    @property
    def counts(self) -> dict[str, int]:
        """Rows of each kind, in the order of KINDS; kinds without rows are left out."""
        return {kind: n for kind in KINDS if (n := sum(s.rows for s in self.shards if s.kind == kind))}

    @property
    def layers(self) -> list[str]:
        """Paths of the collected layers; the first is the one everything uses unless told otherwise."""
        return [layer["path"] for layer in self.request["model"]["layers"]]

    @property
    def layer(self) -> str:
        """Path of the first collected layer."""
        return self.layers[0]

    @property
    def digest(self) -> str:
        """Sha256 of the Store: of its request and of every shard's own."""
        content = {"request": self.request, "shards": self.manifest["shards"]}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @cached_property
    def rows(self) -> pa.Table:
        """Every row but its thumbnail (`thumb(row)`): columns of rows.parquet, in Store order."""
        return self.table([name for name in ROW_SCHEMA.names if name != "thumb"])

    def table(self, columns: Sequence[str], kind: str | None = None) -> pa.Table:
        """Some columns of the rows of one kind, or of all."""
        tables = [shard.table(columns) for shard in self.of_kind(kind)]
        return pa.concat_tables(tables) if tables else pa.schema([ROW_SCHEMA.field(c) for c in columns]).empty_table()

    def of_kind(self, kind: str | None) -> list[Shard]:
        """The shards of one kind, or all of them; shards whose every input was refused are left out."""
        if kind is not None and kind not in KINDS:
            raise Refused(f"no kind {kind!r}; kinds are {', '.join(KINDS)}")
        return [shard for shard in self.shards if shard.rows and kind in (None, shard.kind)]

    def positions(self, kind: str | None = None) -> np.ndarray:
        """Rows of one kind as positions in the Store: int64 (n,). Entry i belongs to row i of `array(.., kind)`."""
        return np.concatenate([np.empty(0, np.int64), *(shard.positions for shard in self.of_kind(kind))])

    def array(self, name: str, kind: str | None = None, layer: str | None = None) -> Array:
        """One array of one kind as a view (n, d) on memory maps.

        `name`: embedding | max | argmax | mean | patch. `kind`: image | word | text; None for all (embedding only,
        unless the Store has no texts). `layer`: a collected layer's path; the first by default.
        """
        if name not in ARRAYS:
            raise Refused(f"no array {name!r}; arrays are {', '.join(ARRAYS)}")
        if layer is not None and layer not in self.layers:
            raise Refused(f"layer {layer} was not collected into {self.path}; it holds {', '.join(self.layers)}")
        shards = self.of_kind(kind)
        if not shards:
            raise Refused(f"{self.path} holds no rows of kind {kind}; it holds {', '.join(self.counts)}")
        if name != "embedding" and any(shard.kind == "text" for shard in shards):
            raise Refused(f"texts have no {name}: name the kind, image or word")
        folder = "" if name == "embedding" else layer_folder(self.layers, layer or self.layer)
        return Array([shard.array(name, folder) for shard in shards])

    def thumb(self, row: int | str) -> bytes:
        """WebP thumbnail of a row (its position or its id); empty for texts."""
        row = self.find(row)
        shard = self.shard_of(row)
        if self._thumbs is None or self._thumbs[0] is not shard:
            self._thumbs = shard, shard.table(["thumb"])["thumb"]
        return self._thumbs[1][row - shard.start].as_py() or b""

    def shard_of(self, row: int) -> Shard:
        """The shard that holds a row."""
        starts = [shard.start for shard in self.shards]
        return self.shards[int(np.searchsorted(starts, row, side="right")) - 1]

    def find(self, row: int | str) -> int:
        """Position of a row given by position or by id; `Refused` where there is none."""
        if isinstance(row, str):
            position = pc.index(self.rows["id"], row).as_py()
            if position < 0:
                raise Refused(f"no row with the id {row!r} in {self.path}; the ids are the column id of store.rows")
            return position
        if not 0 <= row < len(self):
            raise Refused(f"row {row} is out of range: {self.path} has rows 0 to {len(self) - 1}")
        return int(row)

    @property
    def rejects(self) -> pa.Table:
        """Every input refused: id, kind, source, reason."""
        return pq.read_table(self.path / "rejects.parquet")

    # -- what is derived -------------------------------------------------------------------------------------------

    @contextmanager
    def deriving(self, part: Part, recipe: dict[str, Any], of: Sequence[Part] = ()) -> Iterator[Path]:
        """Yield a folder to write `part` into; it is renamed into place when the block ends without an error.

        `of`: derived parents, beside the Store itself. `recipe`: what it takes to make the part again (JSON). The
        part's command is recorded too: whoever finds the part stale is told it.
        """
        parents = {"store": self.digest}
        parents |= {parent.name: sha256(self.derived(parent) / "made.json") for parent in of}
        partial = self.path / "partial" / part.name.replace("/", "-")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            yield partial
            made = {"format": STORE_FORMAT, "made": part.name, "command": part.command, "of": parents, "recipe": recipe}
            write_json(partial / "made.json", made | {"files": describe_files(partial)})
            _put(partial, self.path / part.name)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            _remove_if_empty(partial.parent)

    def derived(self, part: Part) -> Path:
        """Folder of something derived; `Refused` if it is absent, incomplete, or made of another state of the Store."""
        return self._derived(part.name, part.command)

    def _derived(self, name: str, command: str | None = None) -> Path:
        folder = self.path / name
        if not (folder / "made.json").exists():
            raise Refused(f"{folder} is not there yet; make it: {self._filled(command)}")
        made = read_json(folder / "made.json")
        command = made.get("command") or command
        for parent, expected in made["of"].items():
            found = self.digest if parent == "store" else sha256(self._derived(parent) / "made.json")
            if found != expected:
                raise Refused(
                    f"{folder} was made of {parent} {expected[:12]}, but {parent} is now {found[:12]}; "
                    f"make it again: {self._filled(command)}"
                )
        for file, stat in made["files"].items():
            check_size(folder / file, stat["bytes"])
        return folder

    def _filled(self, command: str | None) -> str:
        """The command with this Store's path in it."""
        return (command or "the command that made it").replace("{store}", shlex.quote(str(self.path)))

    def has(self, part: Part) -> bool:
        """Whether something derived is there (it may still be stale: `derived` says)."""
        return (self.path / part.name / "made.json").exists()

    def current(self, part: Part) -> bool:
        """Whether something derived is there, whole, and made of what is there now."""
        try:
            return self.derived(part).exists()
        except Refused:
            return False

    def recipe(self, part: Part) -> dict[str, Any]:
        """How something derived was made, and what was measured when it was."""
        return read_json(self.derived(part) / "made.json")["recipe"]

    def everything_derived(self) -> list[str]:
        """Names of all that was derived, in a fixed order."""
        made = [path.parent.relative_to(self.path).as_posix() for path in self.path.rglob("made.json")]
        return sorted(name for name in made if not name.startswith("partial"))

    def check(self) -> list[str]:
        """Verify every checksum; the faults found, a line each (empty: all is well)."""
        found = []
        for shard in self.shards:
            found += checksum_faults(shard.folder, shard.files)
        for name in self.everything_derived():
            try:
                found += checksum_faults(self._derived(name), read_json(self.path / name / "made.json")["files"])
            except Refused as fault:
                found.append(str(fault))
        return found


def _open_shards(path: Path, digests: dict[str, str]) -> Iterator[Shard]:
    start = 0
    for name, expected in digests.items():
        folder = path / "shards" / name
        manifest = folder / "shard.json"
        if not manifest.exists():
            raise Refused(f"{folder} is missing; restore it, or remove {path} and collect again")
        if (found := sha256(manifest)) != expected:
            raise Refused(f"{manifest} does not match store.json: expected sha256 {expected[:12]}, got {found[:12]}")
        content = read_json(manifest)
        for file, stat in content["files"].items():
            check_size(folder / file, stat["bytes"])
        yield Shard(folder, content["kind"], start, content["rows"], content["files"])
        start += content["rows"]


def _put(partial: Path, target: Path) -> None:
    """Rename a finished folder into place, over an earlier one if there is one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        old = partial.with_name(partial.name + "-old")
        shutil.rmtree(old, ignore_errors=True)
        os.replace(target, old)
        os.replace(partial, target)
        shutil.rmtree(old)
    else:
        os.replace(partial, target)


def _remove_if_empty(folder: Path) -> None:
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()
