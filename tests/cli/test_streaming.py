"""Commands on files that stay on disk: the answers of files in memory, or one line and nothing."""

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from isthmus.cli.io import open_data
from isthmus.report import gather

ROWS = 400
FIT = ["--n-components", "2", "--max-epochs", "3", "--quiet"]


@pytest.fixture
def numbers(rng):
    hidden = rng.normal(size=(ROWS, 2))
    return np.tanh(hidden @ rng.normal(size=(2, 6))) + 0.05 * rng.normal(size=(ROWS, 6))


@pytest.fixture
def mixed(numbers, rng):
    """Numbers with gaps, and a column of levels that the numbers tell of."""
    columns = {f"c{at}": pa.array(numbers[:, at], mask=rng.random(ROWS) < 0.05) for at in range(6)}
    levels = np.asarray(["low", "high"])[(numbers[:, 0] > 0).astype(int)]
    level = pa.array(levels, mask=rng.random(ROWS) < 0.05)
    return pa.table({"id": np.arange(ROWS)} | columns | {"level": level})


def write(place, table, suffix):
    path = place / f"rows{suffix}"
    if suffix == ".parquet":
        pq.write_table(table, path, row_group_size=70)
    elif suffix == ".csv":
        pc.write_csv(table, path)
    else:
        np.save(path, np.column_stack([column.to_numpy() for column in table.columns]))
    return path


def read(path):
    if path.suffix == ".npy":
        return np.load(path)
    table = pc.read_csv(path) if path.suffix == ".csv" else pq.read_table(path)
    return {name: table.column(name).to_pylist() for name in table.column_names}


def check_alike(found, expected):
    if isinstance(found, dict):
        assert list(found) == list(expected)
        for name, values in found.items():
            check_alike(np.asarray(values), np.asarray(expected[name]))
    elif found.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, atol=2e-5)
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".npy"])
def test_every_command_answers_as_it_does_in_memory(isthmus, tmp_path, numbers, streamed, suffix):
    table = pa.table({f"c{at}": numbers[:, at] for at in range(6)})
    path, model = write(tmp_path, table, suffix), tmp_path / "model"
    assert isthmus("fit", path, "-o", model, *FIT, "--no-report").code == 0
    made = {}
    for kind in ("memory", "disk"):
        if kind == "disk":
            streamed()
        made[kind] = {}
        for command in (["encode"], ["score"], ["score", "--by-feature"], ["impute"], ["decode"]):
            output = tmp_path / f"{kind}-{'-'.join(command)}{suffix}"
            given = made[kind].get("encode", path) if command[0] == "decode" else path
            done = isthmus(*command, model, given, "-o", output, "--json")
            assert done.code == 0, done.err
            made[kind]["".join(command)] = output
    for command, output in made["disk"].items():
        check_alike(read(output), read(made["memory"][command]))


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_mixed_table_with_gaps_is_filled_in_as_it_is_in_memory(
    isthmus, tmp_path, mixed, streamed, suffix
):
    path, model = write(tmp_path, mixed, suffix), tmp_path / "model"
    assert isthmus("fit", path, "-o", model, *FIT, "--no-report").code == 0
    outputs = [tmp_path / f"{kind}{suffix}" for kind in ("memory", "disk")]
    said = []
    for output in outputs:
        done = isthmus("impute", model, path, "-o", output)
        assert done.code == 0, done.err
        said.append(done.err.rsplit(":", 1)[1])
        streamed()
    assert said[0] == said[1]
    ours, theirs, given = read(outputs[1]), read(outputs[0]), read(path)
    check_alike(ours, theirs)
    for name, values in given.items():
        assert all(b == a for a, b in zip(values, ours[name], strict=True) if a not in (None, ""))


def test_a_streamed_fit_has_a_report_of_its_held_out_rows(
    isthmus, tmp_path, mixed, streamed, monkeypatch
):
    streamed()
    seen = []

    def kept(*given, **options):
        seen.append(gather(*given, **options))
        return seen[-1]

    monkeypatch.setattr("isthmus.cli.run.fit.gather", kept)
    path, model = write(tmp_path, mixed, ".parquet"), tmp_path / "model"
    done = isthmus("fit", path, "-o", model, "--n-components", "2", "--max-epochs", "20")
    assert done.code == 0, done.err
    assert (model / "report.html").exists()
    (report,) = seen
    assert report["data"]["rows"] == ROWS
    assert report["measured"]["unseen"]
    assert report["measured"]["rows"] == 50
    assert isthmus("encode", model, path, "-o", tmp_path / "codes.parquet").code == 0


