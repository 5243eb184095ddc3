"""The map page: every row as a point, with its nearest rows and its strongest neurons."""

from typing import Any

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Float32, Int, Integer, UInt8

from atlas.pages.columns import Column, quantised, smallest
from atlas.pages.frame import Frame
from atlas.pages.rows import Rows
from atlas.pages.scatter import PALETTE, scatter

NEIGHBOURS, NEURONS = 8, 5  # shown on a card


def write_map(frame: Frame, rows: Rows) -> None:
    """Write index.html and data/map.js; without a layout, the page says how to make one."""
    frame.write_data("rows", rows.columns())
    layout = frame.derived("layout/map", "points.parquet")
    if layout is None:
        frame.render("missing.html", "index.html", heading="Map", make=f"atlas map {frame.store.path.name}")
        return
    points = pq.read_table(layout)
    at = points["row"].to_numpy().astype(np.uint32)
    xy = quantised(np.stack([points["x"].to_numpy(), points["y"].to_numpy()], 1))
    data: dict[str, Column] = {"row": at, "x": xy[:, 0], "y": xy[:, 1]}
    if "preservation" in points.column_names:
        data["kept"] = percent(points["preservation"].to_numpy().astype(np.float32))
    data["near"] = nearest_rows(frame)[at].astype(smallest(len(rows)))
    strongest = strongest_neurons(frame)
    if strongest is not None:
        data["neuron"], data["strength"] = (part[at] for part in strongest)
    frame.write_data("map", data)
    item = scatter("Map of images, words and texts: points that lie near each other mean alike to the model")
    frame.render("map.html", "index.html", item=item, palette=PALETTE, has_neurons=strongest is not None)


def percent(share: Float32[np.ndarray, " n"]) -> UInt8[np.ndarray, " n"]:
    """Shares in 0 .. 1 as 0 .. 100; 255 where there is none."""
    known = np.nan_to_num(share, nan=2.55)
    return np.round(known * 100).astype(np.uint8)


def nearest_rows(frame: Frame) -> Integer[np.ndarray, "n k"]:
    """For every row its nearest rows of any kind, in the space that the map was drawn from.

    Taken from near.npy (n, k) beside the layout where that is kept, else from FAISS.
    """
    kept = frame.derived("layout/map", "near.npy")
    if kept is not None:
        return np.load(kept, allow_pickle=False)[:, :NEIGHBOURS]
    from atlas.index import Index, blocks  # FAISS and UMAP: heavy, and wanted here alone
    from atlas.projection import Centred

    store = frame.store
    vectors = store.array("embedding")
    centre = store.recipe("layout/map").get("umap", {}).get("centre", True)
    space = Centred(vectors, store.table(["kind"])["kind"].to_pylist()) if centre else vectors
    index, found = Index.build(space), []
    for start, block in blocks(space):
        ids = index.search(block, NEIGHBOURS + 1)[1]
        own = ids == np.arange(start, start + len(ids))[:, None]
        found.append(np.take_along_axis(ids, np.argsort(own, axis=1, kind="stable"), 1)[:, :-1])  # itself goes last
    return np.concatenate(found)


def strongest_neurons(frame: Frame) -> tuple[Int[np.ndarray, "n k"], UInt8[np.ndarray, "n k"]] | None:
    """For every row the neurons furthest above their mean, and by how many tenths of a standard deviation.

    Texts, which have no activations, get -1. None where there are no statistics.
    """
    store = frame.store
    neurons = np.full((len(store), NEURONS), -1, np.int16)
    strength = np.zeros((len(store), NEURONS), np.uint8)
    found = False
    for kind in store.counts:
        path = frame.derived("neurons/stats", f"{kind}.parquet")
        if path is None:
            continue
        moments: Any = pq.read_table(path, columns=["mean", "std"])
        mean, std = (moments[name].to_numpy().astype(np.float32) for name in ("mean", "std"))
        for shard in store.of_kind(kind):
            z = (shard.array("max").astype(np.float32) - mean) / np.where(std > 0, std, np.inf)
            k = min(NEURONS, z.shape[1])
            best = np.argpartition(-z, k - 1, axis=1)[:, :k]
            best = np.take_along_axis(best, np.argsort(-np.take_along_axis(z, best, 1), axis=1, kind="stable"), 1)
            neurons[shard.positions, :k] = best
            strength[shard.positions, :k] = np.clip(10 * np.take_along_axis(z, best, 1), 0, 255)
        found = True
    return (neurons, strength) if found else None
