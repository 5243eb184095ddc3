"""FAISS over unit vectors, by cosine: embeddings, neurons, anything with rows and columns.

    flat     exact; up to 50,000 rows
    ivf      rows filed under sqrt(n) k-means cells, and only the cells nearest to a query are scanned
    ivfpq    the same with product-quantised rows, a sixteenth of the memory; for millions

HNSW is left out: its parallel insertion gives another graph in every run, and everything here is reproducible.
How many cells a search scans is not guessed: it is doubled until recall@10 against exact search is reached.

Vectors may be an array, a memory map of any float type, or a Store's array: they are read in blocks of rows.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
from jaxtyping import Float, Float32, Int64

from atlas import reprs
from atlas.errors import Refused
from atlas.vectors import Rows, Unit, sample_rows, unit_blocks, unit_rows

_FORMAT = 1
_FLAT_LIMIT, _IVF_LIMIT = 50_000, 2_000_000  # rows up to which an index stays flat, or unquantised
_GRAPH_FLAT_LIMIT = 10_000  # a k-NN graph asks n queries, so that filing the rows pays off sooner
_SCAN_LIMIT = 1 / 8  # share of the rows above which scanning cells is no gain over scanning all
_RECALL_SAMPLE = 500  # queries by which recall is measured
_RECALL_WANTED = 0.99  # recall@10 at which a search scans enough cells
_GPU_LIMIT = 2048  # the largest k that FAISS serves on a GPU

INDEX_KINDS = ("flat", "ivf", "ivfpq")
_Found = tuple[Float32[np.ndarray, "m k"], Int64[np.ndarray, "m k"]]  # cosines, and ids


@dataclass(frozen=True, slots=True)
class IndexDescription:
    """What an index is, saved beside it as index.json."""

    kind: str  # flat | ivf | ivfpq
    rows: int
    dim: int
    recall_at_10: float  # share of the exact ten nearest that a search finds, over seeded sample rows
    nprobe: int  # cells that a search scans; 1 where there are none
    seed: int
    format: int = _FORMAT


class SearchResult(NamedTuple):
    """What a search found: cosines (m, k), highest first, and ids (m, k). A table in Jupyter."""

    scores: Float32[np.ndarray, "m k"]
    ids: Int64[np.ndarray, "m k"]

    def _repr_html_(self) -> str:
        return reprs.search_table(self.scores, self.ids)


class Index:
    """Nearest rows by cosine: `Index.build(vectors)`, or `Index.open(path)`. On a GPU when FAISS sees one."""

    def __init__(self, index: Any, description: IndexDescription):
        self._cpu, self.description = index, description
        on_gpu = faiss.get_num_gpus() > 0
        self._index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index) if on_gpu else index

    def __len__(self) -> int:
        return self.description.rows

    def __repr__(self) -> str:
        return f"Index({self.kind}, {len(self):,} x {self.description.dim}, recall@10 {self.recall:.3f})"

    @property
    def kind(self) -> str:
        """How rows are kept: flat | ivf | ivfpq."""
        return self.description.kind

    @property
    def scanned(self) -> float:
        """Share of the rows that a search looks at."""
        return 1.0 if self.kind == "flat" else self.description.nprobe / self._cpu.nlist

    @property
    def recall(self) -> float:
        """Recall@10 against exact search, measured when the index was built."""
        return self.description.recall_at_10

    @classmethod
    def build(cls, vectors: Rows, kind: str | None = None, seed: int = 0) -> "Index":
        """Index the rows of `vectors` (n, d), each scaled to unit norm; ids are positions, 0 .. n-1.

        `kind` goes by size unless given. The same vectors and seed give the same index. Beyond the index itself,
        memory holds a block of rows and, while k-means trains, a sample of them.
        Raises `Refused` where there are no rows, or where one is zero or not finite.
        """
        if len(vectors.shape) != 2 or not len(vectors):
            raise Refused(f"an index needs vectors of shape (n, d) with n > 0, got {tuple(vectors.shape)}")
        if kind is not None and kind not in INDEX_KINDS:
            raise Refused(f"no index kind {kind!r}; kinds are {', '.join(INDEX_KINDS)}")
        kind = kind or _kind_for(len(vectors))
        index = _empty(kind, *vectors.shape)
        if kind == "flat":
            _fill_flat(index, vectors)
        else:
            _train(index, vectors, seed)
            _fill_ivf(index, vectors)
        recall = _tune(index, vectors, kind, seed)
        nprobe = 1 if kind == "flat" else index.nprobe
        return cls(index, IndexDescription(kind, *vectors.shape, recall_at_10=recall, nprobe=nprobe, seed=seed))

    def search(self, queries: Float[np.ndarray, "m d"], k: int) -> SearchResult:
        """The k rows nearest to each query: cosines (m, k) float32, highest first, and ids (m, k) int64.

        Equal cosines stand in the order of their ids; k is cut to the number of rows. Raises `Refused` where
        the width is another, or where a query is zero or not finite.
        """
        if queries.shape[1] != self.description.dim:
            raise Refused(f"queries have {queries.shape[1]} columns, the index has {self.description.dim}")
        if k < 1:
            raise Refused(f"k is {k}; ask for at least 1 neighbour")
        k, queries = min(k, len(self)), unit_rows(queries, "queries")
        scores, ids = (self._index if k <= _GPU_LIMIT else self._cpu).search(queries, k)
        short = (ids < 0).any(axis=1)  # the scanned cells held fewer than k rows: scan them all
        if short.any():
            everywhere = faiss.SearchParametersIVF()
            everywhere.nprobe = self._cpu.nlist
            scores[short], ids[short] = self._cpu.search(queries[short], k, params=everywhere)
        order = np.lexsort((ids, -scores), axis=1)
        return SearchResult(np.take_along_axis(scores, order, axis=1), np.take_along_axis(ids, order, axis=1))

    def save(self, path: str | Path) -> None:
        """Write `path`/vectors.faiss, FAISS's own format for the CPU, and `path`/index.json."""
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        faiss.write_index(self._cpu, str(path / "vectors.faiss.partial"))
        (path / "vectors.faiss.partial").replace(path / "vectors.faiss")
        (path / "index.json").write_text(json.dumps(asdict(self.description), indent=1) + "\n")

    @classmethod
    def open(cls, path: str | Path) -> "Index":
        """Open a saved index. Raises `Refused` where there is none, or where its two files do not match."""
        path = Path(path)
        if not (path / "index.json").exists() or not (path / "vectors.faiss").exists():
            raise Refused(f"{path} holds no index (vectors.faiss and index.json); build it again")
        about = json.loads((path / "index.json").read_text())
        if about.get("format") != _FORMAT:
            raise Refused(f"{path}/index.json has format {about.get('format')!r}; this version reads {_FORMAT}")
        try:
            index = faiss.read_index(str(path / "vectors.faiss"))
        except RuntimeError as error:
            raise Refused(f"{path}/vectors.faiss cannot be read; build the index again") from error
        found, expected = (index.ntotal, index.d), (about["rows"], about["dim"])
        if found != expected:
            raise Refused(f"{path}/vectors.faiss holds {found} rows and columns, index.json says {expected}")
        return cls(index, IndexDescription(**about))


