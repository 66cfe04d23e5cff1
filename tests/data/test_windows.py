"""Recordings as rows: windows without copies, series of different lengths, and what is refused."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch

from isthmus.data import open_source, series, windows
from isthmus.data.output.fill_missing import count_missing, fill
from isthmus.data.preparation.fit import fit_preparation
from isthmus.data.schema import schema_from_json
from isthmus.data.signals.recordings import is_series, recordings_from_rows
from isthmus.data.validate import align, check_rows
from isthmus.data.windows import cut_like
from isthmus.errors import ArtifactError, DataError, RequestError, SourceError


def everything(source):
    return source.read(np.arange(len(source)))


def test_windows_of_a_recording(rng):
    recording = rng.normal(size=(23, 2))
    source = windows(recording, length=8, hop=5)
    assert source.extents[:, 1].tolist() == [0, 5, 10, 15]
    assert source.schema.shape == (8, 2)
    assert source.schema.network_shape == (2, 8)
    result = source.read(np.array([3, 0]))
    np.testing.assert_array_equal(result, [recording[15:23], recording[:8]])


def test_the_hop_is_half_a_window_by_default():
    assert windows(np.arange(20.0), length=8).extents[:, 1].tolist() == [0, 4, 8, 12]
    assert windows(np.arange(6.0), length=3).extents[:, 1].tolist() == [0, 1, 2, 3]


def test_one_channel_needs_no_axis():
    source = windows(np.arange(9.0), length=4, hop=4)
    assert source.schema.shape == (4,)
    assert everything(source).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [5, 6, 7, 8]]
    assert windows(np.arange(9.0)[:, None], length=4).schema.shape == (4, 1)


def test_windows_lie_in_no_memory_of_their_own(tmp_path, rng):
    recording = rng.normal(size=(1000, 2))
    np.save(tmp_path / "a.npy", recording)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    for given in (recording, mapped):
        source = windows(given, length=100, hop=1)
        assert np.shares_memory(source.parts[0].values, given)
    source = windows(tmp_path / "a.npy", length=100, hop=1)
    assert isinstance(source.parts[0].values, np.memmap)
    np.testing.assert_array_equal(source.read(np.array([17]))[0], recording[17:117])


def test_several_recordings_end_where_they_end(rng):
    recordings = [rng.normal(size=n) for n in (10, 4, 7)]
    source = windows(recordings, length=4, hop=4)
    assert source.extents.tolist() == [
        *([0, 0, 4], [0, 4, 8], [0, 6, 10]),
        *([1, 0, 4], [2, 0, 4], [2, 3, 7]),
    ]
    back = source.restore(everything(source))
    for recording, other in zip(back, recordings, strict=True):
        np.testing.assert_allclose(recording, other, rtol=1e-14)
    cube = rng.normal(size=(3, 9, 2))
    assert len(windows(cube, length=3, hop=3)) == 9


FORMS = {
    "array": lambda x: x,
    "integers": lambda x: np.rint(100 * x).astype("int16"),
    "big-endian": lambda x: x.astype(">f4"),
    "tensor": torch.from_numpy,
    "pandas": lambda x: pd.DataFrame(x, columns=["lead I", "lead II"]),
    "polars": lambda x: pl.DataFrame({"a": x[:, 0], "b": np.arange(len(x), dtype="int32") % 7}),
}


@pytest.mark.parametrize("form", FORMS)
def test_recordings_come_back_as_what_they_were(form, rng):
    given = FORMS[form](rng.normal(size=(50, 2)))
    source = windows(given, length=12, hop=5)
    back = source.restore(everything(source))
    assert type(back) is type(given)
    if isinstance(given, (pd.DataFrame, pl.DataFrame)):
        assert list(back.columns) == list(given.columns)
        assert list(back.dtypes) == list(given.dtypes)
    else:
        assert back.dtype in (given.dtype, np.dtype("float32"))
    np.testing.assert_allclose(np.asarray(back), np.asarray(given), rtol=1e-6)
    recording = windows(FORMS["array"](rng.normal(size=30)), length=5)
    assert recording.restore(everything(recording)).shape == (30,)


def test_channels_have_their_names():
    frame = pd.DataFrame({"a": np.arange(6.0), "b": np.arange(6.0)})
    schema = windows(frame, length=2, hop=2).schema
    assert schema.feature_names() == ("0,a", "0,b", "1,a", "1,b")
    assert schema.recording.sample.names == ("a", "b")


@pytest.mark.parametrize("given", [np.arange(9.0), pd.DataFrame({"a": np.arange(9.0) / 2})])
def test_a_schema_remembers_how_rows_were_cut(given):
    for source in (windows(given, length=4, hop=3), series([given, given[:5]])):
        written = json.loads(json.dumps(source.schema.to_json()))
        assert schema_from_json(written) == source.schema


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"hop": 5}, "hop 5 with windows of 4"),
        ({"hop": True}, "hop True"),
        ({"flat": False}, "recordings of"),
        ({"flat": 1}, "recordings of"),
    ],
)
def test_a_schema_that_was_tampered_with_is_refused(change, what):
    written = windows(np.arange(9.0), length=4).schema.to_json()
    written["recording"] |= change
    with pytest.raises(ArtifactError, match=what):
        schema_from_json(written)


@pytest.mark.parametrize(
    ("length", "hop", "message"),
    [
        (1, None, "a window of 1 samples: give a whole number from 2 on"),
        (2.5, None, "a window of 2.5 samples"),
        (True, None, "a window of True"),
        (4, 0, "every 0: give a hop from 1 to 4, so that every sample is in a window"),
        (4, 5, "every 5: give a hop from 1 to 4"),
    ],
)
def test_windows_that_make_no_sense(length, hop, message):
    with pytest.raises(RequestError, match=message):
        windows(np.arange(9.0), length=length, hop=hop)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.arange(7.0), r"^X: 7 samples, fewer than the window of 8; fit with a shorter window"),
        ([np.zeros(9), np.zeros(1)], r"^X\[1\]: 1 sample, fewer than the window of 8"),
        ([np.zeros(9), np.zeros((9, 2))], r"^X\[1\]: has 2 channels, and X\[0\] has 1 channel;"),
        ([], r"^X: the list holds no recording"),
        (np.zeros((2, 2, 2, 2)), r"^X: an array of shape \(2, 2, 2, 2\) is not a recording"),
        ([np.zeros(0)], r"^X\[0\]: holds no samples"),
        (
            pd.DataFrame({"t": pd.date_range("2020", periods=9), "a": np.arange(9.0)}),
            r"^X: column 't' is datetime, .*drop=\['t'\]",
        ),
    ],
)
def test_recordings_that_cannot_be_cut(given, message):
    with pytest.raises(DataError, match=message) as caught:
        windows(given, length=8)
    assert not isinstance(caught.value, SourceError)
    assert "\n" not in str(caught.value)


def test_a_message_names_the_recording_and_the_sample():
    recordings = [np.zeros(20), np.zeros(20)]
    recordings[1][13] = np.inf
    with pytest.raises(DataError, match=r"^X\[1\]: 1 value in 1 row .* is at row 13, counting"):
        check_rows(windows(recordings, length=5), allow_missing=True)


def test_a_moment_of_which_no_row_knows_anything_is_refused(rng):
    rows = rng.normal(size=(9, 4))
    rows[:, 2] = np.nan
    with pytest.raises(
        DataError, match=r"'2' has no value at all .*; cut it off all rows, or give"
    ):
        check_rows(series(list(rows)), allow_missing=True)


def test_files_of_all_kinds(tmp_path, rng):
    values = rng.normal(size=(30, 2))
    np.save(tmp_path / "a.npy", values)
    np.savetxt(tmp_path / "a.csv", values, "%.17g", ",", header="u,v", comments="")
    pl.DataFrame(values, schema=["u", "v"]).write_parquet(tmp_path / "a.parquet")
    np.savez(tmp_path / "a.npz", values=values)
    np.save(tmp_path / "flat.npy", values[:, 0])
    for name in ("a.npy", "a.csv", "a.parquet", "a.npz"):
        source = windows(tmp_path / name, length=10)
        np.testing.assert_array_equal(source.read(np.array([1]))[0], values[5:15])
        assert source.origin == str(tmp_path / name)
    assert windows(tmp_path / "flat.npy", length=10).schema.shape == (10,)
    assert windows(tmp_path / "a.csv", length=10, drop="u").schema.shape == (10, 1)


def test_a_folder_or_an_archive_holds_several(tmp_path, rng):
    recordings = {"b": rng.normal(size=12), "a": rng.normal(size=30)}
    np.savez(tmp_path / "all.npz", **recordings)
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, values in recordings.items():
        np.save(folder / f"{name}.npy", values)
    packed = windows(tmp_path / "all.npz", length=10, hop=10)
    assert packed.lengths == [12, 30]
    assert [part.origin for part in packed.parts] == [f"{tmp_path}/all.npz:{n}" for n in "ba"]
    loose = windows(folder, length=10, hop=10)
    assert loose.lengths == [30, 12]
    assert loose.origin == str(folder)
    np.save(folder / "c.npy", np.zeros(3))
    with pytest.raises(SourceError, match=rf"^{folder}/c\.npy: 3 samples, fewer than the window"):
        windows(folder, length=10)
    (folder / "notes.txt").write_text("beats")
    with pytest.raises(SourceError, match=r"holds notes\.txt, which is not a recording"):
        windows(folder, length=2)


def test_an_empty_folder_holds_no_recording(tmp_path):
    with pytest.raises(SourceError, match="there is no recording in this folder"):
        windows(tmp_path, length=2)


def test_series_are_padded_with_missing_values():
    source = series([np.arange(3), np.arange(5)])
    np.testing.assert_array_equal(everything(source)[0], [0, 1, 2, np.nan, np.nan])
    assert everything(source)[1].tolist() == [0, 1, 2, 3, 4]
    assert source.remarks == ("series of 3 to 5 samples",)
    back = source.restore(everything(source))
    assert [recording.tolist() for recording in back] == [[0, 1, 2], [0, 1, 2, 3, 4]]
    assert back[0].dtype == np.arange(3).dtype


def test_lists_of_arrays_of_different_lengths_are_series():
    assert is_series([np.zeros(3), np.zeros(4)])
    assert is_series([np.zeros((3, 2)), np.zeros((4, 2))])
    assert not is_series([np.zeros(3), np.zeros(3)])
    assert not is_series([[1, 2], [3]])
    assert not is_series(np.zeros((2, 3)))
    result = open_source([np.zeros((3, 2)), np.zeros((4, 2))])
    assert result.schema.shape == (4, 2)


def test_padding_is_not_counted_as_missing(rng):
    rows = [rng.normal(size=(n, 2)) for n in (4, 6, 6, 5)]
    source = series(rows)
    everywhere, ones = np.arange(4), np.ones(4)
    fitted = fit_preparation(source, everywhere, ones)
    assert fitted.missing == ()
    assert fitted.allow_missing
    assert fitted.remarks == ("series of 4 to 6 samples",)
    assert count_missing(source) == 0
    rows[1][5, 0] = np.nan  # one of the two that there are so late
    fitted = fit_preparation(series(rows), everywhere, ones)
    missing = np.zeros((6, 2))
    missing[5, 0] = 1 / 2
    np.testing.assert_allclose(np.reshape(fitted.missing, (6, 2)), missing)
    assert "4.2% of the values are missing, in 1 feature, most in '5,0' (50.0%)" in str(
        fitted.remarks
    )
    assert count_missing(series(rows)) == 1


def test_unlike_channels_are_scaled_each_by_itself(rng):
    millivolts = {name: rng.normal(size=400) for name in ("I", "II")}
    frame = pd.DataFrame(millivolts | {"bpm": 60 + 90 * rng.normal(size=400)})
    source = windows(frame, length=4, hop=4)
    rows = np.arange(len(source))
    fitted = fit_preparation(source, rows, np.ones(len(rows)))
    assert fitted.scaling == "standard"
    scale = np.reshape(fitted.scale, (4, 3))
    np.testing.assert_allclose(scale, np.tile(scale[0], (4, 1)))
    pooled = everything(source).var(axis=0).mean(axis=0) ** 0.5
    np.testing.assert_allclose(scale[0], pooled)


def test_later_recordings_are_cut_as_those_of_the_fit():
    frame = pd.DataFrame({"a": np.arange(12.0) / 3, "b": np.arange(12.0) / 7})
    schema = windows(frame, length=4, hop=3).schema
    swapped = cut_like(schema, frame[["b", "a"]])
    np.testing.assert_array_equal(everything(swapped), everything(cut_like(schema, frame)))
    assert swapped.extents[:, 1].tolist() == [0, 3, 6, 8]
    recut = align(windows(frame, length=6), schema)
    assert recut.schema.shape == (4, 2)
    as_table = align(open_source(frame), schema)
    np.testing.assert_array_equal(everything(as_table), everything(swapped))
    with pytest.raises(DataError, match=r"has 3 channels, .* fitted on recordings of 2 channels"):
        cut_like(schema, np.zeros((9, 3)))
    with pytest.raises(DataError, match="missing 'b'"):
        cut_like(schema, frame.rename(columns={"b": "c"}))


def test_a_longer_series_than_any_of_the_fit_is_refused():
    schema = series([np.zeros(3), np.zeros(5)]).schema
    with pytest.raises(DataError, match=r"^X\[1\]: 6 samples, and the longest series .* has 5;"):
        cut_like(schema, [np.zeros(5), np.zeros(6)])
    assert everything(cut_like(schema, np.zeros(2))).shape == (1, 5)


def test_what_is_filled_in_stays_outside_to_the_bit(rng):
    recording = rng.normal(size=(40, 2))
    holes = rng.random(recording.shape) < 0.1
    given = np.where(holes, np.nan, recording)
    source = windows(given, length=8)
    filled = fill(source, np.zeros((len(source), 8, 2)))
    np.testing.assert_array_equal(filled, np.where(holes, 0.0, recording))
    assert count_missing(source) == holes.sum()
    frame = pl.DataFrame({"a": [1, None, 3, 4]})
    filled = fill(windows(frame, length=2, hop=1), np.full((3, 2, 1), 7.0))
    assert filled["a"].to_list() == [1, 7, 3, 4]
    assert filled["a"].dtype == pl.Int64


def test_codes_alone_make_a_recording_of_whole_hops(rng):
    schema = windows(np.zeros((20, 2)), length=6, hop=4).schema
    rows = rng.normal(size=(4, 6, 2))
    assert recordings_from_rows(rows, schema).shape == (3 * 4 + 6, 2)
    assert recordings_from_rows(rows, schema, 17).shape == (17, 2)
    np.testing.assert_allclose(recordings_from_rows(rows, schema, 17)[-1], rows[-1, -1])
    pair = recordings_from_rows(rows, schema, [10, 7])
    assert [recording.shape for recording in pair] == [(10, 2), (7, 2)]
    assert recordings_from_rows(rows[:0], schema).shape == (0, 2)
    for lengths, message in (
        (19, "4 codes do not make recordings of 19 samples, which have 5"),
        ([10], "4 codes do not make recordings of 10 samples, which have 2"),
        ([10, 3], r"lengths\[1\]: 3 samples, fewer than the window of 6"),
    ):
        with pytest.raises(DataError, match=message):
            recordings_from_rows(rows, schema, lengths)


def test_codes_alone_make_series_of_full_length(rng):
    schema = series([np.zeros(3), np.zeros(5)]).schema
    rows = rng.normal(size=(2, 5))
    np.testing.assert_allclose(recordings_from_rows(rows, schema), rows)
    assert [len(recording) for recording in recordings_from_rows(rows, schema, [2, 5])] == [2, 5]
    assert recordings_from_rows(rows[:1], schema, 4).shape == (4,)
    assert recordings_from_rows(rows[:0], schema) == []
    with pytest.raises(DataError, match=r"lengths\[0\]: 6 samples, and the longest series"):
        recordings_from_rows(rows, schema, [6, 2])


def test_parquet_recordings_keep_their_dtypes(tmp_path):
    frame = pl.DataFrame({"a": np.arange(9, dtype="int16") % 5, "b": np.arange(9.0) / 2})
    frame.write_parquet(tmp_path / "a.parquet")
    source = windows(tmp_path / "a.parquet", length=4)
    back = source.restore(everything(source))
    assert back.schema == pq.read_table(tmp_path / "a.parquet").schema


@pytest.mark.parametrize("lengths", [95, 95.0, np.int64(95), np.array(95), np.float32(95)])
def test_one_length_is_a_number_of_any_type(lengths):
    values = np.arange(95.0)
    source = windows(values, length=10)
    back = recordings_from_rows(source.read(np.arange(len(source))), source.schema, lengths)
    np.testing.assert_allclose(back, values)


@pytest.mark.parametrize("lengths", ["a", 9.5, ["a"], [95, 1.5], True, [[95]], {}, [], np.nan])
def test_lengths_that_are_none_are_refused_in_words(lengths):
    source = windows(np.arange(95.0), length=10)
    with pytest.raises(RequestError, match="lengths="):
        recordings_from_rows(source.read(np.arange(len(source))), source.schema, lengths)


@pytest.mark.parametrize("number", [float, int, np.float64, np.array, torch.tensor])
def test_a_list_of_numbers_is_a_recording(number):
    source = windows([number(i) for i in range(30)], length=10)
    expected = np.arange(30)[5 * np.arange(5)[:, None] + np.arange(10)]
    np.testing.assert_array_equal(source.read(np.arange(len(source))), expected)


def test_a_list_of_numbers_and_lists_is_refused_in_words():
    with pytest.raises(DataError, match="X: the samples differ in their number of channels"):
        windows([1.0, [2.0, 3.0]] * 20, length=10)
