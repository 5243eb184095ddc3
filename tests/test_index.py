import json

import faiss
import numpy as np
import pytest

from atlas.analysis.index import Index, neighbour_graph
from atlas.errors import Refused
from tests.fakes import clustered, nearest


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return clustered(3000)


def test_flat_search_equals_brute_force(vectors):
    scores, ids = Index.build(vectors).search(vectors[:50], 10)
    assert (ids == nearest(vectors[:50], vectors, 10)).all()
    np.testing.assert_allclose(scores, np.take_along_axis(vectors[:50] @ vectors.T, ids, axis=1), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "recall"), [("flat", 1.0), ("ivf", 0.99), ("ivfpq", 0.4)])
def test_each_kind_reaches_its_recall_and_measures_it_right(vectors, kind, recall):
    index = Index.build(vectors, kind=kind)
    assert (index.kind, len(index)) == (kind, 3000)
    assert index.recall >= recall
    found, truth = index.search(vectors, 11)[1], nearest(vectors, vectors, 11)
    hits = [len(set(f) & set(t) - {i}) / 10 for i, (f, t) in enumerate(zip(found, truth, strict=True))]
    assert np.mean(hits) == pytest.approx(index.recall, abs=0.02)


def test_ivf_scans_few_cells_where_few_suffice_and_more_where_not():
    clear, noise = clustered(3000), np.random.default_rng(0).standard_normal((3000, 32)).astype(np.float32)
    few, many = (Index.build(rows, kind="ivf").description.nprobe for rows in (clear, noise))
    assert few < many


