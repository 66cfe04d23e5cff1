"""Places that cannot be written to, models that cannot be used, and disks that are full."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isthmus.files import locked

TINY = ("--n-components", "2", "--max-epochs", "1")


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.fixture
def pictures(tmp_path):
    """A folder of 20 grey images of 4 x 4 pixels."""
    folder = tmp_path / "data"
    folder.mkdir()
    for index, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (20, 4, 4), np.uint8)):
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


@pytest.mark.parametrize("place", ["out.csv", "nowhere/out.csv", "out", "out.xyz", "pictures.npy"])
@pytest.mark.parametrize("command", ["encode", "score", "decode"])
def test_an_output_that_cannot_be_written(
    expect_refusal, tmp_path, table, table_model, codes, place, command
):
    (tmp_path / "out.csv").write_text("precious\n")
    (tmp_path / "pictures.npy").mkdir()
    message = {
        "out.csv": ("already exists", "--force"),
        "nowhere/out.csv": ("nowhere does not exist",),
        "out": ("suffix",),
        "out.xyz": ("'.xyz'", ".parquet"),
        "pictures.npy": ("pictures.npy",),
    }[place]
    data = codes if command == "decode" else table
    expect_refusal(command, table_model, data, "-o", tmp_path / place, parts=message)


def test_no_folder_of_other_things_is_replaced_by_images(
    expect_refusal, isthmus, tmp_path, pictures
):
    model, codes, output = tmp_path / "model", tmp_path / "codes.npy", tmp_path / "out"
    assert isthmus("fit", pictures, "-o", model, *TINY, "--no-report").code == 0
    assert isthmus("encode", model, pictures, "-o", codes).code == 0
    decode = ("decode", model, codes, "-o")
    assert isthmus(*decode, output).code == 0
    expect_refusal(*decode, output, parts=("out", "already exists", "--force"))
    assert isthmus(*decode, output, "--force").code == 0
    (output / "diary.txt").touch()
    expect_refusal(*decode, output, "--force", parts=("diary.txt", "not replaced"))
    expect_refusal(*decode, "..", "--force", parts=("give a name for the output",))


def test_a_model_is_replaced_with_force_only(expect_refusal, isthmus, tmp_path, table):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "precious.txt").touch()
    fit = ("fit", table, *TINY, "--no-report", "-o")
    assert isthmus(*fit, tmp_path / "model").code == 0
    expect_refusal(*fit, tmp_path / "model", parts=("model", "already exists", "--force"))
    expect_refusal(*fit, tmp_path / "notes", "--force", parts=("notes", "not a model folder"))
    expect_refusal(*fit, tmp_path / "nowhere" / "m", parts=("nowhere does not exist",))
    expect_refusal(*fit, ".", "--force", parts=("give a name for the output",))
    assert isthmus(*fit, tmp_path / "model", "--force").code == 0


def test_a_folder_that_may_not_be_written_to(expect_refusal, tmp_path, table, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    parts = ("out", "no permission to write to the folder")
    expect_refusal("fit", table, "-o", tmp_path / "out", *TINY, parts=parts)


def replace_in(name, old, new):
    def edit(model):
        path = model / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return edit


MODELS = {
    "not there": (shutil.rmtree, ("does not exist",)),
    "not a model": (lambda model: (model / "model.json").unlink(), ("not a model folder",)),
    "cut weights": (lambda model: cut(model / "weights.safetensors"), ("weights.safetensors",)),
    "no weights": (lambda model: (model / "weights.safetensors").unlink(), ("weights",)),
    "cut description": (lambda model: cut(model / "model.json"), ("model.json", "JSON")),
    "cut history": (lambda model: cut(model / "history.jsonl"), ("history.jsonl",)),
    "foreign": (lambda model: (model / "model.json").write_text("[1]"), ("model.json", "isthmus")),
    "newer": (replace_in("model.json", '"format": 2', '"format": 9'), ("format 9", "upgrade")),
    "older": (
        replace_in("model.json", '"format": 2', '"format": 1'),
        ("format 1", "written by isthmus 0.1.0", "fit and save the model again"),
    ),
    "edited size": (
        replace_in("model.json", '"n_components": 2', '"n_components": 3'),
        ("edited",),
    ),
    "edited kind": (replace_in("model.json", '"Multilayer"', '"Colossal"'), ("'Colossal'",)),
    "edited scale": (replace_in("model.json", '"shift"', '"lift"'), ("lift",)),
    "no kind": (replace_in("model.json", '"kind": {', '"kin": {'), ("kind",)),
}


@pytest.mark.parametrize("name", MODELS)
def test_model_folders_that_cannot_be_used(
    expect_refusal, tmp_path, table, table_model, codes, name
):
    spoil, parts = MODELS[name]
    model = tmp_path / "model"
    shutil.copytree(table_model, model)
    spoil(model)
    expect_refusal("encode", model, table, "-o", tmp_path / "out.csv", parts=("model", *parts))
    expect_refusal("decode", model, codes, "-o", tmp_path / "out.csv", parts=("model", *parts))
    if name in ("not there", "not a model", "cut description", "foreign", "newer"):
        expect_refusal("info", model, parts=("model", *parts))
        expect_refusal("report", model, "-o", tmp_path / "out.html", parts=("model", *parts))


@pytest.fixture
def small_files_only():
    """The system refuses to write more than 2 kB into a file, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy", ".npz", ".safetensors"])
