"""Filling in: known values, levels and dtypes stay, and what is filled in is of the right kind."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from isthmus.data import open_source
from isthmus.data.output.fill_missing import fill
from isthmus.data.validate import align

SIZES = ["S", "M", "L", "XL"]


def fit_schema(frame):
    return open_source(frame).schema


def filled(frame, values, schema):
    """The frame with `values`, in the schema's own order and numbers, where one is missing."""
    return fill(align(open_source(frame), schema), np.asarray(values, float), schema)


def ordered(values, categories=SIZES):
    return pd.DataFrame({"size": pd.Categorical(values, categories, ordered=True)})


def test_ordered_levels_of_arrow_stay_in_their_order():
    frame = ordered(["XL", None, "S", "L", None])
    schema = fit_schema(pa.Table.from_pandas(ordered(["S", "M", "L", "XL", "M"])))
    made = filled(pa.Table.from_pandas(frame), [[0], [1], [2], [3], [2]], schema)
    column = made.column("size").combine_chunks()
    assert column.type.ordered
    assert column.dictionary.to_pylist() == SIZES
    assert column.to_pylist() == ["XL", "M", "S", "L", "L"]
    pd.testing.assert_frame_equal(made.to_pandas(), ordered(["XL", "M", "S", "L", "L"]))


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (SIZES, SIZES),
        (["S", "L", "XL"], SIZES),
        (["S", "M", "L", "XL", "XXL"], ["S", "M", "L", "XL", "XXL"]),
        (["XL", "L", "S"], ["XL", "L", "S", "M"]),
    ],
)
@pytest.mark.parametrize("library", ["pandas", "pyarrow", "polars"])
def test_levels_that_a_column_lacks_are_added_to_its_own(own, expected, library):
    schema = fit_schema(ordered(["S", "M", "L", "XL", "M"]))
    frame = ordered(["XL", None, "S"], own)
    if library == "polars":
        enum = pl.DataFrame({"size": pl.Series(["XL", None, "S"], dtype=pl.Enum(own))})
        made = filled(enum, [[0], [1], [0]], schema)["size"]
        assert made.dtype == pl.Enum(expected)
        assert made.to_list() == ["XL", "M", "S"]
        return
    given = frame if library == "pandas" else pa.Table.from_pandas(frame)
    made = filled(given, [[0], [1], [0]], schema)
    made = made if library == "pandas" else made.to_pandas()
    pd.testing.assert_frame_equal(made, ordered(["XL", "M", "S"], expected))


def test_unordered_levels_are_told_apart_by_name():
    categories = pa.DictionaryArray.from_arrays(
        pa.array([0, None, 1], pa.int8()), pa.array(["b", "a"])
    )
    table = pa.table({"k": categories})
    schema = fit_schema(pa.table({"k": ["a", "b", "c"] * 30}))
    made = filled(table, [[9], [2], [9]], schema)
    assert made.schema == table.schema
    assert made.column("k").to_pylist() == ["b", "c", "a"]


TRUTHS = {"t": [True, False, True, False], "x": [1.5, 2.5, 3.5, 4.5]}
EMPTY = {
    "pandas": pd.DataFrame({"t": [np.nan] * 3, "x": [1.0, np.nan, 2.0]}),
    "polars": pl.DataFrame({"t": pl.Series([None] * 3, dtype=pl.Null), "x": [1.0, None, 2.0]}),
    "pyarrow": pa.table({"t": pa.nulls(3), "x": [1.0, None, 2.0]}),
}


@pytest.mark.parametrize("fitted", [pd.DataFrame, pl.DataFrame, pa.table])
@pytest.mark.parametrize("name", EMPTY)
def test_truths_come_into_a_column_that_is_empty_throughout(name, fitted):
    schema = fit_schema(fitted(TRUTHS))
    made = filled(EMPTY[name], [[0.9977, 7], [0.2, 8], [0.5, 9]], schema)
    values = made["t"].to_pylist() if name == "pyarrow" else made["t"].to_list()
    assert values == [True, False, True]
    assert all(type(value) is bool for value in values)


def test_truths_and_whole_numbers_in_columns_of_fractions_are_such():
    schema = fit_schema(pd.DataFrame({"t": [True, False], "k": [1, 2], "x": [0.5, 1.5]}))
    frame = pd.DataFrame({"t": [1.0, np.nan], "k": [np.nan, 4.0], "x": [np.nan, 1.0]})
    made = filled(frame, [[0.1, 2.7, 0.25], [0.8, 9.1, 9]], schema)
    assert made.dtypes.tolist() == frame.dtypes.tolist()
    assert made.to_numpy().tolist() == [[1.0, 3.0, 0.25], [1.0, 4.0, 1.0]]