def neighbour_graph(
    vectors: Rows, k: int, seed: int = 0
) -> tuple[Int64[np.ndarray, "n k"], Float32[np.ndarray, "n k"]]:
    """The k-NN graph: for every row the ids (n, k) of its k nearest and their cosine distances, itself first.

    k counts the row itself and is cut to the number of rows. Exact up to 10,000 rows, at recall@10 0.99 above.
    """
    index = Index.build(vectors, kind="flat" if len(vectors) <= _GRAPH_FLAT_LIMIT else "ivf", seed=seed)
    if index.kind != "flat" and index.scanned > _SCAN_LIMIT:  # rows without clusters: one large product is faster
        index = Index.build(vectors, kind="flat", seed=seed)
    found = [_self_first(start, index.search(block, k)) for start, block in unit_blocks(vectors)]
    ids, distances = zip(*found, strict=True)
    return np.concatenate(ids), np.concatenate(distances)


def _kind_for(n: int) -> str:
    return "flat" if n <= _FLAT_LIMIT else "ivf" if n <= _IVF_LIMIT else "ivfpq"


def _empty(kind: str, n: int, d: int) -> Any:
    if kind == "flat":
        return faiss.IndexFlatIP(d)
    quantizer, cells = faiss.IndexFlatIP(d), max(1, round(n**0.5))
    if kind == "ivf":
        index = faiss.IndexIVFFlat(quantizer, d, cells, faiss.METRIC_INNER_PRODUCT)
    else:
        parts = next(p for p in range(max(1, d // 4), 0, -1) if d % p == 0)
        index = faiss.IndexIVFPQ(quantizer, d, cells, parts, 8, faiss.METRIC_INNER_PRODUCT)
    return index


def _train(index: Any, vectors: Rows, seed: int) -> None:
    """k-means on a seeded sample: 64 rows a cell, and what the product quantiser's 256 codes need."""
    clusterings = [index.cp, index.pq.cp] if hasattr(index, "pq") else [index.cp]
    for clustering in clusterings:
        clustering.seed = seed
        clustering.min_points_per_centroid = 1  # no warning on stderr: a small index is asked for in earnest
    index.cp.spherical = True
    index.train(sample_rows(vectors, max(64 * index.nlist, 64 * 256 * (len(clusterings) - 1)), seed)[1])


def _fill_flat(index: Any, vectors: Rows) -> None:
    """Write the rows into the index's own memory: FAISS's `add` would double its buffer, and hold both."""
    n, d = vectors.shape
    index.codes.resize(n * d * 4)
    index.ntotal = n
    memory = faiss.rev_swig_ptr(index.get_xb(), n * d).reshape(n, d)
    for start, block in unit_blocks(vectors):
        memory[start : start + len(block)] = block


def _fill_ivf(index: Any, vectors: Rows) -> None:
    """File each row under its cell, the cells made as large as they will be first: growing ones hold a half for air."""
    cells = np.concatenate([index.quantizer.search(block, 1)[1][:, 0] for _, block in unit_blocks(vectors)])
    for cell, size in enumerate(np.bincount(cells, minlength=index.nlist).tolist()):
        index.invlists.resize(cell, size)
        index.invlists.resize(cell, 0)
    for start, block in unit_blocks(vectors):
        filed = cells[start : start + len(block)]
        index.add_core(len(block), faiss.swig_ptr(block), None, faiss.swig_ptr(filed))


def _tune(index: Any, vectors: Rows, kind: str, seed: int) -> float:
    """Recall@10 on sample rows, after doubling the cells that a search scans until it is reached or gains nothing."""
    own, queries = sample_rows(vectors, _RECALL_SAMPLE, seed)
    k = min(11, len(vectors))  # a row finds itself: ten more
    truth = _exact(queries, vectors, k)
    recall = _recall(index.search(queries, k), truth, own, kind)
    while kind != "flat" and recall < _RECALL_WANTED and index.nprobe < index.nlist:
        index.nprobe = min(2 * index.nprobe, index.nlist)
        gained = _recall(index.search(queries, k), truth, own, kind) - recall
        recall += gained
        if kind == "ivfpq" and gained < 0.002:  # what is left is the quantiser's error, not the cells'
            break
    return recall


def _exact(queries: Unit, vectors: Rows, k: int) -> _Found:
    heap = faiss.ResultHeap(len(queries), k, keep_max=True)
    for start, block in unit_blocks(vectors):
        scores, ids = faiss.knn(queries, block, min(k, len(block)), metric=faiss.METRIC_INNER_PRODUCT)
        heap.add_result(scores, ids + start)
    heap.finalize()
    return heap.D, heap.I


def _recall(found: _Found, truth: _Found, own: Int64[np.ndarray, " m"], kind: str) -> float:
    """Share of the true neighbours found. Of rows equally near any will do, where scores are exact."""
    scores, ids = found
    hit = (ids[:, :, None] == truth[1][:, None, :]).any(axis=2)
    if kind != "ivfpq":
        hit |= scores >= truth[0][:, -1:] - 1e-6
    hit &= ids != own[:, None]
    wanted = truth[1].shape[1] - 1
    return float(np.minimum(hit.sum(axis=1), wanted).mean() / wanted) if wanted else 1.0


def _self_first(start: int, found: _Found) -> tuple[Int64[np.ndarray, "m k"], Float32[np.ndarray, "m k"]]:
    """Put each row before its neighbours, at distance 0: among many copies FAISS may list it late, or not at all."""
    scores, ids = found
    own = np.arange(start, start + len(ids))[:, None]
    is_self = ids == own
    is_self[~is_self.any(axis=1), -1] = True  # crowded out: it takes the place of the farthest
    order = np.argsort(~is_self, axis=1, kind="stable")
    distances = np.maximum(1 - np.take_along_axis(scores, order, axis=1), 0)
    ids = np.take_along_axis(ids, order, axis=1)
    ids[:, :1], distances[:, 0] = own, 0
    return ids, distances
