"""Fixtures for the command line: run a command in this process, and small models to run it on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from isthmus.cli import main


class Done(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture
def isthmus(capsys: Any) -> Command:
    """Runs a command line in this process: isthmus("fit", path, "-o", target)."""

    def run(*arguments: object) -> Done:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def table(tmp_path_factory: Any) -> Path:
    """A CSV of 40 rows with the columns a, b, c, d."""
    path = tmp_path_factory.mktemp("table") / "table.csv"
    values = np.random.default_rng(0).normal(size=(40, 4))
    np.savetxt(path, values, "%.3f", ",", header="a,b,c,d", comments="")
    return path


@pytest.fixture(scope="session")
def table_model(table: Path, tmp_path_factory: Any) -> Path:
    """A model of `table` with codes of two numbers."""
    model = tmp_path_factory.mktemp("table-model") / "model"
    fitted = ["--n-components", "2", "--max-epochs", "1", "--no-report", "--quiet"]
    assert main(["fit", str(table), "-o", str(model), *fitted]) == 0
    return model


@pytest.fixture(scope="session")
def codes(table: Path, table_model: Path, tmp_path_factory: Any) -> Path:
    """The codes of `table`, as CSV."""
    path = tmp_path_factory.mktemp("codes") / "codes.csv"
    assert main(["encode", str(table_model), str(table), "-o", str(path), "--quiet"]) == 0
    return path


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below, hidden ones included, with its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.fixture
def expect_refusal(isthmus, tmp_path):
    """Runs a command that must fail with one line holding all `parts`, and change nothing."""

    def check(*arguments, parts):
        before = snapshot(tmp_path)
        done = isthmus(*arguments)
        assert done.code == 2, done
        assert done.out == ""
        assert done.err.startswith("isthmus: ")
        assert done.err.count("\n") == 1, done.err
        for part in parts:
            assert part in done.err, f"{part!r} is missing in: {done.err}"
        assert snapshot(tmp_path) == before

    return check


@pytest.fixture
def streamed(monkeypatch):
    """From now on every file is too large for memory, and a chunk holds some 20 rows."""

    def make():
        for module in ("parquet", "npy", "delimited"):
            monkeypatch.setattr(f"isthmus.data.formats.{module}.SMALL_BYTES", 0)
        for module in ("on_disk", "splitting.holdout", "formats.csv_stream"):
            monkeypatch.setattr(f"isthmus.data.{module}.CHUNK_BYTES", 8 * 6 * 20)
        monkeypatch.setattr("isthmus.data.formats.npy.PIECE_BYTES", 8 * 6 * 20)
        monkeypatch.setattr("isthmus.data.loading.shuffle.WINDOW_BYTES", 8 * 6 * 100)
        monkeypatch.setattr("isthmus.data.loading.streamed_rows.RESIDENT_BYTES", 0)

    return make
