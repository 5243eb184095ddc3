"""Nearest-neighbour queries on a Store, and its export to one Parquet file."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from atlas.analysis import layout, parts
from atlas.analysis.derivation import clip_of, open_index
from atlas.analysis.naming import NeuronNames
from atlas.analysis.neuron import Neuron
from atlas.errors import Misuse, Refused
from atlas.formatting import Record
from atlas.store.files import whole_file
from atlas.store.shards import ROW_SCHEMA, Shard
from atlas.store.store import Store
from atlas.vectors import unit_rows

_Table = list[Record]
_EXPORTED = b"multimodal-atlas"  # in the metadata of an export: the sha256 of its Store


def rows_near(store: Store, vector: np.ndarray, k: int = 10, kind: str = "image") -> _Table:
    """The k rows of a kind nearest to an embedding (e,), with rank, score (cosine), row, id, caption and group."""
    if k < 1:
        raise Refused(f"k={k}: ask for at least one row")
    scores, ids = open_index(store, kind).search(vector[None].astype(np.float32), k)
    rows = store.positions(kind)[ids[0]]
    entries = store.rows.select(["id", "caption", "group"]).take(rows).to_pylist()
    return [
        {"rank": rank, "score": float(score), "row": int(row), **entry}
        for rank, (score, row, entry) in enumerate(zip(scores[0], rows, entries, strict=True), 1)
    ]


def embed_query(
    store: Store, text: str | None = None, image: str | Path | None = None, pretrained: str | None = None
) -> np.ndarray:
    """Embedding (e,) of a text or an image file by the Store's model. `pretrained`: as in `clip_of`."""
    if text is not None and not text.strip():
        raise Refused("the text is empty; give a word or a sentence")
    clip = clip_of(store, pretrained)
    return clip.encode_texts([text])[0] if text is not None else clip.encode_images([Path(str(image))])[0]


def rows_near_row(store: Store, row: int | str, k: int = 10, kind: str = "image") -> _Table:
    """The k rows of a kind nearest to a row of the Store (given by position or id), without that row."""
    row = store.find(row)
    vector = np.asarray(store.array("embedding")[row], np.float32)
    others = [entry for entry in rows_near(store, vector, k + 1, kind) if entry["row"] != row][:k]
    return [{**entry, "rank": rank} for rank, entry in enumerate(others, 1)]


def neurons_near(store: Store, number: int, k: int = 10, by: str = "response") -> _Table:
    """The k neurons most similar to one, by basis or by response, with rank, neuron, label, source, mean and std.

    `source`: where the label comes from (see `atlas.analysis.naming`).
    """
    if by not in ("basis", "response"):
        raise Refused(f"by={by!r}: neurons are compared by basis or by response")
    found = Neuron(store, number).neighbours[f"by_{by}"][:k]
    kind, names = "image" if "image" in store.counts else "word", NeuronNames.read(store)
    stats = pq.read_table(store.derived(parts.STATS) / f"{kind}.parquet", columns=["mean", "std"]).take(found)
    return [
        {"rank": rank, "neuron": neuron, "label": str(names[neuron]), "source": names[neuron].source, **row}
        for rank, (neuron, row) in enumerate(zip(found, stats.to_pylist(), strict=True), 1)
    ]


def place_on_map(store: Store, vector: np.ndarray, kind: str) -> np.ndarray:
    """Place (2,) of an embedding (e,) on the map, from its nearest rows of a kind, as the map was made."""
    points = pq.read_table(store.derived(parts.MAP) / "points.parquet", columns=["x", "y"])
    places = np.stack([points["x"].to_numpy(), points["y"].to_numpy()], 1)[store.positions(kind)]
    balanced = store.recipe(parts.MAP).get("umap", {}).get("balanced", False)
    place = layout.place_by_matches if balanced else layout.place_new_rows
    return place(vector[None].astype(np.float32), open_index(store, kind), places)[0]


