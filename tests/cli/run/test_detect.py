"""`isthmus detect`: scores, words, thresholds and what is refused."""

import csv

import numpy as np
import pandas as pd
import pytest

from isthmus.cli import main

ODD = 7


@pytest.fixture
def people(tmp_path):
    draw = np.random.default_rng(0)
    height = draw.normal(170, 9, 300)
    frame = pd.DataFrame(
        {
            "height": height.round(1),
            "weight": (height * 0.9 - 85 + draw.normal(0, 3, 300)).round(1),
            "tall": np.where(height > 170, "yes", "no"),
        }
    )
    frame.loc[ODD, "weight"] = 140.0
    frame.to_csv(tmp_path / "people.csv", index=False)
    return tmp_path / "people.csv"


def rows_of(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_oddest_row_and_its_reason(isthmus, people, tmp_path):
    done = isthmus("detect", people, "-o", tmp_path / "odd.csv", "--explain", "--n-components", "2")
    assert done.code == 0, done.err
    rows = rows_of(tmp_path / "odd.csv")
    assert len(rows) == 300
    assert max(range(300), key=lambda i: float(rows[i]["score"])) == ODD
    assert rows[ODD]["outlier"] == "1"
    assert rows[ODD]["reason_1"].startswith("weight: 140 (expected ")
    told = [rows[ODD][f"reason_{i}"] for i in (1, 2, 3)]
    shares = [int(text.rsplit(" ", 1)[1].removesuffix("%")) for text in told if text]
    assert shares == sorted(shares, reverse=True)
    assert 50 < shares[0] <= sum(shares) <= 100
    assert f"row {ODD}, score" in done.err
    assert "confidence" in done.err


def test_a_kept_detector_judges_other_rows_alike(isthmus, people, tmp_path):
    first = ("detect", people, "-o", tmp_path / "a.csv", "--n-components", "2")
    assert isthmus(*first, "--save", tmp_path / "kept").code == 0
    again = ("detect", people, "-o", tmp_path / "b.csv", "--detector", tmp_path / "kept")
    done = isthmus(*again, "--contamination", "0.1")
    assert done.code == 0, done.err
    a, b = rows_of(tmp_path / "a.csv"), rows_of(tmp_path / "b.csv")
    assert [row["score"] for row in a] == [row["score"] for row in b]
    assert sum(int(row["outlier"]) for row in b) == 30


def test_rows_to_learn_from_may_be_others(isthmus, people, tmp_path):
    frame = pd.read_csv(people)
    frame.drop(index=ODD).to_csv(tmp_path / "clean.csv", index=False)
    frame.iloc[[ODD, ODD + 1]].to_csv(tmp_path / "new.csv", index=False)
    told = ("--train", tmp_path / "clean.csv", "--clean", "--n-components", "2")
    done = isthmus("detect", tmp_path / "new.csv", "-o", tmp_path / "odd.npy", *told)
    assert done.code == 0, done.err
    scores = np.load(tmp_path / "odd.npy")
    assert scores.shape == (2, 2)
    assert scores[:, 1].tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--detector", "kept", "--train", "people.csv"), "--detector and --train"),
        (("--detector", "kept", "--n-components", "2"), "--detector and --n-components"),
        (("--detector", "nothing"), "nothing: does not exist"),
        (("--contamination", "0.9"), "contamination=0.9 must be"),
        (("--confidence", "1"), "confidence=1.0 must be"),
        (("--save", "people.csv"), "is also the input"),
        (("--save", "nodir/kept"), "the folder nodir does not exist; create it first"),
    ],
)
def test_what_is_refused(isthmus, people, tmp_path, monkeypatch, options, told):
    monkeypatch.chdir(tmp_path)
    done = isthmus("detect", people, "-o", "odd.csv", *options)
    assert done.code == 2
    assert told in done.err
    assert done.err.strip().count("\n") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["people.csv"]


def test_words_need_a_table(isthmus, people, tmp_path):
    done = isthmus("detect", people, "-o", tmp_path / "odd.npy", "--explain")
    assert done.code == 2
    assert "cannot hold the text that --explain writes" in done.err


