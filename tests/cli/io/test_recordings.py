"""Recordings on the command line: windows and series to codes and back to files as long as before.

As in test_round_trips, a code as wide as a row and no training is exact PCA, so that what comes
back must be what went in.
"""

import csv
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from isthmus import load
from isthmus.data import open_source

EXACT = ("--kind", "multilayer", "--max-epochs", "0", "--no-report")


def wave(samples, channels=2, seed=0):
    rng = np.random.default_rng(seed)
    return np.sin(np.arange(samples)[:, None] / (3 + np.arange(channels))) + 0.1 * rng.normal(
        size=(samples, channels)
    )


def save(path, values, header="I,II"):
    if path.suffix == ".csv":
        np.savetxt(path, values, "%.17g", ",", header=header, comments="")
    else:
        np.save(path, values)
    return path


def read(path):
    if path.suffix == ".csv":
        return np.loadtxt(path, delimiter=",", skiprows=1)
    return np.load(path)


@pytest.fixture
def trip(isthmus, tmp_path):
    """Fits, encodes and decodes; the path of what came back."""

    def run(data, back, *options, width, codes="codes.csv"):
        model, codes, back = tmp_path / "model", tmp_path / codes, tmp_path / back
        fit = ("fit", data, "-o", model, "--n-components", width, *EXACT, *options)
        encode, decode = ("encode", model, data, "-o", codes), ("decode", model, codes, "-o", back)
        for command in (fit, encode, decode):
            done = isthmus(*command)
            assert done.code == 0, done
        return back

    return run


@pytest.mark.parametrize("samples", [90, 97])
@pytest.mark.parametrize(("suffix", "codes"), [(".csv", "c.csv"), (".npy", "c.parquet")])
def test_a_recording_comes_back_in_its_length(trip, tmp_path, samples, suffix, codes):
    values = wave(samples)
    data = save(tmp_path / f"a{suffix}", values)
    back = trip(data, f"b{suffix}", "--window", 6, "--hop", 4, width=12, codes=codes)
    np.testing.assert_allclose(read(back), values, atol=1e-4)
    if suffix == ".csv":
        assert back.read_text().splitlines()[0] == '"I","II"'


def test_one_channel_has_no_axis(trip, tmp_path):
    values = wave(91)[:, 0]
    np.save(tmp_path / "a.npy", values)
    back = trip(tmp_path / "a.npy", "b.npy", "--window", 6, width=6)
    np.testing.assert_allclose(np.load(back), values, atol=1e-4)


