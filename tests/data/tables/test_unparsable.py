"""Cells that Python takes for numbers or dates, and readers of CSV do not, among those that are."""

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pc
import pytest

from isthmus.data import frame_source, open_source
from isthmus.data.formats import csv_lines
from isthmus.data.tables.datetimes import parses_as_date, parses_as_zoned_datetime
from isthmus.data.tables.to_numbers import parses_as_number
from isthmus.data.validate import align
from isthmus.errors import DataError, SourceError

NUMBERS = [
    *(
        "1",
        "-1",
        "+5",
        " 5",
        "5\t",
        "1e3",
        "1.5E-3",
        ".5",
        "5.",
        "1_000",
        "1,5",
        "\u0663",
        "\uff15",
    ),
    *("\u00a05", "5\u2003", "1e", "e5", ".", "-", "--1", "1 000", "inf", "-Infinity", "x", "1.2.3"),
    *("true", "12:30", "1d5", "1/2"),
]
DATES = [
    *("2001-01-01", " 2001-01-01", "2001-01-01 ", "2001-1-1", "20010101", "2001-W01-1", "2001-001"),
    *("2001-02-29", "2004-02-29", "2001-13-01", "2001-01-01T10", "2001-01-01 10:30", "0001-01-01"),
    *("2001-01-01T10:30:15", "2001-01-01T10:30:15.5", "2001-01-01T10:30:15.123456789"),
    *("2001-01-01T25:00", "2001-01-01T10:61", "2001-01-01T10.5", "01.01.2001", "2001-01", "2001"),
    *("2001-01-01T10:00:00Z", "2001-01-01 10:00:00+02:00", "2001-01-01T10:00:00-0330", "12345"),
    *("2001-01-01T10:00+02", "2001-01-01T10Z", "2001-01-01Z", "2001-01-01T10:00:00 Z", "x"),
    *("\u06f2001-01-01", "2001-01-01T10:00:00.Z", "2001-01-01T", "2001/01/01"),
]


def kind(cell, wanted):
    """Whether pyarrow reads a cell as a type, when told to."""
    try:
        pc.read_csv(
            io.BytesIO(f'a\n"{cell}"\n'.encode()),
            convert_options=pc.ConvertOptions(column_types={"a": wanted}, null_values=[]),
        )
    except pa.ArrowInvalid:
        return False
    return True


@pytest.mark.parametrize("cell", NUMBERS)
def test_a_number_is_what_the_reader_takes_for_one(cell):
    assert parses_as_number(cell) == kind(cell, pa.float64())


@pytest.mark.parametrize("cell", DATES)
def test_a_date_is_what_the_reader_takes_for_one(cell):
    plain = kind(cell, pa.date32()) or kind(cell, pa.timestamp("ns"))
    assert parses_as_date(cell) == plain
    assert parses_as_zoned_datetime(cell) == (kind(cell, pa.timestamp("s", "UTC")) and not plain)


def test_numbers_are_numbers():
    assert all(parses_as_number(value) for value in (1, 2.5, np.float32(3), True))
    assert not any(parses_as_number(value) for value in (None, b"x", [1], object()))


ODD = {
    "number": ["1_000", "\u0663", "\uff15", "\u00a05", "5\u2003"],
    "date": ["2001-01-01T10:00:00Z", "2001-01-01T10:00:00+02:00", "20010101", "2001-W01-1"],
}
CASES = [(name, cell) for name, cells in ODD.items() for cell in cells]
N, ROW = 300, 250


def write(path, name=None, cell=None):
    rng = np.random.default_rng(0)
    dates = pd.date_range("2001-01-01", periods=N).strftime("%Y-%m-%d")
    frame = pd.DataFrame({"x": rng.normal(size=N), "number": rng.normal(size=N).round(3)})
    frame = frame.assign(date=dates).astype(str)
    if name is not None:
        frame.loc[ROW, name] = cell
    frame.to_csv(path, index=False)
    return path


@pytest.fixture
def in_pieces(monkeypatch):
    """Spans of a few rows."""
    monkeypatch.setattr("isthmus.data.formats.csv_stream.CHUNK_BYTES", 24 * 40)
    monkeypatch.setattr(csv_lines, "READ_BYTES", 1 << 10)


@pytest.mark.usefixtures("in_pieces")
@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("name", "cell"), CASES)
def test_one_odd_cell_is_named(tmp_path, monkeypatch, name, cell, stream, few):
    if few:  # more different values than are kept
        monkeypatch.setattr("isthmus.data.tables.infer_streamed.MAX_CATEGORIES", 60)
    path = write(tmp_path / "a.csv", name, cell)
    with pytest.raises(SourceError) as told:
        open_source(path, stream=stream)
    zone = " without a time zone" if "T" in cell else ""
    assert (
        f"a.csv: column '{name}': {cell!r} at row 250, counting from 0, is not a {name}{zone}, as "
        "99.7% of its values are; correct it" in str(told.value)
    )


@pytest.mark.parametrize("stream", [False, True])
def test_moments_without_a_zone_among_those_with_one(tmp_path, stream):
    path = tmp_path / "a.csv"
    moments = ["2001-01-01T10:00:00Z", "2001-01-02T10:00:00+01:00"] * 20
    moments[7] = "2001-01-01T10:00:00"
    pd.DataFrame({"when": moments, "x": np.linspace(0, 1, 40)}).to_csv(path, index=False)
    with pytest.raises(
        SourceError, match="at row 7, counting from 0, is not a timestamp with a time z"
    ):
        open_source(path, stream=stream)


@pytest.mark.usefixtures("in_pieces")
@pytest.mark.parametrize("stream", [False, True])
def test_true_names_are_still_left_out(tmp_path, monkeypatch, stream):
    monkeypatch.setattr("isthmus.data.tables.infer_streamed.MAX_CATEGORIES", 60)
    path = tmp_path / "a.csv"
    names = [f"row {i}" for i in range(N - 100)] + [f"{i}" for i in range(100)]
    pd.DataFrame({"name": names, "x": np.linspace(0, 1, N)}).to_csv(path, index=False)
    assert open_source(path, stream=stream).schema.left_out == ("name",)


@pytest.mark.usefixtures("in_pieces")
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("name", "cell"), CASES)
def test_new_rows_name_the_bad_cell_too(tmp_path, name, cell, stream):
    learned = open_source(write(tmp_path / "a.csv"))
    told_so = {name: "categorical"}  # so that it comes to the model
    new = open_source(write(tmp_path / "b.csv", name, cell), stream=stream, roles=told_so)
    with pytest.raises(SourceError) as told:
        align(new, learned.schema)
    assert f"{cell!r} at row 250, counting from 0" in str(told.value)


def test_the_same_of_text_in_memory():
    learned = frame_source(pd.DataFrame({"x": [1.5, 2.5], "g": ["a", "b"]})).schema
    rows = pd.DataFrame({"x": ["1", "2", "1_000", "y"], "g": ["a", "b", "a", "b"]})
    source = frame_source(rows, roles={"x": "categorical"})
    with pytest.raises(
        DataError, match=r"'x' is text, not numbers .first bad value '1_000' at row 2"
    ):
        align(source, learned)