def test_an_unknown_level_is_told(isthmus, tmp_path, mixed, streamed):
    streamed()
    path, model = write(tmp_path, mixed, ".parquet"), tmp_path / "model"
    assert isthmus("fit", path, "-o", model, *FIT, "--no-report").code == 0
    at = mixed.column_names.index("level")
    other = mixed.set_column(at, "level", pa.array(["low", "odd"] * (ROWS // 2)))
    pq.write_table(other, path, row_group_size=70)
    done = isthmus("encode", model, path, "-o", tmp_path / "codes.parquet")
    assert done.code == 0
    assert "column 'level': 200 values were not seen in training" in done.err
    assert "'odd'" in done.err


def check_refused(done, *words):
    assert done.code == 2
    assert len(done.err.strip().splitlines()) == 1, done.err
    for word in words:
        assert word in done.err


@pytest.fixture
def folder(tmp_path, numbers):
    place = tmp_path / "rows"
    place.mkdir()
    for at in range(4):
        part = numbers[100 * at : 100 * at + 100]
        table = pa.table({f"c{column}": part[:, column] for column in range(6)})
        pq.write_table(table, place / f"{at}.parquet", row_group_size=30)
    return place


@pytest.fixture
def model(isthmus, folder, tmp_path, streamed):
    streamed()
    assert isthmus("fit", folder, "-o", tmp_path / "model", *FIT, "--no-report").code == 0
    return tmp_path / "model"


def left(tmp_path):
    return {path.name for path in tmp_path.iterdir()}


def test_a_folder_of_parquet_files_is_one_table(isthmus, tmp_path, folder, model):
    done = isthmus("encode", model, folder, "-o", tmp_path / "codes.parquet", "--json")
    assert done.code == 0
    assert len(pq.read_table(tmp_path / "codes.parquet")) == ROWS


def test_columns_that_a_model_does_not_know_are_left_out(isthmus, tmp_path, folder, model):
    for path in sorted(folder.iterdir()):
        table = pq.read_table(path)
        pq.write_table(table.append_column("more", pa.array(["?"] * len(table))), path)
    done = isthmus("encode", model, folder, "-o", tmp_path / "codes.parquet")
    assert done.code == 0, done.err
    assert "ignored columns that the model was not fitted on: 'more'" in done.err


@pytest.mark.parametrize("command", ["encode", "score", "impute"])
def test_infinity_in_a_late_row_leaves_nothing_half_written(
    isthmus, tmp_path, folder, model, command
):
    table = pq.read_table(folder / "2.parquet")
    values = table["c3"].to_numpy().copy()
    values[44] = np.inf
    pq.write_table(table.set_column(3, "c3", pa.array(values)), folder / "2.parquet")
    before = left(tmp_path)
    done = isthmus(command, model, folder, "-o", tmp_path / "out.parquet", "--quiet")
    check_refused(done, str(folder), "infinity, is at row 244", "column 'c3'")
    assert left(tmp_path) == before
    check_refused(isthmus("fit", folder, "-o", tmp_path / "new", *FIT), "row 244", "column 'c3'")
    assert left(tmp_path) == before


@pytest.mark.parametrize("command", ["fit", "encode", "score", "impute"])
@pytest.mark.parametrize("fault", ["truncated", "type", "column"])
def test_a_bad_file_in_a_folder_is_one_line(isthmus, tmp_path, folder, model, command, fault):
    path = folder / "3.parquet"
    table = pq.read_table(path)
    if fault == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
    elif fault == "type":
        table = table.set_column(1, "c1", table["c1"].cast(pa.string()))
        pq.write_table(table, path)
    else:
        pq.write_table(table.drop_columns(["c1"]), path)
    before = left(tmp_path)
    first = (folder,) if command == "fit" else (model, folder)
    done = isthmus(command, *first, "-o", tmp_path / "out.parquet", "--quiet")
    words = {"truncated": "truncated", "type": "string", "column": "missing 'c1'"}
    check_refused(done, "3.parquet", words[fault])
    assert left(tmp_path) == before


@pytest.mark.parametrize("command", ["encode", "score"])
def test_a_file_that_changes_while_it_is_read_is_one_line(
    isthmus, tmp_path, folder, model, command, monkeypatch
):
    from isthmus.estimator.fitted_model import FittedModel

    open_rows, path = FittedModel.open_rows, folder / "3.parquet"

    def open_changed_rows(self, source):
        path.write_bytes(path.read_bytes() + b"more")
        return open_rows(self, source)

    monkeypatch.setattr(FittedModel, "open_rows", open_changed_rows)
    before = left(tmp_path)
    done = isthmus(command, model, folder, "-o", tmp_path / "out.csv", "--quiet")
    check_refused(done, "3.parquet: has changed since it was opened")
    assert left(tmp_path) == before


def test_a_csv_whose_quoting_breaks_is_one_line(isthmus, tmp_path, streamed):
    streamed()
    lines = ["a,b", *(f'{row}.25,"{row}"' for row in range(300))]
    lines[200] = lines[200][:-1]
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    done = isthmus("fit", tmp_path / "rows.csv", "-o", tmp_path / "model", *FIT)
    check_refused(done, "rows.csv: line 201:")
    assert left(tmp_path) == {"rows.csv"}


def test_compare_takes_rows_that_stay_on_disk(isthmus, folder, streamed):
    streamed()
    done = isthmus("compare", folder, "--n-components", "2", "--max-epochs", "2", "--json")
    assert done.code == 0, done.err


@pytest.mark.parametrize("stream", [True, False])
def test_an_unknown_level_beside_a_column_that_is_left_out(
    isthmus, tmp_path, mixed, streamed, stream
):
    path, model = write(tmp_path, mixed, ".parquet"), tmp_path / "model"
    assert isthmus("fit", path, "-o", model, *FIT, "--no-report").code == 0
    if stream:
        streamed()
    at = mixed.column_names.index("level")
    other = mixed.set_column(at, "level", pa.array(["low", "odd"] * (ROWS // 2)))
    pq.write_table(other, path, row_group_size=70)
    for command in ("encode", "score", "impute"):
        done = isthmus(command, model, path, "-o", tmp_path / f"{command}.parquet")
        assert done.code == 0, done.err
    filled = pq.read_table(tmp_path / "impute.parquet")
    assert filled.column_names == mixed.column_names
    assert filled["id"].to_pylist() == mixed["id"].to_pylist()


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".npy"])
def test_an_option_says_whether_rows_stay_on_disk(isthmus, numbers, tmp_path, monkeypatch, suffix):
    table = pa.table({f"c{at}": numbers[:, at] for at in range(6)})
    data, model = write(tmp_path, table, suffix), tmp_path / "m"
    streamed_flags, really = [], open_data.open_source

    def watched(*arguments, **options):
        streamed_flags.append((found := really(*arguments, **options)).is_streamed)
        return found

    monkeypatch.setattr(open_data, "open_source", watched)
    for option in ("--stream", "--no-stream"):
        assert isthmus("fit", data, "-o", model, option, *FIT, "--no-report", "--force").code == 0
        for command in ("encode", "score"):
            done = isthmus(command, model, data, "-o", tmp_path / f"{command}{option}.npy", option)
            assert done.code == 0, done
    assert streamed_flags == [True] * 3 + [False] * 3
    for command in ("encode", "score"):
        one, other = (
            np.load(tmp_path / f"{command}--{name}.npy") for name in ("stream", "no-stream")
        )
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_what_cannot_stay_on_disk_says_so(expect_refusal, numbers, tmp_path):
    np.savez(tmp_path / "a.npz", numbers)
    parts = ["a.npz: stream=True has no meaning for .npz"]
    expect_refusal("fit", tmp_path / "a.npz", "-o", tmp_path / "m", "--stream", parts=parts)


def test_odd_rows_of_a_file_on_disk_are_told_as_in_memory(isthmus, numbers, tmp_path, monkeypatch):
    numbers[70, 2] += 30
    table = pa.table({f"c{at}": numbers[:, at] for at in range(6)})
    data = write(tmp_path, table, ".parquet")
    monkeypatch.setattr("isthmus.data.splitting.holdout.CHUNK_BYTES", 8 * 6 * 50)
    monkeypatch.setattr("isthmus.data.splitting.holdout.BLOCK_BYTES", 8 * 6 * 50)
    asked, texts = ("--explain", "--n-components", 3), []
    for option in ("--stream", "--no-stream"):
        page, out = tmp_path / f"page{option}.html", tmp_path / f"odd{option}.csv"
        done = isthmus("detect", data, "-o", out, *asked, "--report", page, option)
        assert done.code == 0, done
        assert "row 70, score" in done.err
        assert "learned from" not in done.err
        texts.append(page.read_text())
    ours, theirs = (pc.read_csv(tmp_path / f"odd--{n}.csv") for n in ("stream", "no-stream"))
    assert ours.column_names == ["score", "outlier", "reason_1", "reason_2", "reason_3"]
    np.testing.assert_allclose(ours["score"].to_numpy(), theirs["score"].to_numpy(), rtol=1e-5)
    assert ours.drop_columns("score").equals(theirs.drop_columns("score"))
    assert ours["reason_1"][70].as_py().startswith("c2: ")
    assert texts[0] == texts[1]


def test_a_sample_that_was_learned_is_said(isthmus, numbers, tmp_path, monkeypatch):
    monkeypatch.setattr("isthmus.detector.sampling.MAX_ROWS", 150)
    np.save(tmp_path / "a.npy", numbers)
    asked = ("--n-components", 3, "--save", tmp_path / "d", "--stream")
    done = isthmus("detect", tmp_path / "a.npy", "-o", tmp_path / "s.npy", *asked)
    assert done.code == 0, done
    assert "a.npy: the detector is fitted on 150 of 400 rows, drawn at random" in done.err
    assert f" of {ROWS} rows are outliers; " in done.err
    scores = np.load(tmp_path / "s.npy")
    assert scores.shape == (ROWS, 2)
    done = isthmus(
        "detect", tmp_path / "a.npy", "-o", tmp_path / "t.npy", "--detector", tmp_path / "d"
    )
    assert done.code == 0, done
    np.testing.assert_allclose(np.load(tmp_path / "t.npy"), scores)
