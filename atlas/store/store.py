"""Store: a collection on disk (Parquet and NumPy shards), readable without this package.

    store.json           the request, versions, and the sha256 of every shard
    listing.parquet      every input: id, kind, size, mtime, hash of its texts, shard
    rejects.parquet      every input that was refused, with the reason
    shards/00000/        at most 1,024 rows of one kind (image | word | text)
        shard.json       kind, rows, and the size and sha256 of each file in the folder
        rows.parquet     id, kind, source, caption, label, group, width, height, patch_row, patch_col, thumb (WebP)
        embedding.npy    (n, e) float16, unit norm; the only array of text shards
        max.npy argmax.npy mean.npy patch.npy       (n, u); further layers have folders named by their paths
    neurons/ index/ layout/ site/ single/           derived parts; made.json in each has the sha256 of its parents

A *row* is a position in the Store, 0 .. n-1; derived parts refer to rows by this number.
"""

import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atlas import reprs
from atlas.errors import Refused
from atlas.formatting import Record, display_text
from atlas.store.check import check_folder, derived_names, find_damage, read_listing
from atlas.store.derived import MADE_FILE, read_made, threads_in_use, verify_part
from atlas.store.files import describe_files, disk_faults, put_folder, remove_if_empty, sha256, write_json
from atlas.store.lock import writer_lock
from atlas.store.manifest import (
    PARTIAL,
    REJECTS_FILE,
    STORE_FORMAT,
    Manifest,
    Request,
    manifest_digest,
    read_manifest,
    settle,
)
from atlas.store.part import Part
from atlas.store.shards import ARRAYS, KINDS, LATER_COLUMNS, ROW_SCHEMA, Array, Shard, layer_folder, open_shards

__all__ = ["STORE_FORMAT", "Manifest", "Part", "Request", "Store"]


