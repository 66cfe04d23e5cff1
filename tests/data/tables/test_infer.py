"""What columns are told to be, by their types and values or by declaration."""

import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from isthmus.data import frame_source, open_source
from isthmus.data.columns import IDENTIFIER, ROLES, Column, sorted_by_type
from isthmus.data.output.fill_missing import fill
from isthmus.data.validate import align
from isthmus.errors import DataError, RequestError, SourceError, options_in_messages

N = 60
NAMES = [f"row {i}" for i in range(N)]
GROUPS = ["b", "a", "c"] * (N // 3)
MAKERS = [pd.DataFrame, pl.DataFrame, pa.table]


def everything(source):
    return source.read(np.arange(len(source)))


def roles(source):
    columns = source.schema.columns
    return None if columns is None else tuple(column.role for column in columns)


@pytest.mark.parametrize("make", MAKERS)
def test_types_and_values_tell_the_role(make):
    source = frame_source(
        make(
            {
                "number": np.linspace(0, 1, N),
                "group": GROUPS,
                "when": [dt.datetime(2020, 1, 1)] * N,
                "flag": [True, False] * (N // 2),
                "name": NAMES,
                "index": np.arange(5, N + 5),
                "back": np.arange(N)[::-1].copy(),
            }
        )
    )
    assert roles(source) == ("numeric", "categorical", "datetime", "boolean", "numeric")
    assert source.schema.names == ("number", "group", "when", "flag", "back")
    assert source.schema.left_out == ("name", "index")
    assert source.schema.columns[1].categories == ("a", "b", "c")
    assert everything(source)[:3, 1].tolist() == [1, 0, 2]
    assert any("'name' identifies rows (60 different values in 60)" in t for t in source.remarks)
    assert any("'index' counts the rows and is left out" in text for text in source.remarks)


@pytest.mark.parametrize("make", MAKERS)
def test_tables_of_numbers_are_as_they_were(make):
    assert roles(frame_source(make({"a": [1, 2], "b": [True, False]}))) is None


def test_few_rows_never_make_an_identifier():
    source = frame_source(pd.DataFrame({"name": NAMES[:20], "x": np.arange(20)}))
    assert source.schema.names == ("name", "x")


def test_the_order_of_levels_does_not_hang_on_that_of_rows():
    frame = pd.DataFrame({"g": GROUPS, "x": np.linspace(0, 1, N)})
    turned = frame_source(frame.iloc[::-1]).schema.columns
    assert frame_source(frame).schema.columns == turned


def test_an_order_given_is_kept():
    categories = ["small", "large", "huge"]
    ordered = pd.Categorical(["huge", "small"], categories, ordered=True)
    column = frame_source(pd.DataFrame({"size": ordered})).schema.columns[0]
    assert column == Column(role="ordinal", categories=tuple(categories), category_dtype="str")
    plain = pl.DataFrame({"size": pl.Series(["huge", "small"], dtype=pl.Enum(categories))})
    assert frame_source(plain).schema.columns[0].role == "categorical"


@pytest.mark.parametrize("role", ["categorical", "ordinal"])
def test_numbers_can_be_declared_levels(role):
    source = frame_source(pd.DataFrame({"zip": [900, 100, 900]}), roles={"zip": role})
    assert source.schema.columns == (Column(role=role, categories=(100, 900)),)
    assert everything(source)[:, 0].tolist() == [1, 0, 1]


def test_what_looks_like_an_identifier_can_be_kept_and_others_left_out():
    frame = pd.DataFrame({"name": NAMES, "x": np.linspace(0, 1, N), "y": 1.5})
    declared = {"name": "categorical", "x": IDENTIFIER}
    source = frame_source(frame, roles=declared)
    assert source.schema.names == ("name", "y")
    assert source.schema.left_out == ("x",)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"no": "numeric"}, "there is no column 'no' to be numeric"),
        ({"g": "odd"}, "the role 'odd' of 'g' is not one of numeric, count, boolean"),
    ],
)
def test_odd_roles_are_refused(declared, message):
    with pytest.raises(RequestError, match=message):
        frame_source(pd.DataFrame({"g": GROUPS}), roles=declared)


