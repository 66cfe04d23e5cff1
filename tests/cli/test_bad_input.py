"""Every kind of bad input: exit code 2, one line that says what and where, and nothing written."""

import errno
import io
import json
import os
import shutil
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

TINY = ("--n-components", "2", "--max-epochs", "1")


def write_csv(path: Path, header: str, rows) -> Path:
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def numbers(rows: int = 40, columns: int = 4):
    """A table whose columns share a range."""
    return np.random.default_rng(0).normal(size=(rows, columns)).round(3)


def images(folder: Path, *sizes: tuple[int, int], mode: str = "L") -> Path:
    folder.mkdir()
    pixels = np.random.default_rng(0)
    for index, (height, width) in enumerate(sizes):
        values = pixels.integers(0, 256, (height, width), np.uint8)
        Image.fromarray(values).convert(mode).save(folder / f"{index}.png")
    return folder


def missing(folder):
    return folder / "nowhere.csv"


def no_images(folder):
    (folder / "pictures").mkdir()
    (folder / "pictures" / "notes.txt").write_text("none here")
    return folder / "pictures"


def empty_file(folder):
    (folder / "data.csv").touch()
    return folder / "data.csv"


def only_a_header(folder):
    return write_csv(folder / "data.csv", "a,b", [])


def one_row(folder):
    return write_csv(folder / "data.csv", "a,b", [(1, 2)])


def no_value(folder):
    values = numbers().tolist()
    for row in values:
        row[1] = ""
    return write_csv(folder / "data.csv", "a,b,c,d", values)


def infinity(folder):
    values = numbers()
    values[5, 2] = np.inf
    np.save(folder / "data.npy", values)
    return folder / "data.npy"


def text(folder):
    values = numbers().tolist()
    values[3][1] = "tall"
    return write_csv(folder / "data.csv", "a,height,c,d", values)


def ragged(folder):
    return write_csv(folder / "data.csv", "a,b,c", [(1, 2, 3), (4, 5), (6, 7, 8)])


def sizes(folder):
    return images(folder / "data", (6, 5), (6, 5), (8, 9))


def cut_png(folder):
    path = images(folder / "data", (20, 20), (20, 20)) / "1.png"
    path.write_bytes(path.read_bytes()[:90])
    return folder / "data"


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def cut_parquet(folder):
    pq.write_table(pa.table({"a": numbers()[:, 0]}), folder / "data.parquet")
    return cut(folder / "data.parquet")


def cut_npz(folder):
    np.savez(folder / "data.npz", x=numbers())
    return cut(folder / "data.npz")


def cut_npy(folder):
    np.save(folder / "data.npy", numbers())
    return cut(folder / "data.npy")


def pickled(folder):
    np.savez(folder / "data.npz", x=np.array([{"run": "me"}], dtype=object))
    return folder / "data.npz"


def several_members(folder):
    np.savez(folder / "data.npz", first=numbers(), second=numbers())
    return folder / "data.npz"


