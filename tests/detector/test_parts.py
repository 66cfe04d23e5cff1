"""The parts of a detector against independent answers."""

import numpy as np
import pytest
from scipy import stats

from isthmus import OutlierDetector, data
from isthmus.data import array_source
from isthmus.data.splitting.holdout import validation_split
from isthmus.detector.defaults import default_autoencoder
from isthmus.detector.fit import cover_missing
from isthmus.detector.holdout import hold_out
from isthmus.detector.memory import Memory, subsample
from isthmus.detector.reasons import reasons
from isthmus.detector.threshold import from_contamination, from_held_out
from isthmus.detector.trimming import find_inliers, inverse_soft_clip, soft_clip


def test_the_memory_expects_the_mean_of_the_nearest():
    draw = np.random.default_rng(0)
    rows, asked = draw.normal(size=(50, 3)), draw.normal(size=(20, 3))
    distances = np.linalg.norm(asked[:, None] - rows[None], axis=2)
    nearest = rows[np.argsort(distances, axis=1)[:, :4]]
    mean, error = Memory(rows, 4).expected_rows(asked)
    np.testing.assert_allclose(mean, nearest.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(error, stats.sem(nearest, axis=1) ** 2, rtol=1e-5)


def test_a_row_is_not_its_own_neighbor():
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(50, 3))
    rows[1] = rows[0]
    distances = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    wanted = rows[np.argsort(distances, axis=1)[:, :4]].mean(axis=1)
    result, _ = Memory(rows, 4).expected_rows(rows)
    np.testing.assert_allclose(result, wanted, atol=1e-6)
    np.testing.assert_allclose(Memory(rows, 1).expected_rows(rows[:2])[0], rows[:2], atol=1e-6)


def test_a_memory_of_one_row_expects_that_row():
    memory = Memory(np.ones((1, 2)), 5)
    mean, error = memory.expected_rows(np.zeros((3, 2)))
    np.testing.assert_array_equal(mean, np.ones((3, 2)))
    np.testing.assert_array_equal(error, np.zeros((3, 2)))


def test_some_rows_are_drawn_from_the_seed():
    rows = np.arange(100.0)[:, None]
    assert len(subsample(rows, 0, size=7)) == 7
    np.testing.assert_array_equal(subsample(rows, 3, size=7), subsample(rows, 3, size=7))
    assert subsample(rows, 0, size=100) is rows


def test_soft_clipping_is_inverted():
    values = np.array([-1e6, -11, -10, -1, 0, 2, 10, 12, 400])
    np.testing.assert_allclose(inverse_soft_clip(soft_clip(values)), values)
    np.testing.assert_array_equal(soft_clip(values[2:7]), values[2:7])
    assert soft_clip(np.array([400.0]))[0] == 10 + np.log1p(390)


def test_far_rows_are_trimmed_and_most_others_are_not():
    rows = np.random.default_rng(0).normal(size=(300, 4))
    rows[:30] += 20
    kept_rows = find_inliers(rows, seed=0)
    assert not kept_rows[:30].any()
    assert kept_rows[30:].mean() > 0.8
    assert find_inliers(rows[:10], seed=0).all()
    assert find_inliers(np.zeros((100, 3)), seed=0).all()


def test_a_small_tight_cluster_among_many_rows_is_trimmed():
    rows = np.random.default_rng(0).normal(size=(20_000, 4))
    rows[:400] = 12 + rows[:400] / 20
    kept_rows = find_inliers(rows, seed=0)
    assert not kept_rows[:400].any()
    assert kept_rows[400:].mean() > 0.8


def test_far_rows_do_not_mask_outliers_in_the_columns_they_inflate():
    rows = np.random.default_rng(0).normal(size=(600, 3))
    rows[:30, 0] *= 100  # wild ones, which make the spread of the others negligible
    rows[30:60, 0] += 12
    rows /= rows.std(axis=0)
    assert not find_inliers(rows, seed=0)[:60].any()


@pytest.mark.parametrize(("m", "rate", "confidence"), [(100, 0.05, 0.9), (1000, 0.01, 0.95)])
def test_the_threshold_is_right_as_often_as_it_says(m, rate, confidence):
    draw = np.random.default_rng(0)
    kept_rows = [
        stats.norm.sf(from_held_out(draw.normal(size=m), rate, confidence).value) <= rate
        for _ in range(2000)
    ]
    assert confidence - 0.02 <= np.mean(kept_rows)
    # No more careful than one order statistic needs to be.
    assert np.mean(kept_rows) < confidence + 0.09


def test_the_threshold_is_the_lowest_that_a_binomial_count_allows():
    scores = np.arange(200.0)
    line = from_held_out(scores, 0.05, 0.9)
    allowed = 199 - int(line.value)
    # Fewer than that many of 200 above it would be likelier than 10 % were the rate 5 %.
    assert stats.binom.cdf(allowed, 200, 0.05) <= 0.1 < stats.binom.cdf(allowed + 1, 200, 0.05)
    assert f"{allowed} of 200 held-out rows are" in line.statement


