"""`isthmus impute`: what was known comes back in the types it had."""

import csv

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from isthmus.cli.run import apply

ROWS = 400
SIZE_FACTORS = ["S", "M", "L", "XL"]
FIT = ("--n-components", 2, "--max-epochs", 2, "--no-report", "--quiet")


@pytest.fixture
def frame(rng):
    """A table of many types with gaps, in an index of its own."""
    hidden = rng.normal(size=ROWS)
    ranks = np.clip(np.rint(1.2 * hidden + 1.5), 0, 3).astype(int)
    full = pd.DataFrame(
        {
            "size": pd.Categorical.from_codes(ranks, SIZE_FACTORS, ordered=True),
            "k": pd.Series(np.rint(10 * hidden)).astype("Int64"),
            "i8": np.rint(5 * hidden).astype("int8"),
            "truth": pd.Series(hidden > 0).astype("boolean"),
            "f32": hidden.astype("float32"),
            "day": pd.Timestamp("2020-01-01", tz="UTC")
            + pd.to_timedelta(np.rint(hidden * 99), "h"),
            "word": np.where(hidden > 0, "up", "down"),
            "id": [f"r{row}" for row in range(ROWS)],
        }
    )
    gappy = full.drop(columns=["i8", "id"]).mask(rng.random((ROWS, 6)) < 0.1)
    full[gappy.columns] = gappy
    return full.set_index(pd.Index([f"row {row}" for row in range(ROWS)], name="row"))


@pytest.mark.parametrize("on_disk", [False, True])
def test_parquet_keeps_the_types_and_the_levels(isthmus, tmp_path, frame, streamed, on_disk):
    data, target = tmp_path / "data.parquet", tmp_path / "full.parquet"
    frame.to_parquet(data, row_group_size=90)
    assert isthmus("fit", data, "-o", tmp_path / "model", *FIT).code == 0
    if on_disk:
        streamed()
    done = isthmus("impute", tmp_path / "model", data, "-o", target)
    assert done.code == 0, done
    given, found = pq.read_table(data).drop("row"), pq.read_table(target)
    assert found.schema.remove_metadata() == given.schema.remove_metadata()
    made, expected = pd.read_parquet(target), frame.reset_index(drop=True)
    assert made.dtypes.to_dict() == expected.dtypes.to_dict()
    assert made["size"].cat.categories.tolist() == SIZE_FACTORS
    assert not made.isna().any().any()
    for name in expected:
        known = expected[name].notna()
        pd.testing.assert_series_equal(made[name][known], expected[name][known])


def test_a_column_that_is_empty_throughout_becomes_truths(isthmus, tmp_path, frame, streamed):
    data, empty = tmp_path / "data.parquet", tmp_path / "empty.csv"
    frame[["i8", "truth", "f32"]].to_parquet(data, index=False)
    assert isthmus("fit", data, "-o", tmp_path / "model", *FIT).code == 0
    frame[["i8", "truth", "f32"]].assign(truth=np.nan).to_csv(empty, index=False)
    for name in ("memory.csv", "disk.csv"):
        done = isthmus("impute", tmp_path / "model", empty, "-o", tmp_path / name)
        assert done.code == 0, done
        assert set((tmp_path / name).read_text().split("\n")[1].split(",")[1:2]) <= {
            "true",
            "false",
        }
        found = pd.read_csv(tmp_path / name)["truth"]
        assert found.dtype == bool
        assert (found == (frame["i8"] > 0).to_numpy()).mean() > 0.6
        streamed()


def test_a_table_of_another_writer_needs_no_pandas(isthmus, tmp_path, rng):
    table = pa.table(
        {f"c{at}": pa.array(rng.normal(size=40), mask=rng.random(40) < 0.1) for at in range(3)}
    )
    data, target = tmp_path / "data.parquet", tmp_path / "full.parquet"
    pq.write_table(table.replace_schema_metadata({"origin": "elsewhere"}), data)
    assert isthmus("fit", data, "-o", tmp_path / "model", *FIT).code == 0
    assert isthmus("impute", tmp_path / "model", data, "-o", target).code == 0
    assert pq.read_schema(target).metadata is None
    assert pq.read_schema(target).types == table.schema.types