def bomb(folder):
    """A PNG of a few bytes that says it has 40000 x 40000 pixels."""
    (folder / "data").mkdir()
    header = struct.pack(">IIBBBBB", 40000, 40000, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n"
    for name, body in chunks:
        content += struct.pack(">I", len(body)) + name + body
        content += struct.pack(">I", zlib.crc32(name + body))
    (folder / "data" / "bomb.png").write_bytes(content)
    return folder / "data"


def zip_bomb(folder):
    """An npz whose header calls for a petabyte."""
    header = io.BytesIO()
    shape = {"descr": "<f8", "fortran_order": False, "shape": (10**12, 125)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(folder / "data.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(10**6))
    return folder / "data.npz"


def unknown_suffix(folder):
    (folder / "data.xls").write_bytes(b"not one of ours")
    return folder / "data.xls"


FILES = {
    missing: ("nowhere.csv", "no such file"),
    no_images: ("pictures", "no PNG or JPEG", "give the folder"),
    empty_file: ("data.csv", "empty"),
    only_a_header: ("data.csv", "0 rows", "at least 2"),
    one_row: ("data.csv", "1 row", "at least 2"),
    no_value: ("data.csv", "'b' has no value at all", "--drop b"),
    infinity: ("data.npy", "1 value in 1 row", "infinity", "row 5", "'2'"),
    text: ("data.csv", "'height'", "'tall'", "row 3", "--role height=categorical"),
    ragged: ("data.csv", "line 3", "2 columns", "3"),
    sizes: ("data", "2 of 6x5", "1 of 8x9", "--resize 6x5"),
    cut_png: ("1.png", "damaged or truncated"),
    cut_parquet: ("data.parquet", "truncated or damaged"),
    cut_npz: ("data.npz", "truncated or damaged"),
    cut_npy: ("data.npy", "truncated or damaged"),
    pickled: ("data.npz", "'x'", "Python objects"),
    several_members: ("data.npz", "'first'", "'second'", "choose one"),
    bomb: ("bomb.png", "more than", "pixels"),
    zip_bomb: ("data.npz", "does not fit into memory"),
    unknown_suffix: ("data.xls", "'.xls'", ".parquet"),
}


@pytest.mark.parametrize("make", FILES, ids=lambda make: make.__name__)
@pytest.mark.parametrize("command", ["fit", "encode", "compare"])
def test_data_that_cannot_be_used(expect_refusal, tmp_path, table_model, make, command):
    if command == "encode" and make in (one_row, sizes, cut_png):
        pytest.skip("one row can be encoded, and images have a test of their own")
    data = make(tmp_path)
    arguments = {
        "fit": ("fit", data, "-o", tmp_path / "out", *TINY),
        "encode": ("encode", table_model, data, "-o", tmp_path / "out.csv"),
        "compare": ("compare", data, "-o", tmp_path / "out.json", *TINY),
    }[command]
    by_name = command == "encode" and data.suffix in (".csv", ".parquet")
    parts = FILES[make] if not by_name or make in (missing, empty_file) else (data.name,)
    expect_refusal(*arguments, parts=parts)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(expect_refusal, tmp_path, table):
    path = tmp_path / "secret.csv"
    shutil.copy(table, path)
    path.chmod(0)
    expect_refusal("fit", path, "-o", tmp_path / "out", parts=("secret.csv", "permission"))


def test_a_file_that_the_system_does_not_open(isthmus, tmp_path, table, monkeypatch):
    open_path = Path.open

    def closed(path, *rest, **options):
        if path.name == "secret.csv":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return open_path(path, *rest, **options)

    shutil.copy(table, tmp_path / "secret.csv")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", closed)
        done = isthmus("fit", tmp_path / "secret.csv", "-o", tmp_path / "out", *TINY)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "secret.csv" in done.err
    assert "ermission" in done.err
    assert not (tmp_path / "out").exists()


def test_images_that_a_model_cannot_take(expect_refusal, isthmus, tmp_path):
    same = images(tmp_path / "same", *[(8, 8)] * 20)
    assert isthmus("fit", same, "-o", tmp_path / "model", *TINY, "--no-report").code == 0
    encode = ("encode", tmp_path / "model")
    output = ("-o", tmp_path / "codes.csv")
    cut(images(tmp_path / "cut", (8, 8), (8, 8)) / "1.png")
    expect_refusal(*encode, tmp_path / "cut", *output, parts=("1.png", "damaged or truncated"))
    wide = images(tmp_path / "wide", (8, 9))
    expect_refusal(*encode, wide, *output, parts=("wide", "8x9", "8x8", "--resize 8x8"))
    red = images(tmp_path / "red", (8, 8), mode="RGB")
    expect_refusal(*encode, red, *output, parts=("red", "(8, 8, 3)", "(8, 8)"))
    assert isthmus(*encode, wide, *output, "--resize", "8x8").code == 0


def test_constant_columns_are_allowed_and_reported(isthmus, tmp_path):
    values = np.c_[numbers(), np.ones(40)]
    data = write_csv(tmp_path / "data.csv", "a,b,c,d,same", values)
    done = isthmus("fit", data, "-o", tmp_path / "out", *TINY, "--no-report", "--json")
    assert done.code == 0
    assert "1 of the features is constant: 'same'" in done.err
    assert json.loads(done.out)["constant_features"] == 1


def test_missing_columns_are_named(expect_refusal, tmp_path, table_model):
    data = write_csv(tmp_path / "data.csv", "a,b,x", numbers(columns=3))
    parts = ("data.csv", "expected 'a', 'b', 'c', 'd'", "found 'a', 'b', 'x'", "'c', 'd'")
    expect_refusal("encode", table_model, data, "-o", tmp_path / "codes.csv", parts=parts)
    expect_refusal("score", table_model, data, "-o", tmp_path / "scores.csv", parts=parts)


def test_an_array_of_the_wrong_width(expect_refusal, tmp_path, table_model):
    np.save(tmp_path / "data.npy", numbers(columns=3))
    parts = ("data.npy", "3 features", "4 columns")
    output = tmp_path / "codes.csv"
    expect_refusal("encode", table_model, tmp_path / "data.npy", "-o", output, parts=parts)


def test_columns_in_another_order_are_matched_by_name(isthmus, tmp_path, table, table_model, codes):
    names, *rows = (line.split(",") for line in table.read_text().split())
    shuffled = [[row[2], row[0], "text", row[3], row[1]] for row in rows]
    data = write_csv(tmp_path / "data.csv", "c,a,more,d,b", shuffled)
    done = isthmus("encode", table_model, data, "-o", tmp_path / "codes.csv")
    assert done.code == 0
    assert "ignored columns that the model was not fitted on: 'more'" in done.err
    assert (tmp_path / "codes.csv").read_bytes() == codes.read_bytes()
    assert names == ["a", "b", "c", "d"]


@pytest.mark.parametrize("suffix", [".csv", ".npy"])
def test_codes_of_the_wrong_width(expect_refusal, tmp_path, table_model, suffix):
    path = tmp_path / f"codes{suffix}"
    if suffix == ".csv":
        write_csv(path, "autoencoder0,autoencoder1,autoencoder2", numbers(columns=3))
    else:
        np.save(path, numbers(columns=3))
    width = "autoencoder1'; found" if suffix == ".csv" else "2 numbers per row"
    parts = (path.name, width, "encode")
    expect_refusal("decode", table_model, path, "-o", tmp_path / "data.csv", parts=parts)


def test_codes_of_text(expect_refusal, tmp_path, table_model):
    path = tmp_path / "codes.csv"
    path.write_text("autoencoder0,autoencoder1\n1,x\n2,3\n")
    parts = ("column 'autoencoder1' holds categorical values, but codes are numbers", "encode")
    expect_refusal("decode", table_model, path, "-o", tmp_path / "data.csv", parts=parts)


@pytest.mark.parametrize("suffix", [".csv", ".npy", ".parquet"])
@pytest.mark.parametrize("output", ["data.csv", "data.npy"])
def test_codes_without_rows(expect_refusal, tmp_path, table_model, suffix, output):
    path, columns = tmp_path / f"codes{suffix}", ["autoencoder0", "autoencoder1"]
    if suffix == ".npy":
        np.save(path, np.empty((0, 2), np.float32))
    elif suffix == ".csv":
        path.write_text(",".join(columns) + "\n")
    else:
        pq.write_table(pa.table(dict.fromkeys(columns, pa.array([], pa.float32()))), path)
    expect_refusal("decode", table_model, path, "-o", tmp_path / output, parts=("holds 0 rows",))


def test_codes_with_gaps(expect_refusal, tmp_path, table_model):
    values = numbers(columns=2)
    values[4, 1] = np.nan
    np.save(tmp_path / "codes.npy", values)
    output = tmp_path / "data.csv"
    expect_refusal(
        "decode", table_model, tmp_path / "codes.npy", "-o", output, parts=("NaN", "row 4")
    )


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--n-components", "9"), ("n_components=9", "4 features", "regularized")),
        (("--n-components", "0"), ("n_components=0", "1")),
        (("--n-components", "few"), ("--n-components", "integer", "isthmus fit --help")),
        (("--kind", "magic"), ("--kind magic: is not known", "vanilla", "multilayer")),
        (("--kind", "multilayer:depth=3"), ("depth", "hidden", "skip")),
        (("--kind", "multilayer:tied=perhaps"), ("tied='perhaps'", "true or false")),
        (("--kind", "multilayer:tied"), ("tied", "SETTING=VALUE")),
        (("--kind", "vanilla", "--hidden", "8"), ("--hidden", "vanilla")),
        (("--hidden", "8,wide"), ("hidden='8,wide'",)),
        (("--loss", "cubic"), ("--loss cubic: is not known", "squared")),
        (("--loss", "bernoulli"), ("Bernoulli", "0 to 1")),
        (("--penalty", "l3=1"), ("--penalty l3: is not known", "l1")),
        (("--penalty", "l1=much"), ("--penalty l1", "weight='much'", "a number")),
        (("--penalty", "l1=-1"), ("weight=-1.0", "negative")),
        (("--corruption", "masking=2"), ("rate=2.0", "below 1")),
        (("--optimizer", "magic"), ("--optimizer magic: is not known", "adamw")),
        (("--optimizer", "sgd", "--lr", "-1"), ("lr=-1.0", "positive")),
        (("--lr", "0.1"), ("--lr", "learning rate", "--optimizer adamw")),
        (("--pretraining", "magic"), ("--pretraining magic: is not known", "pca")),
        (("--pretraining", "pca=3"), ("--pretraining pca", "no settings")),
        (("--pretraining", "rbm=0"), ("epochs=0", "at least 1")),
        (("--pretraining", "rbm"), ("activation='sigmoid'",)),
        (("--preparation", "magic"), ("'magic'", "global")),
        (("--precision", "magic"), ("'magic'", "float32")),
        (("--device", "magic"), ("'magic'", "cpu")),
        (("--validation", "1.5"), ("1.5", "below 1")),
        (("--validation", "nowhere.csv"), ("nowhere.csv", "no such file")),
        (("--color", "nowhere"), ("--color nowhere", "'a', 'b', 'c', 'd'")),
        (("--columns", "a,z"), ("'z'", "'a', 'b', 'c', 'd'")),
        (("--drop", "z"), ("'z'", "'a', 'b', 'c', 'd'")),
        (("--resize", "8"), ("resize", "leave it out")),
        (("--resize", "big"), ("--resize big", "32x48")),
        (("--layout", "cube"), ("cube",)),
        (("--batch-size", "0"), ("batch_size=0", "at least 1")),
        (("--speed", "9"), ("--speed", "isthmus fit --help")),
    ],
    ids=" ".join,
)
def test_settings_that_make_no_sense(expect_refusal, tmp_path, table, options, parts):
    if "--n-components" not in options:
        options = ("--n-components", "2", *options)
    expect_refusal("fit", table, "-o", tmp_path / "out", "--max-epochs", "1", *options, parts=parts)
