"""Anything that holds rows opens, and everything else is refused in one clear line."""

import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from isthmus.data import open_source
from isthmus.errors import DataError, RequestError, SourceError


def everything(source):
    return source.read(np.arange(len(source)))


def test_lists_and_arrays_are_rows():
    assert everything(open_source([[1, 2], [3, 4]])).tolist() == [[1, 2], [3, 4]]
    assert open_source(np.zeros((2, 3))).origin == "X"


def test_a_source_is_returned_as_it_is():
    source = open_source(np.zeros((2, 3)))
    assert open_source(source) is source
    with pytest.raises(RequestError, match=r"drop=.* has no meaning for a source that is open"):
        open_source(source, drop="a")


def test_masked_values_are_missing():
    rows = np.ma.masked_array(np.arange(4).reshape(2, 2), [[0, 1], [0, 0]])
    np.testing.assert_array_equal(everything(open_source(rows)), [[0, np.nan], [2, 3]])
    assert everything(open_source(np.ma.masked_array(np.eye(2)))).tolist() == [[1, 0], [0, 1]]


def test_columns_and_drop_take_one_name_or_several():
    frame = pd.DataFrame({"age": [1], "size": [2], "kind": ["x"]})
    assert open_source(frame, columns="age").schema.names == ("age",)
    assert open_source(frame, drop=["kind", "age"]).schema.names == ("size",)


@pytest.mark.parametrize(
    ("rows", "option", "what"),
    [
        (np.eye(2), {"columns": ["a"]}, r"columns=\('a',\) has no meaning for an array"),
        (torch.eye(2), {"member": "a"}, "member='a' has no meaning for a tensor"),
        (pl.DataFrame({"a": [1]}), {"resize": 8}, r"resize=\(8, 8\) has no meaning for a table"),
        (np.eye(2), {"header": False}, "header=False has no meaning"),
    ],
)
def test_options_that_mean_nothing_are_refused(rows, option, what):
    with pytest.raises(RequestError, match=what):
        open_source(rows, **option)


def test_options_a_file_does_not_understand_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.eye(2))
    with pytest.raises(RequestError, match=r"a\.npy: drop=\('b',\) has no meaning for \.npy"):
        open_source(tmp_path / "a.npy", drop="b")


@pytest.mark.parametrize("resize", [0, (3, 0), (1, 2, 3)])
def test_resize_must_be_a_size(resize):
    with pytest.raises(RequestError, match="must be a positive number, or"):
        open_source(".", resize=resize)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({1, 2}, "X: cannot read rows from a set; give an array"),
        ([[1, 2], [3]], "X: the rows differ in length"),
        (pl.LazyFrame({"a": [1]}), r"a LazyFrame holds no rows yet; call \.collect\(\)"),
        ([["a", "b"]], "not real numbers"),
    ],
)
def test_things_that_hold_no_rows(rows, message):
    with pytest.raises(DataError, match=message):
        open_source(rows)


def test_a_missing_file(tmp_path):
    path = tmp_path / "no.csv"
    with pytest.raises(SourceError, match=f"^{re.escape(str(path))}: there is no such file"):
        open_source(path)


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.csv", "a.parquet", "a.idx", "a.safetensors"])
def test_an_empty_file(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(SourceError, match=f"{name}: the file is empty"):
        open_source(tmp_path / name)


@pytest.mark.parametrize("name", ["a.npy", "a.csv", "a-ubyte"])
def test_a_folder_named_like_a_file(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(SourceError, match=f"{name}: is a folder, and its name says it is a file"):
        open_source(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.xlsx", r"the suffix '\.xlsx' is not known; use one of \.npy, \.npz, \.csv"),
        ("a", "the name has no suffix; use one of"),
        ("a.png", "is a single image; give the folder"),
    ],
)
def test_unknown_suffixes_list_the_known(tmp_path, name, message):
    (tmp_path / name).write_text("x")
    with pytest.raises(SourceError, match=f"{name}: {message}"):
        open_source(str(tmp_path / name))


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n")

    def refuse(*_args, **_kwargs):  # tests may run as root, whom no mode stops
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(SourceError, match=r"a\.csv: cannot be read \(Permission denied\)"):
        open_source(path)


def test_a_member_after_a_colon(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3)), y=np.ones((2, 4)))
    assert open_source(f"{tmp_path}/a.npz:y").schema.shape == (4,)
    assert open_source(f"{tmp_path}/a.npz", member="x").schema.shape == (3,)
    with pytest.raises(SourceError, match=r"a\.npz: holds no array named 'z'"):
        open_source(f"{tmp_path}/a.npz:z")
