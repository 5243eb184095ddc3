"""The steps that derive parts from a Store: statistics, relations of neurons, indexes, maps, cells.

Each function reads the Store, calls the mathematics of its module, and writes one folder through `store.deriving`,
which records parents, parameters and the command that makes the part again. `derive` runs all steps in order.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from atlas.analysis import balance, layout, parts, stats
from atlas.analysis.activation_atlas import make_cells
from atlas.analysis.alignment import measure_alignment
from atlas.analysis.index import Index
from atlas.analysis.terms import Terms, embed_terms
from atlas.console import track
from atlas.errors import Refused
from atlas.formatting import Record
from atlas.model import weights
from atlas.model.clip import Clip
from atlas.store.files import save_array
from atlas.store.listing import id_hash
from atlas.store.shards import layer_folder
from atlas.store.store import Store
from atlas.vectors import cosines

_NEIGHBOURS = 20  # neurons listed near a neuron
_TEXTS_LISTED = 12  # texts listed near a neuron
_PRESERVED = 15  # neighbours by which the quality of the map is measured


def clip_of(store: Store, pretrained: str | Path | None = None, device: str | None = None) -> Clip:
    """The model that a Store was made with.

    `pretrained`: path of the checkpoint file, if the Store was made with one; a Store records its name only. Raises
    `Refused` if that file is missing or the weights have another checksum.
    """
    model = store.request["model"]
    if pretrained is None and weights.is_missing_file(model["name"], model["pretrained"]):
        raise Refused(
            f"{store.path} was made with the checkpoint file {model['pretrained']}, which is not here; name its path: "
            "--pretrained FILE"
        )
    layers = [store.layer, *(layer for layer in store.layers if layer != store.layer)]
    clip = Clip(model["name"], pretrained or model["pretrained"], layers, device, model["token"])
    if (found := clip.describe()["weights_sha256"]) != (expected := model["weights_sha256"]):
        raise Refused(
            f"{store.path} was made with weights {expected[:12]} of {model['name']}, but these are {found[:12]}; "
            "name the right ones with --pretrained FILE, or collect into another folder"
        )
    return clip


# -- statistics --------------------------------------------------------------------------------------------------------


def summarise_neurons(store: Store) -> Path:
    """Make neurons/stats: a table of one row per neuron for images and for words, and correlation.npy (u, u)."""
    with store.deriving(parts.STATS, {"array": "max", "layer": store.layer, "top": stats.TOP_ROWS}) as folder:
        for kind in ("image", "word"):
            if kind in store.counts:
                summary = stats.summarise_activations(lambda kind=kind: _chunks(store, kind))
                pq.write_table(summary_table(summary), folder / f"{kind}.parquet")
                if kind == "image" or "image" not in store.counts:
                    save_array(folder / "correlation.npy", summary.covariance.correlation().astype(np.float32))
    return store.derived(parts.STATS)


def _chunks(store: Store, kind: str) -> Iterator[stats.ActivationChunk]:
    """Yield the rows of a kind shard by shard; words are averaged over fonts and sizes."""
    plain = _labelled_chunks(store, kind)
    return stats.average_runs(plain) if kind == "word" else (chunk for chunk, _ in plain)


def _labelled_chunks(store: Store, kind: str) -> Iterator[tuple[stats.ActivationChunk, list[str]]]:
    shards = store.of_kind(kind)
    for shard in track(shards, len(shards), f"stats of {kind}s"):
        table = shard.table(["id", "label"])
        hashes = np.array([id_hash(id) for id in table["id"].to_pylist()], np.uint64)
        A = shard.array("max", layer_folder(store.layers, store.layer)).astype(np.float32)
        E = shard.array("embedding").astype(np.float32)
        yield stats.ActivationChunk(shard.positions, A, E, hashes), table["label"].to_pylist()


def summary_table(summary: stats.Summary) -> pa.Table:
    """Statistics as a table with one row per neuron; top rows begin with the strongest, buckets with the weakest."""
    moments, u = summary.moments, len(summary.moments.mean)
    columns: Record = {"neuron": np.arange(u), "count": np.full(u, moments.count)}
    columns |= {name: getattr(moments, name) for name in ("mean", "std", "skew")}
    columns |= {"min": moments.low, "max": moments.high, "monosemanticity": summary.monosemanticity}
    for name in ("top", "bottom"):
        rows, values = getattr(summary.extremes, name)
        columns |= {name: list(rows.astype(np.int64)), f"{name}_value": list(values)}
    columns |= {"edges": list(summary.edges), "counts": list(summary.histogram.counts)}
    columns["reservoir"] = pa.array(summary.reservoir.rows, pa.list_(pa.list_(pa.int64())))
    return pa.table(columns)


def relate_neurons(store: Store, clip: Clip) -> Path:
    """Make neurons/basis, W (u, e), and neurons/neighbours, the nearest neurons by basis and by response."""
    W = clip.basis()
    reads = {"text_tower": weights.text_sha256(clip.model), "logit_scale": clip.logit_scale}  # for a KeptModel
    with store.deriving(parts.BASIS, {"kind": clip.basis_kind, "layer": store.layer} | reads) as folder:
        save_array(folder / "basis.npy", W)
    correlation = np.load(store.derived(parts.STATS) / "correlation.npy")
    columns = {"neuron": np.arange(len(W))}
    columns |= {"by_basis": list(most_similar(cosines(W))), "by_response": list(most_similar(correlation))}
    recipe = {"by_basis": "cosine of basis rows", "by_response": "correlation of responses to images"}
    with store.deriving(parts.NEIGHBOURS, recipe, of=(parts.STATS, parts.BASIS)) as folder:
        pq.write_table(pa.table(columns), folder / "neighbours.parquet")
    return store.derived(parts.NEIGHBOURS)


def relate_texts(store: Store, clip: Clip) -> Path:
    """Make neurons/texts: the texts of the Store nearest to each neuron, or the built-in vocabulary if it has none.

    Texts are compared by the cosine of their centred embedding with a neuron's basis row. The vocabulary is embedded
    into index/terms first.
    """
    of = [parts.BASIS]
    if "text" not in store.counts:
        embed_terms(store, clip)
        of.append(parts.TERMS)
    texts, E = _texts(store, "caption")
    W = np.load(store.derived(parts.BASIS) / "basis.npy")
    score = cosines(W, E - E.mean(0))
    best = np.argsort(-score, axis=1, kind="stable")[:, :_TEXTS_LISTED]
    columns = {"neuron": np.arange(len(W)), "texts": [[texts[i] for i in row] for row in best]}
    columns["score"] = list(np.take_along_axis(score, best, 1))
    found = measure_alignment(store.array("embedding", "image"), E) if "image" in store.counts else None
    recipe = {"score": "cosine, texts centred", **({"alignment": found.recipe()} if found else {})}
    with store.deriving(parts.TEXTS, recipe, of=of) as folder:
        pq.write_table(pa.table(columns), folder / "texts.parquet")
    return store.derived(parts.TEXTS)


def _texts(store: Store, column: str) -> tuple[list[str], np.ndarray]:
    """Texts of the Store (from `column`) or its terms, with embeddings (t, e); empty if it has neither."""
    if "text" in store.counts:
        texts = store.table([column], "text")[column].to_pylist()
        return texts, np.asarray(store.array("embedding", "text"), np.float32)
    terms = Terms.read(store)
    return (terms.texts, terms.E) if terms else ([], np.zeros((0, 0), np.float32))


def most_similar(similarity: np.ndarray, k: int = _NEIGHBOURS) -> np.ndarray:
    """The k other rows most similar to each row of a square matrix, best first: (n, min(k, n - 1))."""
    others = similarity.astype(np.float32, copy=True)
    np.fill_diagonal(others, -np.inf)
    return np.argsort(-others, axis=1, kind="stable")[:, : min(k, len(others) - 1)]


# -- index and maps ----------------------------------------------------------------------------------------------------


def index_embeddings(store: Store, seed: int = 0) -> Path:
    """Make index/embedding: one FAISS index per kind; the recipe has the type and measured recall@10 of each."""
    asked = store.array("embedding", "text") if "text" in store.counts else None
    built = {kind: Index.build(store.array("embedding", kind), seed=seed, queries=asked) for kind in store.counts}
    recipe = {kind: {"type": i.kind, "rows": len(i), "recall_at_10": i.recall} for kind, i in built.items()}
    with store.deriving(parts.EMBEDDINGS.made_with(seed=seed or None), recipe) as folder:
        for kind, index in built.items():
            index.save(folder / kind)
    return store.derived(parts.EMBEDDINGS)


def open_index(store: Store, kind: str) -> Index:
    """The index of the embeddings of one kind; id i is the row `store.positions(kind)[i]`."""
    if kind not in store.counts:
        raise Refused(f"{store.path} holds no rows of kind {kind}; it holds {', '.join(store.counts)}")
    return Index.open(store.derived(parts.EMBEDDINGS) / kind)


@dataclass(frozen=True)
class MapOptions:
    """What `atlas map` was asked for."""

    n_neighbors: int = layout.N_NEIGHBORS
    min_dist: float = layout.MIN_DIST
    centre: bool = True  # close the modality gap
    balanced: bool = True  # give every row neighbours of every kind too
    columns: int | None = None  # of the activation atlas; None: by the number of patches
    seed: int = 0

    @property
    def changed(self) -> Record:
        """The options of the recorded command that differ from their defaults."""
        return {
            "neighbors": None if self.n_neighbors == layout.N_NEIGHBORS else self.n_neighbors,
            "min_dist": None if self.min_dist == layout.MIN_DIST else self.min_dist,
            "raw": not self.centre,
            "centred": self.centre and not self.balanced,
            "columns": self.columns,
            "seed": self.seed or None,
        }


_DEFAULT_MAP = MapOptions()


def draw_maps(store: Store, options: MapOptions = _DEFAULT_MAP) -> list[Path]:
    """Make layout/map, layout/neurons and layout/cells (if there are images), as `atlas map` does."""
    made = [lay_out_rows(store, options), lay_out_neurons(store, options)]
    if "image" in store.counts:
        made.append(lay_out_cells(store, options.columns, seed=options.seed, options=options.changed))
    return made


def lay_out_rows(store: Store, options: MapOptions = _DEFAULT_MAP) -> Path:
    """Make layout/map: places of all rows, their 8 nearest rows of all kinds, the map's quality (quality.json)."""
    n_neighbors, min_dist, centre, seed = options.n_neighbors, options.min_dist, options.centre, options.seed
    balanced = options.balanced and centre
    vectors, rows = store.array("embedding"), store.table(["kind", "label"])
    kinds, labels = np.array(rows["kind"].to_pylist()), [label or "" for label in rows["label"].to_pylist()]
    measured = layout.Centred(vectors, kinds) if centre else vectors
    found = balance.KindNeighbours.find(measured, kinds, max(n_neighbors, _PRESERVED), seed)
    graph = found.merged(max(n_neighbors, _PRESERVED + 1))
    if balanced:
        places = layout.project(vectors, n_neighbors, min_dist, seed=seed, kinds=kinds, graph=found)
    else:
        places = layout.project(measured, n_neighbors, min_dist, seed=seed, graph=graph)
    kept = layout.neighbour_preservation(measured, places, _PRESERVED, graph=graph)
    umap = {"n_neighbors": n_neighbors, "min_dist": min_dist, "seed": seed, "centre": centre, "balanced": balanced}
    quality = {
        "trustworthiness": layout.trustworthiness(measured, places, seed=seed),
        "preservation": float(np.nanmean(kept)),
        **balance.measure_joining(found, places, labels, _PRESERVED),
        "modality_gap": {
            "raw": layout.modality_gap(vectors, kinds),
            "centred": layout.modality_gap(layout.Centred(vectors, kinds), kinds),
        },
        **_words_meet_drawings(store),
    }
    with store.deriving(parts.MAP.made_with(**options.changed), {"umap": umap, **quality}) as folder:
        columns = {"row": np.arange(len(store)), "x": places[:, 0], "y": places[:, 1], "preservation": kept}
        pq.write_table(pa.table(columns), folder / "points.parquet")
        save_array(folder / "near.npy", graph[0][:, 1:9].astype(np.uint32))
        save_array(folder / "varied.npy", balance.varied_neighbours(found, labels).astype(np.uint32))
        (folder / "quality.json").write_text(json.dumps(quality, indent=1) + "\n", "utf-8")
    return store.derived(parts.MAP)


