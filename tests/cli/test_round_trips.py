"""From a file to codes and back to the same file, for every format, through the real commands.

A code as wide as the rows and no training at all is exact PCA, so what comes back must be what
went in: the files are compared value by value, dtype by dtype, with readers of their own.
"""

import gzip
import struct

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

ROWS = 100
EXACT = ("--kind", "multilayer", "--max-epochs", "0", "--no-report")


def floats(*shape, dtype="float32"):
    return np.random.default_rng(0).normal(size=(ROWS, *shape)).astype(dtype)


def pixels(*shape):
    return np.random.default_rng(1).integers(0, 256, (ROWS, *shape), np.uint8)


@pytest.fixture
def back(isthmus, tmp_path):
    """Fits, encodes and decodes a file with a code of `width`; the path of what came back."""

    def trip(data, width, *, codes="codes.parquet", output=None, options=()):
        model, codes = tmp_path / "model", tmp_path / codes
        output = tmp_path / (output or f"back{''.join(data.suffixes)}")
        fit = ("fit", data, "-o", model, "--n-components", width, *EXACT, *options)
        for command in (
            fit,
            ("encode", model, data, "-o", codes),
            ("decode", model, codes, "-o", output),
        ):
            done = isthmus(*command)
            assert done.code == 0, done
        return output

    return trip


@pytest.mark.parametrize("shape", [(5,), (6, 7), (16, 2)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_npy(back, tmp_path, shape, dtype):
    values = floats(*shape, dtype=dtype)
    np.save(tmp_path / "data.npy", values)
    found = np.load(back(tmp_path / "data.npy", int(np.prod(shape))))
    assert found.dtype == values.dtype
    np.testing.assert_allclose(found, values, atol=1e-4)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3), (3, 4, 5)], ids=str)
def test_npy_of_images(back, tmp_path, shape):
    values = pixels(*shape)
    np.save(tmp_path / "data.npy", values)
    found = np.load(back(tmp_path / "data.npy", int(np.prod(shape)), codes="codes.npy"))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, values)


def test_npz_member(back, tmp_path):
    values = np.random.default_rng(0).integers(-1000, 1000, (ROWS, 4)).astype(np.int16)
    np.savez(tmp_path / "data.npz", other=floats(3), mine=values)
    output = tmp_path / "data.npz:mine"
    found = np.load(back(output, 4, output="back.npz", codes="codes.npz"))
    assert found.files == ["rows"]
    assert found["rows"].dtype == np.int16
    np.testing.assert_array_equal(found["rows"], values)


@pytest.mark.parametrize("name", ["data.csv", "data.tsv", "data.parquet"])
def test_tables(back, tmp_path, name):
    random = np.random.default_rng(0)
    table = pa.table(
        {
            "whole": random.integers(-50, 50, ROWS),
            "part": random.normal(size=ROWS).round(3),
            "truth": random.random(ROWS) < 0.5,
        }
    )
    writers = {
        "data.csv": lambda path: pc.write_csv(table, path),
        "data.tsv": lambda path: pc.write_csv(table, path, pc.WriteOptions(delimiter="\t")),
        "data.parquet": lambda path: pq.write_table(table, path),
    }
    readers = {
        "data.csv": pc.read_csv,
        "data.tsv": lambda path: pc.read_csv(path, parse_options=pc.ParseOptions(delimiter="\t")),
        "data.parquet": pq.read_table,
    }
    writers[name](tmp_path / name)
    found = readers[name](back(tmp_path / name, 3, codes=f"codes{name[4:]}"))
    assert found.schema.equals(table.schema)
    assert found["whole"].equals(table["whole"])
    assert found["truth"].equals(table["truth"])
    np.testing.assert_allclose(found["part"], table["part"], atol=1e-5)


def test_parquet_keeps_narrow_dtypes(back, tmp_path):
    table = pa.table(
        {
            "small": pa.array(np.arange(ROWS) % 7, pa.int8()),
            "single": pa.array(floats(), pa.float32()),
            "unsigned": pa.array(np.arange(ROWS) * 3, pa.uint16()),
        }
    )
    pq.write_table(table, tmp_path / "data.parquet")
    found = pq.read_table(back(tmp_path / "data.parquet", 3))
    assert found.schema.equals(table.schema)
    assert found["small"].equals(table["small"])
    assert found["unsigned"].equals(table["unsigned"])


def test_csv_without_a_header_stays_without(back, tmp_path):
    np.savetxt(tmp_path / "data.csv", floats(3), "%.3f", ",")
    found = np.loadtxt(back(tmp_path / "data.csv", 3), delimiter=",")
    np.testing.assert_allclose(found, np.loadtxt(tmp_path / "data.csv", delimiter=","), atol=1e-6)


@pytest.mark.parametrize("name", ["data.idx", "data-idx3-ubyte", "data-idx3-ubyte.gz"])
def test_idx(back, tmp_path, name):
    values = pixels(4, 3)
    content = struct.pack(">HBB3I", 0, 8, 3, *values.shape) + values.tobytes()
    zipped = name.endswith(".gz")
    (tmp_path / name).write_bytes(gzip.compress(content) if zipped else content)
    found = back(tmp_path / name, 12, output=f"back-{name}").read_bytes()
    assert (gzip.decompress(found) if zipped else found) == content


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8], ids=str)
def test_safetensors(back, tmp_path, dtype):
    values = torch.from_numpy(pixels(4)).to(dtype)
    save_file({"rows": values}, tmp_path / "data.safetensors")
    found = load_file(back(tmp_path / "data.safetensors", 4, codes="codes.safetensors"))
    assert found["rows"].dtype == dtype
    torch.testing.assert_close(found["rows"], values)


