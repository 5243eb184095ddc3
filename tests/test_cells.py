import numpy as np
import pyarrow as pa
import pytest

from atlas.analysis.cells import Cells, average_cells, fit_to_square, label_cells


@pytest.fixture(scope="module")
def layout() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2000, 2)).astype(np.float32)


@pytest.fixture(scope="module", name="A")
def activations() -> np.ndarray:
    return np.random.default_rng(1).exponential(size=(2000, 6)).astype(np.float16)


def test_normalise_draws_strays_in_and_fills_the_square():
    line = np.linspace(0, 100, 101, dtype=np.float32)
    layout = np.stack([line, np.where(line == 100, 1e6, line)], axis=1)
    scaled = fit_to_square(layout)
    assert (scaled.min(axis=0) == 0).all()
    assert (scaled.max(axis=0) == 1).all()
    np.testing.assert_allclose(scaled[:, 0], line / 100, atol=1e-6)
    # 99th percentile 99 and a tenth of the span of 98 beyond it: the stray ends at 108.8
    np.testing.assert_allclose(scaled[:-1, 1], line[:-1] / 108.8, atol=1e-5)


def test_normalise_of_one_point_is_the_middle():
    assert fit_to_square(np.full((3, 2), 7.0)).tolist() == [[0.5, 0.5]] * 3


def test_cells_are_those_of_a_loop(layout, A):
    found, at = average_cells(layout, A, columns=7, minimum=10), fit_to_square(layout)
    expected = {}
    for row in range(7):
        for column in range(7):
            inside = [
                i
                for i, (x, y) in enumerate(at)
                if min(int(x * np.float32(7)), 6) == column and 6 - min(int(y * np.float32(7)), 6) == row
            ]
            if len(inside) >= 10:
                expected[column, row] = inside
    assert list(zip(found.column.tolist(), found.row.tolist(), strict=True)) == list(expected)
    for i, inside in enumerate(expected.values()):
        mean = A[inside].astype(np.float64).mean(axis=0)
        assert found.count[i] == len(inside)
        np.testing.assert_allclose(found.direction[i], mean, rtol=1e-5)
        cosine = A[inside].astype(np.float64) @ mean / np.linalg.norm(A[inside].astype(np.float64), axis=1)
        assert found.members[i].tolist() == [inside[j] for j in np.argsort(-cosine, kind="stable")][:24]


def test_a_cell_stands_where_its_points_do(layout, A):
    found, at = average_cells(layout, A, columns=9), fit_to_square(layout)
    for i, members in enumerate(found.members):
        assert np.abs(at[members] - [found.x[i], found.y[i]]).max() <= 0.5 / 9 + 1e-6
    assert found.row[found.y.argmax()] == 0


def test_size_is_the_root_of_density():
    corners = np.array([[0, 0]] * 10 + [[0, 1]] * 40 + [[1, 0]] * 160 + [[1, 1]] * 190, np.float32)
    found = average_cells(corners, np.ones((400, 3), np.float32), columns=2)
    size = dict(zip(found.count.tolist(), found.size.tolist(), strict=True))
    assert size == pytest.approx({10: np.sqrt(0.1), 40: np.sqrt(0.4), 160: 1, 190: 1})


def test_blocks_change_nothing(layout, A, monkeypatch):
    whole = average_cells(layout, A)
    monkeypatch.setattr("atlas.analysis.cells.BLOCK_ROWS", 77)
    parts = average_cells(layout, A)
    np.testing.assert_allclose(parts.direction, whole.direction, rtol=1e-6)
    assert [m.tolist() for m in parts.members] == [m.tolist() for m in whole.members]


def test_members_are_ready_for_parquet(layout, A):
    found = average_cells(layout, A, members=3)
    assert pa.array(found.members).type == pa.list_(pa.int64())
    assert max(len(m) for m in found.members) == 3


def planted(loud: float = 0.0) -> tuple[Cells, np.ndarray, np.ndarray]:
    """Four corners, each with a neuron of its own; W is the identity, and text 0 is near to everything by `loud`."""
    corners = np.repeat(np.array([[0, 1], [1, 1], [0, 0], [1, 0]], np.float32), 20, axis=0)
    A = np.repeat(np.eye(4, dtype=np.float32), 20, axis=0) + 0.1
    T = np.eye(4, dtype=np.float32)
    T[0] += loud
    return average_cells(corners, A, columns=2), np.eye(4, dtype=np.float32), T


@pytest.mark.parametrize("loud", [0.0, 5.0])
def test_each_cell_is_named_by_its_own_word_however_loud_another(loud):
    found, W, T = planted(loud)
    labels, scores = label_cells(found, W, T, ["cat", "dog", "sun", "sea"])
    assert labels == ["cat", "dog", "sun", "sea"]
    assert (scores > 1).all()


def test_one_cell_is_named_by_its_attribution():
    found = average_cells(np.zeros((9, 2), np.float32), np.tile(np.array([[0, 1]], np.float32), (9, 1)))
    labels, _ = label_cells(found, np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), ["cat", "dog"])
    assert labels == ["dog"]
