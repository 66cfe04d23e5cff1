"""Rows are written whole or not at all, and read back as they were."""

import errno
import gzip
import resource
import struct

import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file
from scipy import sparse

from isthmus.data import open_source
from isthmus.data.output.write import output_format, table_schema, write_rows
from isthmus.data.tables.restore import restore
from isthmus.errors import RequestError, SourceError

CODES = np.array([[1.5, -2], [0.1, 1e-7]], "float32")
SCHEMA = table_schema(["code_0", "code_1"])


def everything(source):
    return source.read(np.arange(len(source)))


def test_codes_to_every_kind_of_file(tmp_path):
    for name in ("a.npy", "a.NPY", "a.npz", "a.csv", "a.tsv", "a.parquet", "a.idx", "a.idx.gz"):
        write_rows(tmp_path / name, CODES, SCHEMA)
        back = everything(open_source(tmp_path / name)).astype(np.float32)  # text has no float32
        np.testing.assert_array_equal(back, CODES)
    assert np.load(tmp_path / "a.npy").dtype == np.float32
    assert np.load(tmp_path / "a.npz")["rows"].tolist() == CODES.tolist()
    assert pd.read_parquet(tmp_path / "a.parquet").dtypes.tolist() == [np.float32] * 2
    assert pd.read_csv(tmp_path / "a.tsv", sep="\t").columns.tolist() == ["code_0", "code_1"]
    raw = gzip.decompress((tmp_path / "a.idx.gz").read_bytes())
    assert struct.unpack(">4B2I4f", raw) == (0, 0, 0x0D, 2, 2, 2, *CODES.ravel().tolist())
    write_rows(tmp_path / "a.safetensors", CODES, SCHEMA)
    np.testing.assert_array_equal(load_file(tmp_path / "a.safetensors")["rows"], CODES)


FRAME = {"n": pl.Series([1, 2], dtype=pl.Int8), "b": [True, False], "f": [0.5, 1e300]}


@pytest.mark.parametrize("make", [pl.DataFrame, lambda c: pl.DataFrame(c).to_pandas()])
def test_tables_keep_names_dtypes_and_order_in_parquet(tmp_path, make):
    source = open_source(make(FRAME))
    rows = restore(everything(source), source.schema)
    write_rows(tmp_path / "a.parquet", rows, source.schema)
    assert pq.read_table(tmp_path / "a.parquet").equals(pl.DataFrame(FRAME).to_arrow())


def test_tables_in_csv(tmp_path):
    source = open_source(pl.DataFrame(FRAME))
    write_rows(tmp_path / "a.csv", restore(everything(source), source.schema), source.schema)
    assert (tmp_path / "a.csv").read_text() == '"n","b","f"\n1,true,0.5\n2,false,1e+300\n'


def test_tables_as_arrays(tmp_path):
    source = open_source(pd.DataFrame({"a": [1, 2], "b": [3, 4]}))
    write_rows(tmp_path / "a.npy", restore(everything(source), source.schema), source.schema)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), [[1, 3], [2, 4]])


def test_columns_without_names_get_them_where_the_format_needs_them(tmp_path):
    rows = np.eye(2)
    write_rows(tmp_path / "a.parquet", rows, open_source(rows).schema)
    assert pq.read_table(tmp_path / "a.parquet").column_names == ["column_0", "column_1"]
    write_rows(tmp_path / "a.csv", rows, open_source(rows).schema)
    assert (tmp_path / "a.csv").read_text() == "1,0\n0,1\n"


def test_sparse_matrices_stay_sparse_in_npz(tmp_path):
    rows = sparse.csr_array(np.eye(3, dtype="int16"))
    write_rows(tmp_path / "a.npz", rows, open_source(rows).schema)
    assert sparse.load_npz(tmp_path / "a.npz").dtype == np.int16
    write_rows(tmp_path / "a.npy", rows, open_source(rows).schema)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.eye(3))


def test_tensors_keep_their_dtype_in_safetensors(tmp_path):
    rows = torch.eye(2).bfloat16()
    write_rows(tmp_path / "a.safetensors", rows, open_source(rows).schema)
    assert open_source(tmp_path / "a.safetensors").schema.dtypes == ("bfloat16",)
    write_rows(tmp_path / "a.npy", rows, open_source(rows).schema)
    assert np.load(tmp_path / "a.npy").dtype == np.float32


def test_images_and_signals_as_arrays(tmp_path):
    rows = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    for name in ("a.npy", "a-idx3-ubyte"):
        write_rows(tmp_path / name, rows, open_source(rows).schema)
        np.testing.assert_array_equal(everything(open_source(tmp_path / name)), rows)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_images_do_not_fit_a_table(tmp_path, name):
    rows = np.zeros((2, 4, 4), np.uint8)
    with pytest.raises(
        RequestError, match=r"rows of shape \(4, 4\) do not fit a table;.*folder"
    ) as told:
        write_rows(tmp_path / name, rows, open_source(rows).schema)
    assert str(told.value).startswith(f"{tmp_path / name}: ")
    assert list(tmp_path.iterdir()) == []


def test_idx_has_no_code_for_every_dtype(tmp_path):
    with pytest.raises(RequestError, match=r"a\.idx: IDX files cannot hold int64 values"):
        write_rows(tmp_path / "a.idx", np.eye(2, dtype="int64"), table_schema("ab"))


def test_values_of_another_shape_are_refused(tmp_path):
    with pytest.raises(RequestError, match=r"rows have shape \(3,\), but the schema says \(2,\)"):
        write_rows(tmp_path / "a.npy", np.eye(3), SCHEMA)


def test_nothing_is_replaced_without_force(tmp_path):
    path = tmp_path / "a.npy"
    path.write_text("precious")
    with pytest.raises(RequestError, match=r"a\.npy: already exists;.*force=True$"):
        write_rows(path, CODES, SCHEMA)
    assert path.read_text() == "precious"
    write_rows(path, CODES, SCHEMA, force=True)
    np.testing.assert_array_equal(np.load(path), CODES)


def test_unknown_suffixes_list_the_known(tmp_path):
    for name in ("a.xlsx", "a.png"):
        with pytest.raises(RequestError, match=r"is not known; use one of \.npy, \.npz, \.csv"):
            write_rows(tmp_path / name, CODES, SCHEMA)
    (tmp_path / "run.1").mkdir()
    with pytest.raises(RequestError, match="is not known"):
        output_format(tmp_path / "run.1")
    assert output_format("train-images-idx3-ubyte").write is output_format("a.idx").write


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(SourceError, match=r"a\.npy: cannot be written \(No space left on device\)"):
        write_rows(tmp_path / "a.npy", CODES, SCHEMA)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.csv", "a.parquet", "a.idx", "a.safetensors"])
def test_a_file_that_really_cannot_grow_leaves_what_was_there(tmp_path, name, rng):
    path = tmp_path / name
    path.write_text("precious")
    rows = rng.normal(size=(300, 40))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(SourceError, match=rf"{name}: cannot be written \(") as caught:
            write_rows(path, rows, open_source(rows).schema, force=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]
