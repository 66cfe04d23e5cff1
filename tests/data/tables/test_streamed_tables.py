"""Streamed tables mean what they mean in memory; what is wrong with their files is said."""

import datetime as dt
import os

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from isthmus.data import open_source
from isthmus.data.preparation.fit import fit_preparation
from isthmus.data.tables import infer_streamed
from isthmus.data.tables.streamed import StreamedTable
from isthmus.data.validate import align, has_missing
from isthmus.errors import DataError, SourceError

ROWS = 200


@pytest.fixture(autouse=True)
def _in_pieces(monkeypatch):
    monkeypatch.setattr("isthmus.data.on_disk.CHUNK_BYTES", 8 * 10 * 23)
    monkeypatch.setattr(infer_streamed, "BATCH_ROWS", 17)
    monkeypatch.setattr("isthmus.data.formats.csv_stream.CHUNK_BYTES", 8 * 10 * 31)


@pytest.fixture
def mixed(rng):
    def some(values, missing=0.1):
        return pa.array(values, mask=rng.random(ROWS) < missing)

    days = [dt.date(2020, 1, 1) + dt.timedelta(int(d)) for d in rng.integers(0, 99, ROWS)]
    return pa.table(
        {
            "id": np.arange(7, ROWS + 7),
            "name": [f"row {row}" for row in range(ROWS)],
            "x": some(rng.normal(size=ROWS)),
            "n": some(rng.integers(-5, 5, ROWS)),
            "whole": rng.integers(0, 9, ROWS).astype(np.int32),
            "yes": some(rng.random(ROWS) < 0.3),
            "colour": some(rng.choice(["red", "green", "blue"], ROWS)),
            "size": some(rng.choice(["s", "m"], ROWS)),
            "day": some(days),
            "at": some(rng.integers(0, 2**40, ROWS).astype("M8[ms]")),
        }
    )


def both(path, **options):
    return [open_source(path, stream=stream, **options) for stream in (True, False)]


def check_same(ours, theirs):
    assert isinstance(ours, StreamedTable)
    assert ours.schema == theirs.schema
    assert ours.remarks == theirs.remarks
    everything = np.arange(len(theirs))
    found, expected = ours.read(everything), theirs.read(everything)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    weight = np.ones(len(theirs))
    assert fit_preparation(ours, everything, weight) == fit_preparation(theirs, everything, weight)
    assert has_missing(ours) == has_missing(theirs)


@pytest.mark.parametrize("group", [1000, 60, 7])
def test_a_mixed_table_is_what_it_is_in_memory(tmp_path, mixed, group):
    pq.write_table(mixed, tmp_path / "a.parquet", row_group_size=group)
    check_same(*both(tmp_path / "a.parquet"))


def test_a_mixed_csv_is_what_it_is_in_memory(tmp_path, mixed):
    pc.write_csv(mixed, tmp_path / "a.csv")
    check_same(*both(tmp_path / "a.csv"))


ROLES = [
    {"n": "categorical"},
    {"whole": "count", "id": "numeric"},
    {"colour": "ordinal", "name": "categorical"},
    {"whole": "ordinal", "x": "identifier"},
]


@pytest.mark.parametrize("roles", ROLES, ids=str)
def test_declared_roles_are_kept(tmp_path, mixed, roles):
    pq.write_table(mixed, tmp_path / "a.parquet", row_group_size=60)
    check_same(*both(tmp_path / "a.parquet", roles=roles))


def test_long_text_is_read_in_smaller_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("isthmus.data.tables.streamed.LONG_BYTES", 1 << 14)
    words = ["a" * 2000, "b" * 2000] * 50
    table = pa.table({"long": words, "x": np.arange(100) * 0.5})
    pq.write_table(table, tmp_path / "a.parquet", use_dictionary=False)
    ours, theirs = both(tmp_path / "a.parquet")
    assert ours.chunk_rows < 10
    check_same(ours, theirs)


@pytest.mark.parametrize("options", [{"columns": ("x", "n")}, {"drop": ("colour", "id", "day")}])
def test_columns_are_kept_and_dropped(tmp_path, mixed, options):
    pq.write_table(mixed, tmp_path / "a.parquet", row_group_size=60)
    check_same(*both(tmp_path / "a.parquet", **options))


@pytest.mark.parametrize("ordered", [False, True])
def test_dictionaries_are_what_they_are_in_memory(tmp_path, rng, ordered):
    values = pa.DictionaryArray.from_arrays(
        pa.array(rng.integers(0, 3, ROWS), mask=rng.random(ROWS) < 0.1),
        pa.array(["c", "a", "b"]),
        ordered=ordered,
    )
    table = pa.table({"x": rng.normal(size=ROWS), "level": values})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=60)
    check_same(*both(tmp_path / "a.parquet"))