def test_too_few_held_out_rows_are_reported():
    line = from_held_out(np.arange(10.0), 0.01, 0.95)
    assert line.value == 9
    assert "needs 299 held-out rows" in line.statement
    assert line.statement.startswith("with 10% confidence")


def test_evident_outliers_do_not_raise_the_threshold():
    scores = np.exp(np.random.default_rng(0).normal(size=300))
    spoilt = np.concatenate([scores, np.full(30, 1e6)])
    assert from_held_out(spoilt, 0.05, 0.9).value == 1e6
    line = from_held_out(spoilt, 0.05, 0.9, robust=True)
    assert line.value == from_held_out(scores, 0.05, 0.9).value
    assert "excluding 30 clear outliers" in line.statement


def test_contamination_is_a_quantile():
    line = from_contamination(np.arange(101.0), 0.1)
    assert line.value == 90


def test_the_statement_counts_the_flagged_rows():
    tied = np.repeat([1.0, 2.0], [90, 10])
    assert "0 of 100 held-out rows are" in from_held_out(tied, 0.2, 0.9).statement
    line = from_contamination(tied, 0.05)
    assert line.statement.startswith(
        "0 of the training rows are flagged as outliers instead of the requested 0.05"
    )


def test_costly_steps_stop_early(rng):
    rows = rng.normal(size=(32, 140))
    series = data.series([rng.normal(size=n) for n in (120, 140)]).schema
    costly = default_autoencoder(rows, series, "cpu", 0)
    assert (costly.max_epochs, costly.early_stopping, costly.precision) == (600, 150, "float32")
    plain = default_autoencoder(rows, data.open_source(rows).schema, "cpu", 0)
    assert (plain.max_epochs, plain.early_stopping, plain.precision) == (600, True, "auto")


def test_rows_needed_to_cover_missing_values_are_added():
    missing = np.zeros((6, 4), bool)
    missing[:5, 3] = missing[:3, 2] = True
    chosen = np.array([True, True, False, False, False, False])
    preferred = np.array([True, True, True, True, True, False])
    np.testing.assert_array_equal(
        cover_missing(chosen, missing, preferred), [True, True, False, False, False, True]
    )
    missing[5, 2] = True
    np.testing.assert_array_equal(
        cover_missing(chosen, missing, preferred), [True, True, False, True, False, True]
    )
    none = np.zeros((3, 2), bool)
    np.testing.assert_array_equal(cover_missing(chosen[:3], none, preferred[:3]), chosen[:3])
    none[2, 0] = True  # the only row with a missing value
    np.testing.assert_array_equal(cover_missing(chosen[:3], none, preferred[:3]), [True] * 3)


def test_held_out_rows_are_representative():
    draw = np.random.default_rng(0)
    rows = np.zeros((1000, 3))
    rows[:170] = draw.normal(size=(170, 3))
    train, held_out = hold_out(array_source(rows), 0.2, seed=0)
    assert len(held_out) == 200
    assert (rows[held_out] != 0).any(axis=1).sum() == 34
    np.testing.assert_array_equal(np.sort(np.concatenate([train, held_out])), np.arange(1000))
    everything = np.ones(170)
    for first, other in zip(
        hold_out(array_source(rows[:170]), 0.2, seed=3),
        validation_split(array_source(rows[:170]), np.arange(170), everything, 0.2, 3),
        strict=True,
    ):
        np.testing.assert_array_equal(first, other)
    twice = np.repeat(rows[:170], 2, axis=0)
    train, held_out = hold_out(array_source(twice), 0.2, seed=0)
    assert not np.isin(twice[held_out, 0], twice[train, 0]).any()
    steps = draw.poisson(0.05, size=(2000, 4)).astype(float)
    train, held_out = hold_out(array_source(steps), 0.2, seed=0)
    assert len(held_out) == pytest.approx(400, abs=5)
    assert np.abs(steps[held_out].mean(axis=0) - steps.mean(axis=0)).max() < 0.02


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_few_outliers_among_equal_rows_are_found(count):
    rows = np.ones((500, 4))
    rows[-count:] = np.eye(4)[:count] * 9
    detector = OutlierDetector().fit(rows)
    np.testing.assert_array_equal(np.flatnonzero(detector.labels_), np.arange(500 - count, 500))
    halves = np.repeat([[1.0, 2, 3], [4, 4, 4]], 250, axis=0)
    assert not OutlierDetector().fit(halves).labels_.any()


def test_a_column_that_is_as_expected_is_a_reason_too():
    result = reasons(
        np.array([[3.0, 1.0, 0.0]]), [["a"], [2.0], ["x"]], [["a"], [1.0], ["x"]], "klm", 5
    )
    assert [reason.column for reason in result[0]] == ["k", "l"]
    assert sum(reason.fraction for reason in result[0]) == 1
    assert str(result[0][0]) == "k: a (expected, but with less certainty than usual), 75%"


def test_rare_rows_among_copies_of_one_do_not_make_the_threshold():
    scores = np.concatenate([np.full(160, 1e-9), np.linspace(1, 2, 40)])
    line = from_held_out(scores, 0.05, 0.9, robust=True)
    assert 1.5 < line.value < 2
    assert "excluding" not in line.statement
