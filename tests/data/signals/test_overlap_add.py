"""Windows cover a recording, and joined again they give it back."""

import itertools

import numpy as np
import pytest

from isthmus.data.signals.overlap_add import extents, overlap_add, taper, window_starts

SIZES = [
    (samples, length, hop)
    for samples, length in itertools.product((2, 5, 16, 17, 63, 200), (2, 3, 8, 16, 64))
    for hop in (1, 2, 3, length // 2, length - 1, length)
    if length <= samples and 1 <= hop <= length
]


@pytest.mark.parametrize(("samples", "length", "hop"), SIZES)
def test_the_windows_of_a_recording_give_it_back(samples, length, hop, rng):
    recording = 1e3 * rng.normal(size=(samples, 2)) + 1e6
    where = extents([samples], length, hop)
    rows = np.stack([recording[start:stop] for _, start, stop in where])
    assert rows.shape[1] == length
    (made,) = overlap_add(rows, where)
    np.testing.assert_allclose(made, recording, rtol=4 * np.finfo(float).eps)


@pytest.mark.parametrize(("samples", "length", "hop"), SIZES)
def test_every_sample_is_in_a_window_and_every_window_full(samples, length, hop):
    starts = window_starts(samples, length, hop)
    seen = {sample for start in starts for sample in range(start, start + length)}
    assert seen == set(range(samples))
    regular = [start for start in range(0, samples, hop) if start + length <= samples]
    assert starts.tolist()[: len(regular)] == regular
    assert len(starts) - len(regular) == (regular[-1] + length < samples)


def test_half_overlapping_tapers_add_up_to_one():
    for length in (2, 4, 10, 256):
        weights = taper(length)
        np.testing.assert_allclose(weights[: length // 2] + weights[length // 2 :], 1)


def test_overlapping_windows_are_averaged_by_their_tapers(rng):
    # Windows that contradict one another, against a sample by sample account.
    where = extents([11, 7], 5, 3)
    rows = rng.normal(size=(len(where), 5, 1))
    made = overlap_add(rows, where)
    for recording, samples in enumerate((11, 7)):
        for sample in range(samples):
            said = [
                (np.sin(np.pi * (sample - start + 0.5) / 5) ** 2, row[sample - start, 0])
                for row, (mine, start, stop) in zip(rows, where, strict=True)
                if mine == recording and start <= sample < stop
            ]
            weights, values = np.array(said).T
            expected = (weights * values).sum() / weights.sum()
            assert made[recording][sample, 0] == pytest.approx(expected, abs=1e-12)


def test_series_are_cut_where_they_end(rng):
    rows = rng.normal(size=(3, 6))
    where = extents([4, 6, 1], 6, None)
    assert where.tolist() == [[0, 0, 4], [1, 0, 6], [2, 0, 1]]
    for made, row, samples in zip(overlap_add(rows, where), rows, (4, 6, 1), strict=True):
        np.testing.assert_allclose(made[:, 0], row[:samples], rtol=1e-15)