@pytest.mark.parametrize("kind", ["flat", "ivf", "ivfpq"])
def test_same_seed_same_file(vectors, kind, tmp_path):
    for name in ("a", "b"):
        Index.build(vectors[:600], kind=kind, seed=3).save(tmp_path / name)
    for file in ("vectors.faiss", "index.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_another_seed_trains_other_cells(vectors, tmp_path):
    for seed in (3, 4):
        Index.build(vectors[:600], kind="ivf", seed=seed).save(tmp_path / str(seed))
    assert (tmp_path / "3" / "vectors.faiss").read_bytes() != (tmp_path / "4" / "vectors.faiss").read_bytes()


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_save_and_open_keep_answers_and_recall(vectors, kind, tmp_path):
    index = Index.build(vectors, kind=kind)
    index.save(tmp_path)
    opened = Index.open(tmp_path)
    assert opened.description == index.description
    for a, b in zip(index.search(vectors[:20], 7), opened.search(vectors[:20], 7), strict=True):
        assert (a == b).all()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["index.json", "vectors.faiss"]


def test_float16_memory_map_answers_as_the_array_does(vectors, tmp_path):
    rows = np.tile(vectors, (2, 1))[:5000].astype(np.float16)  # more than one block
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    for kind in ("flat", "ivf"):
        a, b = Index.build(mapped, kind=kind), Index.build(rows.astype(np.float32), kind=kind)
        for x, y in zip(a.search(vectors[:9], 5), b.search(vectors[:9], 5), strict=True):
            assert (x == y).all()


def test_length_of_vectors_does_not_matter(vectors):
    lengths = np.random.default_rng(0).uniform(0.1, 9, (len(vectors), 1)).astype(np.float32)
    _, ids = Index.build(vectors * lengths).search(vectors[:20] * 7, 5)
    assert (ids == nearest(vectors[:20], vectors, 5)).all()


def test_ties_stand_in_order_of_ids():
    rows = np.repeat(np.eye(4, dtype=np.float32), 3, axis=0)[[0, 3, 6, 1, 4, 7, 2, 5, 8, 9, 10, 11]]
    scores, ids = Index.build(rows).search(np.eye(4, dtype=np.float32)[:1], 12)
    assert ids[0].tolist() == [0, 3, 6, 1, 2, 4, 5, 7, 8, 9, 10, 11]
    assert (np.diff(scores[0]) <= 0).all()


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_k_beyond_the_cells_or_the_rows_gives_every_row(kind):
    rows = clustered(200)
    _, ids = Index.build(rows, kind=kind).search(rows[:3], 999)
    assert ids.shape == (3, 200)
    assert (np.sort(ids, axis=1) == np.arange(200)).all()


@pytest.mark.parametrize("n", [1, 2, 11])
def test_few_rows(n):
    rows = clustered(n)
    assert Index.build(rows, kind="ivf").recall == Index.build(rows).recall == 1.0


def test_size_decides_the_kind(monkeypatch):
    monkeypatch.setattr("atlas.analysis.index._FLAT_LIMIT", 100)
    monkeypatch.setattr("atlas.analysis.index._IVF_LIMIT", 300)
    assert [Index.build(clustered(n)).kind for n in (100, 101, 301)] == ["flat", "ivf", "ivfpq"]


@pytest.mark.parametrize(("value", "fault"), [(0, "row 4500 is zero"), (np.nan, "row 4500 is not finite")])
def test_rows_without_direction_are_named(value, fault):
    rows = np.ones((5000, 4), np.float32)
    rows[4500] = value
    for kind in ("flat", "ivf"):
        with pytest.raises(Refused, match=fault):
            Index.build(rows, kind=kind)


def test_what_cannot_be_met_is_refused(vectors):
    with pytest.raises(Refused, match="n > 0"):
        Index.build(vectors[:0])
    with pytest.raises(Refused, match="kinds are flat, ivf, ivfpq"):
        Index.build(vectors, kind="hnsw")
    index = Index.build(vectors)
    with pytest.raises(Refused, match="8 columns, the index has 32"):
        index.search(vectors[:2, :8], 3)
    with pytest.raises(Refused, match="at least 1"):
        index.search(vectors[:2], 0)


def test_a_damaged_index_is_refused(vectors, tmp_path):
    with pytest.raises(Refused, match="holds no index"):
        Index.open(tmp_path)
    Index.build(vectors).save(tmp_path)
    about = json.loads((tmp_path / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps(about | {"rows": 7}))
    with pytest.raises(Refused, match=r"\(3000, 32\).*\(7, 32\)"):
        Index.open(tmp_path)
    (tmp_path / "index.json").write_text(json.dumps(about | {"format": 99}))
    with pytest.raises(Refused, match="format 99"):
        Index.open(tmp_path)
    (tmp_path / "index.json").write_text(json.dumps(about))
    (tmp_path / "vectors.faiss").write_bytes((tmp_path / "vectors.faiss").read_bytes()[:5000])
    with pytest.raises(Refused, match="cannot be read"):
        Index.open(tmp_path)


@pytest.mark.parametrize("limit", [10_000, 100])
def test_neighbours_are_exact_and_the_row_itself_comes_first(vectors, limit, monkeypatch):
    monkeypatch.setattr("atlas.analysis.index._GRAPH_FLAT_LIMIT", limit)
    ids, distances = neighbour_graph(vectors, 8)
    assert (ids[:, 0] == np.arange(3000)).all()
    assert (distances[:, 0] == 0).all()
    truth = nearest(vectors, vectors, 8)
    assert (ids == truth).mean() > (0.999 if limit > 3000 else 0.98)
    np.testing.assert_allclose(distances, 1 - np.einsum("nd,nkd->nk", vectors, vectors[ids]), atol=2e-6)


def test_every_copy_is_its_own_first_neighbour():
    ids, distances = neighbour_graph(np.repeat(np.eye(3, dtype=np.float32), 40, axis=0), 5)
    assert (ids[:, 0] == np.arange(120)).all()
    assert (ids // 40 == np.arange(120)[:, None] // 40).all()
    assert all(len(set(row)) == 5 for row in ids)
    np.testing.assert_allclose(distances, 0, atol=1e-6)


@pytest.mark.skipif(faiss.get_num_gpus() == 0, reason="needs a GPU that FAISS sees")
def test_gpu_answers_as_the_cpu_does(vectors, monkeypatch):
    index = Index.build(vectors, kind="ivf")
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    assert (index.search(vectors, 5)[1] == Index(index._cpu, index.description).search(vectors, 5)[1]).mean() > 0.999


def test_recall_on_queries_of_another_kind_is_measured_and_tuned_on() -> None:
    """Texts lie far from images: the cells that are searched for rows do not do for them."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(80, 24))
    rows = (centres[random.integers(0, 80, 6000)] + random.normal(size=(6000, 24)) / 20).astype(np.float32)
    texts = random.normal(size=(100, 24)).astype(np.float32)
    alone, asked = Index.build(rows, "ivf"), Index.build(rows, "ivf", queries=texts)
    assert asked.description.nprobe >= alone.description.nprobe

    def found(index: Index) -> float:
        exact = Index.build(rows, "flat").search(texts, 10).ids
        return float(np.mean([len({*a} & {*b}) / 10 for a, b in zip(index.search(texts, 10).ids, exact, strict=True)]))

    assert found(alone) < found(asked)
    assert found(asked) >= 0.98
    assert asked.recall == pytest.approx(found(asked), abs=0.02) or asked.recall <= found(asked)
