"""Nearest-neighbour search by cosine, with FAISS, over embeddings or any other vectors.

    flat     exact; up to 50,000 rows
    ivf      rows in sqrt(n) k-means cells; a search scans only the cells nearest to the query
    ivfpq    ivf with product-quantised rows, which take a sixteenth of the memory; above two million rows

HNSW is not offered: its parallel insertion gives another graph in every run, so results could not be repeated. The
number of cells that a search scans is doubled until recall@10 against exact search is high enough.

Vectors may be an array, a memory map of any float type, or a Store's array; they are read in blocks of rows.
"""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, cast

import faiss
import numpy as np
from jaxtyping import Float, Float32, Int64

from atlas import reprs
from atlas.arrays import accepts
from atlas.errors import Refused
from atlas.formatting import Record
from atlas.sources.textfiles import check_regular, read_given_json
from atlas.vectors import Rows, Unit, sample_rows, unit_blocks, unit_rows

_FORMAT = 1
_FLAT_LIMIT, _IVF_LIMIT = 50_000, 2_000_000  # most rows of a flat index, and of one that is not quantised
_GRAPH_FLAT_LIMIT = 10_000  # most rows of a k-NN graph made by exact search; lower, since a graph needs n queries
_SCAN_LIMIT = 1 / 8  # fraction of the rows above which scanning cells is not faster than scanning all
_RECALL_SAMPLE = 500  # queries used to measure recall
_RECALL_WANTED = 0.99  # recall@10 that a search must reach
_GPU_LIMIT = 2048  # largest k of FAISS on a GPU

INDEX_KINDS = ("flat", "ivf", "ivfpq")
_Faiss: TypeAlias = Any  # an index of FAISS, whose bindings have no types
_Found = tuple[Float32[np.ndarray, "m k"], Int64[np.ndarray, "m k"]]  # cosines, and ids


@dataclass(frozen=True, slots=True)
class IndexDescription:
    """Description of an index, saved next to it as index.json."""

    kind: str  # flat | ivf | ivfpq
    rows: int
    dim: int
    recall_at_10: float  # fraction of the ten nearest rows that a search finds, over seeded sample rows and queries
    nprobe: int  # cells that a search scans; 1 for a flat index
    seed: int
    format: int = _FORMAT


class SearchResult(NamedTuple):
    """The result of a search: cosines (m, k), highest first, and ids (m, k). Shown as a table in Jupyter."""

    scores: Float32[np.ndarray, "m k"]
    ids: Int64[np.ndarray, "m k"]

    def _repr_html_(self) -> str:
        return reprs.search_table(self.scores, self.ids)