def test_a_write_that_fails_leaves_the_old_file(
    expect_refusal, tmp_path, table_model, suffix, request, monkeypatch
):
    np.save(tmp_path / "data.npy", np.random.default_rng(0).normal(size=(900, 4)))
    output = tmp_path / f"codes{suffix}"
    output.write_text("precious")
    request.getfixturevalue("small_files_only")
    encode = ("encode", table_model, tmp_path / "data.npy", "-o", output, "--force")
    expect_refusal(*encode, parts=(output.name, "cannot be written"))


def test_a_fit_that_cannot_be_written_leaves_the_old_model(isthmus, tmp_path, table, request):
    fit = ("fit", table, "-o", tmp_path / "model", *TINY, "--no-report")
    assert isthmus(*fit).code == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    request.getfixturevalue("small_files_only")
    done = isthmus(*fit, "--force", "--quiet")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "File too large" in done.err
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


FULL_DISK = """
mount -t tmpfs -o size=64k tmpfs "$1" || exit 77
echo precious > "$1/codes.csv"
"$2" -m isthmus encode "$3" "$4" -o "$1/codes.csv" --force
echo "code $?"
cat "$1/codes.csv"
ls -A "$1"
"""


def test_a_disk_that_is_really_full(tmp_path, table_model):
    """A file system of 64 kB, mounted in a name space of the process's own."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare here")
    np.save(tmp_path / "data.npy", np.random.default_rng(0).normal(size=(9000, 4)))
    (tmp_path / "disk").mkdir()
    script = ["sh", "-c", FULL_DISK, "sh", tmp_path / "disk", sys.executable]
    inside = ["unshare", "--user", "--map-root-user", "--mount", *script]
    done = subprocess.run(
        [*inside, table_model, tmp_path / "data.npy"], check=False, capture_output=True, text=True
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no file system may be mounted here")
    assert done.stdout == "code 2\nprecious\ncodes.csv\n"
    assert done.stderr.count("\n") == 1
    assert "codes.csv: cannot be written" in done.stderr
    assert "No space left on device" in done.stderr


@pytest.mark.parametrize("place", ["model/codes.csv", "model/weights.safetensors", "data.csv"])
@pytest.mark.parametrize("command", ["encode", "score"])
def test_results_never_go_where_they_came_from(
    isthmus, tmp_path, table, table_model, place, command
):
    shutil.copytree(table_model, tmp_path / "model")
    shutil.copy(table, tmp_path / "data.csv")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    done = isthmus(
        command, tmp_path / "model", tmp_path / "data.csv", "-o", tmp_path / place, "--force"
    )
    assert done.code == 2
    assert "choose another" in done.err
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_two_fits_do_not_share_a_place(isthmus, tmp_path, table):
    target = tmp_path / "model"
    with locked(tmp_path / ".model.checkpoint", "fitting"):
        # A lock is a process's own, so another process must find it taken.
        fit = ["fit", str(table), "-o", str(target), *TINY, "--no-report"]
        done = subprocess.run(
            [sys.executable, "-m", "isthmus", *fit], capture_output=True, text=True, check=False
        )
    assert done.returncode == 2
    assert "another process is fitting" in done.stderr
    assert not target.exists()
    assert isthmus(*fit).code == 0