def test_codes_stand_beside_where_their_windows_begin(trip, tmp_path):
    trip(save(tmp_path / "a.csv", wave(91)), "b.csv", "--window", 10, width=3)
    with (tmp_path / "codes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["start"]) for row in rows] == [*range(0, 81, 5), 81]
    assert "recording" not in rows[0]


@pytest.mark.parametrize("several", ["folder", "archive"])
@pytest.mark.parametrize("back", ["back", "back.npz"])
def test_several_recordings_come_back_by_their_names(trip, tmp_path, several, back):
    recordings = {"north": wave(61), "east": wave(80, seed=1), "west": wave(6, seed=2)}
    data = tmp_path / ("all.npz" if several == "archive" else "all")
    if several == "archive":
        np.savez(data, **recordings)
    else:
        data.mkdir()
        for name, values in recordings.items():
            save(data / f"{name}.npy", values)
    made = trip(data, back, "--window", 6, width=12, codes="c.parquet")
    found = pq.read_table(tmp_path / "c.parquet")
    assert found.column_names[:2] == ["recording", "start"]
    if back == "back.npz":
        archive = np.load(made)
        arrays = {name: archive[name] for name in archive.files}
    else:
        arrays = {path.stem: np.load(path) for path in made.iterdir()}
    assert arrays.keys() == recordings.keys()
    for name, values in recordings.items():
        np.testing.assert_allclose(arrays[name], values, atol=1e-4)


def test_series_come_back_in_their_lengths(trip, tmp_path):
    series = {f"s{i}": wave(n, 1, seed=i)[:, 0] for i, n in enumerate([8, 12, *range(5, 13)] * 5)}
    np.savez(tmp_path / "a.npz", **series)
    back = trip(tmp_path / "a.npz", "b.npz", "--layout", "series", width=12)
    found = np.load(back)
    assert {name: len(found[name]) for name in found.files} == {
        name: len(values) for name, values in series.items()
    }
    with (tmp_path / "codes.csv").open() as file:
        first = next(csv.DictReader(file))
    assert (first["recording"], first["length"]) == ("s0", "8")


@pytest.fixture
def model(isthmus, tmp_path):
    """A model of windows of 10 samples of a.csv, and its codes."""
    data, path = save(tmp_path / "a.csv", wave(91)), tmp_path / "model"
    assert isthmus("fit", data, "-o", path, "--window", 10, "--n-components", 3, *EXACT).code == 0
    assert isthmus("encode", path, data, "-o", tmp_path / "codes.csv").code == 0
    return path


def test_errors_stand_beside_where_their_windows_begin(isthmus, model, tmp_path):
    done = isthmus("score", model, tmp_path / "a.csv", "-o", tmp_path / "s.csv")
    assert done.code == 0
    with (tmp_path / "s.csv").open() as file:
        rows = list(csv.DictReader(file))
    worst = max(rows, key=lambda row: float(row["error"]))
    start = int(worst["start"])
    assert f"at samples {start} to {start + 9} of {tmp_path}/a.csv" in done.err
    done = isthmus("score", model, tmp_path / "a.csv", "-o", tmp_path / "f.csv", "--by-feature")
    assert (tmp_path / "f.csv").read_text().startswith('"start","0,I","0,II","1,I"')


def test_an_error_for_each_sample(isthmus, expect_refusal, model, tmp_path):
    data, place = tmp_path / "a.csv", tmp_path / "s.parquet"
    assert isthmus("score", model, data, "-o", place, "--by-timestep").code == 0
    found = pq.read_table(place)
    assert found["timestep"].to_pylist() == list(range(91))
    expected = load(model).reconstruction_error(np.asarray(wave(91)), by="timestep")
    np.testing.assert_allclose(found["error"].to_numpy(), expected, rtol=1e-3, atol=1e-9)
    both = ("--by-timestep", "--by-feature")
    out = tmp_path / "t.csv"
    expect_refusal("score", model, data, "-o", out, *both, parts=["give one of them"])


def test_errors_by_timestep_are_for_recordings(expect_refusal, table, table_model, tmp_path):
    parts = ["--by-timestep: needs a model fitted on recordings", "--by-feature"]
    place = tmp_path / "t.csv"
    expect_refusal("score", table_model, table, "-o", place, "--by-timestep", parts=parts)


def test_gaps_are_filled_and_the_rest_stays(isthmus, tmp_path):
    values = wave(120)
    holes = np.random.default_rng(0).random(values.shape) < 0.05
    data = tmp_path / "a.npy"
    np.save(data, np.where(holes, np.nan, values))
    fit = ("fit", data, "-o", tmp_path / "m", "--window", 8, "--n-components", 4, *EXACT)
    assert isthmus(*fit).code == 0
    done = isthmus("impute", tmp_path / "m", data, "-o", tmp_path / "b.npy")
    told = f"1 recording of 120 samples of 2 channels, {holes.sum()} missing values filled in"
    assert told in done.err
    found = np.load(tmp_path / "b.npy")
    np.testing.assert_array_equal(found[~holes], values[~holes])
    assert np.isfinite(found).all()


def test_what_has_no_place_for_starts_says_what_decode_will_do(isthmus, model, tmp_path):
    done = isthmus("encode", model, tmp_path / "a.csv", "-o", tmp_path / "c.npy")
    assert "decode will assume one recording of 95 samples" in done.err
    done = isthmus("decode", model, tmp_path / "c.npy", "-o", tmp_path / "b.npy")
    assert "assuming one recording of 95 samples" in done.err
    assert np.load(tmp_path / "b.npy").shape == (95, 2)


def test_columns_are_matched_by_name_and_others_left_out(isthmus, model, tmp_path):
    values = wave(91)
    turned = np.column_stack([values[:, 1], np.arange(91) % 7, values[:, 0]])
    save(tmp_path / "t.csv", turned, header="II,other,I")
    done = isthmus("encode", model, tmp_path / "t.csv", "-o", tmp_path / "t-codes.csv")
    assert "ignored channels that the model was not fitted on: 'other'" in done.err
    assert (tmp_path / "t-codes.csv").read_text() == (tmp_path / "codes.csv").read_text()


def test_a_report_of_other_recordings(isthmus, model, tmp_path):
    data = save(tmp_path / "new.csv", wave(60, seed=3))
    done = isthmus("report", model, data, "-o", tmp_path / "page.html")
    assert done.code == 0, done
    assert "lead" not in done.err
    assert (tmp_path / "page.html").stat().st_size > 10_000


def test_compare_keeps_stretches_apart(isthmus, tmp_path):
    data = save(tmp_path / "a.csv", wave(900))
    done = isthmus(
        *("compare", data, "--window", 20, "--n-components", 2, "--kind", "multilayer"),
        *("--max-epochs", 2),
    )
    assert done.code == 0, done
    assert "windows are held out in whole segments" in done.out


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--window", 92), ["a.csv: 91 samples, fewer than the window of 92", "shorter window"]),
        (("--window", 1), ["a window of 1 samples", "from 2 on"]),
        (("--window", 10, "--hop", 11), ["every 11", "a hop from 1 to 10"]),
        (("--hop", 3), ["--hop: also give the window length with --window"]),
        (("--window", 10, "--layout", "image"), ["--layout image", "leave it out"]),
    ],
)
def test_bad_windows_are_refused(expect_refusal, tmp_path, options, parts):
    data = save(tmp_path / "a.csv", wave(91))
    expect_refusal("fit", data, "-o", tmp_path / "m", *options, parts=parts)


