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
    fitted = ["--components", "2", "--epochs", "1", "--no-report", "--quiet"]
    assert main(["fit", str(table), "-o", str(model), *fitted]) == 0
    return model


@pytest.fixture(scope="session")
def codes(table: Path, table_model: Path, tmp_path_factory: Any) -> Path:
    """The codes of `table`, as CSV."""
    path = tmp_path_factory.mktemp("codes") / "codes.csv"
    assert main(["encode", str(table_model), str(table), "-o", str(path), "--quiet"]) == 0
    return path
