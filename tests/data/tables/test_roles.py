"""Columns of arrays and sparse matrices whose meaning was declared."""

import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy import sparse

from isthmus.data import open_source
from isthmus.data.columns import Column
from isthmus.data.schema import schema_from_json
from isthmus.data.validate import align
from isthmus.errors import DataError, RequestError, SourceError

X = np.array([[0, 3, 1], [2, 0, 0], [5, 1, 0]])
COUNT = Column(role="count")

HOLDERS = {
    "array": lambda x: x,
    "tensor": torch.from_numpy,
    "sparse": sparse.csr_array,
    "csc": sparse.csc_matrix,
    "pandas": lambda x: pd.DataFrame(x, columns=["a", "b", "c"]),
    "polars": lambda x: pl.DataFrame(x, schema=["a", "b", "c"]),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_all_columns_are_declared_at_once(holder):
    for roles in ("count", {"*": "count"}):
        source = open_source(HOLDERS[holder](X), roles=roles)
        assert source.schema.columns == (COUNT,) * 3
        np.testing.assert_array_equal(source.read(np.arange(3)), X)
        assert schema_from_json(source.schema.to_json()) == source.schema


def test_a_name_goes_before_the_star():
    source = open_source(X, roles={"*": "count", "1": "numeric"})
    assert [column.role for column in source.schema.columns] == ["count", "numeric", "count"]
    frame = pd.DataFrame({"a": [1, 2], "b": [0.5, 1]})
    source = open_source(frame, roles={"*": "count", "b": "numeric"})
    assert [column.role for column in source.schema.columns] == ["count", "numeric"]
    starred = pd.DataFrame({"*": [1, 2], "b": [0.5, 1]})
    source = open_source(starred, roles={"*": "count"})
    assert [column.role for column in source.schema.columns] == ["count", "numeric"]


def test_numbers_declared_numeric_are_as_they_were():
    assert open_source(X, roles="numeric").schema == open_source(X).schema


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("value", [-1.0, 0.5])
def test_what_is_no_count_is_refused_by_column_and_row(holder, value):
    wrong = X.astype(float)
    wrong[2, 1] = value
    name = "b" if holder in ("pandas", "polars") else "1"
    with pytest.raises(DataError, match=f"'{name}' was declared count, and {value} at row 2,"):
        open_source(HOLDERS[holder](wrong), roles="count")


def test_missing_counts_are_missing():
    with_missing = X.astype(float)
    with_missing[0, 0] = np.nan
    assert open_source(with_missing, roles="count").schema.columns == (COUNT,) * 3


@pytest.mark.parametrize("suffix", [".npy", ".npz", "sparse.npz"])
@pytest.mark.parametrize("stream", [None, True])
def test_files_of_arrays(tmp_path, suffix, stream):
    path = tmp_path / f"x{suffix}"
    save = {".npy": np.save, ".npz": np.savez}.get(suffix)
    options = {"stream": True} if stream and suffix == ".npy" else {}
    for wrong in (False, True):
        x = X.copy()
        x[1, 2] -= wrong
        (save or (lambda p, v: sparse.save_npz(p, sparse.csr_array(v))))(path, x)
        if wrong:
            with pytest.raises(SourceError, match=re.escape(f"{path}: column '2' was declared")):
                open_source(path, roles="count", **options)
        else:
            source = open_source(path, roles="count", **options)
            assert source.schema.columns == (COUNT,) * 3
            np.testing.assert_array_equal(source.read(np.arange(3)), X)


def test_later_rows_are_held_to_it():
    schema = open_source(sparse.csr_array(X), roles="count").schema
    for rows in (X, sparse.csr_array(X), pd.DataFrame(X), torch.from_numpy(X)):
        assert align(open_source(rows), schema).schema.columns == schema.columns
    for rows in (X - 1, sparse.csr_array(X - 1), pd.DataFrame(X - 1)):
        with pytest.raises(DataError, match=r"was declared count, and -1 at row 0, counting"):
            align(open_source(rows), schema)
    named = open_source(pd.DataFrame(X, columns=list("abc")), roles="count").schema
    with pytest.raises(DataError, match=r"'a' was declared count, and -1 at row 0"):
        align(open_source(pd.DataFrame(X - 1, columns=list("abc"))), named)


@pytest.mark.parametrize(
    ("rows", "roles", "message"),
    [
        (X, "categorical", "the role 'categorical' is for tables with named columns"),
        (X, {"7": "count"}, "no column '7'"),
        (X, "odd", "the role 'odd' of '0' is not one of"),
        (np.zeros((4, 5, 5), np.uint8), "count", "these rows are images; leave roles out"),
    ],
)
def test_odd_declarations_are_refused(rows, roles, message):
    with pytest.raises(RequestError, match=message):
        open_source(rows, roles=roles)
