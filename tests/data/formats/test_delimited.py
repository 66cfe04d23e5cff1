"""Text tables: headers, gaps, types, and where exactly a fault lies."""

import re

import numpy as np
import pandas as pd
import pytest

from isthmus.data import open_source
from isthmus.data.formats import delimited
from isthmus.data.output.write import write_rows
from isthmus.data.tables.restore import restore
from isthmus.errors import RequestError, SourceError


@pytest.fixture
def csv(tmp_path):
    def write(text, name="a.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def everything(source):
    return source.read(np.arange(len(source)))


def test_the_first_line_names_the_columns(csv):
    source = open_source(csv("b,a,flag\n1,2.5,true\n3,4,false\n"))
    assert source.schema.names == ("b", "a", "flag")
    assert source.schema.dtypes == ("Int64", "Float64", "Boolean")
    assert source.schema.container == "pyarrow"
    assert everything(source).tolist() == [[1, 2.5, 1], [3, 4, 0]]


def test_tabs(csv):
    assert everything(open_source(csv("a\tb\n1\t2\n", "a.tsv"))).tolist() == [[1, 2]]


@pytest.mark.parametrize("text", ["\ufeffa,b\r\n1,2\r\n", '"a","b"\n"1","2"', "\na,b\n\n1,2\n\n"])
def test_marks_quotes_line_ends_and_empty_lines(csv, text):
    source = open_source(csv(text))
    assert source.schema.names == ("a", "b")
    assert everything(source).tolist() == [[1, 2]]


def test_a_first_line_of_numbers_is_a_row_and_stays_one(csv, tmp_path):
    text = "1,2.5\n-3,4e1\n"
    source = open_source(csv(text))
    assert source.schema.names is None
    assert everything(source).tolist() == [[1, 2.5], [-3, 40]]
    assert open_source(csv(text), drop="column_0").read(np.arange(1)).tolist() == [[2.5]]

    write_rows(tmp_path / "back.csv", restore(everything(source), source.schema), source.schema)
    assert (tmp_path / "back.csv").read_text() == "1,2.5\n-3,40\n"


def test_numbers_can_be_names_on_request(csv):
    source = open_source(csv("400,401.5\n1,2\n"), header=True)
    assert source.schema.names == ("400", "401.5")
    assert everything(source).tolist() == [[1, 2]]


def test_a_first_line_of_text_can_be_a_row_on_request(csv):
    source = open_source(csv("1,x\n2,y\n"), header=False, drop="column_1")
    assert everything(source).tolist() == [[1], [2]]


def test_gaps_are_nan(csv):
    source = open_source(csv("a,b\n1,\nNA,2\nnan,null\n"))
    np.testing.assert_array_equal(everything(source), [[1, np.nan], [np.nan, 2], [np.nan] * 2])


def test_text_among_numbers_is_located(csv):
    path = csv("a,b\n1,2\n3,4\n5,six\n7,8\n")
    with pytest.raises(SourceError) as caught:
        open_source(path)
    message = str(caught.value)
    assert message.startswith(
        f"{path}: column 'b': 'six' at row 2, counting from 0, is not a number"
    )
    assert "75.0% of its values are" in message
    assert "roles={'b': 'categorical'}" in message


@pytest.mark.parametrize("late", ["2.5", "six"])
def test_types_are_decided_by_the_whole_column(csv, monkeypatch, late):
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 64)
    path = csv("a,b\n" + "1,\n" * 100 + f"{late},7\n")
    if late == "six":
        with pytest.raises(SourceError, match=r"column 'a': 'six' at row 100.* is not a number"):
            open_source(path)
    else:
        source = open_source(path)
        assert source.schema.dtypes == ("Float64", "Int64")
        assert everything(source)[-1].tolist() == [2.5, 7]


@pytest.mark.parametrize(("row", "found"), [("3", 1), ("3,4,5", 3)])
def test_ragged_rows_are_located(csv, row, found):
    path = csv(f'a,b\n1,"2\n"\n\n{row}\n5,6\n')
    expected = f"{path}: line 5 has {found} columns? and the first line has 2; give every row 2"
    with pytest.raises(
        SourceError, match=f"^{re.escape(str(path))}: line 5 has {found} column"
    ) as e:
        open_source(path)
    assert re.match(re.escape(expected).replace(r"columns\?", "columns?"), str(e.value))


