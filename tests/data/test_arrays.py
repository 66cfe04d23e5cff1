"""Rows in memory: which layout they get, what is read, and what is refused."""

import numpy as np
import pytest
import torch
from scipy import sparse

from isthmus.data import array_source, sparse_source, tensor_source
from isthmus.errors import DataError, SourceError


@pytest.mark.parametrize(
    ("shape", "dtype", "layout", "network"),
    [
        ((5, 3), "float32", "table", (3,)),
        ((5, 28, 28), "uint8", "image", (1, 28, 28)),
        ((5, 28, 28), "float64", "image", (1, 28, 28)),
        ((5, 100, 6), "float32", "signal", (6, 100)),
        ((5, 100, 6), "uint8", "image", (1, 100, 6)),
        ((5, 8, 9, 3), "uint8", "image", (3, 8, 9)),
        ((5, 3, 8, 9), "float32", "image", (3, 8, 9)),
    ],
)
def test_the_layout_follows_from_shape_and_dtype(shape, dtype, layout, network):
    source = array_source(np.zeros(shape, dtype))
    assert source.schema.layout == layout
    assert source.schema.network_shape == network


def test_a_row_of_numbers_can_be_a_signal():
    assert array_source(np.zeros((4, 50)), layout="signal").schema.network_shape == (1, 50)


def test_big_endian_values_are_read_in_native_order():
    values = np.arange(6, dtype=">f8").reshape(3, 2)
    read = array_source(values).read(np.array([2, 0]))
    assert read.dtype == np.float64
    assert read.tolist() == [[4, 5], [0, 1]]
    torch.from_numpy(read)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(3), r"X: .*\(3,\).*Reshape your data"),
        (np.zeros((2, 2), complex), "X: Complex data not supported"),
        (np.array([["a"]]), "X: the values are <U1, not real numbers"),
        (np.zeros((2, 2, 2, 2, 2)), r"\(2, 2, 2, 2, 2\) cannot be read"),
    ],
)
def test_arrays_that_are_not_rows(values, message):
    with pytest.raises(DataError, match=message):
        array_source(values)


def test_an_array_of_one_axis_is_a_table_of_one_column_where_that_is_said():
    source = array_source(np.arange(4.0), layout="table")
    assert (source.flat, source.schema.shape) == (True, (1,))
    assert source.read(np.array([2])).tolist() == [[2]]
    assert not array_source(np.zeros((4, 1)), layout="table").flat


def test_an_unknown_layout_lists_the_known():
    with pytest.raises(DataError, match="'sound' is not known; use one of 'table', 'signal'"):
        array_source(np.zeros((2, 2)), layout="sound")


def test_rows_of_a_file_are_a_source_error_with_its_path():
    with pytest.raises(SourceError, match=r"^a\.npy: "):
        array_source(np.zeros(3), origin="a.npy")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int8])
def test_tensors_keep_their_dtype_name(dtype):
    source = tensor_source(torch.ones(3, 2, dtype=dtype, requires_grad=dtype.is_floating_point))
    assert source.schema.container == "tensor"
    assert source.schema.dtypes == (str(dtype).removeprefix("torch."),)
    assert source.read(np.arange(3)).tolist() == [[1, 1]] * 3


def test_sparse_rows_are_dense_when_read():
    source = sparse_source(sparse.coo_array(np.eye(3, dtype="float32")))
    assert source.read(np.array([1])).tolist() == [[0, 1, 0]]
    assert len(source) == 3
    assert source.schema.dtypes == ("float32",)


def test_only_two_dimensional_sparse_matrices():
    with pytest.raises(DataError, match="expected a 2-D SciPy sparse matrix, got ndarray"):
        sparse_source(np.eye(2))
