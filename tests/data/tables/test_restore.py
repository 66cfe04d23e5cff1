"""Numbers become what the rows were, with rounding and clipping."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from isthmus.data import Schema, open_source
from isthmus.data.output.write import table_schema
from isthmus.data.tables.restore import cast, restore
from isthmus.errors import DataError, RequestError


def there_and_back(rows, **options):
    source = open_source(rows, **options)
    return restore(source.read(np.arange(len(source))).astype(np.float64), source.schema)


@pytest.mark.parametrize(
    ("dtype", "given", "expected"),
    [
        ("uint8", [-3, 0.49, 0.51, 254.6, 300, np.inf], [0, 0, 1, 255, 255, 255]),
        ("int8", [-200, -1.4, 1.6, 200, -np.inf], [-128, -1, 2, 127, -128]),
        ("int64", [1e30, -1e30, 2.0**60], [2**63 - 1024, -(2**63), 2**60]),
        ("uint64", [-1, 1e30], [0, 2**64 - 2048]),
        ("bool", [-1, 0.49, 0.5, 7], [False, False, True, True]),
        ("float32", [1e300, -1e300, 0.5], [np.finfo("f4").max, np.finfo("f4").min, 0.5]),
        ("float16", [1e9], [65504]),
    ],
)
def test_cast(dtype, given, expected):
    result = cast(np.array(given), dtype)
    assert result.dtype == dtype
    assert result.tolist() == np.array(expected, dtype).tolist()


def test_cast_between_integers_clips_without_floats():
    assert cast(np.array([2**62 + 1, -5]), "uint64").tolist() == [2**62 + 1, 0]
    assert cast(np.array([300, -300]), "int8").tolist() == [127, -128]


def test_nan_cannot_become_an_integer():
    with pytest.raises(DataError, match="NaN cannot become uint8"):
        cast(np.array([np.nan]), "uint8")


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "float64", "bool"])
@pytest.mark.parametrize("shape", [(3, 2), (3, 4, 4), (3, 4, 4, 3), (3, 40, 2)])
def test_arrays_come_back(dtype, shape):
    rows = (np.arange(np.prod(shape)).reshape(shape) % 2).astype(dtype)
    back = there_and_back(rows)
    assert back.dtype == rows.dtype
    np.testing.assert_array_equal(back, rows)


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float32, torch.uint8, torch.bool]
)
def test_tensors_come_back(dtype):
    rows = torch.tensor([[1, 0], [0, 1]]).to(dtype)
    back = there_and_back(rows)
    assert back.dtype == dtype
    assert torch.equal(back, rows)


@pytest.mark.parametrize("make", [sparse.csr_matrix, sparse.csc_array])
def test_sparse_rows_come_back(make):
    rows = make(np.array([[0, 2], [3, 0]], "int32"))
    back = there_and_back(rows)
    assert back.format == "csr"
    assert isinstance(back, sparse.spmatrix) == isinstance(rows, sparse.spmatrix)
    assert back.dtype == "int32"
    assert back.nnz == 2
    assert back.toarray().tolist() == [[0, 2], [3, 0]]


def test_integer_columns_are_rounded_and_clipped():
    schema = open_source(pd.DataFrame({"n": np.ones(2, "uint8"), "b": [True, False]})).schema
    back = restore(np.array([[299.0, 0.6], [1.6, 0.4]]), schema)
    assert back["n"].tolist() == [255, 2]
    assert back["b"].tolist() == [True, False]


def test_values_of_another_shape_are_refused():
    with pytest.raises(RequestError, match=r"shape \(2, 3\) do not fit rows of shape \(2,\)"):
        restore(np.zeros((2, 3)), table_schema(["a", "b"]))


def test_a_frame_library_that_is_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    schema = Schema(layout="table", shape=(1,), dtypes=("Int8",), names=("a",), container="polars")
    with pytest.raises(
        RequestError, match=r"polars table, and polars is not installed.*pip install pol"
    ):
        restore(np.zeros((1, 1)), schema)
