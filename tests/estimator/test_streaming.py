"""Fits of rows that stay on disk: what one in memory gives, resumed to the bit, row by row once."""

import gc
import threading
import weakref

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from isthmus import Autoencoder
from isthmus.data import open_source
from isthmus.data.loading.streamed_rows import StreamedRows, _LoadedWindows
from isthmus.errors import RequestError
from isthmus.training import checkpoint
from isthmus.training.engines.dense.adam_loop import AdamLoop

SETTINGS = {"max_epochs": 4, "random_state": 0, "batch_size": 32}
STEPS = 20
"""In the second epoch."""


@pytest.fixture
def numbers(rng):
    hidden = rng.normal(size=(500, 2))
    return np.tanh(hidden @ rng.normal(size=(2, 8))) + 0.05 * rng.normal(size=(500, 8))


@pytest.fixture
def path(tmp_path, numbers):
    table = pa.table({f"c{at}": numbers[:, at] for at in range(8)})
    pq.write_table(table, tmp_path / "numbers.parquet", row_group_size=70)
    return tmp_path / "numbers.parquet"


@pytest.fixture
def in_pieces(monkeypatch):
    """Chunks of 30 rows of 8 numbers, windows of 100."""
    for module in ("on_disk", "splitting.holdout"):
        monkeypatch.setattr(f"isthmus.data.{module}.CHUNK_BYTES", 64 * 30)
    monkeypatch.setattr("isthmus.data.loading.shuffle.WINDOW_BYTES", 64 * 100)
    monkeypatch.setattr("isthmus.data.loading.streamed_rows.RESIDENT_BYTES", 0)


def weights(ae):
    return {name: value.numpy().tobytes() for name, value in ae.network_.state_dict().items()}


def fitted(path, stream, **settings):
    return Autoencoder(2, **SETTINGS | settings).fit(open_source(path, stream=stream))


def test_what_fits_one_window_gives_the_weights_of_a_fit_in_memory(path):
    ours, theirs = fitted(path, True), fitted(path, False)
    assert weights(ours) == weights(theirs)
    assert ours.preparation_ == theirs.preparation_
    np.testing.assert_array_equal(ours.validation_rows_, theirs.validation_rows_)
    np.testing.assert_array_equal(np.asarray(ours.train_rows_), theirs.train_rows_)


@pytest.mark.usefixtures("in_pieces")
def test_many_windows_learn_as_well_as_memory_does(path):
    ours, theirs = fitted(path, True, max_epochs=30), fitted(path, False, max_epochs=30)
    assert weights(ours) != weights(theirs)
    assert ours.best_epoch_ > 0
    np.testing.assert_array_equal(ours.validation_rows_, theirs.validation_rows_)
    rows, at = open_source(path, stream=False), theirs.validation_rows_
    error, other = (ae.evaluate(rows).per_row[at].mean() for ae in (ours, theirs))
    assert error < 1.2 * other


@pytest.mark.usefixtures("in_pieces")
def test_the_same_seed_gives_the_same_weights_however_far_ahead_rows_are_read(path, monkeypatch):
    first = weights(fitted(path, True))
    monkeypatch.setitem(StreamedRows.__init__.__kwdefaults__, "depth", 3)
    assert first == weights(fitted(path, True))
    assert first != weights(fitted(path, True, random_state=1))


