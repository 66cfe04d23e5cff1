"""Windows of the learned recording that share samples do not speak for one another."""

import numpy as np
import pytest

from isthmus import Autoencoder, OutlierDetector, data, load
from isthmus.data import most_shared
from isthmus.data.signals.overlap_add import extents
from isthmus.detector.memory import Memory
from isthmus.detector.overlaps import NOWHERE, LearnedWindows, share

FAST = Autoencoder(3, kind="vanilla", max_epochs=5, transform_max_iter=0)
LENGTHS = [(60, 45, 10), (10, 10, 11), (100,)]
CUTS = [(10, 5), (10, 3), (10, 10), (10, 1)]


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize(("length", "step"), CUTS)
def test_what_shares_samples_is_what_has_one_in_common(lengths, length, step):
    where = extents(lengths, length, step)
    samples = [{(row[0], at) for at in range(row[1], row[2])} for row in where.tolist()]
    expected = np.array([[bool(one & other) for other in samples] for one in samples])
    others = np.broadcast_to(where, (len(where), *where.shape))
    np.testing.assert_array_equal(share(where, others), expected)
    assert most_shared(where) == expected.sum(axis=1).max()


def test_windows_are_known_again_by_their_values(rng):
    recording = rng.normal(size=(200, 2))
    source = data.windows([recording, rng.normal(size=(50, 2))], length=10, step=5)
    windows = LearnedWindows.of(source)
    np.testing.assert_array_equal(windows.find(source), source.extents)
    part = data.windows(recording[20:120], length=10, step=5)
    np.testing.assert_array_equal(windows.find(part), part.extents + np.array([0, 20, 20]))
    strange = data.windows(rng.normal(size=(40, 2)), length=10, step=5)
    assert (windows.find(strange)[:, 0] == NOWHERE).all()
    assert LearnedWindows.of(data.open_source(recording)) is None
    assert LearnedWindows.of(data.series([recording, recording[:50]])) is None


@pytest.mark.parametrize(("length", "step"), CUTS)
def test_neighbours_are_the_nearest_that_share_no_samples(rng, length, step):
    where = extents([150, 90], length, step)
    rebuilt = rng.normal(size=(len(where), 4)).astype(np.float32)
    kept = np.sort(rng.choice(len(where), len(where) * 3 // 4, replace=False))
    memory = Memory(rebuilt[kept], 4, where[kept], most_shared(where))
    _, found = memory.neighbors(rebuilt, where)
    for row in range(len(where)):
        apart = ~share(where[row : row + 1], where[None, kept])[0]
        distance = np.where(apart, np.linalg.norm(rebuilt[kept] - rebuilt[row], axis=1), np.inf)
        np.testing.assert_array_equal(found[row], np.argsort(distance)[:4])


def test_where_all_share_samples_the_others_speak_all_the_same(rng):
    where = extents([14], 10, 1)
    rebuilt = rng.normal(size=(5, 3)).astype(np.float32)
    memory = Memory(rebuilt, 2, where, most_shared(where))
    _, found = memory.neighbors(rebuilt, where)
    assert found.shape == (5, 2)
    assert not (found == np.arange(5)[:, None]).any()


def test_windows_from_elsewhere_have_the_neighbours_they_had(rng):
    where = extents([150], 10, 5)
    rebuilt = rng.normal(size=(len(where), 4)).astype(np.float32)
    memory, plain = Memory(rebuilt, 4, where, most_shared(where)), Memory(rebuilt, 4)
    others = rng.normal(size=(20, 4)).astype(np.float32)
    nowhere = np.full((20, 3), NOWHERE)
    for one, other in zip(memory.neighbors(others, nowhere), plain.neighbors(others), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def recording():
    """A wave with noise, and one stretch of another kind, two windows long."""
    rng = np.random.default_rng(0)
    values = np.sin(np.arange(4000) / 5)[:, None] + 0.05 * rng.normal(size=(4000, 1))
    values[2000:2032, 0] += 4 * np.sin(np.arange(32) / 1.3)
    return values


def test_an_odd_stretch_is_no_witness_for_itself(recording, monkeypatch):
    source = data.windows(recording, length=16, step=2)
    odd = share(np.array([[0, 2004, 2028]]), source.extents[None])[0]

    def contrast():
        scores = OutlierDetector(FAST, robust=False).fit(source).decision_scores_
        return float(np.median(scores[odd]) / np.median(scores[~odd]))

    apart = contrast()
    monkeypatch.setattr(LearnedWindows, "of", classmethod(lambda cls, source: None))
    assert apart > 1.25 * contrast()


def test_scores_of_learned_windows_survive_a_round_trip(recording, tmp_path):
    source = data.windows(recording, length=16, step=8)
    detector = OutlierDetector(FAST).fit(source)
    detector.save(tmp_path / "d")
    for one in (detector, load(tmp_path / "d")):
        np.testing.assert_allclose(-one.score_samples(recording), detector.decision_scores_)