@pytest.mark.parametrize(("mode", "channels"), [("L", ()), ("RGB", (3,)), ("RGBA", (4,))])
@pytest.mark.parametrize("codes", ["codes.csv", "codes.parquet"])
def test_folders_of_images(back, tmp_path, mode, channels, codes):
    values = pixels(3, 4, *channels)
    for index, value in enumerate(values):
        path = tmp_path / "data" / f"class{index % 2}" / f"picture-{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(value, mode).save(path)
    output = back(tmp_path / "data", values[0].size, codes=codes, output="back")
    for index, value in enumerate(values):
        with Image.open(output / f"class{index % 2}" / f"picture-{index}.png") as image:
            assert (image.size, image.mode) == ((4, 3), mode)
            np.testing.assert_array_equal(np.asarray(image), value)
    assert len(list(output.rglob("*.png"))) == ROWS


def test_codes_without_names_give_numbered_images(back, tmp_path):
    (tmp_path / "data").mkdir()
    for index, value in enumerate(pixels(3, 4)):
        Image.fromarray(value).save(tmp_path / "data" / f"z{index:03}.png")
    output = back(tmp_path / "data", 12, codes="codes.npy", output="back")
    assert min(path.name for path in output.iterdir()) == "000000.png"
    assert len(list(output.iterdir())) == ROWS


def test_signals_keep_their_layout_without_being_told(back, tmp_path):
    values = floats(6, 7)  # looks like an image
    np.save(tmp_path / "data.npy", values)
    found = np.load(back(tmp_path / "data.npy", 42, options=("--layout", "signal")))
    np.testing.assert_allclose(found, values, atol=1e-4)


@pytest.mark.parametrize("kind", ["vanilla", "multilayer", "regularized", "convolutional"])
def test_every_kind_trains_and_comes_back(isthmus, tmp_path, kind):
    np.save(tmp_path / "data.npy", pixels(7, 5, 3))
    model, codes, output = tmp_path / "model", tmp_path / "codes.csv", tmp_path / "back.npy"
    fit = ("fit", tmp_path / "data.npy", "-o", model, "--n-components", 3, "--max-epochs", 2)
    assert isthmus(*fit, "--kind", kind, "--no-report").code == 0
    assert isthmus("encode", model, tmp_path / "data.npy", "-o", codes).code == 0
    assert isthmus("decode", model, codes, "-o", output).code == 0
    assert codes.read_text().splitlines()[0] == '"autoencoder0","autoencoder1","autoencoder2"'
    found = np.load(output)
    assert (found.shape, found.dtype) == ((ROWS, 7, 5, 3), np.uint8)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_missing_values_are_filled_in_and_the_rest_stays(isthmus, tmp_path, suffix):
    rng = np.random.default_rng(0)
    size = rng.normal(10, 3, ROWS)
    columns = {
        "size": size.round(3),
        "count": np.rint(2 * size).astype(int),
        "large": size > 10,
        "noisy": (size + rng.normal(size=ROWS)).round(3),
    }
    missing = {name: rng.random(ROWS) < 0.1 for name in columns}
    table = pa.table({name: pa.array(columns[name], mask=missing[name]) for name in columns})
    data, target = tmp_path / f"data{suffix}", tmp_path / f"full{suffix}"
    write, read = (
        (pc.write_csv, pc.read_csv) if suffix == ".csv" else (pq.write_table, pq.read_table)
    )
    write(table, data)
    fit = (
        "fit",
        data,
        "-o",
        tmp_path / "model",
        "--n-components",
        2,
        "--max-epochs",
        3,
        "--no-report",
    )
    done = isthmus(*fit)
    assert done.code == 0, done
    assert "of the values are missing, in 4 columns" in done.err
    done = isthmus("impute", tmp_path / "model", data, "-o", target)
    assert done.code == 0, done
    n = sum(int(is_missing.sum()) for is_missing in missing.values())
    assert f"{ROWS} rows, {n} missing values filled in" in done.err
    found = read(target)
    assert found.schema.types == table.schema.types
    for name, is_missing in missing.items():
        assert found[name].null_count == 0
        values = found[name].to_numpy()
        np.testing.assert_array_equal(values[~is_missing], columns[name][~is_missing])
    done = isthmus("impute", tmp_path / "model", data, "-o", target)
    assert done.code == 2
    assert "exists" in done.err


def test_a_model_that_knows_no_gaps_fills_none(isthmus, tmp_path, table_model):
    data = tmp_path / "gaps.csv"
    data.write_text("a,b,c,d\n1,2,3,4\n1,,3,4\n")
    done = isthmus("impute", table_model, data, "-o", tmp_path / "full.csv")
    assert done.code == 2
    assert "the first, NaN, is at row 1, counting from 0, column 'b'" in done.err
    assert "fit with --corruption missing" in done.err
    assert not (tmp_path / "full.csv").exists()


@pytest.mark.parametrize("on_disk", [False, True])
def test_parquet_keeps_the_dtypes_of_pandas(back, tmp_path, streamed, on_disk):
    random = np.random.default_rng(0)
    whole, truth = random.integers(-50, 50, ROWS), random.random(ROWS) < 0.5
    frame = pd.DataFrame(
        {
            "whole": pd.array(whole, dtype="Int64"),
            "part": pd.array(whole * 0.25, dtype="Float64"),
            "truth": pd.array(truth, dtype="boolean"),
            "arrow": pd.array(truth * 3, dtype="int8[pyarrow]"),
            "plain": whole[::-1],
        }
    )
    frame.to_parquet(tmp_path / "data.parquet", row_group_size=30)
    if on_disk:
        streamed()
    found = pd.read_parquet(back(tmp_path / "data.parquet", 5))
    pd.testing.assert_frame_equal(found, frame, atol=1e-4)