@pytest.mark.parametrize("value", [3, "12,5", "?"])
def test_what_is_at_fault_in_memory_is_at_fault_on_disk(tmp_path, value):
    text = ["1.5"] * 90 + [str(value) if isinstance(value, str) else "word"] + ["2.5"] * 9
    pq.write_table(pa.table({"x": text, "y": np.ones(100)}), tmp_path / "a.parquet")
    messages = []
    for stream in (True, False):
        with pytest.raises(SourceError) as caught:
            open_source(tmp_path / "a.parquet", stream=stream)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "at row 90, counting from 0" in messages[0]


def test_a_declaration_that_fails_names_the_row(tmp_path, rng):
    values = rng.integers(0, 9, 100)
    values[77] = -1
    pq.write_table(pa.table({"n": values}), tmp_path / "a.parquet", row_group_size=30)
    for stream in (True, False):
        with pytest.raises(DataError, match="-1 at row 77, counting from 0, is not a whole number"):
            open_source(tmp_path / "a.parquet", stream=stream, roles={"n": "count"})


def test_levels_that_a_model_does_not_know_are_missing_and_told(tmp_path, mixed, rng):
    schema = both_schema(tmp_path, mixed)
    other = mixed.set_column(
        mixed.column_names.index("colour"),
        "colour",
        pa.array(rng.choice(["red", "pink", "green", "grey"], ROWS)),
    )
    pq.write_table(other, tmp_path / "b.parquet", row_group_size=60)
    ours, theirs = (align(source, schema) for source in both(tmp_path / "b.parquet"))
    assert ours.unknown_values
    assert [line.split(":")[:-1] for line in ours.unknown_values] == [
        line.split(":")[:-1] for line in theirs.unknown_values
    ]
    np.testing.assert_array_equal(ours.read(np.arange(ROWS)), theirs.read(np.arange(ROWS)))


def both_schema(tmp_path, mixed):
    pq.write_table(mixed, tmp_path / "a.parquet", row_group_size=60)
    ours, theirs = both(tmp_path / "a.parquet")
    assert ours.schema == theirs.schema
    return theirs.schema


def test_columns_are_matched_by_name_in_any_order(tmp_path, mixed):
    schema = both_schema(tmp_path, mixed)
    turned = mixed.select(mixed.column_names[::-1])
    pq.write_table(turned, tmp_path / "b.parquet", row_group_size=60)
    ours, theirs = (align(source, schema) for source in both(tmp_path / "b.parquet"))
    np.testing.assert_array_equal(ours.read(np.arange(ROWS)), theirs.read(np.arange(ROWS)))
    numbers = both(tmp_path / "b.parquet", columns=("whole", "x"))
    wanted = open_source(tmp_path / "a.parquet", columns=("x", "whole"), stream=False).schema
    ours, theirs = (align(source, wanted) for source in numbers)
    np.testing.assert_array_equal(ours.read(np.arange(9)), theirs.read(np.arange(9)))


def test_too_many_levels_for_memory_are_refused_or_names(tmp_path, monkeypatch, rng):
    monkeypatch.setattr(infer_streamed, "MAX_CATEGORIES", 30)
    names = [f"row {row}" for row in range(ROWS)]
    pq.write_table(pa.table({"name": names, "x": np.ones(ROWS)}), tmp_path / "a.parquet")
    source = open_source(tmp_path / "a.parquet", stream=True)
    assert source.schema.left_out == ("name",)
    assert "more than 30 different values" in source.remarks[0]
    often = np.repeat(names[:100], 3)
    pq.write_table(pa.table({"name": often, "x": np.ones(300)}), tmp_path / "b.parquet")
    with pytest.raises(SourceError, match=r"b.parquet: column 'name' has more than 30 different"):
        open_source(tmp_path / "b.parquet", stream=True)


