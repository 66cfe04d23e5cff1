"""Detectors of rows on disk: a sample is used for training, and all rows are scored."""

import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from isthmus import Autoencoder, OutlierDetector, data, load
from isthmus.detector import sampling

FAST = Autoencoder(4, kind="vanilla", max_epochs=5, transform_max_iter=0)
ROWS, OUTLIER = 3000, 1234


@pytest.fixture
def table(rng):
    """Numbers near a plane and a category, with missing values and an outlier."""
    values = rng.normal(size=(ROWS, 2)) @ rng.normal(size=(2, 5)) + 0.05 * rng.normal(
        size=(ROWS, 5)
    )
    values[OUTLIER, 2] += 40
    columns = {f"c{index}": pa.array(values[:, index]) for index in range(5)}
    columns["c1"] = pa.array(values[:, 1], mask=rng.random(ROWS) < 0.05)
    return pa.table(columns | {"level": np.where(values[:, 0] > 0, "high", "low")})


@pytest.fixture
def path(table, tmp_path):
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=400)
    return tmp_path / "rows.parquet"


@pytest.fixture
def _few(monkeypatch):
    """No more than 500 rows fit in memory."""
    monkeypatch.setattr(sampling, "MAX_ROWS", 500)


def both(path):
    return (data.open_source(path, stream=stream) for stream in (True, False))


def test_where_all_rows_fit_the_detector_is_that_of_rows_in_memory(path):
    streamed, whole = both(path)
    ours, theirs = OutlierDetector(FAST).fit(streamed), OutlierDetector(FAST).fit(whole)
    np.testing.assert_array_equal(ours.decision_scores_, theirs.decision_scores_)
    np.testing.assert_array_equal(ours.train_rows_, np.arange(ROWS))
    assert ours.threshold_ == theirs.threshold_
    np.testing.assert_allclose(ours.score_samples(streamed), theirs.score_samples(whole))
    assert ours.explain(streamed)[OUTLIER][0].column == "c2"


@pytest.mark.usefixtures("_few")
def test_the_training_rows_are_reported_and_all_rows_are_scored(path, table):
    streamed, whole = both(path)
    with pytest.warns(
        UserWarning, match="rows.parquet: the detector is fitted on 500 of 3000 rows"
    ):
        detector = OutlierDetector(FAST, random_state=3).fit(streamed)
    rows = detector.train_rows_
    assert len(rows) == 500 == len(np.unique(rows)) == len(detector.decision_scores_)
    assert np.isin(detector.held_out_rows_, rows).all()
    # The same rows alone, in memory, give the same detector.
    again = OutlierDetector(FAST, random_state=3).fit(table.take(rows))
    np.testing.assert_array_equal(again.decision_scores_, detector.decision_scores_)
    np.testing.assert_array_equal(rows[again.held_out_rows_], detector.held_out_rows_)
    scores = detector.score_samples(streamed)
    np.testing.assert_allclose(scores, detector.score_samples(whole))
    assert scores.argmin() == OUTLIER
    with pytest.warns(UserWarning, match="drawn at random"):
        other = OutlierDetector(FAST, random_state=4).fit(streamed)
    assert (other.train_rows_ != rows).any()


@pytest.mark.usefixtures("_few")
def test_the_training_rows_are_saved(path, tmp_path):
    with pytest.warns(UserWarning, match="drawn at random"):
        detector = OutlierDetector(FAST).fit(data.open_source(path, stream=True))
    detector.save(tmp_path / "detector")
    loaded = load(tmp_path / "detector")
    np.testing.assert_array_equal(loaded.train_rows_, detector.train_rows_)
    np.testing.assert_array_equal(loaded.held_out_rows_, detector.held_out_rows_)


@pytest.mark.usefixtures("_few")
def test_a_row_with_a_missing_value_is_always_drawn(tmp_path, rng):
    values = rng.normal(size=(ROWS, 5))
    values[2999, 1] = np.nan
    np.save(tmp_path / "rows.npy", values)
    source = data.open_source(tmp_path / "rows.npy", stream=True)
    with pytest.warns(UserWarning, match="501 of 3000"):
        detector = OutlierDetector(FAST).fit(source)
    assert 2999 in detector.train_rows_
    assert np.isfinite(detector.score_samples(source)).all()


@pytest.mark.usefixtures("_few")
def test_infinity_is_refused_by_its_row_whether_or_not_it_is_drawn(tmp_path, rng):
    for row in (0, 17, 2999):
        values = rng.normal(size=(ROWS, 3))
        values[row, 1] = np.inf
        np.save(tmp_path / f"{row}.npy", values)
        source = data.open_source(tmp_path / f"{row}.npy", stream=True)
        with pytest.raises(ValueError, match=f"row {row}"):
            OutlierDetector(FAST).fit(source)


@pytest.mark.usefixtures("_few")
def test_windows_of_recordings_on_disk_are_drawn_too(tmp_path, rng):
    np.save(tmp_path / "a.npy", rng.normal(size=(8000, 2)).cumsum(axis=0) % 7)
    source = data.windows(tmp_path / "a.npy", length=16, hop=8, stream=True)
    with pytest.warns(UserWarning, match=f"500 of {len(source)} rows"):
        detector = OutlierDetector(FAST).fit(source)
    scores = detector.score_samples(source)
    np.testing.assert_allclose(-scores[detector.train_rows_], detector.decision_scores_)


@pytest.mark.usefixtures("_few")
def test_scores_take_a_block_of_memory_whatever_the_rows(tmp_path, rng, monkeypatch):
    monkeypatch.setattr("isthmus.data.loading.streamed_rows.RESIDENT_BYTES", 0)
    monkeypatch.setattr("isthmus.data.formats.npy.PIECE_BYTES", 1 << 16)
    monkeypatch.setattr("isthmus.data.on_disk.CACHE_BYTES", 1 << 17)
    monkeypatch.setattr("isthmus.data.splitting.holdout.CHUNK_BYTES", 1 << 18)
    monkeypatch.setattr("isthmus.data.on_disk.CHUNK_BYTES", 1 << 18)
    detector = OutlierDetector(FAST).fit(rng.normal(size=(500, 32)))

    def peak(rows):
        np.save(tmp_path / "rows.npy", rng.normal(size=(rows, 32)).astype(np.float32))
        source = data.open_source(tmp_path / "rows.npy", stream=True)
        tracemalloc.start()
        detector.score_samples(source)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(5000)
    few, many = peak(20_000), peak(80_000)
    assert many - few < 60_000 * 32 * 4 / 4  # a quarter of what the rows more would take