CELLS = """id,truth,moment,code,size,word
NA,True,2020-01-01T06:00:00+02:00,00234,1.50,"a ""b"", c"
x,,2020-01-02T06:00:00+02:00,00007,,"a ""b"", c"

y,FALSE,,1e1,2.0,d
"two
lines",False,2020-01-04T06:00:00+02:00,,-0.0,
"""


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_known_cells_of_text_stay_as_they_are_written(isthmus, tmp_path, streamed, on_disk, suffix):
    data, target = tmp_path / "data.csv", tmp_path / f"full{suffix}"
    head, rows = CELLS.split("\n", 1)
    data.write_bytes(("\ufeff" + head + "\r\n" + rows * 20).encode())
    fit = (*FIT, "--role", "id=identifier,truth=boolean")
    done = isthmus("fit", data, "-o", tmp_path / "model", *fit)
    assert done.code == 0, done
    if on_disk:
        streamed()
    done = isthmus("impute", tmp_path / "model", data, "-o", target)
    assert done.code == 0, done
    assert "80 rows, 100 missing values filled in" in done.err
    with data.open(encoding="utf-8-sig", newline="") as file:
        given = [row for row in csv.reader(file) if row]
    with target.open(encoding="utf-8", newline="") as file:
        found = list(csv.reader(file, delimiter="," if suffix == ".csv" else "\t"))
    assert len(found) == 81
    for before, after in zip(given, found, strict=True):
        assert [b if a else a for a, b in zip(before, after, strict=True)] == before
        assert all(after)
    assert {row[1] for row in found[1:]} <= {"True", "False", "FALSE", "true", "false"}


def test_a_file_that_grows_while_it_is_filled_in_is_told(isthmus, tmp_path, monkeypatch, rng):
    values = rng.normal(size=(30, 3)).round(2).astype(str)
    values[rng.random((30, 3)) < 0.1] = ""
    data, target = tmp_path / "data.csv", tmp_path / "full.csv"
    data.write_text("a,b,c\n" + "\n".join(map(",".join, values)) + "\n")
    assert isthmus("fit", data, "-o", tmp_path / "model", *FIT).code == 0
    before = apply.count_missing

    def grown(block):
        data.write_text(data.read_text() + "1,2,3\n")
        return before(block)

    monkeypatch.setattr(apply, "count_missing", grown)
    done = isthmus("impute", tmp_path / "model", data, "-o", target)
    assert done.code == 2
    assert "data.csv: has changed while it was read" in done.err
    assert not target.exists()


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors", ".idx"])
@pytest.mark.parametrize("on_disk", [False, True])
def test_text_goes_to_no_file_of_numbers(
    isthmus, tmp_path, frame, expect_refusal, streamed, suffix, on_disk
):
    model, target = tmp_path / "model", tmp_path / f"full{suffix}"
    for name, kept in {
        "text": ["k", "word"],
        "ids": ["k", "f32", "id"],
        "days": ["k", "day"],
    }.items():
        frame[kept].to_parquet(tmp_path / f"{name}.parquet", index=False)
        fit = ("fit", tmp_path / f"{name}.parquet", "-o", tmp_path / f"{name}-model", *FIT)
        assert isthmus(*fit).code == 0
        codes = tmp_path / f"{name}.npy"
        data, model = tmp_path / f"{name}.parquet", tmp_path / f"{name}-model"
        assert isthmus("encode", model, data, "-o", codes).code == 0
    if on_disk:
        streamed()
    holds = f"and {suffix} holds only numbers; write to .csv, .tsv or .parquet"
    for name, what in {"text": "column 'word' is text", "days": "column 'day' is dates"}.items():
        data, model = tmp_path / f"{name}.parquet", tmp_path / f"{name}-model"
        parts = (f"full{suffix}: {what}, {holds}",)
        expect_refusal("impute", model, data, "-o", target, parts=parts)
        expect_refusal("decode", model, tmp_path / f"{name}.npy", "-o", target, parts=parts)
    parts = (f"full{suffix}: the columns 'id' are written too",)
    model, data = tmp_path / "ids-model", tmp_path / "ids.parquet"
    expect_refusal("impute", model, data, "-o", target, parts=parts)
    assert isthmus("decode", model, tmp_path / "ids.npy", "-o", target).code == 0


@pytest.mark.parametrize("on_disk", [False, True])
def test_gaps_that_stay_are_told(isthmus, tmp_path, streamed, on_disk):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 3)).round(3), columns=list("abc"))
    frame.loc[::7, "a"] = None
    frame["id"] = [f"n{at}" if at % 4 else None for at in range(60)]
    data, target = tmp_path / "data.csv", tmp_path / "full.csv"
    frame.to_csv(data, index=False)
    assert isthmus("fit", data, "-o", tmp_path / "model", *FIT, "--role", "id=identifier").code == 0
    if on_disk:
        streamed()
    done = isthmus("impute", tmp_path / "model", data, "-o", target)
    assert "15 missing values remain, in columns that the model does not use: 'id'" in done.err
    assert "60 rows, 9 missing values filled in" in done.err
