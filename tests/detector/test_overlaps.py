"""Training windows that share samples are not neighbors of each other."""

import numpy as np
import pytest

from isthmus import Autoencoder, OutlierDetector, data, load
from isthmus.data.signals.overlap_add import extents
from isthmus.data.splitting.segments import max_overlap_count
from isthmus.detector.memory import Memory
from isthmus.detector.overlaps import NO_RECORDING, TrainingWindows, overlaps

FAST = Autoencoder(3, kind="vanilla", max_epochs=5, transform_max_iter=0)
LENGTHS = [(60, 45, 10), (10, 10, 11), (100,)]
CUTS = [(10, 5), (10, 3), (10, 10), (10, 1)]


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize(("length", "hop"), CUTS)
def test_windows_overlap_if_they_have_a_sample_in_common(lengths, length, hop):
    where = extents(lengths, length, hop)
    samples = [{(row[0], index) for index in range(row[1], row[2])} for row in where.tolist()]
    expected = np.array([[bool(first & other) for other in samples] for first in samples])
    others = np.broadcast_to(where, (len(where), *where.shape))
    np.testing.assert_array_equal(overlaps(where, others), expected)
    assert max_overlap_count(where) == expected.sum(axis=1).max()


def test_windows_are_recognized_by_their_values(rng):
    recording = rng.normal(size=(200, 2))
    source = data.windows([recording, rng.normal(size=(50, 2))], length=10, hop=5)
    windows = TrainingWindows.of(source)
    np.testing.assert_array_equal(windows.find(source), source.extents)
    part = data.windows(recording[20:120], length=10, hop=5)
    np.testing.assert_array_equal(windows.find(part), part.extents + np.array([0, 20, 20]))
    strange = data.windows(rng.normal(size=(40, 2)), length=10, hop=5)
    assert (windows.find(strange)[:, 0] == NO_RECORDING).all()
    assert TrainingWindows.of(data.open_source(recording)) is None
    assert TrainingWindows.of(data.series([recording, recording[:50]])) is None


@pytest.mark.parametrize(("length", "hop"), CUTS)
def test_neighbours_are_the_nearest_that_share_no_samples(rng, length, hop):
    where = extents([150, 90], length, hop)
    rebuilt = rng.normal(size=(len(where), 4)).astype(np.float32)
    kept_rows = np.sort(rng.choice(len(where), len(where) * 3 // 4, replace=False))
    memory = Memory(rebuilt[kept_rows], 4, where[kept_rows], max_overlap_count(where))
    _, result = memory.neighbors(rebuilt, where)
    for row in range(len(where)):
        disjoint = ~overlaps(where[row : row + 1], where[None, kept_rows])[0]
        distance = np.where(
            disjoint, np.linalg.norm(rebuilt[kept_rows] - rebuilt[row], axis=1), np.inf
        )
        np.testing.assert_array_equal(result[row], np.argsort(distance)[:4])


def test_overlapping_windows_are_used_if_there_are_no_others(rng):
    where = extents([14], 10, 1)
    rebuilt = rng.normal(size=(5, 3)).astype(np.float32)
    memory = Memory(rebuilt, 2, where, max_overlap_count(where))
    _, result = memory.neighbors(rebuilt, where)
    assert result.shape == (5, 2)
    assert not (result == np.arange(5)[:, None]).any()


def test_other_windows_have_their_usual_neighbors(rng):
    where = extents([150], 10, 5)
    rebuilt = rng.normal(size=(len(where), 4)).astype(np.float32)
    memory, plain = Memory(rebuilt, 4, where, max_overlap_count(where)), Memory(rebuilt, 4)
    others = rng.normal(size=(20, 4)).astype(np.float32)
    nowhere = np.full((20, 3), NO_RECORDING)
    for first, other in zip(
        memory.neighbors(others, nowhere), plain.neighbors(others), strict=True
    ):
        np.testing.assert_array_equal(first, other)


@pytest.fixture(scope="module")
def recording():
    """A wave with noise, and one segment of another kind, two windows long."""
    rng = np.random.default_rng(0)
    values = np.sin(np.arange(4000) / 5)[:, None] + 0.05 * rng.normal(size=(4000, 1))
    values[2000:2032, 0] += 4 * np.sin(np.arange(32) / 1.3)
    return values


def test_an_anomalous_segment_does_not_support_itself(recording, monkeypatch):
    source = data.windows(recording, length=16, hop=2)
    outlier = overlaps(np.array([[0, 2004, 2028]]), source.extents[None])[0]

    def contrast():
        scores = OutlierDetector(FAST, robust=False).fit(source).decision_scores_
        return float(np.median(scores[outlier]) / np.median(scores[~outlier]))

    disjoint = contrast()
    monkeypatch.setattr(TrainingWindows, "of", classmethod(lambda cls, source: None))
    assert disjoint > 1.25 * contrast()


def test_scores_of_training_windows_survive_a_round_trip(recording, tmp_path):
    source = data.windows(recording, length=16, hop=8)
    detector = OutlierDetector(FAST).fit(source)
    detector.save(tmp_path / "d")
    for first in (detector, load(tmp_path / "d")):
        np.testing.assert_allclose(-first.score_samples(recording), detector.decision_scores_)
