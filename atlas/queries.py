"""Nearest-neighbour queries on a Store, and its export: what a script or the command line asks."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from atlas import projection
from atlas.derivation import clip_of, open_index
from atlas.errors import Refused
from atlas.neuron import Neuron
from atlas.store import Store

Table = list[dict[str, Any]]


def rows_near(store: Store, vector: np.ndarray, k: int = 10, kind: str = "image") -> Table:
    """The k rows of a kind nearest to an embedding (e,): rank, score (cosine), row, id, caption, group."""
    if k < 1:
        raise Refused(f"k={k}: ask for at least one row")
    scores, ids = open_index(store, kind).search(vector[None].astype(np.float32), k)
    rows = store.positions(kind)[ids[0]]
    entries = store.rows.select(["id", "caption", "group"]).take(rows).to_pylist()
    return [
        {"rank": rank, "score": float(score), "row": int(row), **entry}
        for rank, (score, row, entry) in enumerate(zip(scores[0], rows, entries, strict=True), 1)
    ]


def embed(
    store: Store, text: str | None = None, image: str | Path | None = None, pretrained: str | None = None
) -> np.ndarray:
    """Embedding (e,) of a text or of an image file, by the Store's own model; `pretrained` as in `clip_of`."""
    if text is not None and not text.strip():
        raise Refused("the text is empty; give a word or a sentence")
    clip = clip_of(store, pretrained)
    return clip.encode_texts([text])[0] if text is not None else clip.encode_images([Path(str(image))])[0]


def rows_near_row(store: Store, row: int | str, k: int = 10, kind: str = "image") -> Table:
    """Rows nearest to a row of the Store (by position or id), itself left out."""
    row = store.find(row)
    vector = np.asarray(store.array("embedding")[row], np.float32)
    others = [entry for entry in rows_near(store, vector, k + 1, kind) if entry["row"] != row][:k]
    return [{**entry, "rank": rank} for rank, entry in enumerate(others, 1)]


def neurons_near(store: Store, number: int, k: int = 10, by: str = "response") -> Table:
    """The k neurons nearest to one, by basis direction or by response: rank, neuron, label, mean, std."""
    if by not in ("basis", "response"):
        raise Refused(f"by={by!r}: neurons are compared by basis or by response")
    found = [Neuron(store, other) for other in Neuron(store, number).neighbours[f"by_{by}"][:k]]
    kind = "image" if "image" in store.counts else "word"
    return [
        {"rank": rank, "neuron": n.number, "label": n.label, **{m: n.stats[kind][m] for m in ("mean", "std")}}
        for rank, n in enumerate(found, 1)
    ]


def place(store: Store, vector: np.ndarray, kind: str) -> np.ndarray:
    """Where a new image or text (its embedding, (e,)) belongs on the map: (2,), from its neighbours of a kind."""
    points = pq.read_table(store.derived("layout/map") / "points.parquet", columns=["x", "y"])
    layout = np.stack([points["x"].to_numpy(), points["y"].to_numpy()], 1)[store.positions(kind)]
    return projection.place(vector[None].astype(np.float32), open_index(store, kind), layout)[0]


def export_parquet(store: Store, path: str | Path) -> Path:
    """One Parquet file: the rows, their embedding, and x, y where a map was drawn."""
    path, table = Path(path), store.rows
    E = np.asarray(store.array("embedding"), np.float32)
    table = table.append_column("embedding", pa.FixedSizeListArray.from_arrays(pa.array(E.ravel()), E.shape[1]))
    if store.has("layout/map"):
        points = pq.read_table(store.derived("layout/map") / "points.parquet")
        for name in ("x", "y", "preservation"):
            table = table.append_column(name, points[name])
    if not path.parent.exists():
        raise Refused(f"{path.parent} is not there; make the folder first")
    pq.write_table(table, path, compression="zstd")
    return path