def export_parquet(store: Store, path: str | Path) -> Path:
    """Write all rows to one Parquet file for other tools, one row group per shard.

    Columns: those of `store.rows`; image (a struct of bytes and path, as Hugging Face writes; null for texts);
    embedding (e,) float32; and if there is a map, x, y, preservation and neighbors (ids are rows of this file,
    distances are cosine distances in the space of the map). The file opens with `embedding-atlas FILE --x x --y y
    --neighbors neighbors --image image --text caption`. Raises `Misuse` for a folder that does not exist, a place
    inside the Store, and a file that another program wrote.
    """
    path = Path(path)
    _check_target(store, path)
    mapped = _Mapped(store) if store.has(parts.MAP) else None
    writer = None
    with whole_file(path) as partial:
        for shard in store.of_kind(None):
            table = _exported(shard)
            table = mapped.join(table, shard) if mapped else table
            schema = table.schema.with_metadata({_EXPORTED: store.digest})
            writer = writer or pq.ParquetWriter(partial, schema, compression="zstd")
            writer.write_table(table)
        if writer is None:
            raise Refused(f"{store.path} holds no rows; there is nothing to export")
        writer.close()
    return path


def _check_target(store: Store, path: Path) -> None:
    """Raise `Misuse` unless an export may be written to `path`: a new file, or one that an export wrote before."""
    if not path.parent.is_dir():
        raise Misuse(f"{path.parent} is not there; make the folder first")
    if store.path.resolve() in path.resolve().parents:
        raise Misuse(f"{path} is inside the Store; name a file elsewhere")
    if not path.exists():
        return
    try:
        ours = path.is_file() and _EXPORTED in (pq.read_schema(path).metadata or {})
    except (OSError, pa.ArrowException):
        ours = False
    if not ours:
        raise Misuse(f"{path} is there, and no export of a Store; name another file")


def _exported(shard: Shard) -> pa.Table:
    table = shard.table(ROW_SCHEMA.names)
    thumbs, ids = table["thumb"].to_pylist(), table["id"].to_pylist()
    pictures = [{"bytes": thumb, "path": id} if thumb else None for thumb, id in zip(thumbs, ids, strict=True)]
    E = shard.array("embedding").astype(np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(E.ravel()), E.shape[1])
    picture = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    return (
        table.drop_columns(["thumb"])
        .append_column("image", pa.array(pictures, picture))
        .append_column("embedding", vectors)
    )


class _Mapped:
    """The columns that the map adds to rows: place, neighbour preservation, and nearest rows."""

    def __init__(self, store: Store):
        folder = store.derived(parts.MAP)
        self.points = pq.read_table(folder / "points.parquet").sort_by("row")
        self.near = np.load(folder / "near.npy", mmap_mode="r") if (folder / "near.npy").exists() else None
        self.vectors = store.array("embedding")
        self.kinds = np.array(store.table(["kind"])["kind"].to_pylist(), dtype=object)
        centre = store.recipe(parts.MAP).get("umap", {}).get("centre", True)
        self.means = layout.group_means(self.vectors, self.kinds) if centre else None

    def join(self, table: pa.Table, shard: Shard) -> pa.Table:
        """The table of a shard with the columns of the map added."""
        for name in ("x", "y", "preservation"):
            if name in self.points.column_names:
                table = table.append_column(name, self.points[name].slice(shard.start, shard.rows))
        if self.near is None:
            return table
        ids = np.array(self.near[shard.start : shard.start + shard.rows], np.int64)
        own, other = self.placed(shard.positions), self.placed(ids.ravel()).reshape(*ids.shape, -1)
        distances = np.maximum(1 - np.einsum("nd,nkd->nk", own, other, dtype=np.float64), 0).astype(np.float32)
        kind = pa.struct({"ids": pa.list_(pa.int64()), "distances": pa.list_(pa.float32())})
        pairs = zip(ids.tolist(), distances.tolist(), strict=True)
        return table.append_column("neighbors", pa.array([{"ids": i, "distances": d} for i, d in pairs], kind))

    def placed(self, rows: np.ndarray) -> np.ndarray:
        """Vectors (m, e) of rows (m,) in the space of the map, at unit norm."""
        vectors = self.vectors[rows]
        return unit_rows(vectors) if self.means is None else layout.Centred(vectors, self.kinds[rows], self.means)[:]