class Index:
    """An index of vectors that finds the nearest rows by cosine; on a GPU if FAISS finds one.

    `Index.build(vectors)` builds one, `Index.open(path)` reads one.

    >>> import numpy as np
    >>> index = Index.build(np.array([[1, 0], [0, 2], [3, 4]], np.float32))
    >>> found = index.search(np.array([[0, 1]], np.float32), k=2)
    >>> found.ids.tolist(), found.scores.astype(float).round(3).tolist()
    ([[1, 2]], [[1.0, 0.8]])
    """

    def __init__(self, index: _Faiss, description: IndexDescription):
        self._cpu, self.description = index, description
        on_gpu = faiss.get_num_gpus() > 0
        self._index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index) if on_gpu else index

    def __len__(self) -> int:
        return self.description.rows

    def __repr__(self) -> str:
        return f"Index({self.kind}, {len(self):,} x {self.description.dim}, recall@10 {self.recall:.3f})"

    @property
    def kind(self) -> str:
        """Kind of the index: flat | ivf | ivfpq."""
        return self.description.kind

    @property
    def scanned(self) -> float:
        """Fraction of the rows that a search scans."""
        return 1.0 if self.kind == "flat" else self.description.nprobe / self._cpu.nlist

    @property
    def recall(self) -> float:
        """Recall@10 against exact search, measured at build time."""
        return self.description.recall_at_10

    @classmethod
    @accepts(vectors=2, queries=2)
    def build(cls, vectors: Rows, kind: str | None = None, seed: int = 0, queries: Rows | None = None) -> "Index":
        """Index the rows of `vectors` (n, d), scaled to unit norm; ids are positions, 0 .. n-1.

        `queries`: other vectors that will be searched with, such as texts among images, by a sample of which recall is
        measured too: the lower of both recalls counts. `kind`: flat | ivf | ivfpq; chosen by the number of rows if
        None. The same vectors and seed give the same index. Besides the index, memory holds one block of rows and a
        sample for k-means. Raises `Refused` if there are no rows, and for a row that is zero or not finite.
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
        recall = _tune(index, vectors, kind, seed, queries)
        nprobe = 1 if kind == "flat" else index.nprobe
        return cls(index, IndexDescription(kind, *vectors.shape, recall_at_10=recall, nprobe=nprobe, seed=seed))

    @accepts(queries=2)
    def search(self, queries: Float[np.ndarray, "m d"], k: int) -> SearchResult:
        """The k rows nearest to each query: cosines (m, k) float32, highest first, and ids (m, k) int64.

        Equal cosines are ordered by id; k is capped at the number of rows. Raises `Refused` if queries have another
        number of columns, and for a query that is zero or not finite.
        """
        if queries.shape[1] != self.description.dim:
            raise Refused(f"queries have {queries.shape[1]} columns, the index has {self.description.dim}")
        if k < 1:
            raise Refused(f"k is {k}; ask for at least 1 neighbour")
        k, queries = min(k, len(self)), unit_rows(queries, "queries")
        scores, ids = (self._index if k <= _GPU_LIMIT else self._cpu).search(queries, k)
        short = (ids < 0).any(axis=1)  # the scanned cells had fewer than k rows: scan all cells
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
        """Open a saved index. Raises `Refused` if there is none, or if its two files do not match."""
        path = Path(path)
        if not (path / "index.json").exists() or not (path / "vectors.faiss").exists():
            raise Refused(f"{path} holds no index (vectors.faiss and index.json); build it again")
        about = _read_description(path / "index.json")
        check_regular(path / "vectors.faiss", sys.maxsize)
        try:
            index = faiss.read_index(str(path / "vectors.faiss"))
        except (RuntimeError, MemoryError):
            raise Refused(f"{path}/vectors.faiss cannot be read; build the index again") from None
        found, expected = (index.ntotal, index.d), (about.rows, about.dim)
        if found != expected:
            raise Refused(f"{path}/vectors.faiss holds {found} rows and columns, index.json says {expected}")
        return cls(index, about)


def _read_description(file: Path) -> IndexDescription:
    try:
        about = dict(cast(Record, read_given_json(file)))
        if about.get("format") == _FORMAT:
            return IndexDescription(**about)
    except (ValueError, TypeError):
        raise Refused(f"{file} does not describe an index; build the index again") from None
    raise Refused(f"{file} has format {about.get('format')!r}; this version reads {_FORMAT}")


def neighbour_graph(
    vectors: Rows, k: int, seed: int = 0
) -> tuple[Int64[np.ndarray, "n k"], Float32[np.ndarray, "n k"]]:
    """The k-NN graph: ids (n, k) and cosine distances of the k nearest rows of each row, the row itself first.

    k counts the row itself and is capped at the number of rows. Exact up to 10,000 rows, above with recall@10 of 0.99.
    """
    index = graph_index(vectors, seed)
    found = [_self_first(start, index.search(block, k)) for start, block in unit_blocks(vectors)]
    ids, distances = zip(*found, strict=True)
    return np.concatenate(ids), np.concatenate(distances)


def graph_index(vectors: Rows, seed: int = 0) -> Index:
    """The index by which the neighbours of all rows are found: exact up to 10,000 rows, above with recall@10 of .99."""
    index = Index.build(vectors, kind="flat" if len(vectors) <= _GRAPH_FLAT_LIMIT else "ivf", seed=seed)
    if index.kind != "flat" and index.scanned > _SCAN_LIMIT:  # without clusters exact search is faster
        return Index.build(vectors, kind="flat", seed=seed)
    return index


def _kind_for(n: int) -> str:
    return "flat" if n <= _FLAT_LIMIT else "ivf" if n <= _IVF_LIMIT else "ivfpq"


def _empty(kind: str, n: int, d: int) -> _Faiss:
    if kind == "flat":
        return faiss.IndexFlatIP(d)
    quantizer, cells = faiss.IndexFlatIP(d), max(1, round(n**0.5))
    if kind == "ivf":
        index = faiss.IndexIVFFlat(quantizer, d, cells, faiss.METRIC_INNER_PRODUCT)
    else:
        parts = next(p for p in range(max(1, d // 4), 0, -1) if d % p == 0)
        index = faiss.IndexIVFPQ(quantizer, d, cells, parts, 8, faiss.METRIC_INNER_PRODUCT)
    return index


def _train(index: _Faiss, vectors: Rows, seed: int) -> None:
    """Train k-means, and the product quantiser with its 256 codes, on a seeded sample of 64 rows per cell or code."""
    clusterings = [index.cp, index.pq.cp] if hasattr(index, "pq") else [index.cp]
    for clustering in clusterings:
        clustering.seed = seed
        clustering.min_points_per_centroid = 1  # silences FAISS's warning about small training sets
    index.cp.spherical = True
    index.train(sample_rows(vectors, max(64 * index.nlist, 64 * 256 * (len(clusterings) - 1)), seed)[1])


def _fill_flat(index: _Faiss, vectors: Rows) -> None:
    """Write the rows into the index's memory; FAISS's `add` would need twice the memory while its buffer grows."""
    n, d = vectors.shape
    index.codes.resize(n * d * 4)
    index.ntotal = n
    memory = faiss.rev_swig_ptr(index.get_xb(), n * d).reshape(n, d)
    for start, block in unit_blocks(vectors):
        memory[start : start + len(block)] = block


def _fill_ivf(index: _Faiss, vectors: Rows) -> None:
    """Add each row to its cell; lists are pre-allocated, since FAISS over-allocates by up to half when they grow."""
    cells = np.concatenate([index.quantizer.search(block, 1)[1][:, 0] for _, block in unit_blocks(vectors)])
    for cell, size in enumerate(np.bincount(cells, minlength=index.nlist).tolist()):
        index.invlists.resize(cell, size)
        index.invlists.resize(cell, 0)
    for start, block in unit_blocks(vectors):
        filed = cells[start : start + len(block)]
        index.add_core(len(block), faiss.swig_ptr(block), None, faiss.swig_ptr(filed))


def _tune(index: _Faiss, vectors: Rows, kind: str, seed: int, others: Rows | None = None) -> float:
    """Double the number of scanned cells until recall@10 is high enough or stops rising; returns the recall.

    Recall is measured on rows of the index, and on a sample of other queries if there are any: the lower one counts.
    """
    own, queries = sample_rows(vectors, _RECALL_SAMPLE, seed)
    samples = [(own, queries, min(11, len(vectors)))]  # each row finds itself and ten others
    if others is not None and len(others):
        asked = unit_rows(sample_rows(others, _RECALL_SAMPLE, seed)[1], "queries")
        samples.append((np.full(len(asked), -1), asked, min(10, len(vectors))))
    known = [(own, queries, k, _exact(queries, vectors, k)) for own, queries, k in samples]

    def measured() -> float:
        return min(_recall(index.search(asked, k), truth, own, kind) for own, asked, k, truth in known)

    recall = measured()
    while kind != "flat" and recall < _RECALL_WANTED and index.nprobe < index.nlist:
        index.nprobe = min(2 * index.nprobe, index.nlist)
        gained = measured() - recall
        recall += gained
        if kind == "ivfpq" and gained < 0.002:  # the remaining error comes from the quantiser
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
    """Fraction of the true neighbours found; if scores are exact, any row as near as the last true one counts."""
    scores, ids = found
    hit = (ids[:, :, None] == truth[1][:, None, :]).any(axis=2)
    if kind != "ivfpq":
        hit |= scores >= truth[0][:, -1:] - 1e-6
    hit &= ids != own[:, None]
    wanted = truth[1].shape[1] - int(own[0] >= 0)  # a row of the index finds itself besides
    return float(np.minimum(hit.sum(axis=1), wanted).mean() / wanted) if wanted else 1.0


def _self_first(start: int, found: _Found) -> tuple[Int64[np.ndarray, "m k"], Float32[np.ndarray, "m k"]]:
    """Put each row before its neighbours, at distance 0; among many copies FAISS may list it late or not at all."""
    scores, ids = found
    own = np.arange(start, start + len(ids))[:, None]
    is_self = ids == own
    is_self[~is_self.any(axis=1), -1] = True  # not listed: the row replaces the farthest one
    order = np.argsort(~is_self, axis=1, kind="stable")
    distances = np.maximum(1 - np.take_along_axis(scores, order, axis=1), 0)
    ids = np.take_along_axis(ids, order, axis=1)
    ids[:, :1], distances[:, 0] = own, 0
    return ids, distances
