"""Learning rates: where they begin and end, and that they know no past."""

import itertools
import math

import numpy as np
import pytest

from isthmus.optim import SCHEDULES, SGD


def factors(schedule, warmup, total):
    spec = SGD(schedule=schedule, warmup=warmup)
    return np.array([spec.factor(step, total) for step in range(total)])


FALLING = [name for name in SCHEDULES if name != "one_cycle"]


@pytest.mark.parametrize("name", FALLING)
def test_schedules_begin_at_one_and_never_rise(name):
    values = [SCHEDULES[name](progress) for progress in np.linspace(0, 1.5, 301)]
    assert values[0] == 1
    assert all(0 <= later <= sooner <= 1 for sooner, later in itertools.pairwise(values))
    assert values[-1] == pytest.approx(float(name in ("constant", "plateau")), abs=1e-15)


@pytest.mark.parametrize(
    ("name", "progress", "value"),
    [
        ("cosine", 0.25, (1 + math.sqrt(0.5)) / 2),
        ("cosine", 0.5, 0.5),
        ("cosine", 1.0, 0.0),
        ("linear", 0.25, 0.75),
        ("linear", 1.0, 0.0),
        ("constant", 0.99, 1.0),
        ("one_cycle", 0.0, 0.04),
        ("one_cycle", 0.15, 0.52),
        ("one_cycle", 0.3, 1.0),
        ("one_cycle", 0.65, 0.5),
        ("one_cycle", 1.0, 0.0),
    ],
)
def test_known_values(name, progress, value):
    assert SCHEDULES[name](progress) == pytest.approx(value, abs=1e-15)


@pytest.mark.parametrize("total", [1, 2, 7, 100, 1000])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.5, 0.99])
@pytest.mark.parametrize("name", FALLING)
def test_the_rate_rises_in_the_warm_up_falls_after_it_and_is_never_zero(name, warmup, total):
    rates, rise = factors(name, warmup, total), round(warmup * total)
    assert ((rates > 0) & (rates <= 1)).all()
    np.testing.assert_allclose(rates[:rise], np.arange(1, rise + 1) / max(rise, 1))
    assert (np.diff(rates[rise:]) <= 0).all()
    assert rise == total or rates[rise] == 1


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_rate_has_no_memory(name):
    spec = SGD(schedule=name, warmup=0.1)
    straight = factors(name, 0.1, 50)
    order = np.random.default_rng(0).permutation(50)
    assert all(spec.factor(int(step), 50) == straight[step] for step in order)


@pytest.mark.parametrize("name", FALLING)
def test_past_the_end_the_rate_stays(name):
    assert 0 <= SGD(schedule=name).factor(80, 50) <= 1
    assert SGD(schedule=name).factor(0, 0) == 1
