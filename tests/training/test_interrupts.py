"""Ctrl-C in the middle of many steps: they are ended, kept, and gone on from."""

import os
import signal
import threading

import numpy as np
import pytest
import torch

from isthmus import Autoencoder, kinds
from isthmus.training.interrupts import uninterrupted
from isthmus.training.stride import Stride


@pytest.fixture(autouse=True)
def _ctrl_c():
    # Started from a background job, a process ignores Ctrl-C unless it asks for it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press():
    os.kill(os.getpid(), signal.SIGINT)


def test_it_waits_for_the_end():
    done = []

    def work():
        with uninterrupted():
            press()
            done.append(1)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_it_nothing_happens():
    with uninterrupted():
        pass
    with pytest.raises(ZeroDivisionError), uninterrupted():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_handlers_and_threads_are_left_alone():
    seen = []
    signal.signal(signal.SIGINT, lambda *told: seen.append(told[0]))
    with uninterrupted():
        press()
    assert seen == [signal.SIGINT]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    handlers = []

    def work():
        with uninterrupted():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler]


def test_a_fit_stopped_in_mid_stride_is_kept(tmp_path, monkeypatch, rng):
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
    call, calls = Stride.__call__, []

    def pressed(self, steps):
        calls.append(1)
        if len(calls) == 1:
            press()
        return call(self, steps)

    with monkeypatch.context() as patch:
        patch.setattr(Stride, "__call__", pressed)
        with pytest.raises(KeyboardInterrupt):
            made(checkpoint=tmp_path / "c").fit(X)
    assert list((tmp_path / "c").iterdir())
    model = made(checkpoint=tmp_path / "c").fit(X, resume=True)
    for one, other in zip(model.network_.parameters(), whole.network_.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