def _words_meet_drawings(store: Store) -> Record:
    if not {"image", "word"} <= set(store.counts):
        return {}
    words, images = (store.array("embedding", kind) for kind in ("word", "image"))
    word_labels, image_labels = (store.table(["label"], kind)["label"].to_pylist() for kind in ("word", "image"))
    ways = {"raw": False, "centred": True}
    found = {
        way: layout.word_meets_drawing(words, word_labels, images, image_labels, centre) for way, centre in ways.items()
    }
    return {} if np.isnan(found["raw"]) else {"word_meets_drawing": found}  # no image has a word in its label


def lay_out_neurons(store: Store, options: MapOptions = _DEFAULT_MAP) -> Path:
    """Make layout/neurons: a map of the neurons by the correlation of their responses to images."""
    correlation = np.load(store.derived(parts.STATS) / "correlation.npy")
    np.fill_diagonal(correlation, 1.0)  # constant neurons have 0 there
    spread = {"n_neighbors": layout.NEURON_NEIGHBORS, "min_dist": layout.NEURON_MIN_DIST}
    places = layout.project(correlation, **spread, seed=options.seed)
    columns = {"neuron": np.arange(len(places)), "x": places[:, 0], "y": places[:, 1]}
    part = parts.NEURON_MAP.made_with(**options.changed)
    with store.deriving(part, {"seed": options.seed}, of=(parts.STATS,)) as folder:
        pq.write_table(pa.table(columns), folder / "points.parquet")
    return store.derived(parts.NEURON_MAP)


