"""Streamed CSV: the same rows, types and meanings as of the same file in memory, and its faults."""

import csv
import io

import numpy as np
import pytest

from isthmus.data import open_source
from isthmus.data.formats import csv_lines
from isthmus.errors import SourceError

QUOTED = [
    'a,b\n1,"x"\n2,"y, z"\n',
    'a,b\r\n1,"x"\r\n\r\n2,"two\r\nlines"\r\n3,z',
    '\ufeffa,b\n"1","say ""no"""\n2,"""\n"""\n\n3,""\n',
    'a,b\n1,5" pipe\n2,x"y\n3,"q"\n',
    '"a","b"\n\n\n1,"x\n\n\ny"\n2,z\n',
    'a,b\r1,"x\r\ry"\r\r2,"y\n"\r3,z\r',
    '\ufeffa,b\r"1",x\r\n2,y\n3,"z"\r\r\n4,u',
]


@pytest.mark.parametrize("read", [1, 2, 3, 7, 1 << 22])
@pytest.mark.parametrize("rows", [1, 2, 100])
@pytest.mark.parametrize("text", QUOTED)
def test_rows_begin_where_python_says_they_do(tmp_path, monkeypatch, text, rows, read):
    monkeypatch.setattr(csv_lines, "READ_BYTES", read)
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    expected = [row for row in csv.reader(io.StringIO(text.lstrip("\ufeff"), newline="")) if row]
    data, found = path.read_bytes(), []
    for span in csv_lines.spans(path, ",", rows):
        part = io.StringIO(data[span.start : span.end].decode("utf-8-sig"), newline="")
        some = [row for row in csv.reader(part) if row]
        assert len(some) == span.rows <= rows
        found += some
    assert found == expected