def test_a_page_is_drawn(isthmus, people, tmp_path):
    told = ("--n-components", "2", "--report", tmp_path / "odd.html")
    done = isthmus("detect", people, "-o", tmp_path / "odd.csv", *told)
    assert done.code == 0, done.err
    rows = len(pd.read_csv(people))
    assert f"wrote {tmp_path / 'odd.csv'}: scores of {rows} rows" in done.err
    assert "weight: 140 (expected" in (tmp_path / "odd.html").read_text(encoding="utf-8")
    again = isthmus("detect", people, "-o", tmp_path / "b.csv", *told)
    assert again.code == 2
    assert "odd.html" in again.err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--false-alarm-rate", "0"), "false_alarm_rate=0.0 must be"),
        (("--confidence", "0"), "confidence=0.0 must be"),
        (("--contamination", "0.1", "--false-alarm-rate", "0.1"), "both set the threshold"),
        (("--device", "nonsense"), "nonsense"),
        (("--detector", "kept", "--clean"), "--detector and --clean"),
        (("--detector", "kept", "--random-state", "3"), "--detector and --random-state"),
        (("--detector", "kept", "--drop", "tall"), "--detector and --drop"),
        (("--detector", "kept", "--window", "5"), "--detector and --window"),
        (("--save", "."), "is in the folder of --save"),
    ],
)
def test_what_would_be_of_no_effect_is_refused(
    isthmus, people, tmp_path, monkeypatch, options, told
):
    monkeypatch.chdir(tmp_path)
    done = isthmus("detect", people, "-o", "odd.csv", *options)
    assert done.code == 2
    assert told in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["people.csv"]


def test_results_do_not_go_where_the_detector_goes(isthmus, people, tmp_path):
    (tmp_path / "kept").mkdir()
    output = tmp_path / "kept" / "odd.csv"
    done = isthmus("detect", people, "-o", output, "--save", tmp_path / "kept")
    assert done.code == 2
    assert "is in the folder of --save" in done.err


def test_no_result_goes_into_a_folder_that_is_read(isthmus, table_model, table, tmp_path):
    pieces = tmp_path / "pieces"
    pieces.mkdir()
    pd.read_csv(table).to_parquet(pieces / "0.parquet")
    before = (pieces / "0.parquet").read_bytes()
    for name in ("0.parquet", "1.parquet"):
        done = isthmus("encode", table_model, pieces, "-o", pieces / name, "--force")
        assert done.code == 2
        assert "is in the input folder" in done.err
    assert (pieces / "0.parquet").read_bytes() == before


@pytest.fixture(scope="module")
def kept(table, tmp_path_factory):
    """A detector of `table`."""
    folder = tmp_path_factory.mktemp("kept")
    done = ("detect", table, "-o", folder / "s.csv", "--save", folder / "detector", "--quiet")
    assert main([str(word) for word in done]) == 0
    return folder / "detector"


def test_a_detector_given_for_a_model_is_told(expect_refusal, kept, table, codes, tmp_path):
    parts = ["detector: is a detector, not a model", "--detector"]
    for command in ("encode", "score", "impute", "decode"):
        data = codes if command == "decode" else table
        expect_refusal(command, kept, data, "-o", tmp_path / "o.csv", parts=parts)
    expect_refusal("info", kept, parts=parts)
    expect_refusal("report", kept, parts=parts)


def test_a_model_or_a_detector_given_for_rows_is_told(
    expect_refusal, kept, table, table_model, tmp_path
):
    out = ("-o", tmp_path / "o.csv")
    parts = ["model: is a model, but DATA must hold rows"]
    expect_refusal("detect", table_model, *out, parts=parts)
    expect_refusal("detect", table, "--train", table_model, *out, parts=parts)
    expect_refusal("encode", table_model, table_model, *out, parts=parts)
    expect_refusal("fit", table_model, "-o", tmp_path / "m", parts=parts)
    parts = ["detector: is a detector, but DATA must hold rows"]
    expect_refusal("detect", kept, *out, parts=parts)
    expect_refusal("detect", kept, "--detector", kept, *out, parts=parts)
