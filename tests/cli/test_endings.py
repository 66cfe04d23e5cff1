"""How commands end: exit codes, interruptions, faults of ours, and what is left on the disk."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest

from isthmus.cli import exit_codes, main
from isthmus.cli.console import Console
from isthmus.cli.progress import Progress
from isthmus.errors import DivergenceError
from isthmus.training.trainer import Trainer

# Started from a background job, a process ignores Ctrl-C unless it asks for it.
RUN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from isthmus.cli import main
sys.exit(main(sys.argv[1:]))
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_ctrl_c_keeps_the_fit_and_resume_ends_it(isthmus, tmp_path):
    np.save(tmp_path / "data.npy", np.random.default_rng(0).normal(size=(300, 8)))
    fit = [
        *("fit", str(tmp_path / "data.npy"), "-o", str(tmp_path / "model")),
        *("--n-components", "2", "--max-epochs", "600", "--no-early-stopping", "--no-report"),
        *("--penalty", "l1=0.001"),  # or what gains nothing over PCA would become PCA
    ]
    process = subprocess.Popen([sys.executable, "-c", RUN, *fit], stderr=subprocess.PIPE, text=True)
    assert "training on" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert told.startswith("isthmus: interrupted")
    assert "--resume" in told
    assert told.count("\n") == 1
    assert names(tmp_path) == [".model.checkpoint", "data.npy"]
    done = isthmus(*fit, "--resume")
    assert done.code == 0
    assert "resuming after epoch" in done.err
    assert names(tmp_path) == ["data.npy", "model"]
    assert not list((tmp_path / "model").glob(".*"))
    history = (tmp_path / "model" / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in history][-1] == 600


def test_sigterm_unwinds_too(isthmus, tmp_path, monkeypatch):
    np.save(tmp_path / "data.npy", np.random.default_rng(0).normal(size=(300, 8)))
    before = signal.getsignal(signal.SIGTERM)
    epoch = Trainer._train_epoch

    def stopped(trainer):
        if trainer.state.epoch == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return epoch(trainer)

    monkeypatch.setattr(Trainer, "_train_epoch", stopped)
    fit = ("fit", tmp_path / "data.npy", "-o", tmp_path / "model", "--n-components", "2")
    done = isthmus(*fit, "--max-epochs", "10", "--no-early-stopping")
    assert done.code == 143
    assert "isthmus: interrupted" in done.err
    assert names(tmp_path) == [".model.checkpoint", "data.npy"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_resume_without_a_checkpoint_starts_at_the_beginning(isthmus, tmp_path, table):
    fit = ("fit", table, "-o", tmp_path / "model", "--n-components", "2", "--max-epochs", "1")
    done = isthmus(*fit, "--no-report", "--resume")
    assert done.code == 0
    assert "holds no fit to resume" in done.err


def test_a_checkpoint_of_another_fit_is_not_resumed(isthmus, tmp_path, table, monkeypatch):
    fit = ("fit", table, "-o", tmp_path / "model", "--n-components", "2", "--no-report")

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("isthmus.cli.run.fit._report", stop)
        assert isthmus(*fit, "--max-epochs", "1").code == 130
    kept = tmp_path / ".model.checkpoint"
    assert kept.is_dir()
    done = isthmus(*fit, "--max-epochs", "2", "--resume")
    assert done.code == 2
    assert "checkpoint" in done.err
    assert "max_epochs" in done.err
    assert kept.is_dir()
    refused = isthmus(*fit, "--max-epochs", "2")
    assert refused.code == 2
    assert "--resume" in refused.err
    assert kept.is_dir()
    assert isthmus(*fit, "--max-epochs", "2", "--force").code == 0
    assert names(tmp_path) == ["model"]


def test_a_fit_that_diverges_leaves_nothing(isthmus, tmp_path, table, monkeypatch):
    def diverge(*_, **__):
        (tmp_path / ".model.checkpoint").mkdir(exist_ok=True)
        raise DivergenceError("training diverged 6 times; scale the data or lower lr")

    monkeypatch.setattr("isthmus.cli.run.fit.Autoencoder.fit", diverge)
    done = isthmus("fit", table, "-o", tmp_path / "model")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "lower lr" in done.err
    assert names(tmp_path) == []


@pytest.mark.parametrize("step", ["gather", "render", "to_json"])
def test_a_report_that_fails_does_not_lose_the_model(isthmus, tmp_path, table, monkeypatch, step):
    def fail(*_, **__):
        raise ZeroDivisionError("a bug in the report")

    monkeypatch.setattr(f"isthmus.cli.run.fit.{step}", fail)
    done = isthmus(
        "fit", table, "-o", tmp_path / "model", "--n-components", "2", "--max-epochs", "1"
    )
    assert done.code == 1
    assert "Traceback" in done.err
    assert "ZeroDivisionError: a bug in the report" in done.err
    assert "without a report" in done.err
    assert isthmus("encode", tmp_path / "model", table, "-o", tmp_path / "codes.npy").code == 0


def test_our_own_faults_show_a_traceback(isthmus, tmp_path, table, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("impossible")

    monkeypatch.setattr("isthmus.cli.io.open_data.open_source", fail)
    done = isthmus("fit", table, "-o", tmp_path / "model")
    assert done.code == 1
    assert "Traceback" in done.err
    assert "isthmus: this is a bug in isthmus" in done.err
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "full", "a.csv"), "a.csv: No space left on device; free some space"),
        (PermissionError(errno.EACCES, "no", "b"), "b: Permission denied; change its permissions"),
        (MemoryError(), "there is not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "there is not enough memory"),
    ],
)
def test_what_the_system_refuses_takes_one_line(capsys, error, line):
    def refuse():
        raise error

    assert exit_codes.run_guarded(refuse) == 2
    assert capsys.readouterr().err.startswith(f"isthmus: {line}")


def test_an_import_that_was_interrupted_is_an_interruption(capsys):
    def halfway():
        try:
            raise exit_codes.Terminated
        except KeyboardInterrupt as error:
            raise ImportError("initialization failed") from error

    assert exit_codes.run_guarded(halfway) == 143
    assert capsys.readouterr().err == "isthmus: interrupted\n"


def test_an_import_that_fails_of_itself_is_our_fault(capsys):
    def missing():
        try:
            raise KeyError("sklearn")
        except KeyError as error:
            raise ImportError("no module") from error

    assert exit_codes.run_guarded(missing) == 1
    assert "ImportError: no module" in capsys.readouterr().err


@pytest.mark.parametrize("asked", ["info {} --json", "fit --help"])
def test_a_reader_that_goes_away_is_no_fault(table_model, asked):
    words = asked.format(f'"{table_model}"')
    command = f'"{sys.executable}" -m isthmus {words}; echo $? >&2'
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        command, shell=True, check=True, stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    assert done.stderr == "141\n"


def test_warnings_become_notes_said_once(capsys):
    def warn():
        Console()
        for _ in range(2):
            warnings.warn("the rate was\nlowered", UserWarning, stacklevel=1)
        warnings.warn("old", DeprecationWarning, stacklevel=1)

    shown = warnings.showwarning
    assert exit_codes.run_guarded(warn) == 0
    assert capsys.readouterr().err == "note: the rate was lowered\n"
    assert warnings.showwarning is shown


def test_a_model_that_does_not_fit_on_the_disk_can_be_resumed(
    isthmus, tmp_path, table, monkeypatch
):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "full")

    fit = ("fit", table, "-o", tmp_path / "model", "--n-components", "2", "--max-epochs", "1")
    with monkeypatch.context() as patch:
        patch.setattr("isthmus.artifact._write", full)
        done = isthmus(*fit, "--no-report", "--quiet")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"{tmp_path}/model: cannot be written (No space left on device)" in done.err
    assert "--resume" in done.err
    assert names(tmp_path) == [".model.checkpoint"]
    assert isthmus(*fit, "--no-report", "--resume").code == 0
    assert names(tmp_path) == ["model"]


def test_a_full_disk_as_safetensors_tells_it(capsys):
    def refuse():
        raise type("SafetensorError", (Exception,), {})("I/O error: (os error 28)")

    assert exit_codes.run_guarded(refuse) == 2
    assert "No space left on device" in capsys.readouterr().err


def test_commands_run_in_any_thread(table_model):
    codes = []
    thread = threading.Thread(target=lambda: codes.append(main(["info", str(table_model), "-q"])))
    thread.start()
    thread.join()
    assert codes == [0]


def test_messages_go_above_the_bar_and_are_said_once():
    class Bar:
        def __init__(self):
            self.console, self.printed = self, []

        def print(self, text, **_):
            self.printed.append(text)

    progress = Progress(Console())
    progress.bar = Bar()
    progress.message("lowered [the rate]")
    progress.message("lowered [the rate]")
    assert progress.bar.printed == ["lowered [the rate]"]