@pytest.mark.usefixtures("in_pieces")
@pytest.mark.parametrize("steps", [1, STEPS, 29])
def test_a_fit_stopped_in_mid_epoch_goes_on_to_the_same_weights(
    path, tmp_path, monkeypatch, apart, steps
):
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    real, taken = AdamLoop.__call__, []

    def interrupted(self, asked):
        sums = {}
        for step in apart(asked):
            taken.append(step)
            if len(taken) == steps:
                raise KeyboardInterrupt
            for name, term in real(self, step).items():
                sums[name] = sums.get(name, 0.0) + term
        return sums

    place = {"checkpoint": tmp_path / "kept"}
    with monkeypatch.context() as patch:
        patch.setattr(AdamLoop, "__call__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fitted(path, True, **place)
    assert not [t for t in threading.enumerate() if t.name.startswith("isthmus-prefetch")]
    again = Autoencoder(2, **SETTINGS | place).fit(open_source(path, stream=True), resume=True)
    assert weights(again) == weights(fitted(path, True))


@pytest.mark.usefixtures("in_pieces")
def test_every_training_row_comes_once_an_epoch(path, numbers, monkeypatch):
    real, seen = AdamLoop.__call__, []

    def watched(self, steps):
        seen.extend(steps.batches)
        return real(self, steps)

    monkeypatch.setattr(AdamLoop, "__call__", watched)
    ae = fitted(path, True, max_epochs=1, loss="huber")
    expected = ae.preparation_.encode(
        np.delete(numbers, ae.validation_rows_, axis=0), seen[0].dtype
    )
    found = torch.cat(seen)
    assert found.shape == expected.shape
    order, wanted = (torch.argsort(rows[:, 0]) for rows in (found, expected))
    assert torch.equal(found[order], expected[wanted])


@pytest.mark.usefixtures("in_pieces")
@pytest.mark.usefixtures("in_pieces")
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_every_batch_is_one_that_was_read_ahead(path, monkeypatch, optimizer):
    found, before = [], _LoadedWindows.take

    def watched(self, positions):
        rows = before(self, positions)
        found.append(rows is not None)
        return rows

    monkeypatch.setattr(_LoadedWindows, "take", watched)
    Autoencoder(2, optimizer=optimizer, **SETTINGS).fit(open_source(path, stream=True))
    assert len(found) >= 4 * 14
    assert all(found)


def test_codes_and_errors_are_those_of_rows_in_memory(path, numbers):
    ae = fitted(path, False)
    streamed = open_source(path, stream=True)
    frame = open_source(path, stream=False)
    np.testing.assert_allclose(ae.transform(streamed), ae.transform(frame), rtol=0, atol=1e-5)
    ours, theirs = ae.evaluate(streamed), ae.evaluate(frame)
    np.testing.assert_allclose(ours.per_row, theirs.per_row, rtol=1e-4)
    assert ours.total == pytest.approx(theirs.total, rel=1e-6)
    assert ae.score(streamed) == pytest.approx(-theirs.total, rel=1e-6)


@pytest.mark.usefixtures("in_pieces")
@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "vanilla"},
        {"validation_fraction": 0.0},
        {"pretraining": "autoencoder", "kind": "regularized"},
        {"pretraining": "lsuv"},
        {"corruption": "missing"},
        {"batch_size": "full", "optimizer": "lbfgs"},
    ],
    ids=str,
)
def test_every_way_to_fit_takes_streamed_rows(path, settings):
    ae = fitted(path, True, **settings)
    assert np.isfinite(ae.score(open_source(path, stream=True)))
    assert weights(ae) == weights(fitted(path, True, **settings))


@pytest.mark.usefixtures("in_pieces")
def test_partial_fit_goes_through_streamed_rows_once(path):
    ae = fitted(path, True, max_epochs=1)
    before = weights(ae)
    ae.partial_fit(open_source(path, stream=True))
    assert weights(ae) != before
    assert ae.history_[-1]["epoch"] == 2


def test_weights_are_for_rows_in_memory(path):
    with pytest.raises(RequestError, match=r"numbers.parquet: sample_weight is for rows in memory"):
        Autoencoder(2).fit(open_source(path, stream=True), sample_weight=np.ones(500))


@pytest.mark.usefixtures("in_pieces")
def test_rows_to_judge_by_may_be_streamed_too(path):
    validation = open_source(path, stream=True)
    ae = Autoencoder(2, **SETTINGS).fit(open_source(path, stream=True), validation=validation)
    assert ae.facts_["training_rows"] == 500
    again = Autoencoder(2, **SETTINGS).fit(
        open_source(path, stream=True), validation=open_source(path, stream=False)
    )
    assert weights(ae) == weights(again)


@pytest.mark.usefixtures("in_pieces")
def test_no_more_validation_rows_are_read_than_fit_in_memory(path, monkeypatch):
    monkeypatch.setattr("isthmus.data.splitting.streamed.VALIDATION_BYTES", 64 * 40)
    validation = open_source(path, stream=True)
    Autoencoder(2, **SETTINGS).fit(open_source(path, stream=True), validation=validation)
    assert len(validation.cached_rows) == 40
    assert (validation.cached_rows[0], validation.cached_rows[-1]) == (0, 499)


@pytest.mark.usefixtures("in_pieces")
def test_wide_rows_start_at_the_components_of_those_in_memory(path, monkeypatch):
    narrow = fitted(path, True, max_epochs=0, kind="vanilla")
    monkeypatch.setattr("isthmus.estimator.fit.EXACT_SIDE", 4)
    wide = fitted(path, True, max_epochs=0, kind="vanilla")
    rows = open_source(path, stream=False)
    assert wide.score(rows) == pytest.approx(narrow.score(rows), rel=0.02)