def lay_out_cells(
    store: Store, columns: int | None = None, minimum: int = 5, seed: int = 0, options: Record | None = None
) -> Path:
    """Make layout/cells: the activation atlas over one random patch of each image (Carter et al. 2019).

    Patches that are nearly of one colour are left out; variants of one thing (a skin tone, a vendor) count once.
    `columns`: of one grid; by default there are up to four, by the number of patches (`cells.grid_columns`).
    `minimum`: things in a cell. `options`: those of the recorded `atlas map` command; by default those given here.
    """
    part = parts.CELLS.made_with(**(options or MapOptions(columns=columns, seed=seed).changed))
    texts = _texts(store, "label") if store.has(parts.BASIS) else None
    return make_cells(store, part, texts, columns, minimum, seed)


def derive(store: Store, clip: Clip, force: bool = False) -> list[str]:
    """Derive all parts in order, except those that are current (unless `force`); returns the names of those made."""
    steps = {
        parts.STATS: lambda: summarise_neurons(store),
        parts.NEIGHBOURS: lambda: relate_neurons(store, clip),
        parts.TEXTS: lambda: relate_texts(store, clip),
        parts.EMBEDDINGS: lambda: index_embeddings(store),
        parts.MAP: lambda: lay_out_rows(store),
        parts.NEURON_MAP: lambda: lay_out_neurons(store),
        parts.CELLS: lambda: lay_out_cells(store),
    }
    if "image" not in store.counts:
        del steps[parts.CELLS]
    wanted = [name for name in steps if force or not store.current(name)]
    for name in track(wanted, len(wanted), "derive", "steps"):
        steps[name]()
    return [part.name for part in wanted]
