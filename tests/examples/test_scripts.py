"""The scripts in examples/ run on a small part of what they show, and what they print is right."""

import re
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
PENGUINS = EXAMPLES / "penguins" / "penguins.csv"
SCRIPTS = ("adult_codes", "anomaly_hunt", "ecg_recording")
FIGURE = re.compile(r"-?\d+(?:\.\d+)?|nan|inf")


@pytest.fixture(scope="module", params=SCRIPTS)
def script(request):
    return request.param


def parts(name):
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


@pytest.fixture
def run(capsys):
    def printed(name, *argv):
        assert parts(name)["main"]([str(value) for value in argv]) == 0
        out = capsys.readouterr().out
        assert not re.search(r"\b(nan|inf)\b", out)
        assert max(map(len, out.splitlines())) <= 160
        return out

    return printed


def figures(out, name):
    """The figures in each line that begins with this name."""
    lines = [line for line in out.splitlines() if line.startswith(name + " ")]
    found = [[float(value) for value in FIGURE.findall(line[len(name) :])] for line in lines]
    return list(filter(None, found))  # not a heading


def test_no_script_is_without_a_test():
    assert tuple(sorted(path.stem for path in EXAMPLES.glob("*.py"))) == SCRIPTS


def test_each_says_how_it_is_run(script, capsys):
    found = parts(script)
    assert f"python examples/{script}.py" in found["__doc__"]
    with pytest.raises(SystemExit) as left:
        found["main"](["--help"])
    assert left.value.code == 0
    assert "--rows" in capsys.readouterr().out


def test_codes_of_a_table(run):
    out = run("adult_codes", "--rows", 300)
    assert "225 training rows, 75 test rows" in out
    (raw,) = figures(out, "raw table")
    (_, *pca), back_of_pca = figures(out, "PCA")
    (_, *codes), back = figures(out, "autoencoder")
    for judged in (raw[1:], pca, codes):
        assert len(judged) == 4
        assert all(0.5 < share <= 1 for share in judged)
    assert raw[2] > 0.9  # bill and mass differ between the sexes
    usual = figures(out, "mean, mode")[0]
    for error, right in (back_of_pca, back):
        assert error < usual[0]
        assert right > usual[1]
    assert 0.7 < usual[0] < 1.4  # the mean's error is the variance


def test_codes_of_a_table_as_uci_has_it(run, tmp_path):
    rng, n = np.random.default_rng(0), 120
    rich = rng.random(n) < 0.4
    age = 30 + 20 * rich + rng.integers(0, 10, n)
    word = np.where(rich, "Private", "?")
    lines = [
        f"{a}, {w}, 7, HS-grad, {9 + r % 2}, Single, Sales, Own-child, White, Male, 0, {r % 5}, "
        f"{40 + r % 7}, Cuba, {'>50K' if yes else '<=50K'}\n"
        for a, w, yes, r in zip(age, word, rich, rng.integers(0, 100, n), strict=True)
    ]
    path = tmp_path / "adult.data"
    path.write_text("".join(lines) + "\n", encoding="utf-8")
    rows, truth, _ = parts("adult_codes")["read"](path, 1000)
    assert rows.shape == (n, 13)
    assert list(truth.sort_index()) == list(rich)
    assert rows.isna().sum().sum() == (~rich).sum()
    assert "Who earns more" in run("adult_codes", path, "--components", 2)


def test_pca_of_one_hot_columns_gives_the_table_back():
    rows = pd.read_csv(PENGUINS).dropna().reset_index(drop=True)
    whole = parts("adult_codes")["OneHotPCA"](rows, 13)
    pd.testing.assert_frame_equal(
        whole.reconstruct(rows)[rows.columns], rows, check_dtype=False, rtol=1e-9
    )
    assert whole.one_hot(rows).shape == (len(rows), 5 + 3 + 3 + 2)