@pytest.mark.parametrize("role", ["numeric", "datetime", "count", "boolean"])
def test_text_cannot_be_declared_anything_else(role):
    with pytest.raises(DataError, match=f"'g' was declared {role}, and its values are categor"):
        frame_source(pd.DataFrame({"g": GROUPS}), roles={"g": role})


@pytest.mark.parametrize("bad", [-1.0, 0.5])
def test_counts_are_whole_and_not_negative(bad):
    frame = pd.DataFrame({"n": [1.0, bad, 3.0]})
    with pytest.raises(DataError, match=rf"'n' was declared count, and {bad} at row 1"):
        frame_source(frame, roles={"n": "count"})


@pytest.mark.parametrize("stream", [None, False, True])
def test_a_column_that_a_role_of_all_does_not_fit_is_told_how_to_be_left_out(tmp_path, stream):
    frame = pd.DataFrame({"cell": NAMES, "a": range(N, 0, -1), "b": GROUPS})
    frame["b"] = frame["a"]
    path = tmp_path / "cells.csv"
    frame.to_csv(path, index=False)
    data, options = (frame, {}) if stream is None else (path, {"stream": stream})
    with pytest.raises(DataError if stream is None else SourceError) as told:
        open_source(data, roles="count", **options)
    assert (
        "column 'cell' was declared count, and its values are categorical; declare a role of its "
        "own for it, or leave it out with roles={'*': 'count', 'cell': 'identifier'}, or convert "
        "the column" in str(told.value)
    )
    with options_in_messages(), pytest.raises(DataError, match=r"with --role '.=count,cell=ident"):
        open_source(data, roles="count", **options)
    kept = open_source(data, roles={"*": "count", "cell": "identifier"}, **options)
    assert roles(kept) == ("count", "count")
    with pytest.raises(
        DataError if stream is None else SourceError, match="categorical; leave the"
    ):
        open_source(data, roles={"cell": "count"}, **options)


def test_periods_are_called_so():
    frame = pd.DataFrame({"m": pd.period_range("2020-01", periods=3, freq="M"), "x": [1, 2, 4]})
    message = (
        r"'m' is periods, not numbers, text or dates \(first bad value Period\('2020-01', 'M'\) at "
        r"row 0, counting from 0\); make it numbers, text or dates \(\.dt\.to_timestamp\(\)\), or"
    )
    with pytest.raises(DataError, match=message):
        frame_source(frame)


def test_truths_are_zero_and_one():
    with pytest.raises(DataError, match=r"'n' was declared boolean, and 2 at row 1"):
        frame_source(pd.DataFrame({"n": [1, 2]}), roles={"n": "boolean"})


@pytest.mark.parametrize(
    ("values", "what"),
    [(["1", "2", "3", "x"], "a number"), (["2020-01-01"] * 3 + ["2020-02-31"], "a date")],
)
def test_text_that_is_something_else_but_for_a_slip_is_refused(values, what):
    frame = pd.DataFrame({"c": values})
    with pytest.raises(DataError, match=rf"'c': '{values[3]}' at row 3.* is not {what}, as 75.0%"):
        frame_source(frame)
    assert roles(frame_source(frame, roles={"c": "categorical"})) == ("categorical",)


def test_levels_that_a_model_does_not_know_are_missing_and_told():
    learned = frame_source(pd.DataFrame({"g": ["a", "b"], "x": [1.0, 2.0]})).schema
    new = pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0], "g": ["b", "z", None, "z"]})
    source = align(frame_source(new), learned)
    np.testing.assert_array_equal(everything(source)[:, 0], [1, np.nan, np.nan, np.nan])
    assert source.unknown_values == (
        "X: column 'g': 2 values were not seen in training and are taken as missing: 'z'",
    )
    assert source.missing(0).tolist() == [False, False, True, False]
    (told,) = align(frame_source(new.head(2)), learned).unknown_values
    assert told == "X: column 'g': 1 value was not seen in training and is taken as missing: 'z'"