def test_names_must_differ_and_exist(csv):
    with pytest.raises(SourceError, match=r"a\.csv: several columns are named 'a'"):
        open_source(csv("a,a\n1,2\n"))


def test_an_index_written_by_pandas_is_not_taken_for_data(csv):
    path = csv(pd.DataFrame({"a": [5, 6]}).to_csv())
    with pytest.raises(
        SourceError, match=r"a\.csv: column 1 has no name.*index=False.*drop=\[''\]"
    ):
        open_source(path)
    assert everything(open_source(path, drop="")).tolist() == [[5], [6]]


def test_unknown_columns_list_the_known(csv):
    with pytest.raises(RequestError, match=r"a\.csv: there is no column 'c'; .* are 'a', 'b'$"):
        open_source(csv("a,b\n1,2\n"), columns=["a", "c"])


def test_a_dropped_column_may_hold_anything(csv):
    source = open_source(csv("a,species\n1,setosa\n2,\xff\n".encode("latin-1")), drop="species")
    assert everything(source).tolist() == [[1], [2]]


def test_a_header_without_rows(csv):
    assert len(open_source(csv("a,b\n"))) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n\n", r"a\.csv: the file holds only empty lines"),
        ("a,b\n1,2\n".encode("utf-16"), r"a\.csv: the first line cannot be read as text"),
        (b'"' + b"x" * 200_000, r"a\.csv: the first line cannot be read as text"),
        (b"a\n" + b"1" * 200, r"a\.csv: the file cannot be read as a table \(straddling"),
    ],
)
def test_files_that_are_no_tables(csv, monkeypatch, text, message):
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 64)
    with pytest.raises(SourceError, match=message):
        open_source(csv(text))


@pytest.mark.parametrize("roles", [{}, {"k": "categorical"}])
@pytest.mark.parametrize("stream", [True, False])
def test_what_is_not_utf8_is_named_by_its_line(csv, monkeypatch, roles, stream):
    monkeypatch.setattr("isthmus.data.formats.csv_stream.CHUNK_BYTES", 64)
    rows = [f'{row},{row}.5,"a\nb"' for row in range(30)]
    rows[20] = "20,20.5,caf\xe9"
    path = csv(("other,x,k\n" + "\n".join(rows)).encode("latin-1"))
    message = (
        r"a\.csv: line 42: b'caf\\xe9' in column 'k' is not UTF-8; save the file as UTF-8 .*iconv "
        r"-f LATIN1 -t UTF-8\), or leave the column out with drop=\['k'\]$"
    )
    with pytest.raises(SourceError, match=message):
        open_source(path, stream=stream, roles=roles)
    assert len(open_source(path, stream=stream, drop="k")) == 30


OTHERWISE = [
    ("a.csv", "a;b;c\n1;2;3\n", "semicolons and not commas ('a;b;c'); save it with commas, with"),
    ("a.csv", "1,5;2,5;3\n", "semicolons and not commas"),
    ("a.csv", "1;2;3\n", "semicolons and not commas"),
    ("a.csv", '"a";"b"\n1;2\n', "semicolons and not commas"),
    (
        "a.csv",
        "a\tb\n1\t2\n",
        "tabs and not commas ('a\\tb'); save it with commas, or name it a.tsv",
    ),
    ("a.csv", "a|b\n1|2\n", "bars and not commas"),
    ("a.tsv", "a,b\n1,2\n", "commas and not tabs"),
    ("a.tsv", "\n\na;b\n1,5;2\n", "semicolons and not tabs"),
]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("name", "text", "part"), OTHERWISE)
def test_another_separator_is_named(tmp_path, name, text, part, stream):
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceError, match=re.escape(part)):
        open_source(tmp_path / name, stream=stream)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", '"a;b"\n1\n2\n'),
        ("a.csv", '"a\tb","c"\n1,2\n3,4\n'),
        ("a.csv", "income; net\n1\n2\n"),
        ("a.csv", "a|b,c\n1,2\n3,4\n"),
        ("a.tsv", "income, net\n1\n2\n"),
        ("a.tsv", "1\t2\n3\t4\n"),
    ],
)
def test_a_name_that_holds_a_separator_is_a_name(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    expected = np.loadtxt(
        tmp_path / name,
        delimiter="," if name == "a.csv" else "\t",
        ndmin=2,
        skiprows=0 if text[0] == "1" else 1,
    )
    source = open_source(tmp_path / name)
    np.testing.assert_array_equal(source.read(np.arange(len(source))), expected)
