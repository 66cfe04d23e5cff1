"""Tables of pandas, polars and pyarrow come back exactly, and bad columns are named."""

import re
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from isthmus.data import frame_source
from isthmus.data.columns import listed
from isthmus.data.tables import frames
from isthmus.data.tables.restore import restore
from isthmus.errors import DataError, RequestError, SourceError


def everything(source):
    return source.read(np.arange(len(source)))


def there_and_back(frame):
    source = frame_source(frame)
    return restore(everything(source).astype(np.float64), source.schema)


PANDAS = pd.DataFrame(
    {
        "z": np.array([3, 1], "int8"),
        "flag": [True, False],
        "nullable": pd.array([7, 8], dtype="Int64"),
        "maybe": pd.array([True, False], dtype="boolean"),
        "object": np.array([1, 2.5], dtype=object),
        "arrow": pd.array([1, 2], dtype="int32[pyarrow]"),
        "money": pd.array([1, 2], dtype=pd.ArrowDtype(pa.decimal128(20, 1))),
        "half": np.array([0.5, 2], "float16"),
    }
)
POLARS = pl.DataFrame(
    {
        "z": pl.Series([3, 200], dtype=pl.UInt8),
        "flag": [True, False],
        "money": pl.Series(["1.50", "2.25"]).cast(pl.Decimal(10, 2)),
        "huge": pl.Series([1, 2], dtype=pl.Int128),
        "f": pl.Series([0.5, 2], dtype=pl.Float32),
    }
)


def test_pandas_comes_back_exactly():
    pd.testing.assert_frame_equal(there_and_back(PANDAS), PANDAS)


def test_polars_comes_back_exactly():
    back = there_and_back(POLARS)
    assert back.schema == POLARS.schema
    assert back.equals(POLARS)


def test_pyarrow_comes_back_exactly():
    table = POLARS.drop("huge").to_arrow()
    assert there_and_back(table).equals(table)


@pytest.mark.parametrize("labels", [range(2), [400.5, 401.0], [7, 3], ["b", 0]])
def test_pandas_labels_come_back_exactly(labels):
    frame = pd.DataFrame(np.eye(2), columns=labels)
    pd.testing.assert_frame_equal(there_and_back(frame), frame, check_column_type="exact")


def test_default_labels_are_no_names():
    assert frame_source(pd.DataFrame(np.eye(2))).schema.names is None
    assert frame_source(pd.DataFrame(np.eye(2), columns=[5, 6])).schema.names == ("5", "6")


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_rows_are_read_in_the_order_asked_for(make):
    source = frame_source(make({"a": [1.5, 2.5, 3.5], "b": [True, False, True], "c": [1, 2, 3]}))
    assert source.schema.names == ("a", "b", "c")
    assert source.read(np.array([2, 0])).tolist() == [[3.5, 1, 3], [1.5, 1, 1]]
    assert len(source) == 3


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_gaps_are_nan(make):
    source = frame_source(make({"a": [1, None], "b": [None, 2.0]}))
    np.testing.assert_array_equal(everything(source), [[1, np.nan], [np.nan, 2]])


def test_gaps_of_every_pandas_kind_are_nan():
    frame = pd.DataFrame(
        {
            "int": pd.array([1, None], dtype="Int8"),
            "bool": pd.array([True, None], dtype="boolean"),
            "float": pd.array([1, None], dtype="Float32"),
            "object": np.array([Decimal(1), None], dtype=object),
            "arrow": pd.array([1, None], dtype="bool[pyarrow]"),
        }
    )
    np.testing.assert_array_equal(everything(frame_source(frame)), [[1] * 5, [np.nan] * 5])


def test_a_polars_column_of_nothing_is_all_nan():
    assert np.isnan(everything(frame_source(pl.DataFrame({"a": [None, None]})))).all()


@pytest.mark.parametrize(
    ("columns", "dtype"),
    [
        ({"a": np.ones(2, "float32"), "b": np.ones(2, "int8")}, "float32"),
        ({"a": np.ones(2, "int64"), "b": np.ones(2, "uint8")}, "int64"),
        ({"a": np.ones(2, "float32"), "b": np.ones(2, "int64")}, "float64"),
        ({"a": np.ones(2, ">f8")}, "float64"),
    ],
)
def test_the_common_dtype(columns, dtype):
    assert everything(frame_source(pd.DataFrame(columns))).dtype == dtype


