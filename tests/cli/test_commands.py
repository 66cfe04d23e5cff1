"""What each command writes and says, against the library's own answers and plain readers."""

import json
import shutil

import numpy as np
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

import isthmus as library
from isthmus.data.splitting import holdout

TINY = ("--n-components", "2", "--max-epochs", "1")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A CSV of numbers with a column of text and one of whole numbers."""
    random = np.random.default_rng(0)
    kinds = random.choice(["ant", "bee"], 50)
    rows = [f"{k},{i % 3},{x:.3f},{y:.3f}" for i, (k, x, y) in
            enumerate(zip(kinds, *random.normal(size=(2, 50)), strict=True))]  # fmt: skip
    path = tmp_path_factory.mktemp("mixed") / "mixed.csv"
    path.write_text("\n".join(["kind,group,x,y", *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def reported(mixed, tmp_path_factory):
    """A model of `mixed` with its report."""
    from isthmus.cli import main

    model = tmp_path_factory.mktemp("reported") / "model"
    assert main(["fit", str(mixed), "-o", str(model), *TINY, "--color", "kind", "-q"]) == 0
    return model


def test_fit_leaves_one_folder_with_everything(reported):
    names = sorted(path.name for path in reported.iterdir())
    assert names == [
        *("history.jsonl", "model.json", "report.html", "report.json", "weights.safetensors")
    ]
    assert [path.name for path in reported.parent.iterdir()] == ["model"]
    assert (reported / "report.html").read_text().lower().startswith("<!doctype html>")
    assert isinstance(json.loads((reported / "report.json").read_text()), dict)


def test_fit_tells_people_on_stderr_and_machines_on_stdout(isthmus, tmp_path, table):
    done = isthmus("fit", table, "-o", tmp_path / "model", *TINY)
    assert done.code == 0
    assert done.out == ""
    assert "PCA" in done.err
    assert f"wrote {tmp_path}/model/report.html" in done.err
    done = isthmus("fit", table, "-o", tmp_path / "again", *TINY, "--json", "--quiet")
    assert done.err == ""
    facts = json.loads(done.out)
    assert facts["model"] == str(tmp_path / "again")
    assert facts["n_components"] == 2
    assert facts["rows"] == 40


@pytest.mark.parametrize(
    "command", ["fit", "encode", "decode", "score", "compare", "report", "info"]
)
def test_quiet_prints_results_only(isthmus, tmp_path, table, table_model, codes, command):
    arguments = {
        "fit": (table, "-o", tmp_path / "out", *TINY),
        "encode": (table_model, table, "-o", tmp_path / "out.csv"),
        "decode": (table_model, codes, "-o", tmp_path / "out.csv"),
        "score": (table_model, table, "-o", tmp_path / "out.csv"),
        "compare": (table, *TINY, "-o", tmp_path / "out.json"),
        "report": (table_model, table, "-o", tmp_path / "out.html"),
        "info": (table_model,),
    }[command]
    done = isthmus(command, *arguments, "--quiet")
    assert (done.code, done.err) == (0, "")
    assert bool(done.out) == (command in ("compare", "info"))
    assert command == "info" or len(list(tmp_path.iterdir())) == 1


def test_the_same_seed_gives_the_same_weights(isthmus, tmp_path, table):
    fit = ("fit", table, *TINY, "--no-report", "--penalty", "l1=0.01", "-q")
    for name, seed in {"a": 1, "b": 1, "c": 2}.items():
        assert isthmus(*fit, "-o", tmp_path / name, "--random-state", seed).code == 0
    a, b, c = ((tmp_path / name / "weights.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_a_text_column_that_colours_is_left_out(isthmus, reported, mixed, tmp_path):
    with_pandas_metadata = json.loads((reported / "model.json").read_text())
    assert with_pandas_metadata["preparation"]["schema"]["names"] == ["group", "x", "y"]
    done = isthmus("encode", reported, mixed, "-o", tmp_path / "codes.npy")
    assert done.code == 0
    assert "ignored columns that the model was not fitted on: 'kind'" in done.err


def test_a_number_column_that_colours_is_learned_too(isthmus, mixed, tmp_path):
    fit = ("fit", mixed, "-o", tmp_path / "model", *TINY, "--drop", "kind", "--color", "group")
    assert isthmus(*fit).code == 0
    with_pandas_metadata = json.loads((tmp_path / "model" / "model.json").read_text())
    assert with_pandas_metadata["preparation"]["schema"]["names"] == ["group", "x", "y"]


def test_a_dropped_column_can_colour(isthmus, mixed, tmp_path):
    fit = ("fit", mixed, "-o", tmp_path / "model", *TINY, "--drop", "kind,group")
    assert isthmus(*fit, "--color", "group").code == 0


def test_labels_from_a_file(isthmus, table, tmp_path):
    np.save(tmp_path / "labels.npy", np.arange(40) % 4)
    np.save(tmp_path / "few.npy", np.arange(7))
    fit = ("fit", table, "-o", tmp_path / "model", *TINY, "--color")
    done = isthmus(*fit, tmp_path / "few.npy")
    assert done.code == 2
    assert "holds 7 labels for 40 rows" in done.err
    assert isthmus(*fit, tmp_path / "labels.npy").code == 0


def test_validation_rows_of_their_own(isthmus, table, tmp_path):
    lines = table.read_text().splitlines()
    (tmp_path / "held.csv").write_text("\n".join(["d,c,b,a", *lines[1:20]]) + "\n")
    fit = ("fit", table, *TINY, "--no-report", "--json", "--penalty", "l1=0.01", "--validation")
    done = isthmus(*fit, tmp_path / "held.csv", "-o", tmp_path / "model")
    assert done.code == 0
    assert json.loads(done.out)["training_rows"] == 40
    done = isthmus(*fit, "0.25", "-o", tmp_path / "other")
    assert json.loads(done.out)["validation_rows"] == 10


def test_encode_is_transform_block_by_block(isthmus, table, table_model, tmp_path, monkeypatch):
    monkeypatch.setattr(holdout, "BLOCK_BYTES", 7 * 4 * 8)  # seven rows
    done = isthmus("encode", table_model, table, "-o", tmp_path / "codes.parquet", "--json")
    assert json.loads(done.out)["rows"] == 40
    found = pq.read_table(tmp_path / "codes.parquet")
    ae = library.load(table_model)
    assert found.column_names == list(ae.get_feature_names_out())
    expected = ae.transform(pc.read_csv(table))
    np.testing.assert_allclose(np.stack(found.columns, axis=1), expected, rtol=1e-5, atol=1e-6)


def test_score(isthmus, table, table_model, tmp_path):
    done = isthmus("score", table_model, table, "-o", tmp_path / "rows.csv", "--json")
    assert done.code == 0
    rows = pc.read_csv(tmp_path / "rows.csv")
    assert rows.column_names == ["error"]
    by_feature = ("--by-feature", "-o", tmp_path / "features.csv")
    assert isthmus("score", table_model, table, *by_feature).code == 0
    features = pc.read_csv(tmp_path / "features.csv")
    assert features.column_names == ["a", "b", "c", "d"]
    per_value = np.stack(features.columns, axis=1)
    np.testing.assert_allclose(per_value.mean(axis=1), rows["error"], rtol=1e-5)
    ae = library.load(table_model)
    X = pc.read_csv(table)
    np.testing.assert_allclose(rows["error"], -ae.score_samples(X), rtol=1e-5)
    facts = json.loads(done.out)
    assert facts["mean_error"] == pytest.approx(-ae.score(X), rel=1e-5)
    assert facts["worst_row"] == int(np.argmin(ae.score_samples(X)))


def test_compare(isthmus, table, tmp_path):
    compare = ("compare", table, "--max-epochs", "1", "-o", tmp_path / "figures.json")
    done = isthmus(*compare)
    assert done.code == 0
    assert "PCA" in done.out
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [entry["components"] for entry in figures["entries"]] == [2]  # 8 and 32 are too wide
    done = isthmus(*compare, "--force", "--n-components", "1,3", "--json", "--quiet")
    assert json.loads(done.out) == json.loads((tmp_path / "figures.json").read_text())
    assert [entry["components"] for entry in json.loads(done.out)["entries"]] == [1, 3]


def test_compare_refuses_sizes_that_are_no_numbers(isthmus, table):
    done = isthmus("compare", table, "--n-components", "2,many")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "--n-components 2,many" in done.err


def test_report_draws_the_same_page_again(isthmus, reported, tmp_path):
    page = (reported / "report.html").read_bytes()
    (reported / "report.html").write_text("spoilt")
    assert isthmus("report", reported).code == 0
    assert (reported / "report.html").read_bytes() == page
    assert isthmus("report", reported, "-o", tmp_path / "page.html").code == 0
    assert (tmp_path / "page.html").read_bytes() == page
    assert isthmus("report", reported, "-o", tmp_path / "page.html").code == 2
    assert isthmus("report", reported, "-o", tmp_path / "page.txt").code == 2


@pytest.mark.parametrize("options", [("--missing", "?"), ("--device", "cpu"), ("--no-stream",)])
def test_report_without_data_refuses_options_for_reading(isthmus, reported, options):
    done = isthmus("report", reported, *options)
    assert done.code == 2
    assert "without DATA reads no rows" in done.err


def test_report_on_other_data(isthmus, reported, mixed, tmp_path):
    written = (reported / "report.json").read_bytes()
    page = ("-o", tmp_path / "page.html", "--color", "kind", "--json")
    done = isthmus("report", reported, mixed, *page)
    assert done.code == 0
    assert isinstance(json.loads(done.out), dict)
    assert (reported / "report.json").read_bytes() == written
    done = isthmus("report", reported, mixed)
    assert done.code == 2
    assert "--force" in done.err
    assert (reported / "report.json").read_bytes() == written
    assert isthmus("report", reported, mixed, "--force").code == 0


def test_report_beside_another_model(isthmus, mixed, table_model, tmp_path):
    model, other = tmp_path / "from_pca", tmp_path / "from_nowhere"
    page = tmp_path / "page.html"
    fit = ("fit", mixed, "--n-components", "2", "--max-epochs", "5", "--color", "kind")
    assert isthmus(*fit, "-o", model).code == 0
    assert isthmus(*fit, "-o", other, "--pretraining", "random").code == 0
    kept = (model / "report.json").read_bytes()
    assert isthmus("report", model, "--compare-with", other, "-o", page).code == 0
    assert "validation rows, from_nowhere, from random" in page.read_text()
    assert str(tmp_path) not in page.read_text()
    assert (model / "report.json").read_bytes() == kept
    done = isthmus("report", model, "--compare-with", table_model, "-o", page, "--force")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "table-model" in done.err


def test_report_beside_an_edited_one(isthmus, reported, tmp_path):
    other = tmp_path / "model"
    shutil.copytree(reported, other)
    (other / "report.json").write_text('{"format": 1}')
    done = isthmus("report", reported, "--compare-with", other, "-o", tmp_path / "page.html")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "holds no learning curve" in done.err


def test_report_of_a_fit_that_wrote_none(isthmus, table, table_model):
    done = isthmus("report", table_model)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "give data" in done.err
    done = isthmus("report", table_model, "--color", "a")
    assert done.code == 2
    assert "needs DATA" in done.err


def test_a_report_json_that_was_edited(isthmus, reported, tmp_path):
    for text in ("[]", "{", '{"format": 3}'):
        (tmp_path / "model").mkdir(exist_ok=True)
        for path in reported.iterdir():
            (tmp_path / "model" / path.name).write_bytes(path.read_bytes())
        (tmp_path / "model" / "report.json").write_text(text)
        done = isthmus("report", tmp_path / "model")
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert "report.json" in done.err


def test_info(isthmus, table_model):
    done = isthmus("info", table_model)
    assert (done.code, done.err) == (0, "")
    outcome = "PCA of all 40 rows, the 10 held out among them; training gained nothing over it"
    printed = " ".join(done.out.split())
    results = (f"outcome {outcome}", "validation_rows 10")
    for fact in ("Multilayer", "a, b, c, d", "torch", "n_components 2", *results):
        assert fact in printed
    facts = json.loads(isthmus("info", table_model, "--json").out)
    assert facts == json.loads((table_model / "model.json").read_text())


def test_info_lists_the_decisions_of_the_fit(isthmus, table_model, tmp_path):
    model = shutil.copytree(table_model, tmp_path / "model")
    description = json.loads((model / "model.json").read_text())
    decision = {"name": "kind", "value": "multilayer", "reason": "the rows are a table"}
    description["facts"]["decisions"] = [decision]
    (model / "model.json").write_text(json.dumps(description))
    lines = [" ".join(line.split()) for line in isthmus("info", model).out.splitlines()]
    start = lines.index("decisions of the fit, for settings that were left open")
    assert lines[start + 1 : start + 3] == [
        "kind multilayer (the rows are a table)",
        "settings as given",
    ]
    assert json.loads(isthmus("info", model, "--json").out) == description


def test_a_bad_cell_for_a_fitted_model_suggests_no_role(isthmus, table, table_model, tmp_path):
    lines = table.read_text().splitlines()
    lines[3] = "tall," + lines[3].split(",", 1)[1]
    (tmp_path / "bad.csv").write_text("\n".join(lines) + "\n")
    done = isthmus("encode", table_model, tmp_path / "bad.csv", "-o", tmp_path / "codes.csv")
    assert done.code == 2
    assert "'tall' at row 2" in done.err
    assert done.err.rstrip().endswith("correct it, or make it empty if it is missing")