def test_a_recording(run):
    out = run("ecg_recording", "--rows", 160)
    assert out.startswith("A synthetic recording: 2.1 minutes")
    assert "trained on the first 160" in out
    (pca,), (ours,), (mean,) = (figures(out, n) for n in ("PCA", "autoencoder", "mean"))
    for ours_is, pca_is, mean_is in zip(ours, pca, mean, strict=True):
        assert ours_is <= pca_is * 1.01  # with so few windows at worst the PCA it starts from
        assert pca_is < mean_is
    beats = re.findall(r"^ +\d+:\d\d +\d\.\d{4}  (.*)$", out, flags=re.MULTILINE)
    assert len(beats) == 10
    assert all("ventricular" in beat for beat in beats[:2])
    assert figures(out, "ventricular")[0][0] == 5  # beats 20, 50, 80, 110, 140
    assert figures(out, "normal")[0][0] == 155


def words_of(*marks):
    """Annotations as PhysioNet packs them: (code, value), or a word as it is."""
    words = [mark if isinstance(mark, int) else mark[0] << 10 | mark[1] for mark in marks]
    return np.array([*words, 0], "<u2").tobytes()


def test_signals_are_decoded_to_the_bit(tmp_path):
    samples = np.random.default_rng(0).integers(-2048, 2048, (500, 2))
    samples[:2] = [(-2048, 2047), (-1, 0)]
    bits = samples & 0xFFF
    packed = b"".join(bytes([a & 0xFF, a >> 8 | (b >> 8) << 4, b & 0xFF]) for a, b in bits.tolist())
    (tmp_path / "1.dat").write_bytes(packed)
    read = parts("ecg_recording")["read_signal"](tmp_path / "1.dat")
    np.testing.assert_array_equal(np.rint(read * 200 + 1024), samples)


def test_annotations_are_decoded(tmp_path):
    # A note of five letters, a normal beat, a change of rhythm, 70,000 samples, two abnormal beats.
    letters = [int.from_bytes(b"(N", "little")] * 3
    path = tmp_path / "1.atr"
    path.write_bytes(
        words_of((28, 18), (63, 5), *letters, (1, 59), (59, 0), 1, 4464, (5, 3), (60, 1), (8, 1023))
    )
    read = parts("ecg_recording")["read_annotations"]
    assert read(path) == {
        77: "normal",
        77 + 70_000 + 3: "ventricular",
        77 + 70_000 + 3 + 1023: "atrial premature",
    }
    assert read(tmp_path / "none.atr") == {}


def test_a_recording_without_annotations(run, tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "1.dat").write_bytes(rng.integers(0, 256, 3 * 4000, dtype=np.uint8).tobytes())
    out = run("ecg_recording", tmp_path / "1.dat", "--rows", 20, "--components", 2)
    assert out.startswith("1.dat: 0.2 minutes, 31 windows")
    assert "median error" not in out


def test_an_anomaly_hunt(run):
    out = run("anomaly_hunt", "--rows", 300)
    assert out.startswith("300 rows of 30 columns")
    assert "confidence, at most 0.05 of rows like the training rows are flagged as outliers" in out
    named = re.search(r"first reason names the changed column in (\d+) of 10 rows", out)
    assert int(named[1]) >= 8
    assert "The saved detector predicts the same for every row." in out
    loose, strict = (figures(out, f"false_alarm_rate {rate}")[0] for rate in ("0.2", "0.05"))
    assert loose[0] > strict[0]
    outliers, precision, malignant, _, slips, _ = loose
    assert min(slips, malignant) >= 6
    assert slips + malignant >= 16
    assert round(100 * (malignant + slips) / outliers) == precision
    assert figures(out, "contamination 0.05")[0][0] == 15


def test_an_anomaly_hunt_in_another_table(run):
    out = run("anomaly_hunt", PENGUINS)
    assert "344 rows of 8 columns" in out
    first = out.split("reasons\n")[1].splitlines()[:10]
    assert all(" slip " in line for line in first)
    assert "10 of 10\n" in out
