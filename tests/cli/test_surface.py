"""The commands and their options, frozen: growing them is a decision that someone sees."""

import subprocess
import sys

import pytest
import typer.main

from isthmus.cli.app import app

READING = ["--member", "--resize", "--layout", "--header", "--missing", "--stream"]
COLUMNS = ["--columns", "--drop", "--role", "--window", "--hop"]
TRAINING = [
    "--kind",
    "--hidden",
    "--loss",
    "--penalty",
    "--corruption",
    "--preparation",
    "--pretraining",
    "--optimizer",
    "--lr",
    "--max-epochs",
    "--batch-size",
    "--no-early-stopping",
    "--n-init",
    "--random-state",
    "--device",
    "--precision",
    "--transform-max-iter",
]
CONSOLE = ["--json", "--quiet"]
FIT = ["--n-components", "--validation", "--color", "--resume", "--no-report", "--force"]
DETECT = [
    *("--train", "--clean", "--detector", "--save", "--explain", "--report", "--contamination"),
    *(
        "--false-alarm-rate",
        "--confidence",
        "--n-components",
        "--n-estimators",
        "--random-state",
        "--force",
    ),
]

FROZEN = {
    "fit": ["data", "--output", *FIT, *TRAINING, *READING, *COLUMNS, *CONSOLE],
    "encode": ["model", "data", "--output", *READING, *CONSOLE, "--device", "--force"],
    "decode": ["model", "codes", "--output", *CONSOLE, "--device", "--force"],
    "score": [
        *("model", "data", "--output", *READING, *CONSOLE),
        *("--by-feature", "--by-timestep", "--device", "--force"),
    ],
    "impute": ["model", "data", "--output", *READING, *CONSOLE, "--device", "--force"],
    "detect": [
        *("data", "--output", *DETECT, *READING, *COLUMNS, *CONSOLE, "--device"),
    ],
    "compare": [
        *("data", *TRAINING, *READING, *COLUMNS, *CONSOLE),
        *("--n-components", "--other", "--output", "--force"),
    ],
    "report": [
        *("model", *READING, *CONSOLE),
        *("data", "--output", "--compare-with", "--color", "--device", "--force"),
    ],
    "info": ["model", *CONSOLE],
}

COMMANDS = typer.main.get_command(app).commands


def test_the_commands():
    assert list(COMMANDS) == list(FROZEN)


@pytest.mark.parametrize("name", FROZEN)
def test_the_options(name):
    assert [parameter.opts[0] for parameter in COMMANDS[name].params] == FROZEN[name]


@pytest.mark.parametrize("name", FROZEN)
def test_every_option_is_explained_in_the_command_line_s_own_words(name):
    for parameter in COMMANDS[name].params:
        assert parameter.help, parameter.name
        for word in ("None", "`", "spec", '"'):
            assert word not in parameter.help, (parameter.name, parameter.help)


@pytest.mark.parametrize("name", FROZEN)
def test_help(isthmus, name):
    done = isthmus(name, "--help")
    assert (done.code, done.err) == (0, "")
    assert f"isthmus {name}" in done.out


def test_help_is_shown_without_a_command(isthmus):
    assert isthmus() == isthmus("--help")


@pytest.mark.parametrize(
    "arguments",
    [("--nothing",), ("fit",), ("fit", "data.csv"), ("fly",), ("encode", "a", "b", "c", "-o", "d")],
)
def test_usage_errors_take_one_line(isthmus, arguments):
    done = isthmus(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("isthmus: ")
    assert done.err.count("\n") == 1
    assert "--help" in done.err


LIGHT = """
import contextlib, io, sys
from isthmus.cli import main
lines = (["--help"], ["--version"], ["fit", "--help"], ["fit"], ["fit", "--speed"],
         ["info", sys.argv[1]], ["info", "nowhere"])
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    codes = [main(line) for line in lines]
heavy = {"torch", "sklearn", "scipy", "pandas", "polars", "pyarrow", "plotly", "narwhals"}
print(codes, sorted(heavy & set(sys.modules)))
"""


def test_help_version_and_info_load_nothing_heavy(table_model):
    command = [sys.executable, "-c", LIGHT, table_model]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == "[0, 0, 0, 2, 2, 0, 2] []\n"


def test_python_m_isthmus_is_the_same_command():
    command = [sys.executable, "-m", "isthmus", "--version"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.startswith("isthmus ")