@pytest.mark.parametrize(
    ("fitted", "found", "message"),
    [
        (["a", "b"], [1, 2], "'c' is Int64 values, not text"),
        ([1.5, 2.5], ["a", "b"], "'c' is text, not numbers .*'a' at row 0"),
        ([dt.date(2020, 1, 1)] * 2, ["a", "b"], "'c' is text, not dates"),
        (["a", "b"], [dt.date(2020, 1, 1)] * 2, "'c' is Date values, not text"),
    ],
)
def test_a_column_of_another_kind_than_in_the_fit(fitted, found, message):
    learned = frame_source(pl.DataFrame({"c": fitted, "d": ["x", "y"]})).schema
    with pytest.raises(DataError, match=message):
        align(frame_source(pl.DataFrame({"c": found, "d": ["x", "y"]})), learned)


def test_numbers_alone_are_no_table_with_text():
    learned = frame_source(pd.DataFrame({"g": ["a", "b"], "x": [1.0, 2.0]})).schema
    with pytest.raises(DataError, match="fitted on a table with columns of text or dates"):
        align(open_source(np.zeros((2, 2))), learned)


def test_what_identifies_rows_here_may_have_been_a_number_in_the_fit():
    rng = np.random.default_rng(0)
    learned = frame_source(pd.DataFrame({"year": rng.integers(0, 99, N), "g": GROUPS})).schema
    new = frame_source(pd.DataFrame({"year": np.arange(N), "g": GROUPS}))
    assert new.schema.left_out == ("year",)
    np.testing.assert_array_equal(everything(align(new, learned))[:, 0], np.arange(N))


def test_columns_left_out_in_the_fit_may_come_again_or_not():
    learned = frame_source(pd.DataFrame({"name": NAMES, "g": GROUPS, "x": 0.5})).schema
    for columns in (["x", "g"], ["name", "x", "g"]):
        new = pd.DataFrame({"name": ["one", "one"], "g": ["a", "b"], "x": [1.0, 2.0]})[columns]
        assert everything(align(frame_source(new), learned)).tolist() == [[0, 1], [1, 2]]


@pytest.mark.parametrize("make", MAKERS)
def test_only_gaps_are_filled(make):
    frame = make({"name": NAMES[:3], "g": ["a", None, "z"], "x": [1.0, None, 3.0]})
    learned = frame_source(pd.DataFrame({"g": ["a", "b"], "x": [1.5, 2.5]})).schema
    source = align(frame_source(frame, roles={"name": IDENTIFIER}), learned)
    filled = fill(source, np.array([[1, 9.0]] * 3))
    back = pd.DataFrame({c: list(filled[c]) for c in ("name", "g", "x")}).astype(str)
    assert back["name"].tolist() == NAMES[:3]
    assert back["g"].tolist() == ["a", "b", "z"]
    assert back["x"].tolist() == ["1.0", "9.0", "3.0"]


def test_levels_are_ordered_within_their_types():
    assert sorted_by_type({"b", "a"}) == ("a", "b")
    assert sorted_by_type([2, "a", True, 1.5]) == (True, 1.5, 2, "a")


def test_a_csv_with_words_for_what_is_missing(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a, b\n1, x\n?, ?\n3, y\n")
    source = open_source(path, missing="?")
    assert roles(source) == ("numeric", "categorical")
    np.testing.assert_array_equal(everything(source), [[1, 0], [np.nan, np.nan], [3, 1]])


def test_a_first_line_of_words_and_numbers_is_not_guessed_at(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("39,Private\n50,State\n")
    with pytest.raises(SourceError, match=r"words and numbers .'Private', '39'.*header=False"):
        open_source(path)
    assert len(open_source(path, header=False)) == 2


def test_the_command_line_names_all_roles():
    from typing import get_type_hints

    from isthmus.cli.options import ColumnOptions

    said = get_type_hints(ColumnOptions, include_extras=True)["role"].__metadata__[0].help
    assert all(role in said for role in (*ROLES, IDENTIFIER))