def test_a_column_of_dates_is_no_channel(expect_refusal, tmp_path):
    lines = [f"2024-01-{day:02d},{day % 3}" for day in range(1, 31)]
    (tmp_path / "d.csv").write_text("\n".join(["day,a", *lines]))
    parts = ["d.csv: column 'day' is datetime", "--drop day"]
    expect_refusal("fit", tmp_path / "d.csv", "-o", tmp_path / "m", "--window", 5, parts=parts)


def test_what_does_not_fit_the_model_is_refused(expect_refusal, model, tmp_path):
    save(tmp_path / "short.csv", wave(9))
    parts = ["short.csv: 9 samples, fewer than the window of 10"]
    for command in ("encode", "score"):
        place = tmp_path / "out.csv"
        expect_refusal(command, model, tmp_path / "short.csv", "-o", place, parts=parts)
    np.save(tmp_path / "three.npy", wave(30, 3))
    parts = ["three.npy: has 3 channels", "fitted on recordings of 2 channels"]
    expect_refusal(
        *("encode", model, tmp_path / "three.npy", "-o", tmp_path / "out.csv"), parts=parts
    )


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda rows: rows[:1] + rows[2:], "row 0, counting from 0, starts at 5, but 0 was"),
        (
            lambda rows: [*rows[:3], *rows[4:]],
            "window of row 2, counting from 0, starts at 15, but",
        ),
        (lambda rows: [rows[0], *rows[:0:-1]], "starts at 81"),
        (
            lambda rows: [*rows[:-1], f"{2**62},{rows[-1].split(',', 1)[1]}"],
            f"starts at {2**62}, but",
        ),
        (
            lambda rows: [rows[0], *("x" + row for row in rows[1:])],
            "column 'start' must hold whole numbers",
        ),
    ],
)
def test_codes_whose_windows_do_not_follow_one_another_are_refused(
    expect_refusal, model, tmp_path, change, part
):
    rows = (tmp_path / "codes.csv").read_text().splitlines()
    (tmp_path / "changed.csv").write_text("\n".join(change(rows)) + "\n")
    expect_refusal(
        *("decode", model, tmp_path / "changed.csv", "-o", tmp_path / "b.npy"),
        parts=["changed.csv: ", part],
    )


def test_several_recordings_need_a_place_each(isthmus, expect_refusal, tmp_path):
    np.savez(tmp_path / "all.npz", a=wave(30), b=wave(40))
    fit = ("fit", tmp_path / "all.npz", "-o", tmp_path / "m", "--window", 5, "--n-components", 2)
    assert isthmus(*fit, *EXACT).code == 0
    codes = tmp_path / "c.csv"
    assert isthmus("encode", tmp_path / "m", tmp_path / "all.npz", "-o", codes).code == 0
    parts = ["b.npy: holds one recording, and there are several", ".npz"]
    expect_refusal("decode", tmp_path / "m", codes, "-o", tmp_path / "b.npy", parts=parts)
    assert isthmus("decode", tmp_path / "m", codes, "-o", tmp_path / "back").code == 0
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == ["a.npy", "b.npy"]