class Store:
    """A finished collection: its rows, arrays and thumbnails, and the parts derived from them.

    `Store.open(path)` opens one; `atlas.collect` makes one.

    >>> import atlas, tempfile
    >>> from PIL import Image
    >>> folder = tempfile.TemporaryDirectory()
    >>> for name in ("red", "green", "blue"):
    ...     Image.new("RGB", (32, 32), name).save(f"{folder.name}/{name}.png")
    >>> made = atlas.collect(folder.name, atlas.Clip("mini", device="cpu"), f"{folder.name}/out")
    >>> store = Store.open(f"{folder.name}/out")
    >>> len(store), store.counts, store.layers
    (3, {'image': 3}, ['visual.layer4'])
    >>> folder.cleanup()
    """

    def __init__(self, path: Path, manifest: Manifest, shards: list[Shard], layer: str | None = None):
        self.path, self.manifest, self.shards, self._layer = path, manifest, shards, layer
        self._thumbs: tuple[Shard, pa.ChunkedArray] | None = None  # of the last shard: requests come in clusters
        self._read: dict[str, str] = {}  # sha256 of the made.json of each part that was read

    @classmethod
    def open(cls, path: str | Path, verify: bool = False) -> "Store":
        """Open a Store; its format version and the size of every file are checked.

        `verify`: read every file, of derived parts too, and compare it with its checksum; otherwise files are compared
        when they are first read, and of a Store beyond 512 MB not all. Raises `Refused` if the folder is no Store, is
        not finished, or does not match its manifest.
        """
        path = Path(path)
        manifest = read_manifest(path)
        if not manifest["complete"]:
            raise Refused(f"{path} is not finished; run the command that began it again and it goes on")
        if verify and (damaged := find_damage(path, manifest)):
            more = f" ({len(damaged) - 1:,} more faults)" if damaged[1:] else ""
            raise Refused(f"{damaged[0]}{more}; atlas check {shlex.quote(str(path))} names all, and what mends them")
        return cls(path, manifest, list(open_shards(path, manifest.get("shards", {}))))

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
    def request(self) -> Request:
        """The request of the collection: model (with layers and preprocessing), sources, seed, size of thumbnails."""
        return self.manifest["request"]

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows of each kind, in the order of KINDS, without kinds that have no rows."""
        return {kind: n for kind in KINDS if (n := sum(s.rows for s in self.shards if s.kind == kind))}

    @property
    def layers(self) -> list[str]:
        """Paths of the collected layers; the first one is the default everywhere."""
        return [layer["path"] for layer in self.request["model"]["layers"]]

    @property
    def layer(self) -> str:
        """Path of the layer that is read: the first collected one, or that of `of_layer`."""
        return self._layer or self.layers[0]

    @property
    def rectified(self) -> bool:
        """Whether the model applies a ReLU directly to the layer that is read."""
        return self.request["model"]["layers"][self.layers.index(self.layer)]["rectified"]

    def of_layer(self, layer: str) -> "Store":
        """The same rows, read at another collected layer; what is derived lies in the folder layers/PATH.

        Raises `Refused` for a layer that was not collected.
        """
        self._collected(layer)
        return Store(self.path, self.manifest, self.shards, None if layer == self.layers[0] else layer)

    def _collected(self, layer: str) -> None:
        if layer not in self.layers:
            raise Refused(f"layer {layer} was not collected into {self.path}; it holds {', '.join(self.layers)}")

    @property
    def digest(self) -> str:
        """Sha256 of the Store, made of its request and the sha256 of its shards."""
        return manifest_digest(self.manifest)

    @cached_property
    def rows(self) -> pa.Table:
        """All rows without their thumbnails (see `thumb`): the columns of rows.parquet, in Store order."""
        return self.table([name for name in (*ROW_SCHEMA.names, *LATER_COLUMNS.names) if name != "thumb"])

    def table(self, columns: Sequence[str], kind: str | None = None) -> pa.Table:
        """Columns of the rows of one kind, or of all rows."""
        tables = [shard.table(columns) for shard in self.of_kind(kind)]
        if tables:
            return pa.concat_tables(tables)
        return pa.schema([*ROW_SCHEMA, *LATER_COLUMNS]).empty_table().select(list(columns))

    def of_kind(self, kind: str | None) -> list[Shard]:
        """The shards of one kind, or all shards, without those that hold no rows."""
        if kind is not None and kind not in KINDS:
            raise Refused(f"no kind {kind!r}; kinds are {', '.join(KINDS)}")
        return [shard for shard in self.shards if shard.rows and kind in (None, shard.kind)]

    def positions(self, kind: str | None = None) -> np.ndarray:
        """Positions in the Store of the rows of one kind: int64 (n,), in the order of `array(name, kind)`."""
        return np.concatenate([np.empty(0, np.int64), *(shard.positions for shard in self.of_kind(kind))])

    def array(self, name: str, kind: str | None = None, layer: str | None = None) -> Array:
        """An array (n, d) of the rows of one kind, as a view on memory maps.

        `name`: embedding | max | argmax | mean | patch. `kind`: image | word | text; None means all rows, and only
        embeddings exist for texts. `layer`: path of a collected layer; `self.layer` by default. Raises `Refused` for
        another name, kind or layer.

        >>> import atlas, tempfile
        >>> from PIL import Image
        >>> folder = tempfile.TemporaryDirectory()
        >>> for name in ("red", "green", "blue"):
        ...     Image.new("RGB", (32, 32), name).save(f"{folder.name}/{name}.png")
        >>> store = atlas.collect(folder.name, atlas.Clip("mini", device="cpu"), f"{folder.name}/out")
        >>> store.array("max", "image"), store.array("embedding")[0].shape
        (Array(shape=(3, 1024), dtype=float16, shards=1), (256,))
        >>> folder.cleanup()
        """
        if name not in ARRAYS:
            raise Refused(f"no array {name!r}; arrays are {', '.join(ARRAYS)}")
        if layer is not None:
            self._collected(layer)
        shards = self.of_kind(kind)
        if not shards:
            raise Refused(f"{self.path} holds no rows of kind {kind}; it holds {', '.join(self.counts)}")
        if name != "embedding" and any(shard.kind == "text" for shard in shards):
            raise Refused(f"texts have no {name}: name the kind, image or word")
        folder = "" if name == "embedding" else layer_folder(self.layers, layer or self.layer)
        return Array([shard.array(name, folder) for shard in shards])

    def thumb(self, row: int | str) -> bytes:
        """WebP thumbnail of a row, given by position or id; b"" for texts."""
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
        """Position of a row given by position or id. Raises `Refused` if there is no such row."""
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
        """All inputs that were refused: id, kind, source, reason."""
        return read_listing(self.path, REJECTS_FILE, self.manifest)

    # -- derived parts ---------------------------------------------------------------------------------------------

    @contextmanager
    def deriving(self, part: Part, recipe: Record, of: Sequence[Part] = ()) -> Iterator[Path]:
        """Context that yields a folder to write `part` into; the folder is renamed into place if no error occurs.

        `of`: derived parts that this one is made from, besides the Store itself. `recipe`: parameters and measured
        quality (JSON values). made.json records them, the sha256 of all parents, the number of threads, because sums
        differ with it in their last digits and a layout by much, and the command of the part, which is
        shown to the user when the part is stale.
        """
        name, command = self._name(part), self._command(part)
        with disk_faults(self.path), writer_lock(self.path):
            settle(self.path)
            parents = self._parents(of)
            partial = self.path / PARTIAL / name.replace("/", "-")
            partial.mkdir(parents=True)
            try:
                yield partial
                made = {"format": STORE_FORMAT, "made": name, "command": command, "of": parents, "recipe": recipe}
                made |= {"threads": threads_in_use()}
                write_json(partial / MADE_FILE, made | {"files": describe_files(partial)})
                put_folder(partial, self.path / name)
                self._read.pop(name, None)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
                remove_if_empty(partial.parent)

    def _parents(self, of: Sequence[Part]) -> dict[str, str]:
        """The sha256 of the Store and of these parts. Raises `Refused` if one has changed since it was read."""
        if manifest_digest(read_manifest(self.path)) != self.digest:
            raise Refused(f"{self.path} has changed while this ran; run the same command again")
        parents = {"store": self.digest}
        for part in of:
            name, read = self._name(part), self._read.get(self._name(part))
            parents[name] = sha256(self.derived(part) / MADE_FILE)
            if read not in (None, parents[name]):
                raise Refused(f"{self.path / name} has changed while this ran; run the same command again")
        return parents

    def derived(self, part: Part) -> Path:
        """Folder of a derived part.

        Raises `Refused` if the part is missing, incomplete, or stale (a parent has changed since); the message names
        the command that makes the part again.
        """
        name = self._name(part)
        folder, _ = verify_part(self.path, name, self.digest, self._command(part))
        self._read[name] = sha256(folder / MADE_FILE)
        return folder

    def _name(self, part: Part) -> str:
        """The folder of a part, from the Store's on: parts of further layers have a folder of their own."""
        return part.name if self._layer is None else f"layers/{self._layer}/{part.name}"

    def _command(self, part: Part) -> str:
        return part.command if self._layer is None else part.made_with(layer=self._layer).command

    def has(self, part: Part) -> bool:
        """Whether a derived part is there; it may be stale."""
        return (self.path / self._name(part) / MADE_FILE).exists()

    def current(self, part: Part) -> bool:
        """Whether a derived part is there, complete and not stale."""
        try:
            return self.derived(part).exists()
        except Refused:
            return False

    def recipe(self, part: Part) -> Record:
        """Parameters of a derived part, and its measured quality. Raises `Refused` as `derived` does."""
        return read_made(self.derived(part))["recipe"]

    def everything_derived(self) -> list[str]:
        """Names of all derived parts, sorted."""
        return derived_names(self.path)

    def check(self) -> list[str]:
        """Verify all checksums, and name what does not belong; returns the faults, one line each."""
        return check_folder(self.path).faults
