"""Functions that take arrays accept what notebooks hold, with the same result, or refuse in a line that names it."""

import re

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

import atlas
import decompose
from atlas.arrays import given_array, given_texts
from atlas.errors import Refused
from atlas.model.directions import Directions
from atlas.pages import write_points


@pytest.fixture(scope="module")
def A():  # noqa: N802
    return np.random.default_rng(0).random((40, 6)).astype(np.float32)


def memory_map(A, folder):
    np.save(folder / "a.npy", A)
    return np.load(folder / "a.npy", mmap_mode="r")


HOLDERS = {
    "list": lambda A, _: A.tolist(),
    "rows": lambda A, _: list(A),
    "float64": lambda A, _: A.astype(np.float64),
    "objects": lambda A, _: A.astype(object),
    "map": memory_map,
    "pandas": lambda A, _: pd.DataFrame(A),
    "polars": lambda A, _: pl.DataFrame(A),
    "tensor": lambda A, _: torch.tensor(A, requires_grad=True),
    "tensors": lambda A, _: [torch.tensor(row) for row in A],
}


COLUMNS = {
    "pandas": lambda A: pd.Series(list(A)),
    "lists": lambda A: pd.Series(A.tolist()),
    "polars": lambda A: pl.Series(A.tolist()),
    "polars, fixed": lambda A: pl.Series(A.tolist(), dtype=pl.Array(pl.Float32, A.shape[1])),
    "arrow": lambda A: pa.array(A.tolist()),
    "arrow, fixed": lambda A: pa.FixedSizeListArray.from_arrays(pa.array(A.ravel()), A.shape[1]),
    "chunks": lambda A: pa.chunked_array([A[:3].tolist(), A[3:].tolist()]),
    "objects": lambda A: pd.Series(list(A)).to_numpy(),
    "tensors": lambda A: pd.Series([torch.tensor(row) for row in A]),
    "a table": lambda A: pa.table({str(i): A[:, i] for i in range(A.shape[1])}),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_of_vectors_is_an_array(A, name):
    held = COLUMNS[name](A)
    np.testing.assert_allclose(given_array(held, 2, "A"), A, rtol=1e-6)
    assert atlas.Index.build(held).search(held, 1)[1].shape == (40, 1)
    if name != "a table":
        found = decompose.SparseNMF(2, random_state=0).fit_transform(held)
        np.testing.assert_allclose(found, decompose.SparseNMF(2, random_state=0).fit_transform(A), atol=1e-3)


def test_columns_of_other_things_are_named():
    for held, reason in (
        ([np.ones(2), np.ones(3)], "A is a column of vectors of different lengths, 2, 3"),
        ([np.ones(2), None], "A has vectors in some cells only"),
        ([np.array(["a", "b"])] * 2, "A holds what is no number"),
    ):
        with pytest.raises(Refused, match=reason):
            given_array(pd.Series(held), 2, "A")


@pytest.mark.parametrize("name", HOLDERS)
def test_numbers(A, tmp_path, name):
    held = HOLDERS[name](A, tmp_path)
    np.testing.assert_array_equal(np.asarray(given_array(held, 2, "A"), np.float32), A)
    index = atlas.Index.build(held)
    np.testing.assert_array_equal(index.search(held, 3)[1], atlas.Index.build(A).search(A, 3)[1])
    np.testing.assert_allclose(Directions.neurons([2], 6).activations(held), A[:, [2]], rtol=1e-6)
    if name not in ("objects", "tensors", "map"):  # a memory map is streamed
        expected = decompose.SparseNMF(2, random_state=0).fit_transform(A)
        np.testing.assert_allclose(decompose.SparseNMF(2, random_state=0).fit_transform(held), expected, atol=1e-4)


FUNCTIONS = {
    "held_out": lambda A: decompose.held_out(decompose.SparseNMF(2, random_state=0), A, 2),
    "stability": lambda A: decompose.stability(decompose.SparseNMF(2, random_state=0), A, 2).cosine,
    "association_test": lambda A: decompose.association_test(A, A, A, A[:7], 50).effect,
    "inverse_transform": lambda A: fitted_nmf().inverse_transform(A),
    "difference": lambda A: Directions.difference(A, MARKS["list"], "d").write,
    "probe": lambda A: Directions.probe(A, MARKS["list"], "d").read,
    "basis": lambda A: Directions.neurons([1, 3], 40).basis(A),
}
MARKS = {
    "list": [True, False] * 20,
    "whole numbers": [1, 0] * 20,
    "pandas": pd.Series([True, False] * 20),
    "objects": np.array([True, False] * 20, object),
    "tensor": torch.tensor([True, False] * 20),
}


def fitted_nmf():
    return decompose.SparseNMF(6, random_state=0, max_iter=500, tol=1e-2).fit(
        np.random.default_rng(1).random((30, 8), np.float32)
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_give_the_same_for_all_that_holds_numbers(A, tmp_path, name):
    expected = FUNCTIONS[name](A)
    for hold in ("list", "map", "pandas", "polars", "tensor", "tensors"):
        np.testing.assert_allclose(FUNCTIONS[name](HOLDERS[hold](A, tmp_path)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MARKS)
def test_marks(A, name):
    expected = Directions.difference(A, np.array([True, False] * 20), "d")
    np.testing.assert_array_equal(Directions.difference(A, MARKS[name], "d").write, expected.write)
    with pytest.raises(Refused, match="mask holds other numbers than 0 and 1"):
        Directions.difference(A, [2, 0] * 20, "d")
    with pytest.raises(Refused, match="y holds what is no number"):
        Directions.probe(A, ["cat", "dog"] * 20, "d")


def test_half_precision_and_whole_numbers(A):
    half = torch.tensor(A, dtype=torch.bfloat16)
    np.testing.assert_allclose(given_array(half, 2, "A"), A, atol=0.01)
    decompose.SparseNMF(2, random_state=0).fit(half)
    assert given_array([[1, 2], [3, 4]], 2, "A").dtype == np.float32
    assert given_array([[1.0, 2.0]], "positions", "near").dtype == np.int64


@pytest.mark.parametrize(
    "hold",
    [list, tuple, np.array, pd.Series, pl.Series, pd.Categorical, lambda x: pd.Series(x, dtype="string"), iter],
)
def test_texts(hold):
    assert given_texts(hold(["a", "b", "a"]), "captions") == ["a", "b", "a"]


def test_missing_texts_are_empty():
    for held in (["a", None], ["a", float("nan")], pd.Series(["a", pd.NA]), pl.Series(["a", None]), [b"a", pd.NaT]):
        assert given_texts(held, "captions") == ["a", ""]


def test_a_map_of_what_pandas_holds(tmp_path, A):
    kinds = ["p", "q"] * 20
    frame = pd.DataFrame({"x": A[:, 0], "y": A[:, 1], "caption": ["a", None] * 20, "kind": pd.Categorical(kinds)})
    given = {
        "pandas": (frame[["x", "y"]], frame["caption"], frame["kind"], [[1]] * 40),
        "plain": (A[:, :2], ["a", ""] * 20, kinds, np.ones((40, 1), np.int64)),
    }
    pages = [write_points(tmp_path / name / "map.html", *each).read_bytes() for name, each in given.items()]
    one, other = (re.sub(rb"p\d{4}", b"", page) for page in pages)  # Bokeh numbers its models
    assert one == other


def test_labels_of_what_notebooks_hold():
    T = np.eye(3)
    A = np.tile(np.eye(3), (50, 1))
    captions = pd.Series(["cat", "dog", "sun"] * 50)
    for held in (A.tolist(), pd.DataFrame(A), torch.tensor(A)):
        found = decompose.label_activations(held, pl.Series(["cat", "dog", "sun"]), T.tolist(), captions=captions)
        assert found["label"].to_pylist() == ["cat", "dog", "sun"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([[1, 2], [3]], "A cannot be read as an array"), ([["a", "b"]], "A holds what is no number"),
        ([1, 2], r"A is an array of shape \(2,\); it needs two axes"), (3, "A is a int"), ("text", "A is a str"),
        ({"a": 1}, "A is a dict"), (np.zeros((2, 2), complex), "A holds complex"),
    ],
)  # fmt: skip
def test_what_is_no_array_is_named(value, reason):
    with pytest.raises(Refused, match=reason):
        given_array(value, 2, "A")


def test_other_refusals(A):
    for value in ("one text", 3, np.array("x"), {"a": "x", "b": "y"}, {"x", "y"}):  # no order, or keys for texts
        with pytest.raises(Refused, match="captions is"):
            given_texts(value, "captions")
    with pytest.raises(Refused, match="near holds fractions"):
        given_array([[0.5]], "positions", "near")
    model = decompose.SparseNMF(2, random_state=0)
    with pytest.raises(Refused, match="3 rows are too few for 4 folds"):
        decompose.choose(model, A[:3].tolist(), [2, 3])
    with pytest.raises(Refused, match="all activations are zero"):
        decompose.choose(model, np.zeros((40, 6)), [2, 3])


@pytest.mark.parametrize("number", ["3", 2.5, None])
def test_a_number_of_factors_is_a_whole_number(A, number):
    with pytest.raises(Refused, match=f"n_components is '{number}', and a whole number is needed"):
        decompose.SparseNMF(number, random_state=0).fit(A)


def test_sparse_tensors_are_arrays(A):
    assert np.array_equal(np.asarray(given_array(torch.from_numpy(A).to_sparse(), 2, "A")), A)


def test_what_cannot_be_mapped_or_factored_is_one_line(A, tmp_path):
    model = decompose.SparseNMF(2, random_state=0)
    broken, both, masked = A.copy(), A - 0.5, np.ma.masked_array(A, A > 0.9)
    broken[3, 2] = np.nan
    for function in (decompose.held_out, decompose.stability):
        with pytest.raises(Refused, match="A holds 1 numbers that are not finite"):
            function(model, broken)
        with pytest.raises(Refused, match="below zero"):
            function(model, both)
        with pytest.raises(Refused, match="A has masked values"):
            function(model, masked)
    assert decompose.held_out(decompose.SparseNMF(2, split="sign", random_state=0), both, 2).shape == (2,)
    with pytest.raises(Refused, match=r"xy of shape \(n, 2\), got \(40, 3\)"):
        write_points(tmp_path / "map.html", A[:, :3], ["a"] * len(A))
    for shares, reason in (([0.5] * 3, "40 places have 3 preservation"), ([np.nan] * 40, "preservation holds other")):
        with pytest.raises(Refused, match=reason):
            write_points(tmp_path / "map.html", A[:, :2], ["a"] * 40, preservation=shares)


def without_a_line(A):
    broken, far, masked = A.copy(), A.copy(), np.ma.masked_array(A, A > 0.9)
    broken[3, 2], far[3, 2] = np.nan, np.inf
    return {"NaN": broken, "infinity": far, "Negative": A - 0.5, "1D": A[:, 0], "dim 3": A[None], "masked": masked,
            "0 sample": A[:0], "Complex": A.astype(complex), "hello": "hello", "array": None}  # fmt: skip


@pytest.mark.parametrize("fit", ["fit", "fit_transform", "partial_fit", "transform", "score"])
def test_sparse_nmf_refuses_in_a_line_that_names_a(A, fit):
    for reason, held in without_a_line(A).items():
        model = decompose.SparseNMF(2, random_state=0)
        model = model.fit(A) if fit in ("transform", "score") else model
        with pytest.raises(Refused, match=f"^A .*{reason}") as refused:
            getattr(model, fit)(held)
        assert "\n" not in str(refused.value)
    with pytest.raises(Refused, match=r"^A cannot be factored: X has 3 features, but SparseNMF is expecting 6"):
        decompose.SparseNMF(2, random_state=0).fit(A).transform(A[:, :3])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_numbers_of_factors_neurons_and_folds(A):
    model = decompose.SparseNMF(2, random_state=0, max_iter=500, tol=1e-2)
    for tried in (pd.Series([1, 2]), range(1, 3), torch.tensor([1, 2]), np.array([1.0, 2.0])):
        assert decompose.choose(model, A, tried, folds=2, restarts=2).tried == (1, 2)
    for tried, reason in ((3, "tried is a int"), (["a"], "tried holds what is no number"), ([1.5], "tried holds frac")):
        with pytest.raises(Refused, match=reason):
            decompose.choose(model, A, tried)
    with pytest.raises(Refused, match="1 rows are too few for 4 folds"):
        decompose.held_out(model, A[:1])
    assert decompose.compare_neurons(A, torch.tensor(3)).equals(decompose.compare_neurons(A, 3))
    for neuron in ("3", 1.5, [3], None):
        with pytest.raises(Refused, match=r"neuron is .* and a whole number is needed"):
            decompose.compare_neurons(A, neuron)
    assert Directions.neurons(pd.Series([1, 2]), 8).names == ("neuron 1", "neuron 2")
    with pytest.raises(Refused, match="ids holds fractions"):
        Directions.neurons([1.7], 8)


NUMBERS = {  # by argument: a call that takes it, and what it needs
    "max_mb": (lambda A, x: atlas.pages.write_points("page.html", A[:, :2], ["a"] * 40, max_mb=x), "number"),
    "min_dist": (lambda A, x: atlas.project(A, min_dist=x), "number"),
    "n_neighbors": (lambda A, x: atlas.project(A, n_neighbors=x), "whole number"),
    "penalty": (lambda A, x: decompose.solve_sparse(A, A, penalty=x), "number"),
    "k": (lambda A, x: decompose.compare_neurons(A, 1, k=x), "whole number"),
    "folds": (lambda A, x: decompose.held_out(fitted_nmf(), A, x), "whole number"),
    "scale": (lambda A, x: decompose.label_activations(A, ["a"], A[:1], A, scale=x), "number"),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_is_none_is_named(A, name):
    call, kind = NUMBERS[name]
    for given in ("25", float("nan"), [1, 2], True, *([2.5] if kind == "whole number" else [])):
        with pytest.raises(Refused, match=rf"^{name} is .*, and a {kind} is needed$"):
            call(A, given)


def test_a_number_of_any_library_is_one(A):
    for five in (5, np.int64(5), torch.tensor(5), np.array([5])):
        assert decompose.compare_neurons(A, 1, k=five).num_rows == 5
    found = decompose.solve_sparse(A[:3], A[3:], penalty=0.1)
    for penalty in (np.float32(0.1), torch.tensor(0.1), np.float64(0.1)):
        np.testing.assert_allclose(decompose.solve_sparse(A[:3], A[3:], penalty=penalty), found, atol=1e-6)


@pytest.mark.parametrize("call", [
    lambda A: atlas.Index.build(A), lambda A: Directions.components(A), lambda A: decompose.held_out(fitted_nmf(), A),
    lambda A: decompose.compare_neurons(A, 1), lambda A: Directions.neurons([1], 6).activations(A),
])  # fmt: skip
def test_none_for_an_array_that_is_needed_is_named(call):
    with pytest.raises(Refused, match=r"(A|D|vectors) is a NoneType, and an array of numbers is needed"):
        call(None)


def test_what_is_not_finite_is_named(A):
    broken = np.where(A > 0.9, np.nan, A)
    for call, name in (
        (lambda: Directions.components(broken), "D"),
        (lambda: decompose.compare_neurons(broken, 1), "A"),
        (lambda: decompose.match_neurons(A, broken), "B"),
        (lambda: decompose.rank_neurons(A[0], np.repeat(A, 3, 0), broken), "W"),
        (lambda: decompose.solve(A, broken, "omp", k=1), "D"),
    ):
        with pytest.raises(Refused, match=f"^{name} holds numbers that are not finite"):
            call()