NAMES = ["01", "NA", "1e5", "a.b.c", "null", "a"]


@pytest.mark.parametrize("codes", ["codes.csv", "codes.tsv", "codes.parquet"])
@pytest.mark.parametrize("layout", [("--window", 6), ("--layout", "series")])
@pytest.mark.parametrize("back", ["back", "back.npz"])
def test_names_that_look_like_numbers_or_gaps_survive(trip, tmp_path, codes, layout, back):
    recordings = {name: wave(6 + at, seed=at) for at, name in enumerate(NAMES)}
    np.savez(tmp_path / "all.npz", **recordings)
    made = trip(tmp_path / "all.npz", back, *layout, width=4, codes=codes)
    if back == "back":
        assert {path.name for path in made.iterdir()} == {f"{name}.npy" for name in NAMES}
        found = {path.name.removesuffix(".npy"): np.load(path) for path in made.iterdir()}
    else:
        found = dict(np.load(made))
    assert {name: len(one) for name, one in found.items()} == {
        name: len(one) for name, one in recordings.items()
    }


def test_files_with_dots_in_their_names_become_members_of_those_names(trip, tmp_path):
    (tmp_path / "all").mkdir()
    for name in ("a.b", "a.c", "a"):
        save(tmp_path / "all" / f"{name}.npy", wave(12))
    made = trip(tmp_path / "all", "back.npz", "--window", 6, width=12)
    assert set(np.load(made).files) == {"a.b", "a.c", "a"}


def test_members_whose_names_differ_in_a_suffix_alone_are_told_apart(trip, tmp_path):
    recordings = {"a": wave(60), "a.npy": wave(75, seed=1)}
    np.savez(tmp_path / "all.npz", **recordings)
    trip(tmp_path / "all.npz", "back.npz", "--window", 6, width=12, codes="c.parquet")
    for name, values in recordings.items():
        back = open_source(tmp_path / "back.npz", member=name)
        np.testing.assert_allclose(back.read(np.arange(len(back))), values, atol=1e-4)


@pytest.mark.parametrize("command", ["decode", "impute"])
def test_force_replaces_a_folder_of_recordings(isthmus, expect_refusal, tmp_path, command):
    np.savez(tmp_path / "all.npz", a=wave(30), b=wave(40))
    fit = ("fit", tmp_path / "all.npz", "-o", tmp_path / "m", "--window", 5, "--n-components", 2)
    assert isthmus(*fit, *EXACT).code == 0
    assert (
        isthmus("encode", tmp_path / "m", tmp_path / "all.npz", "-o", tmp_path / "c.csv").code == 0
    )
    again = (command, tmp_path / "m", tmp_path / ("c.csv" if command == "decode" else "all.npz"))
    again = (*again, "-o", tmp_path / "back")
    assert isthmus(*again).code == 0
    save(tmp_path / "back" / "old.csv", wave(3))
    expect_refusal(*again, parts=["back: already exists", "--force"])
    assert isthmus(*again, "--force").code == 0
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == ["a.npy", "b.npy"]
    (tmp_path / "back" / "000000.png").write_bytes(b"no recording")
    expect_refusal(*again, "--force", parts=["holds 000000.png, which is not a recording"])


def test_what_is_written_is_counted_in_samples(isthmus, model, tmp_path):
    done = isthmus("decode", model, tmp_path / "codes.csv", "-o", tmp_path / "b.csv", "--json")
    assert "b.csv: 1 recording of 91 samples of 2 channels\n" in done.err
    facts = json.loads(done.out)
    assert (facts["rows"], facts["columns"]) == (91, 2)
    (tmp_path / "two").mkdir()
    for name, samples in {"a.csv": 91, "b.csv": 20}.items():
        save(tmp_path / "two" / name, wave(samples))
    codes = tmp_path / "two-codes.csv"
    assert isthmus("encode", model, tmp_path / "two", "-o", codes).code == 0
    done = isthmus("decode", model, codes, "-o", tmp_path / "back")
    assert "back: 2 recordings of 111 samples of 2 channels in all\n" in done.err
