"""Names made of digits in files of text: "01" is not "1", in the fit and later."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from isthmus import Autoencoder
from isthmus.cli import main
from isthmus.data import open_source
from isthmus.data.validate import align
from isthmus.errors import SourceError

N = 90
CODES = ["01", "1", "00234", "234", "10", "9"] * (N // 6)


def write(path, **columns):
    frame = pd.DataFrame({"x": np.linspace(0, 1, N).round(3), "code": CODES, **columns})
    frame.to_csv(path, index=False)
    return path


def everything(source):
    return source.read(np.arange(len(source)))


def text(path):
    return pd.read_csv(path, dtype=str)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("declared", ["categorical", "ordinal"])
@pytest.mark.parametrize("star", [False, True])
def test_levels_are_what_is_written(tmp_path, stream, declared, star):
    path = write(tmp_path / "a.csv")
    roles = {"*": declared, "x": "numeric"} if star else {"code": declared}
    source = open_source(path, roles=roles, stream=stream)
    column = source.schema.columns[1]
    assert column.role == declared
    assert column.categories == ("01", "1", "9", "10", "00234", "234")
    found = [column.categories[int(at)] for at in everything(source)[:, 1]]
    assert found == text(path)["code"].tolist()


@pytest.mark.parametrize("stream", [False, True])
def test_new_files_are_read_as_the_first_was(tmp_path, stream):
    learned = open_source(write(tmp_path / "a.csv"), roles={"code": "categorical"}).schema
    for name, codes in {
        "digits": ["1", "9", "10"] * 30,
        "zeros": ["01", "00234", "1"] * 30,
    }.items():
        source = open_source(write(tmp_path / f"{name}.csv", code=codes), stream=stream)
        categories = align(source, learned).schema.columns[1].categories
        numbers = everything(align(source, learned))[:, 1]
        assert [categories[int(at)] for at in numbers] == codes
    other = open_source(write(tmp_path / "b.csv", code=["1", "7", "007"] * 30), stream=stream)
    known = align(other, learned)
    assert np.isnan(everything(known)[:, 1]).tolist() == [False, True, True] * 30
    (told,) = known.unknown_values
    assert "60 values were not seen in training" in told


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("values", [["1"] * N, ["true"] * N, ["2020-01-01"] * N, ["1.50"] * N])
def test_levels_of_text_are_found_where_all_look_like_something_else(tmp_path, stream, values):
    mixed = [*values[:30], *["x"] * 60]
    learned = open_source(write(tmp_path / "a.csv", code=mixed)).schema
    assert learned.columns[1].categories == (values[0], "x")
    source = align(open_source(write(tmp_path / "b.csv", code=values), stream=stream), learned)
    assert set(everything(source)[:, 1]) == {0.0}
    assert tuple(source.unknown_values) == ()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", [pa.int64(), pa.int8(), pa.float64()])
def test_whole_numbers_elsewhere_are_such_levels_where_no_zero_leads(tmp_path, stream, kind):
    plain = write(tmp_path / "a.csv", code=["1", "9", "10"] * 30)
    learned = open_source(plain, roles={"code": "categorical"}).schema
    codes = [10, None, 1, 7] if kind != pa.float64() else [10.0, None, 1.0, 1.5]
    path = tmp_path / "b.parquet"
    pq.write_table(pa.table({"x": [0.1] * 4, "code": pa.array(codes, kind)}), path)
    source = align(open_source(path, stream=stream), learned)
    np.testing.assert_array_equal(everything(source)[:, 1], [2, np.nan, 0, np.nan])
    assert "1 value was not seen in training" in source.unknown_values[0]
    zeros = open_source(write(tmp_path / "c.csv"), roles={"code": "categorical"}).schema
    with pytest.raises(SourceError, match=r"column .code. is .* values, not text"):
        everything(align(open_source(path, stream=stream), zeros))


@pytest.mark.parametrize("stream", ["--stream", "--no-stream"])
@pytest.mark.parametrize("role", ["categorical", "identifier"])
def test_what_is_known_comes_back_as_it_was_written(tmp_path, stream, role):
    number = np.linspace(0, 1, N).round(3).astype(str).tolist()
    learned = write(tmp_path / "a.csv", y=number)
    roles = ["--role", f"code={role}", "--corruption", "missing", "--max-epochs", "1", "--quiet"]
    model, out = str(tmp_path / "m"), str(tmp_path / "filled.csv")
    fit = ["fit", str(learned), "-o", model, "--n-components", "2", "--no-report", *roles]
    assert main([*fit, stream]) == 0
    new = write(tmp_path / "b.csv", y=["", *number[1:]], code=["1", "01", "234"] * 30)
    assert main(["impute", model, str(new), "-o", out, "--quiet", stream]) == 0
    assert text(out)["code"].tolist() == text(new)["code"].tolist()
    assert text(out)["y"].notna().all()
    # Most of these look like numbers, and "x" is a level that the model does not know.
    odd = write(tmp_path / "c.csv", y=number, code=[*["10"] * (N - 1), "x"])
    codes = str(tmp_path / "codes.csv")
    assert main(["encode", model, str(odd), "-o", codes, "--quiet", stream]) == 0


def test_a_model_in_python_fills_them_in_as_they_were_written(tmp_path):
    learned = open_source(write(tmp_path / "a.csv"), roles={"code": "categorical"})
    settings = {"max_epochs": 1, "random_state": 0, "corruption": "missing"}
    ae = Autoencoder(n_components=1, **settings).fit(learned)
    new = write(tmp_path / "b.csv", x=[np.nan, *[0.5] * (N - 1)], code=["1", "10", "9"] * 30)
    for stream in (False, True):
        filled = ae.impute(open_source(new, stream=stream))
        assert filled["code"].to_pylist() == text(new)["code"].tolist()
        assert filled["x"].null_count == 0


def test_a_file_that_changed_before_it_is_read_again(tmp_path):
    learned = open_source(write(tmp_path / "a.csv"), roles={"code": "categorical"}).schema
    path = write(tmp_path / "b.csv", code=["1", "9", "10"] * 30)
    source = open_source(path)
    path.write_text("x,code\n1,2\n")
    with pytest.raises(SourceError, match="has changed since it was opened"):
        align(source, learned)
