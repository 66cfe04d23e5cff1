"""Ctrl-C in the middle of a call of several steps: it ends, and the fit can be resumed."""

import os
import signal
import threading
import time

import numpy as np
import pytest
import torch

from isthmus import Autoencoder, fit_together, kinds
from isthmus.training.cancellation import (
    CANCELLATION,
    CancellationToken,
    check_cancelled,
    deferred_interrupts,
)
from isthmus.training.engines.cpu import kernel
from isthmus.training.engines.dense.adam_loop import AdamLoop
from isthmus.training.reporters import SilentReporter


@pytest.fixture(autouse=True)
def _ctrl_c():
    # Started from a background job, a process ignores Ctrl-C unless it asks for it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press():
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_waits_for_the_end_of_the_block():
    done = []

    def work():
        with deferred_interrupts():
            press()
            done.append(1)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_an_interrupt_nothing_happens():
    with deferred_interrupts():
        pass
    with pytest.raises(ZeroDivisionError), deferred_interrupts():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_handlers_and_threads_are_left_alone():
    seen = []
    signal.signal(signal.SIGINT, lambda *args: seen.append(args[0]))
    with deferred_interrupts():
        press()
    assert seen == [signal.SIGINT]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    handlers = []

    def work():
        with deferred_interrupts():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler]


def test_a_fit_stopped_between_steps_of_a_call_is_resumed(tmp_path, monkeypatch, rng):
    X = np.tanh(rng.normal(size=(200, 3)) @ rng.normal(size=(3, 8)))

    def made(**settings):
        return Autoencoder(
            2,
            kind=kinds.Multilayer(hidden=(9,)),
            pretraining="random",
            batch_size=16,
            max_epochs=5,
            random_state=0,
            **settings,
        )

    whole = made().fit(X)
    call, calls = AdamLoop.__call__, []

    def pressed(self, steps):
        calls.append(1)
        if len(calls) == 1:
            press()
        return call(self, steps)

    with monkeypatch.context() as patch:
        patch.setattr(AdamLoop, "__call__", pressed)
        with pytest.raises(KeyboardInterrupt):
            made(checkpoint=tmp_path / "c").fit(X)
    assert list((tmp_path / "c").iterdir())
    model = made(checkpoint=tmp_path / "c").fit(X, resume=True)
    for first, second in zip(model.network_.parameters(), whole.network_.parameters(), strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_a_cancellation_holds_for_nested_fits_too():
    above = CancellationToken()
    below = CancellationToken(CancellationToken(above))
    assert not below.cancelled
    above.is_set = True
    assert below.cancelled
    above.is_set = False
    below.is_set = True
    assert below.cancelled
    assert not above.cancelled
    check_cancelled()  # no fit is under way


class Pressing(SilentReporter):
    """Presses Ctrl-C at the third reported call, and again each time that a fit ends."""

    def __init__(self):
        self.calls = self.ends = 0

    def advance(self, rows):
        self.calls += 1
        if self.calls == 3:
            press()
            while not CANCELLATION.get().cancelled:  # until the main thread has noticed
                time.sleep(0.001)

    def finish(self):
        self.ends += 1
        press()


def raising(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("handler", [signal.default_int_handler, raising])
@pytest.mark.parametrize(
    "way",
    [
        {"batch_size": 10},
        {"corruption": "gaussian"},
        {"optimizer": "muon"},
        {"kind": "convolutional"},
        {"optimizer": "sgd", "n_init": 2},
    ],
    ids=lambda way: next(iter(way)),
)
def test_repeated_interrupts_end_all_fits(rng, monkeypatch, way, handler):
    monkeypatch.setattr(kernel, "MIN_SECONDS", 0.0)
    signal.signal(signal.SIGINT, handler)
    X = np.tanh(rng.normal(size=(200, 3)) @ rng.normal(size=(3, 16)))
    X = X.reshape(200, 4, 4) if "kind" in way else X
    reporter = Pressing()
    base = {"max_epochs": 40, "early_stopping": False, "verbose": reporter, "batch_size": 16}
    fits = [Autoencoder(2, random_state=seed, **base | way) for seed in range(3)]
    torch.manual_seed(3)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        fit_together(fits, X)
    assert not [item for item in threading.enumerate() if "_run_job" in item.name]
    assert reporter.calls == 3
    assert reporter.ends >= 1
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert signal.getsignal(signal.SIGINT) is handler
