"""Held-out windows share no sample with those that are learned."""

import numpy as np
import pytest

from isthmus.data import array_source, series, windows
from isthmus.data.splitting.holdout import count_distinct, validation_split
from isthmus.data.splitting.segments import MAX_SEGMENTS, count_non_overlapping, shares_samples


def samples_of(where):
    """Every (recording, sample) in some rows, listed one by one."""
    return {(r, sample) for r, start, stop in where.tolist() for sample in range(start, stop)}


def split(source, fraction=0.2, seed=0):
    rows = np.arange(len(source))
    return validation_split(source, rows, np.ones(len(source)), fraction, seed)


SETS = {
    "one": [4000],
    "several": [900, 1500, 401, 77],
    "many short ones": [25, 30, 20, 21] * 40,
}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(("length", "hop"), [(20, 10), (20, 20), (20, 3), (8, 7), (2, 1)])
def test_no_sample_is_on_both_sides(name, length, hop, rng):
    source = windows([rng.normal(size=n) for n in SETS[name]], length=length, hop=hop)
    for seed in range(3):
        train, validation = split(source, seed=seed)
        samples = samples_of(source.extents[train])
        assert not samples & samples_of(source.extents[validation])
        assert 0.1 * len(source) <= len(validation) <= 0.25 * len(source)
        assert len(train) >= len(source) / 2
        # Only what shares samples with held-out rows is in neither part.
        apart = np.setdiff1d(np.arange(len(source)), np.concatenate([train, validation]))
        held = samples_of(source.extents[validation])
        assert all(samples_of(source.extents[[row]]) & held for row in apart)


def test_the_seed_chooses_several_stretches(rng):
    source = windows(rng.normal(size=20_000), length=20)
    chosen = [split(source, seed=seed).validation for seed in (0, 0, 1)]
    np.testing.assert_array_equal(chosen[0], chosen[1])
    assert not np.array_equal(chosen[0], chosen[2])
    stretches = 1 + (np.diff(chosen[0]) > 1).sum()
    assert MAX_SEGMENTS / 2 <= stretches <= MAX_SEGMENTS


def test_little_is_lost_where_windows_overlap_much(rng):
    source = windows(rng.normal(size=2000), length=64, hop=1)
    train, validation = split(source, fraction=0.1)
    assert len(validation) >= 0.08 * len(source)
    assert len(source) - len(train) - len(validation) <= 2 * 63


def test_where_all_windows_overlap_nothing_is_held_out(rng):
    source = windows(rng.normal(size=100), length=90, hop=1)
    train, validation = split(source)
    assert (len(train), len(validation)) == (len(source), 0)


def test_a_large_share_is_held_out_where_it_is_asked_for(rng):
    source = windows(rng.normal(size=4000), length=20)
    train, validation = split(source, fraction=0.8)
    assert 0.7 * len(source) < len(validation) < 0.85 * len(source)
    assert len(train) > 0.1 * len(source)


def test_copies_of_training_windows_are_no_evidence(rng):
    beat = rng.normal(size=20)
    source = windows(np.tile(beat, 200), length=20, hop=20)
    assert not len(split(source).validation)
    source = windows([*rng.normal(size=(2, 500)), np.zeros(500)], length=20, hop=10)
    train, validation = split(source)
    hashes = {source.read(np.array([row])).tobytes() for row in train}
    assert not any(source.read(np.array([row])).tobytes() in hashes for row in validation)


def test_series_and_ready_rows_are_held_out_one_by_one(rng):
    rows = rng.normal(size=(60, 12))
    ready = array_source(rows, layout="signal")
    np.testing.assert_array_equal(split(series(list(rows))).validation, split(ready).validation)
    once = windows(list(rows), length=12)
    np.testing.assert_array_equal(split(once).validation, split(ready).validation)


@pytest.mark.parametrize("seed", range(20))
def test_sharing_samples_against_one_by_one(seed):
    rng = np.random.default_rng(seed)
    source = windows([rng.normal(size=n) for n in (30, 45)], length=8, hop=int(rng.integers(1, 9)))
    chosen = rng.random(len(source)) < 0.2
    others = source.extents[chosen]
    split = shares_samples(source.extents, others)
    theirs = samples_of(others)
    expected = [bool(samples_of(source.extents[[row]]) & theirs) for row in range(len(source))]
    np.testing.assert_array_equal(split, expected)
    if chosen.any():
        assert count_non_overlapping(others) == max(len(theirs) // 8, 1)


def test_overlapping_windows_are_less_evidence_than_their_number(rng):
    source = windows(rng.normal(size=200), length=20, hop=1)
    rows = np.arange(100, 160)
    assert count_distinct(source, rows) == (60 + 19) // 20
    assert count_distinct(array_source(source.read(rows)), np.arange(60)) == 60


@pytest.mark.parametrize("weighted", [(0, 0), (1, 0), (0, 1)])
def test_rows_of_no_weight_are_in_no_part(weighted, rng):
    source = windows(rng.normal(size=3000), length=20)
    counted = np.flatnonzero(np.resize([1, *weighted], len(source)))
    split = validation_split(source, counted, np.ones(len(counted)), 0.2, 0)
    assert set(split.train) | set(split.validation) <= set(counted)
    held = source.extents[split.validation]
    assert not samples_of(source.extents[split.train]) & samples_of(held)
