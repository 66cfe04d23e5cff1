"""A file format that a user registers works everywhere: one record and one entry in FORMATS."""

import json
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pytest

from isthmus.cli import main
from isthmus.data import open_source
from isthmus.data.formats import FORMATS, format_names
from isthmus.data.formats.base import Format, Header
from isthmus.data.formats.values import append_tables, as_table
from isthmus.data.labels import column_names, read_column, read_labels, read_names
from isthmus.data.output.append import appending_rows
from isthmus.data.output.write import table_schema, write_rows
from isthmus.data.recording_files import open_recordings, write_recordings
from isthmus.data.tables.frames import frame_source, pick
from isthmus.errors import RequestError, SourceError

ROWS = np.arange(12.0).reshape(4, 3)
SCHEMA = table_schema("abc", "float64")


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def read(path, options):
    table = pa.Table.from_pylist(records(path))
    kept = pick(table.column_names, options.columns, options.drop, str(path))
    return frame_source(
        table, origin=str(path), columns=kept, layout=options.layout, roles=dict(options.roles)
    )


class Writer:
    """Writes one JSON object per row, each block as soon as it comes."""

    def __init__(self, path):
        self.file = path.open("w")

    def write_table(self, table):
        self.file.writelines(json.dumps(row) + "\n" for row in table.to_pylist())
        self.file.flush()

    def close(self):
        self.file.close()


def write(path, values, schema, _names):
    writer = Writer(path)
    writer.write_table(as_table(path, values, schema))
    writer.close()


@contextmanager
def append(file):
    with append_tables(file, lambda _schema: Writer(file.path)) as append_block:
        yield append_block


def read_header(path, _wanted):
    return Header(tuple(records(path)[0]))


def read_columns(path, names, _wanted, as_text):
    table = pa.Table.from_pylist(records(path)).select(list(names))
    return table.cast(pa.schema([(name, pa.string()) for name in names])) if as_text else table


JSONL = Format(
    suffixes=(".jsonl", ".ndjson"),
    read=read,
    write=write,
    append=append,
    understands=frozenset({"columns", "drop", "roles", "layout"}),
    read_header=read_header,
    read_columns=read_columns,
)

