"""Models of recordings: windows in, recordings back; series of different lengths, unpadded."""

import numpy as np
import pandas as pd
import pytest
import torch

from isthmus import Autoencoder, load
from isthmus.data import array_source, series, windows
from isthmus.errors import DataError, RequestError

KINDS = ("convolutional", "multilayer")


def waves(samples, seed=0):
    """(samples, 2): two channels of waves with a little noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples)
    clean = np.stack([np.sin(time / 5), np.cos(time / 7) ** 3], axis=1)
    return clean + 0.05 * rng.normal(size=clean.shape)


def uneven(seed=0, channels=()):
    """Series of 12 to 20 samples."""
    rng = np.random.default_rng(seed)
    lengths = [20, *rng.integers(12, 21, 79)]
    return [
        np.sin(np.arange(n) / 3 + rng.uniform(0, 6))[(...,) + (None,) * len(channels)]
        + 0.1 * rng.normal(size=(n, *channels))
        for n in lengths
    ]


def fitted(rows, kind="multilayer", **settings):
    return Autoencoder(3, kind=kind, max_epochs=2, random_state=0, **settings).fit(rows)


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    return fitted(windows(waves(800), length=24), request.param)


@pytest.fixture(scope="module", params=KINDS)
def of_series(request):
    return fitted(uneven(channels=(2,)), request.param)


def test_the_kind_for_recordings_is_convolutional():
    assert type(fitted(windows(waves(400), length=24), "auto").kind_).__name__ == "Convolutional"


def test_recordings_go_in_and_come_back_in_their_length(model):
    for samples in (24, 25, 77, 800):
        recording = waves(samples, seed=1)
        codes = model.transform(recording)
        assert codes.shape == (len(windows(recording, length=24)), 3)
        back = model.reconstruct(recording)
        assert back.shape == recording.shape
        np.testing.assert_allclose(model.inverse_transform(codes, lengths=samples), back, atol=1e-6)
    assert ((back - recording) ** 2).mean() < recording.var() / 2


def test_the_recording_is_the_weighted_mean_of_its_windows(model):
    recording = waves(50, seed=1)
    source = windows(recording, length=24)
    ready = array_source(source.read(np.arange(len(source))), layout="signal")
    rows = model.reconstruct(ready)
    assert rows.shape == (len(source), 24, 2)
    weights = np.sin(np.pi * (np.arange(24) + 0.5) / 24)[:, None] ** 2
    total, weight = np.zeros((50, 2)), np.zeros((50, 1))
    for row, (_, start, stop) in zip(rows, source.extents, strict=True):
        total[start:stop] += weights * row
        weight[start:stop] += weights
    np.testing.assert_allclose(model.reconstruct(recording), total / weight, atol=1e-6)
    np.testing.assert_allclose(model.transform(recording), model.transform(ready), atol=1e-6)


def test_several_recordings_are_coded_one_after_the_other(model):
    pair = [waves(60, seed=1), waves(100, seed=2)]
    codes = model.transform(pair)
    apart = [model.transform(one) for one in pair]
    np.testing.assert_allclose(codes, np.concatenate(apart), atol=1e-5)
    for one, other in zip(model.reconstruct(pair), pair, strict=True):
        np.testing.assert_allclose(one, model.reconstruct(other), atol=1e-5)
    assert [len(one) for one in model.inverse_transform(codes, lengths=[60, 100])] == [60, 100]
    assert len(model.score_samples(pair)) == len(codes)


def test_a_saved_model_cuts_recordings_too(model, tmp_path):
    model.save(tmp_path / "model")
    recording = waves(90, seed=3)
    again = load(tmp_path / "model")
    np.testing.assert_array_equal(again.reconstruct(recording), model.reconstruct(recording))
    assert again.preparation_ == model.preparation_


def test_a_frame_comes_back_as_a_frame_with_its_index():
    frame = pd.DataFrame(waves(300), columns=["lead I", "lead II"])
    model = fitted(windows(frame, length=20))
    shifted = frame.iloc[100:160]
    back = model.reconstruct(shifted[["lead II", "lead I"]])
    assert back.columns.tolist() == ["lead I", "lead II"]
    assert back.index.tolist() == shifted.index.tolist()
    np.testing.assert_array_equal(back, model.reconstruct(shifted))


def test_no_sample_is_learned_and_held_out():
    source = windows([waves(500), waves(300, seed=1)], length=24, hop=5)
    model = fitted(source, loss="huber")
    known = [event["message"] for event in model.history_ if event.get("event") == "note"]
    assert "held out in whole segments" in known[0]
    assert len(model.validation_rows_)
    sides = [
        {(r, sample) for r, start, stop in source.extents[rows] for sample in range(start, stop)}
        for rows in (model.train_rows_, model.validation_rows_)
    ]
    assert not sides[0] & sides[1]


def test_a_return_to_pca_learns_from_all_windows(rng):
    source = windows(rng.normal(size=600), length=20)
    model = Autoencoder(2, kind="multilayer", max_epochs=1, random_state=0).fit(source)
    assert any(record.get("event") == "pca" for record in model.history_)
    assert len(model.train_rows_) == len(source)


def test_where_nothing_can_be_held_out_it_is_said():
    source = windows(waves(100), length=90, hop=1)
    model = Autoencoder(2, kind="multilayer", max_epochs=5, random_state=0).fit(source)
    messages = [record["message"] for record in model.history_ if "event" in record]
    assert messages[0].startswith("no windows are held out: too many would share samples")
    assert "the model is the PCA of all rows, untrained" in messages[1]


def test_validation_recordings_are_cut_alike():
    model = Autoencoder(2, kind="multilayer", max_epochs=2, random_state=0)
    model.fit(windows(waves(400), length=20), validation=waves(200, seed=1))
    assert len(model.train_rows_) == len(windows(waves(400), length=20))
    with pytest.raises(DataError, match="has 1 channel"):
        model.fit(windows(waves(400), length=20), validation=waves(200)[:, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_gaps_in_recordings_are_filled_and_nothing_else(kind):
    recording = waves(600)
    holes = np.random.default_rng(1).random(recording.shape) < 0.05
    holes[300:306] = True
    given = np.where(holes, np.nan, recording)
    model = Autoencoder(6, kind=kind, max_epochs=10, random_state=0)
    model.fit(windows(given, length=24))
    filled = model.impute(given)
    np.testing.assert_array_equal(filled[~holes], recording[~holes])
    assert np.isfinite(filled).all()
    by_means = np.where(holes, np.nanmean(given, axis=0), recording)
    assert ((filled - recording)[holes] ** 2).mean() < ((by_means - recording)[holes] ** 2).mean()
    assert np.isfinite(model.reconstruct(given)).all()


def test_one_more_epoch_over_recordings(model):
    before = model.facts_["rows"]
    again = fitted(windows(waves(400), length=24)).partial_fit(waves(100, seed=2))
    assert np.isfinite(again.transform(waves(60))).all()
    assert model.facts_["rows"] == before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (waves(10), r"^X: 10 samples, fewer than the window of 24"),
        ([waves(30), waves(23)], r"^X\[1\]: 23 samples, fewer than the window of 24"),
        (waves(30)[:, 0], r"^X: has 1 channel, and the model was fitted on .* 2 channels"),
        (np.zeros((3, 2, 4, 4)), r"^X: an array of shape \(3, 2, 4, 4\) is not a recording"),
    ],
)
def test_recordings_that_do_not_fit_are_refused(model, given, message):
    for method in (model.transform, model.reconstruct, model.impute, model.score):
        with pytest.raises(DataError, match=message):
            method(given)


def test_codes_that_are_not_of_such_recordings_are_refused(model):
    with pytest.raises(DataError, match="3 codes do not make recordings of 100 samples"):
        model.inverse_transform(np.zeros((3, 3)), lengths=100)


def test_errors_by_timestep(model):
    recording = waves(70, seed=4)
    source = windows(recording, length=24)
    values = model.reconstruction_error(recording, by="value").reshape(-1, 24, 2)
    weights = np.sin(np.pi * (np.arange(24) + 0.5) / 24) ** 2
    total, weight = np.zeros(70), np.zeros(70)
    for row, (_, start, stop) in zip(values, source.extents, strict=True):
        total[start:stop] += weights * row.mean(axis=1)
        weight[start:stop] += weights
    found = model.reconstruction_error(recording, by="timestep")
    np.testing.assert_allclose(found, total / weight)
    assert [
        len(e) for e in model.reconstruction_error([recording, recording[:30]], "timestep")
    ] == [*(70, 30)]
    ready = array_source(source.read(np.arange(3)), layout="signal")
    with pytest.raises(RequestError, match="by='timestep' is for recordings"):
        model.reconstruction_error(ready, by="timestep")


def test_a_sample_of_which_nothing_is_known_has_no_error(of_series):
    given = uneven(seed=1, channels=(2,))[:3]
    given[1][4], given[1][5, 0] = np.nan, np.nan
    errors = of_series.reconstruction_error(given, by="timestep")
    assert [len(one) for one in errors] == [len(one) for one in given]
    assert np.flatnonzero(np.isnan(errors[1])).tolist() == [4]
    back = of_series.reconstruct(given)[1]
    np.testing.assert_allclose(errors[1][5], (back[5, 1] - given[1][5, 1]) ** 2, atol=1e-6)


def test_series_come_back_in_their_lengths(of_series, tmp_path):
    given = uneven(seed=1, channels=(2,))[:9]
    back = of_series.reconstruct(given)
    assert [one.shape for one in back] == [one.shape for one in given]
    codes = of_series.transform(given)
    assert codes.shape == (9, 3)
    full = of_series.inverse_transform(codes)
    assert {one.shape for one in full} == {(20, 2)}
    for one, other in zip(full, back, strict=True):
        np.testing.assert_allclose(one[: len(other)], other, atol=1e-6)
    of_series.save(tmp_path / "model")
    again = load(tmp_path / "model").reconstruct(given)
    np.testing.assert_array_equal(again[3], back[3])
    np.testing.assert_allclose(of_series.reconstruct(given[3]), back[3], atol=1e-6)


def test_errors_of_series_are_over_their_own_samples(of_series):
    given = uneven(seed=1, channels=(2,))[:9]
    back = of_series.reconstruct(given)
    expected = [((x - r) ** 2).mean() for x, r in zip(given, back, strict=True)]
    found = of_series.reconstruction_error(given, by="row")
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_only_gaps_of_series_are_filled(of_series):
    given = uneven(seed=1, channels=(2,))[:5]
    whole = of_series.impute(given)
    for one, other in zip(whole, given, strict=True):
        np.testing.assert_array_equal(one, other)
    given[2][4] = np.nan
    filled = of_series.impute(given)
    assert np.isfinite(filled[2]).all()
    np.testing.assert_array_equal(np.delete(filled[2], 4, axis=0), np.delete(given[2], 4, axis=0))


def test_a_longer_series_than_any_of_the_fit_is_refused(of_series):
    longer = [np.zeros((5, 2)), np.zeros((21, 2))]
    with pytest.raises(DataError, match=r"^X\[1\]: 21 samples, and the longest series .* has 20"):
        of_series.transform(longer)


@pytest.mark.parametrize("kind", KINDS)
def test_series_are_learned_as_rows_whose_ends_are_missing(kind):
    given = uneven()
    padded = np.full((len(given), 20), np.nan)
    for row, one in zip(padded, given, strict=True):
        row[: len(one)] = one
    ours = fitted(given, kind)
    theirs = fitted(array_source(padded, layout="signal"), kind)
    for name, weight in theirs.network_.state_dict().items():
        torch.testing.assert_close(ours.network_.state_dict()[name], weight, rtol=0, atol=0)
    assert ours.preparation_.missing == ()
    assert max(theirs.preparation_.missing) > 0


def test_a_model_untrained_is_pca_of_series_filled_with_means():
    given = uneven()
    model = Autoencoder(3, kind="multilayer", max_epochs=0, random_state=0, validation_fraction=0)
    back = model.fit(given).reconstruct(given)
    padded = np.full((len(given), 20), np.nan)
    for row, one in zip(padded, given, strict=True):
        row[: len(one)] = one
    mean = np.nanmean(padded, axis=0)
    centred = np.where(np.isnan(padded), 0, padded - mean)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    rebuilt = mean + centred @ axes[:3].T @ axes[:3]
    for one, row in zip(back, rebuilt, strict=True):
        np.testing.assert_allclose(one, row[: len(one)], atol=1e-5)


def test_padding_has_no_part_in_scales_and_means():
    given = uneven()
    preparation = series_preparation(given)
    at = [[one[t] for one in given if len(one) > t] for t in range(20)]
    np.testing.assert_allclose(preparation.shift, [np.mean(values) for values in at])
    variance = np.mean([np.var(values) for values in at])
    np.testing.assert_allclose(preparation.scale, variance**0.5)


def series_preparation(given):
    model = Autoencoder(2, kind="multilayer", max_epochs=0, validation_fraction=0, random_state=0)
    return model.fit(series(given)).preparation_


def test_rows_of_ready_windows_are_as_they_were():
    source = windows(waves(300), length=20)
    ready = source.read(np.arange(len(source)))
    model = fitted(array_source(ready, layout="signal"))
    assert model.preparation_.schema.recording is None
    assert model.reconstruct(array_source(ready, layout="signal")).shape == ready.shape
    assert model.inverse_transform(model.transform(array_source(ready, layout="signal"))).shape == (
        ready.shape
    )


def test_lengths_of_plain_rows_are_refused(rng):
    model = Autoencoder(2, max_epochs=0).fit(rng.normal(size=(30, 5)))
    with pytest.raises(RequestError, match="rows of this model are no recordings"):
        model.inverse_transform(np.zeros((3, 2)), lengths=3)