def test_large_integers_stay_exact_among_integers():
    big = 2**53 + 1
    assert everything(frame_source(pl.DataFrame({"a": [big, 1]})))[0, 0] == big


BAD = {
    "lists": ([[1], [2, 3]], r"List\(Int64\)|Object", r"\[1\] at row 0"),
    "bytes": ([b"x", b"y"], "Binary|Object|Unknown", "b'x' at row 0"),
}


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
@pytest.mark.parametrize("case", BAD)
def test_a_column_that_nothing_is_known_of(make, case):
    values, kind, first = BAD[case]
    with pytest.raises(DataError) as caught:
        frame_source(make({"n": [1, 2], "odd": values}))
    message = str(caught.value)
    assert message.startswith("X: column 'odd' is ")
    assert re.search(kind, message)
    assert re.search(first, message)
    assert "drop=['odd']" in message
    assert "drop=['odd']" in message
    assert "\n" not in message


@pytest.mark.parametrize("dtype", ["complex128", "complex64", "object"])
def test_complex_numbers_are_refused_by_their_dtype(dtype):
    values = np.array([1, np.complex64(2 - 3j)], dtype=dtype)
    kind = "Object" if dtype == "object" else dtype
    with pytest.raises(DataError, match=f"column 'z' is {kind} values, not numbers"):
        frame_source(pd.DataFrame({"a": [1, 2], "z": values}))


def test_intervals_are_refused_by_their_dtype():
    values = pd.arrays.IntervalArray.from_breaks([0, 1, 2])
    with pytest.raises(DataError, match=r"column 'odd' is interval\[int64, right\] values, not"):
        frame_source(pd.DataFrame({"odd": values}))


def test_text_among_numbers_in_objects_is_refused():
    with pytest.raises(DataError, match=r"'o' is Object.*'x' at row 1"):
        frame_source(pd.DataFrame({"o": np.array([1, "x"], dtype=object)}))


def test_a_file_is_named_first():
    with pytest.raises(SourceError, match=r"^t\.csv: column 's'"):
        frame_source(pa.table({"s": [[1]]}), origin="t.csv")


def test_columns_are_kept_in_the_order_given_and_dropped():
    frame = pl.DataFrame({"a": [1], "b": [2], "s": ["x"], "c": [3]})
    assert frame_source(frame, columns=["c", "a"]).schema.names == ("c", "a")
    assert frame_source(frame, drop=["s", "a"]).schema.names == ("b", "c")


def test_unknown_columns_list_the_known():
    with pytest.raises(RequestError, match=r"X: there is no column 'd'; the columns are 'a', 'b'$"):
        frame_source(pl.DataFrame({"a": [1], "b": [2]}), drop=["d"])


def test_names_must_differ():
    with pytest.raises(DataError, match="several columns are named 'a'"):
        frame_source(pd.DataFrame(np.eye(2), columns=["a", "a"]))
    with pytest.raises(DataError, match="several columns are named '1'"):
        frame_source(pd.DataFrame(np.eye(2), columns=["1", 1]))


def test_labels_that_are_neither_text_nor_number():
    with pytest.raises(DataError, match=r"label \('a', 'b'\) is neither text nor a number"):
        frame_source(pd.DataFrame(np.eye(1), columns=pd.MultiIndex.from_tuples([("a", "b")])))


def test_a_row_of_a_table_can_be_a_signal_but_not_an_image():
    frame = pl.DataFrame({"a": [1], "b": [2]})
    assert frame_source(frame, layout="signal").schema.network_shape == (1, 2)
    with pytest.raises(RequestError, match="layout='image'"):
        frame_source(frame, layout="image")


def test_long_lists_are_cut():
    assert listed(map(str, range(25))).endswith("'19' and 5 more")


def test_a_sparse_pandas_column_is_read_and_comes_back():
    frame = pd.DataFrame({"s": pd.arrays.SparseArray([0, 7, 0])})
    back = there_and_back(frame)
    assert back["s"].dtype == frame["s"].dtype
    assert back["s"].tolist() == [0, 7, 0]


def test_another_frame_library_lists_the_known(monkeypatch):
    monkeypatch.setattr(frames, "FRAMES", ("pandas", "polars"))
    with pytest.raises(DataError, match="is not known; convert it to one of pandas, polars"):
        frame_source(pa.table({"a": [1]}))