NUMBERS = Format(
    suffixes=(".numbers",),
    read=lambda path, options: open_source(np.loadtxt(path, ndmin=2), layout=options.layout),
    write=lambda path, values, _schema, _names: np.savetxt(path, values),
    read_array=lambda path, _member: np.loadtxt(path),
)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Two formats that the package does not know: a table, and an array written at once."""
    monkeypatch.setitem(FORMATS, "jsonl", JSONL)
    monkeypatch.setitem(FORMATS, "numbers", NUMBERS)


@pytest.mark.parametrize("suffix", ["jsonl", "ndjson", "NUMBERS"])
def test_rows_are_written_and_read(tmp_path, suffix):
    path = tmp_path / f"rows.{suffix}"
    write_rows(path, ROWS, SCHEMA)
    np.testing.assert_array_equal(open_source(path).read(np.arange(4)), ROWS)
    with pytest.raises(RequestError, match="header=True has no meaning"):
        open_source(path, header=True)


@pytest.mark.parametrize("suffix", ["jsonl", "numbers"])
def test_blocks_give_the_file_that_one_write_gives(tmp_path, suffix):
    blocks, whole = tmp_path / f"blocks.{suffix}", tmp_path / f"whole.{suffix}"
    write_rows(whole, ROWS, SCHEMA)
    with appending_rows(blocks, SCHEMA, 4) as append_block:
        append_block(ROWS[:2])
        files = [path for path in tmp_path.rglob("*") if path.is_file() and path != whole]
        written = [path.read_text() for path in files]
        append_block(ROWS[2:])
    assert blocks.read_text() == whole.read_text()
    # One format writes a block at once, and the other keeps it until the end.
    assert any(text.count("\n") == 2 for text in written) == (suffix == "jsonl")


def test_text_goes_to_tables_only(tmp_path):
    rows = pa.table({"colour": ["red", "blue"] * 20, "size": np.arange(40.0)})
    schema = open_source(rows).schema
    write_rows(tmp_path / "a.jsonl", rows, schema)
    assert open_source(tmp_path / "a.jsonl").schema.columns[0].role == "categorical"
    with pytest.raises(RequestError, match=r"holds only numbers; write to .*\.parquet or \.jsonl"):
        write_rows(tmp_path / "a.numbers", rows, schema)


def test_labels_and_names_of_columns(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"x": 7, "y": "01"}\n{"x": 8, "y": "NA"}\n')
    assert column_names(tmp_path / "a.jsonl") == ("x", "y")
    assert read_column(tmp_path / "a.jsonl", "x").tolist() == [7, 8]
    assert read_names(tmp_path / "a.jsonl", "y") == ["01", "NA"]
    (tmp_path / "one.ndjson").write_text('{"label": "a"}\n{"label": "b"}\n')
    assert read_labels(tmp_path / "one.ndjson").tolist() == ["a", "b"]
    np.savetxt(tmp_path / "one.numbers", [3, 1])
    assert read_labels(tmp_path / "one.numbers").tolist() == [3, 1]
    assert column_names(tmp_path / "one.numbers") is None


def test_messages_name_it(tmp_path):
    (tmp_path / "a.xlsx").write_text("x")
    with pytest.raises(SourceError, match=r"use one of \.npy, .*, \.jsonl or \.numbers"):
        open_source(tmp_path / "a.xlsx")
    with pytest.raises(SourceError, match=r"labels are read from \.npy, .*, \.jsonl or \.numbers"):
        read_labels(tmp_path / "a.xlsx")
    assert format_names(lambda entry: entry.delimiter is not None) == ".csv or .tsv"


def test_a_folder_of_recordings(tmp_path):
    parts = [open_source(ROWS, layout="table"), open_source(ROWS[:2], layout="table")]
    values = [part.read(np.arange(len(part))) for part in parts]
    names = ["a.jsonl", "b.numbers"]
    schemas = [part.schema for part in parts]
    write_recordings(tmp_path / "many", values, schemas, names=names)
    recordings = open_recordings(tmp_path / "many")
    assert sorted(path.name for path in (tmp_path / "many").iterdir()) == names
    assert [len(part) for part in recordings.parts] == [4, 2]


def test_the_command_line_reads_and_writes_it(tmp_path, capsys):
    rows = np.random.default_rng(0).normal(size=(40, 3))
    write_rows(tmp_path / "data.jsonl", rows, SCHEMA)
    write_rows(tmp_path / "data.csv", rows, SCHEMA)
    model, settings = (
        tmp_path / "model",
        ["--n-components", "2", "--max-epochs", "1", "--no-report"],
    )
    assert main(["fit", str(tmp_path / "data.jsonl"), "-o", str(model), *settings]) == 0
    for suffix in ("jsonl", "csv"):
        data, codes = tmp_path / f"data.{suffix}", tmp_path / f"codes.{suffix}"
        assert main(["encode", str(model), str(data), "-o", str(codes)]) == 0
    found, expected = (open_source(tmp_path / f"codes.{name}") for name in ("jsonl", "csv"))
    assert found.schema.names == expected.schema.names
    rows = np.arange(40)
    np.testing.assert_array_equal(
        found.read(rows).astype("float32"), expected.read(rows).astype("float32")
    )

    (tmp_path / "odd.jsonl").write_text('{"a": 1.0, "b": 2.0, "d": 3.0}\n')
    assert (
        main(["encode", str(model), str(tmp_path / "odd.jsonl"), "-o", str(codes), "--force"]) == 2
    )
    assert "missing 'c'" in capsys.readouterr().err
