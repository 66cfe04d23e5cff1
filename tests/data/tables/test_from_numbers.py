"""Tables with text, levels, truths and dates come back exactly, from every library."""

import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from isthmus.data import frame_source
from isthmus.data.columns import Column
from isthmus.data.schema import schema_from_json
from isthmus.data.tables.from_numbers import arrow_type, as_text, native_column
from isthmus.data.tables.restore import restore

DAY = dt.date(2020, 1, 1)
STAMP = dt.datetime(2020, 1, 1, 12, 30)
TEXT = ["q", None, "r", "q"]

PANDAS = pd.DataFrame(
    {
        "number": [1.5, 2, -3, 0.25],
        "whole": np.array([3, 1, 2, 2], "int16"),
        "text": TEXT,
        "object": pd.Series(TEXT, dtype=object),
        "string": pd.array(TEXT, dtype="string"),
        "arrow": pd.array(TEXT, dtype="string[pyarrow]"),
        "arrow_text": pd.array(TEXT, dtype=pd.ArrowDtype(pa.string())),
        "arrow_levels": pd.array(TEXT, dtype=pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string()))),
        "ordered": pd.Categorical(["x", None, "y", "x"], ["y", "x", "unused"], ordered=True),
        "codes": pd.Categorical([30, 10, 30, 10]),
        "when": pd.to_datetime([STAMP, None, "2021-02-03", "1700-01-01"]),
        "zoned": pd.to_datetime([STAMP, None, "2021-02-03", STAMP]).tz_localize("Europe/Paris"),
        "nano": pd.to_datetime([STAMP, None, STAMP, STAMP]).astype("datetime64[ns]"),
        "span": pd.to_timedelta([1, 2, None, 4], unit="s"),
        "date": [DAY, None, dt.date(2021, 1, 1), DAY],
        "arrow_date": pd.array([DAY] * 4, dtype=pd.ArrowDtype(pa.date32())),
        "arrow_stamp": pd.array([STAMP] * 4, dtype=pd.ArrowDtype(pa.timestamp("us", "UTC"))),
        "flag": [True, False, True, True],
    }
)
POLARS = pl.DataFrame(
    {
        "text": TEXT,
        "levels": pl.Series(TEXT, dtype=pl.Categorical),
        "enum": pl.Series(TEXT, dtype=pl.Enum(["r", "q", "unused"])),
        "date": [DAY, None, DAY, DAY],
        "stamp": pl.Series([STAMP, None, STAMP, STAMP], dtype=pl.Datetime("ms", "Asia/Tokyo")),
        "span": [dt.timedelta(1), None, dt.timedelta(2), dt.timedelta(0, 1)],
        "whole": [1, 2, 3, 7],
    }
)
ARROW = (
    POLARS.to_arrow()
    .append_column("dictionary", pa.array(TEXT).dictionary_encode())
    .append_column("date64", pa.array([DAY] * 4, pa.date64()))
)


def there_and_back(frame):
    source = frame_source(frame)
    schema = schema_from_json(source.schema.to_json())  # as a saved model has it
    return restore(source.read(np.arange(len(source))).astype(np.float64), schema)


def test_pandas_comes_back_exactly():
    pd.testing.assert_frame_equal(there_and_back(PANDAS), PANDAS, check_freq=False)


def test_polars_comes_back_exactly():
    back = there_and_back(POLARS)
    assert back.schema == POLARS.schema
    assert back.equals(POLARS)


def test_pyarrow_comes_back_exactly():
    back = there_and_back(ARROW)
    assert back.schema.equals(ARROW.schema)
    assert back.to_pydict() == ARROW.to_pydict()


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_moments_are_rounded_to_their_unit_and_kept_within_what_it_reaches(unit):
    column, dtype = Column(role="datetime"), f"Datetime(time_unit='{unit}', time_zone=None)"
    far = np.array([1.4e6, -1e30, 1e30])
    made = native_column(far, column, dtype, None, "pyarrow").cast(pa.int64()).to_pylist()
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    assert made[0] == round(1.4 * per_second)
    years = [dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31)]
    ends = [round((year - dt.datetime(1970, 1, 1)).total_seconds()) * per_second for year in years]
    assert made[1] >= max(ends[0], -(2**63))
    assert 0.999 * min(ends[1], 2**63) < made[2] <= min(ends[1], 2**63 - 1)


def test_what_lies_between_levels_becomes_the_nearest():
    column = Column(role="ordinal", categories=("low", "middle", "high"))
    numbers = np.array([-3, 0.4, 0.6, 1.9, 99, np.nan])
    made = native_column(numbers, column, "String", None, "pyarrow").to_pylist()
    assert made == ["low", "low", "middle", "high", "high", None]


def test_what_people_read():
    categories = Column(role="categorical", categories=("a", "b"))
    assert as_text(np.array([1, np.nan, 0]), categories, "String") == ["b", None, "a"]
    assert as_text(np.array([18262.2, np.nan]), Column(role="datetime"), "Date") == [
        "2020-01-01",
        None,
    ]
    assert as_text(np.array([0.2, 0.7]), Column(role="boolean"), "Boolean") == [False, True]
    assert as_text(np.array([0.2, np.nan]), Column(), "Float64") == [0.2, None]


@pytest.mark.parametrize("kind", [*ARROW.schema.types, pa.timestamp("ns", "UTC"), pa.int8()])
def test_arrow_types_are_read_from_their_names(kind):
    assert arrow_type(str(kind)) == kind


def test_complex_numbers_are_no_numbers(rng):
    frame = pd.DataFrame({"x": rng.normal(size=9), "z": np.arange(9) * (1 + 3j)})
    with pytest.raises(ValueError, match=r"column 'z' is .*not numbers"):
        frame_source(frame).read(np.arange(9))
