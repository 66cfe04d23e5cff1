"""Run by test_kill.py: a fit that writes a checkpoint each step, killed and resumed ten times."""

import hashlib
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import torch
from sklearn.datasets import make_swiss_roll

from isthmus import Autoencoder, corruptions, kinds
from isthmus.training import checkpoint


def make(folder):
    kind = kinds.Multilayer(hidden=(16,), dropout=0.1)
    noise = corruptions.Gaussian(std=0.05)
    return Autoencoder(
        2,
        kind=kind,
        corruption=noise,
        max_epochs=50,
        batch_size=16,
        random_state=7,
        checkpoint=folder,
    )


def fit(folder, *, resume):
    X, _ = make_swiss_roll(300, random_state=0)
    return make(folder).fit(X, resume=resume)


def digest(model):
    weights = model.network_.state_dict()
    raw = b"".join(weights[name].numpy().tobytes() for name in sorted(weights))
    return hashlib.sha256(raw).hexdigest()


def killed_run(folder, longest_s):
    """Start or go on with the fit in a child process and kill it; whether it was still running."""
    child = os.fork()
    if child == 0:
        fit(folder, resume=True)
        os._exit(0)
    time.sleep(random.uniform(0.01, longest_s))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def main():
    torch.set_num_threads(1)
    random.seed(int(sys.argv[2]))
    folder = Path(sys.argv[1])
    reference = digest(fit(None, resume=False))
    checkpoint.EVERY_S = 0.0
    began = time.monotonic()
    fit(folder / "timed", resume=False)
    whole_s = time.monotonic() - began
    shutil.rmtree(folder / "timed")
    # Ten kills that together cost about a third of a fit: each meets a fit under way.
    kills = sum(killed_run(folder, whole_s / 16) for _ in range(10))
    resumed = digest(fit(folder, resume=True))
    print(kills, reference == resumed, sorted(path.name for path in folder.iterdir()))


if __name__ == "__main__":
    main()