@pytest.mark.parametrize("most", [1, 20, 45, 1000])
def test_spans_of_long_rows_hold_fewer(tmp_path, monkeypatch, most):
    monkeypatch.setattr(csv_lines, "SPAN_BYTES", most)
    monkeypatch.setattr(csv_lines, "READ_BYTES", 64)
    path = tmp_path / "a.csv"
    path.write_text("".join(f"{row},text {row}\n" for row in range(10, 40)))  # of 11 bytes
    found = list(csv_lines.spans(path, ",", 10))
    assert [span.start for span in found[1:]] == [span.end for span in found[:-1]]
    assert (found[0].start, found[-1].end) == (0, 330)
    assert sum(span.rows for span in found) == 30
    assert {span.rows for span in found[:-1]} == {min(10, max(1, most // 11))}


COLUMNS = {
    "numbers": ["1", "2.5", "3", "1e3"],
    "whole": ["1", "2", "", "7"],
    "truths": ["true", "false", "1", "0"],
    "large": ["1", "99999999999999999999", "2", "3"],
    "dates": ["2020-01-01", "2020-01-02", "2021-01-01", ""],
    "moments": ["2020-01-01", "2020-01-02 10:00:00", "2020-01-02 10:00:00.5", ""],
    "text": ["x", "y", "x", ""],
    "words": ["1", "red", "blue", "red"],
    "nothing": ["", "", "", ""],
    "late": ["", "", "", "2"],
}


@pytest.fixture
def in_pieces(monkeypatch):
    """Spans of a row or two."""
    monkeypatch.setattr("isthmus.data.formats.csv_stream.CHUNK_BYTES", 32)
    monkeypatch.setattr(csv_lines, "READ_BYTES", 16)


@pytest.mark.usefixtures("in_pieces")
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_is_what_it_is_in_memory(tmp_path, name, turned):
    values = COLUMNS[name][:: -1 if turned else 1]
    path = tmp_path / "a.csv"
    path.write_text("".join(f"{a},{b}\n" for a, b in zip(["x", *values], "n1234", strict=True)))
    roles = {"x": "categorical"} if name == "words" else {}
    ours = open_source(path, stream=True, roles=roles)
    theirs = open_source(path, stream=False, roles=roles)
    assert len(ours.bounds) > 2
    assert ours.schema == theirs.schema
    np.testing.assert_array_equal(ours.read(np.arange(4)), theirs.read(np.arange(4)))
    assert ours.dtype == theirs.dtype


@pytest.mark.usefixtures("in_pieces")
def test_a_file_without_names_may_be_streamed(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("".join(f"{row},{row * row}\n" for row in range(30)))
    ours, theirs = (open_source(path, stream=stream) for stream in (True, False))
    assert ours.schema == theirs.schema
    assert ours.schema.names is None
    np.testing.assert_array_equal(ours.read(np.arange(30)), theirs.read(np.arange(30)))


def broken(tmp_path, change, rows=40):
    """A CSV with one line changed, that of row 30 (line 32)."""
    text = ["n,t"] + [f'{row}.5,"text {row % 3}"' for row in range(rows)]
    text[31] = change(text[31])
    path = tmp_path / "broken.csv"
    path.write_text("\n".join(text) + "\n")
    return path


@pytest.mark.usefixtures("in_pieces")
@pytest.mark.parametrize("stream", [True, False])
def test_a_quote_that_is_never_closed_is_found(tmp_path, stream):
    path = broken(tmp_path, lambda line: line[:-1])
    text = path.read_text().splitlines()
    path.write_text("\n".join([*text[:32], "30.5,x", "31.5,y"]))
    with pytest.raises(SourceError, match=r"broken.csv: line 32: the quote .* is never closed"):
        open_source(path, stream=stream)


@pytest.mark.usefixtures("in_pieces")
@pytest.mark.parametrize("stream", [True, False])
def test_a_row_of_another_width_is_found(tmp_path, stream):
    path = broken(tmp_path, lambda line: line + ",more")
    with pytest.raises(SourceError, match=r"broken.csv: line 32 has 3 columns and the first line"):
        open_source(path, stream=stream)


@pytest.mark.usefixtures("in_pieces")
@pytest.mark.parametrize("stream", [True, False])
def test_quotes_that_break_in_mid_file_are_found(tmp_path, stream):
    path = broken(tmp_path, lambda line: line[:-1] + "\n30.6,x")
    with pytest.raises(SourceError, match=r"broken.csv: line 3[23]"):
        open_source(path, stream=stream)


@pytest.mark.usefixtures("in_pieces")
def test_a_file_that_changes_is_noticed(tmp_path):
    path = broken(tmp_path, str)
    source = open_source(path, stream=True)
    path.write_text(path.read_text() + "1,x\n")
    with pytest.raises(SourceError, match=r"broken.csv: has changed since it was opened \(\d+ b"):
        source.read(np.array([20]))


@pytest.mark.usefixtures("in_pieces")
@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_lines_may_end_as_they_do_anywhere(tmp_path, end):
    path = tmp_path / "a.csv"
    rows = ["a,b", "1,2", "", '3,"4"', "5,6", *(f"{at},{at}" for at in range(20))]
    path.write_bytes(end.join(rows).encode())
    ours, theirs = (open_source(path, stream=stream) for stream in (True, False))
    expected = np.array([[1, 2], [3, 4], [5, 6], *([at, at] for at in range(20))])
    np.testing.assert_array_equal(theirs.read(np.arange(len(theirs))), expected)
    assert len(ours.bounds) > 2
    np.testing.assert_array_equal(ours.read(np.arange(len(ours))), expected)


@pytest.mark.usefixtures("in_pieces")
@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
@pytest.mark.parametrize("stream", [True, False])
def test_the_line_at_fault_is_told_whatever_ends_lines(tmp_path, end, stream):
    path = tmp_path / "a.csv"
    path.write_bytes(end.join(["a,b", *["1,2"] * 20, "3", *["1,2"] * 20]).encode())
    with pytest.raises(SourceError, match="line 22 has 1 columns and the first line has 2"):
        open_source(path, stream=stream)
    path.write_bytes(end.join(["a,b", *["1,2"] * 20, '3,"4', *["1,2"] * 20]).encode())
    with pytest.raises(SourceError, match="line 22: the quote that opens a cell there"):
        open_source(path, stream=stream)
