"""Parquet files that pandas and polars wrote, and damaged ones."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from isthmus.data import open_source
from isthmus.data.tables.restore import restore
from isthmus.errors import RequestError, SourceError


def everything(source):
    return source.read(np.arange(len(source)))


def test_columns_keep_names_dtypes_and_order(tmp_path):
    frame = pl.DataFrame({"z": pl.Series([1, 2], dtype=pl.Int8), "b": [True, False], "a": [0.5, 1]})
    frame.write_parquet(tmp_path / "a.parquet")
    source = open_source(tmp_path / "a.parquet")
    assert source.schema.container == "pyarrow"
    assert restore(everything(source).astype(float), source.schema).equals(frame.to_arrow())


def test_the_index_that_pandas_stored_is_left_out(tmp_path):
    frame = pd.DataFrame({"a": [1, 2]}, index=pd.Index([10, 20], name="id"))
    frame.to_parquet(tmp_path / "a.parquet")
    assert open_source(tmp_path / "a.parquet").schema.names == ("a",)


def test_columns_are_chosen_before_any_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pd.DataFrame({"a": [1, 2], "name": [[1], [2]], "b": [3, 4]}).to_parquet(path)
    assert everything(open_source(path, columns=["b", "a"])).tolist() == [[3, 1], [4, 2]]
    assert open_source(path, drop="name").schema.names == ("a", "b")
    with pytest.raises(SourceError, match=r"a\.parquet: column 'name' is List.*\[1\] at row 0"):
        open_source(path)
    with pytest.raises(RequestError, match="no column 'q'; the columns are 'a', 'name', 'b'"):
        open_source(path, drop="q")


@pytest.mark.parametrize("keep", [3, 100, -4])
def test_truncated(tmp_path, keep):
    path = tmp_path / "a.parquet"
    pd.DataFrame({"a": range(100)}).to_parquet(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SourceError, match=r"a\.parquet: this is not a Parquet file, or it is trun"):
        open_source(path)


def test_pages_that_are_damaged(tmp_path):
    path = tmp_path / "a.parquet"
    pd.DataFrame({"a": np.random.default_rng(0).normal(size=100)}).to_parquet(path)
    content = path.read_bytes()
    path.write_bytes(content[:4] + bytes(200) + content[204:])
    with pytest.raises(SourceError, match=r"a\.parquet: this is not a Parquet file, or"):
        open_source(path)