BEYOND = [
    (pa.date32(), 3_000_000, 10183),
    (pa.date64(), 3_000_000 * 86_400_000, 10183),
    (pa.timestamp("s"), -70_000_000_000, -248),
    (pa.timestamp("us", "UTC"), 300_000 * 10**12, 11476),
]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("kind", "value", "year"), BEYOND, ids=str)
def test_dates_out_of_range_are_told_with_their_row(tmp_path, kind, value, year, stream):
    whole = pa.int32() if kind == pa.date32() else pa.int64()
    values = [0] * 100
    values[60], values[10] = value, None
    table = pa.table({"x": np.ones(100), "day": pa.array(values, whole).cast(kind)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=40)
    with pytest.raises(DataError, match=rf"a.parquet: column 'day': .* row 60, .* year {year},"):
        open_source(tmp_path / "a.parquet", stream=stream).read(np.arange(100))


# Folders.


@pytest.fixture
def folder(tmp_path, rng):
    """Three files of 50 rows of one table, in a folder."""
    place = tmp_path / "folder"
    (place / "sub").mkdir(parents=True)
    table = pa.table({"x": rng.normal(size=150), "n": rng.integers(0, 9, 150)})
    for at, name in enumerate(("a.parquet", "b.parquet", "sub/c.parquet")):
        pq.write_table(table.slice(50 * at, 50), place / name, row_group_size=20)
    return place, table


@pytest.mark.parametrize("stream", [True, False])
def test_a_folder_is_its_files_in_the_order_of_their_paths(folder, stream):
    place, table = folder
    source = open_source(place, stream=stream)
    expected = np.column_stack([table["x"].to_numpy(), table["n"].to_numpy()])
    np.testing.assert_array_equal(source.read(np.arange(150)), expected)


HARMLESS = [
    (pa.int32(), pa.int64(), "Int64"),
    (pa.uint8(), pa.int16(), "Int64"),
    (pa.float32(), pa.float64(), "Float64"),
    (pa.int64(), pa.float64(), "Float64"),
    (pa.null(), pa.int64(), "Int64"),
    (pa.string(), pa.large_string(), "String"),
]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("one", "other", "together"), HARMLESS, ids=str)
def test_types_that_mean_the_same_may_differ(tmp_path, one, other, together, stream):
    for name, kind in (("a.parquet", one), ("b.parquet", other)):
        values = [None] * 30 if pa.types.is_null(kind) else [1, 2, 1] * 10
        if "string" in str(kind):
            values = ["p", "q", "p"] * 10
        pq.write_table(pa.table({"x": pa.array(values, kind)}), tmp_path / name)
    source = open_source(tmp_path, stream=stream)
    assert source.schema.dtypes == (together,)
    known = source.read(np.arange(60))
    assert len(np.unique(known[~np.isnan(known)])) == 2


HARMFUL = [
    ([1, 2], ["a", "b"], "int64", "string"),
    (["a", "b"], [1.5, 2.5], "string", "double"),
    ([True, False], [1, 2], "bool", "int64"),
    ([dt.date(2020, 1, 1)], [1], "date32[day]", "int64"),
    (pa.array(["a"]).dictionary_encode(), ["b"], "dictionary<", "string"),
]


@pytest.mark.parametrize("stream", [True, False, None])
@pytest.mark.parametrize(("one", "other", "first", "second"), HARMFUL)
def test_types_that_differ_are_named(tmp_path, one, other, first, second, stream):
    pq.write_table(pa.table({"y": [1.0] * len(one), "x": one}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"x": other, "y": [1.0] * len(other)}), tmp_path / "b.parquet")
    with pytest.raises(SourceError) as caught:
        open_source(tmp_path, stream=stream)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'b.parquet'}: column 'x' is {second}")
    assert "a.parquet" in message
    assert f"is {first}" in message


def test_columns_that_differ_are_named(tmp_path):
    pq.write_table(pa.table({"x": [1.0], "y": [1.0]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"x": [1.0], "z": [1.0]}), tmp_path / "b.parquet")
    with pytest.raises(SourceError, match=r"b.parquet: .* of a.parquet: missing 'y'; extra 'z'"):
        open_source(tmp_path, stream=True)


@pytest.mark.parametrize("stream", [True, False])
def test_a_truncated_file_in_a_folder_is_named(folder, stream):
    path = folder[0] / "b.parquet"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SourceError, match=r"b.parquet: this is not a Parquet file, or it is trunc"):
        open_source(folder[0], stream=stream)


def test_bytes_that_are_damaged_are_told_of_their_file(folder):
    path = folder[0] / "b.parquet"
    stamp, content = path.stat(), bytearray(path.read_bytes())
    content[4:400] = bytes(396)
    path.write_bytes(content)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    source = open_source(folder[0], columns="x", stream=True)
    np.testing.assert_array_equal(source.read(np.arange(50))[:, 0], folder[1]["x"].to_numpy()[:50])
    with pytest.raises(SourceError, match=r"b.parquet: .* damaged"):
        source.read(np.arange(150))


@pytest.mark.parametrize("change", ["longer", "gone", "touched"])
def test_a_file_that_changes_while_it_is_read_is_told(folder, change):
    source = open_source(folder[0], stream=True)
    source.read(np.arange(60))
    path = folder[0] / "b.parquet"
    if change == "longer":
        path.write_bytes(path.read_bytes() + b"more")
    elif change == "gone":
        path.unlink()
    else:
        os.utime(path, (1, 1))
    with pytest.raises(SourceError, match=r"b.parquet: (has changed|can no longer be read)"):
        source.read(np.arange(150))


def test_a_folder_of_images_is_none_of_parquet_files(tmp_path):
    with pytest.raises(SourceError, match="no PNG or JPEG image"):
        open_source(tmp_path)
