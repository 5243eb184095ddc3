import numpy as np
import pyarrow as pa
import pytest

from atlas.analysis.cells import (
    Cells,
    average_cells,
    first_grid,
    fit_to_square,
    grid_columns,
    is_blank,
    label_cells,
    name_cells,
    patch_corner,
)
from atlas.dream.gallery import encode_webp


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


def test_grids_are_as_many_as_the_patches_fill():
    assert [grid_columns(n) for n in (1, 300, 1000, 4000, 20_000, 10**6)] == [
        [1], [5], [5, 10], [5, 10, 20], [10, 20, 40], [20, 40, 80, 160],
    ]  # fmt: skip
    assert [first_grid(grids) for grids in ([5], [10, 20, 40], [20, 40, 80, 160], [80])] == [5, 20, 20, 80]


def test_variants_of_one_thing_count_once(layout, A):
    things = np.arange(2000) // 40  # forty variants each
    once = average_cells(layout, A, 5, things=things)
    assert once.count.sum() < (once.of >= 0).sum()
    for cell, count in enumerate(once.count.tolist()):
        inside = np.flatnonzero(once.of == cell)
        assert count == len(set(things[inside].tolist()))
        assert len(set(things[once.members[cell]].tolist())) == len(once.members[cell])
    assert once.of.min() >= -1


def test_cells_are_named_by_what_their_things_share_and_no_others():
    rng = np.random.default_rng(0)
    of, things = np.repeat(np.arange(20), 30), np.arange(600)
    labels = [f"{word} {i}" for i, word in enumerate(rng.permutation(["red fox", "old tree", "blue car"] * 200))]
    for i in range(30):
        labels[i] = f"{('grey wolf', 'white wolf', 'ship')[i % 3]}"
    names, cover = name_cells(of, labels, things)
    assert "wolf" in names[0]
    assert cover[0] >= 0.3
    assert not any(names[1:]), "chance names nothing"
    few = [
        *[f"{('white', 'grey', 'red', 'old')[i]} wolf" for i in range(4)],
        *[f"ship {i}" for i in range(26)],
        *labels[30:],
    ]
    assert "wolf" not in name_cells(of, few, things)[0], "all wolves are in the first cell, but most of it is ships"
    worlds = [name_cells(of, rng.permutation(labels).tolist(), things)[0] for _ in range(20)]
    assert sum(any(names) for names in worlds) <= 4  # half of a name is expected in all cells of a world, at most
    alike = name_cells(of, labels, np.where(things < 30, 0, things))  # the thirty are variants of one thing
    assert not alike[0][0]
    assert name_cells(np.full(4, -1), ["a"] * 4, np.arange(4))[0] == []


def test_a_patch_of_one_colour_is_blank():
    picture = np.full((64, 64, 3), 255, np.uint8)
    picture[:20, :20] = (200, 30, 30)
    thumb = encode_webp(picture)
    assert [is_blank(thumb, top, left) for top in (0.0, 0.5) for left in (0.0, 0.5)] == [False, True, True, True]
    assert is_blank(encode_webp(np.full((64, 64, 3), 90, np.uint8)), 0.0, 0.0, 1.0)
    assert patch_corner(np.arange(3), 3).tolist() == pytest.approx([0, 0.25, 0.5])
    assert patch_corner(np.array([0]), 1).tolist() == [0], "a class token sees the whole picture"