def pieces(numbers, size=100):
    return (numbers[at : at + size].copy() for at in range(0, len(numbers), size))


def test_partial_fit_takes_an_iterator_piece_by_piece(numbers):
    one_by_one = Autoencoder(2, random_state=0)
    for piece in pieces(numbers):
        one_by_one.partial_fit(piece)
    together = Autoencoder(2, random_state=0).partial_fit(pieces(numbers))
    assert weights(one_by_one) == weights(together)
    assert together.history_[-1]["epoch"] == 5


def test_partial_fit_holds_no_piece_once_it_is_learned(numbers):
    gone = []

    def watched():
        for piece in pieces(numbers):
            gone.append(weakref.ref(piece))
            yield piece
            del piece
            gc.collect()
            assert sum(ref() is not None for ref in gone[:-1]) == 0

    Autoencoder(2, random_state=0).partial_fit(watched())
    gc.collect()
    assert [ref() for ref in gone] == [None] * 5


def test_partial_fit_keeps_a_history_of_bounded_length(numbers, monkeypatch):
    monkeypatch.setattr("isthmus.training.trainer.MAX_RECORDS", 6)
    ae = Autoencoder(2, random_state=0).partial_fit(pieces(numbers, 20))
    assert len(ae.history_) <= 6
    assert ae.history_[-1]["epoch"] == 25


def test_partial_fit_needs_a_piece_and_no_weights_for_all(numbers):
    with pytest.raises(RequestError, match="gave no rows"):
        Autoencoder(2).partial_fit(iter(()))
    with pytest.raises(RequestError, match="each piece its own"):
        Autoencoder(2).partial_fit(pieces(numbers), sample_weight=np.ones(500))


def test_later_pieces_may_bring_gaps_and_levels(rng):
    def frame(rows, categories):
        return pa.table({"x": rng.normal(size=rows), "level": rng.choice(categories, rows)})

    def stream():
        yield frame(60, ["a", "b", "c"])
        yield frame(60, ["a", "b"])
        later = frame(60, ["a", "b", "c"])
        yield later.set_column(0, "x", pa.array(later["x"].to_numpy(), mask=rng.random(60) < 0.3))

    ae = Autoencoder(2, random_state=0).partial_fit(stream())
    assert np.isfinite(ae.score(frame(20, ["a", "b", "c"])))
    with pytest.warns(UserWarning, match=r"'level': \d+ values were not seen in training"):
        ae.partial_fit(frame(30, ["a", "new"]))
    assert [level.categories for level in ae.preparation_.schema.columns][1] == ("a", "b", "c")


def test_a_mixed_table_that_stays_on_disk_gives_the_weights_of_one_in_memory(tmp_path, rng):
    days = (np.datetime64("2020-01-01") + rng.integers(0, 99, 300)).astype(object)
    table = pa.table(
        {
            "x": pa.array(rng.normal(size=300), mask=rng.random(300) < 0.1),
            "level": rng.choice(["a", "b", "c"], 300),
            "day": days,
        }
    )
    pq.write_table(table, tmp_path / "mixed.parquet", row_group_size=50)
    ours, theirs = (fitted(tmp_path / "mixed.parquet", stream) for stream in (True, False))
    assert weights(ours) == weights(theirs)
    assert ours.preparation_ == theirs.preparation_
    found = ours.transform(open_source(tmp_path / "mixed.parquet", stream=True))
    np.testing.assert_array_equal(found, theirs.transform(table))


def test_impute_of_a_table_on_disk_touches_nothing_that_is_known(tmp_path):
    draw = np.random.default_rng(0)
    numbers = draw.normal(size=(500, 2))
    columns = {
        "key": [f"row {i}" for i in range(500)],
        "b": pa.array(numbers[:, 1], mask=draw.random(500) < 0.1),
        "whole": draw.integers(2**60, 2**61, 500),
        "a": numbers[:, 0],
    }
    table = pa.table(columns)
    pq.write_table(table, tmp_path / "gaps.parquet", row_group_size=120)
    source = open_source(tmp_path / "gaps.parquet", stream=True)
    filled = Autoencoder(2, max_epochs=2, random_state=0).fit(source).impute(source)
    assert filled.column_names == table.column_names
    for name in ("key", "whole", "a"):
        assert filled[name].to_pylist() == table[name].to_pylist()
    known = np.asarray(table["b"].is_valid())
    assert filled["b"].null_count == 0
    assert np.asarray(filled["b"])[known].tolist() == np.asarray(table["b"])[known].tolist()
