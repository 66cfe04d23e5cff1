"""The report data are true, complete, small, and plain enough to be written as JSON."""

import base64
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import sparse
from sklearn.decomposition import PCA

from isthmus import Autoencoder, load
from isthmus.data import array_source
from isthmus.data.loading.rows import evenly_spaced
from isthmus.data.source import Subset
from isthmus.errors import DataError, RequestError
from isthmus.report import gather, render, summary_lines


def fit(rows, size=2, **settings):
    chosen = {"max_epochs": 1, "random_state": 0, "kind": "multilayer"} | settings
    return Autoencoder(size, **chosen).fit(rows)


@pytest.mark.parametrize("name", ["table_report", "image_report", "signal_report"])
def test_report_data_survive_json_and_are_small(name, request):
    report = request.getfixturevalue(name)
    written = json.dumps(report, allow_nan=False)
    assert json.loads(written) == report
    assert len(written) < 300_000


def test_figures_are_those_of_the_held_out_rows(table_fit, frame, table_report):
    validation = frame.iloc[table_fit.validation_rows_]
    expected = table_fit.evaluate(validation)
    measured = table_report["measured"]
    assert measured["unseen"]
    assert measured["rows"] == len(validation)
    assert measured["ae"]["error"] == pytest.approx(expected.total)
    assert measured["ae"]["explained_variance"] == pytest.approx(expected.explained_variance)


def test_pca_is_scikit_learns_on_the_same_rows(table_fit, frame, table_report):
    columns = frame.to_numpy(float)
    train = columns[table_fit.train_rows_]
    scale = np.where(train.std(axis=0) > 0, train.std(axis=0), 1)
    scaled = (columns - train.mean(axis=0)) / scale
    pca = PCA(2).fit(scaled[table_fit.train_rows_])
    test = scaled[table_fit.validation_rows_]
    back = pca.inverse_transform(pca.transform(test))
    measured = table_report["measured"]["baselines"]["pca"]
    assert measured["error"] == pytest.approx(((back - test) ** 2).mean())
    explained = 1 - ((back - test) ** 2).sum() / (test**2).sum()
    assert measured["explained_variance"] == pytest.approx(explained)
    curve = table_report["curve"]["pca"]
    assert curve["explained"][curve["sizes"].index(2)] == pytest.approx(explained)


def test_a_loaded_model_is_measured_on_all_rows(table_fit, frame, tmp_path):
    table_fit.save(tmp_path / "model")
    measured = gather(load(tmp_path / "model"), frame)["measured"]
    assert (measured["unseen"], measured["rows"]) == (False, len(frame))
    assert measured["ae"]["error"] == pytest.approx(table_fit.evaluate(frame).total)


def test_as_many_other_rows_are_not_taken_for_those_of_the_fit(table_fit, frame):
    other = frame.assign(height=frame["height"] + 3)
    assert not gather(table_fit, other)["measured"]["unseen"]
    assert not gather(table_fit, frame.iloc[:100])["measured"]["unseen"]


def test_a_model_that_fell_back_to_pca_has_seen_all_rows(rng):
    x = rng.normal(size=(200, 6))
    ae = fit(x, 2)
    before = {"rows": 20, "error": 0.5, "explained_variance": 0.25}
    message = "the model is PCA"
    ae.history_.append({"event": "pca", "epoch": 0, "message": message, "validation": before})
    report = gather(ae, x)
    assert not report["measured"]["unseen"]
    assert report["history"]["events"][0]["event"] == "pca"
    assert report["measured"]["validation"] == before
    assert "20 validation rows with error 0.500" in summary_lines(report)[-1]
    assert "20 validation rows with error 0.500" in render(report)


def test_facts_say_what_was_fitted_on_what(table_fit, table_report):
    data, model = table_report["data"], table_report["model"]
    assert (data["rows"], data["features"], data["layout"]) == (160, 5, "table")
    assert data["constant"] == ["constant"]
    assert data["columns"][0] == "height"
    assert (model["kind"], model["n_components"]) == ("multilayer", 2)
    assert table_report["training"]["seconds"] == table_fit.facts_["training_seconds"] > 0
    given = {"n_components": 2, "max_epochs": 3, "random_state": 0, "pretraining": "random"}
    assert table_report["facts"]["settings"] == given
    assert set(table_report["versions"]) >= {"isthmus", "torch", "python"}
    assert table_report["facts"]["hardware"]["cpu"]


def test_history_holds_each_term_of_training_and_held_out_rows(rng):
    ae = fit(rng.normal(size=(100, 6)), 2, max_epochs=3, penalties=("contraction",))
    history = gather(ae, rng.normal(size=(30, 6)))["history"]
    assert set(history["terms"]) == {"reconstruction", "contraction"}
    assert set(history["terms"]["contraction"]) == {"train", "validation"}
    assert len(history["terms"]["reconstruction"]["train"]) == len(history["epochs"]) == 4


def test_best_and_worst_rows_are_the_best_and_the_worst(table_fit, frame, table_report):
    validation = table_fit.validation_rows_
    errors = table_fit.evaluate(frame.iloc[validation]).per_row
    groups = table_report["rows"]
    assert groups["best"]["rows"] == validation[np.argsort(errors)][:5].tolist()
    assert groups["worst"]["rows"] == validation[np.argsort(-errors)][:5].tolist()
    assert groups["typical"]["errors"] == sorted(groups["typical"]["errors"])


def test_table_rows_are_shown_with_their_reconstructions(table_fit, frame, table_report):
    group = table_report["rows"]["worst"]
    picked = frame.iloc[group["rows"]]
    assert group["columns"] == list(frame.columns)
    np.testing.assert_allclose(group["original"], picked.to_numpy(float))
    np.testing.assert_allclose(
        group["reconstruction"], table_fit.reconstruct(picked).to_numpy(float)
    )
    off = (group["original"][0][0] - group["reconstruction"][0][0]) / table_fit.preparation_.scale[
        0
    ]
    assert group["deviation"][0][0] == pytest.approx(off, abs=1e-6)


def test_a_wide_table_shows_the_columns_that_are_off(rng):
    x = rng.normal(size=(120, 40)) * np.where(np.arange(40) == 33, 5.0, 0.1)
    group = gather(fit(x, 1), x)["rows"]["worst"]
    assert len(group["columns"]) == 12
    assert group["n_columns"] == 40
    report = gather(fit(x, 1), x)
    assert len(report["features"]["bars"]["names"]) == 30


def test_columns_are_listed_by_their_error(table_report, table_fit, frame):
    features = table_report["features"]["bars"]
    assert features["ae"] == sorted(features["ae"], reverse=True)
    errors = table_fit.evaluate(frame.iloc[table_fit.validation_rows_]).per_feature
    assert features["ae"][0] == pytest.approx(float(np.sqrt(errors.max())))
    assert features["names"][0] == frame.columns[errors.argmax()]


def decoded(url):
    head, _, data = url.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_images_are_shown_as_they_are_in_the_range_of_the_data(image_report, dim):
    group = image_report["rows"]["typical"]
    shown = decoded(group["original"][0])
    np.testing.assert_allclose(shown, dim[group["rows"][0]] * (255 / 15), atol=0.6)
    assert decoded(group["reconstruction"][0]).shape == (8, 8)
    assert len(group["rows"]) == 10


def test_the_heat_map_is_the_error_of_each_pixel(images_fit, dim, image_report):
    validation = dim[images_fit.validation_rows_]
    expected = np.sqrt(images_fit.evaluate(validation).per_feature).reshape(8, 8)
    np.testing.assert_allclose(image_report["features"]["heat"]["ae"], expected)


def test_signals_are_lines_a_channel(signals, signal_report):
    group = signal_report["rows"]["typical"]
    np.testing.assert_allclose(np.array(group["original"][0]).T, signals.values[group["rows"][0]])
    assert np.shape(signal_report["features"]["over_time"]["ae"]) == (2, 50)


def test_long_signals_are_shortened(rng):
    x = array_source(rng.normal(size=(60, 1000)).cumsum(axis=1), layout="signal")
    group = gather(fit(x), x)["rows"]["typical"]
    assert np.shape(group["original"]) == (6, 1, 300)


IMAGES = {
    "colour": ((40, 12, 10, 3), np.uint8),
    "colour first": ((40, 3, 12, 10), np.float32),
    "with transparency": ((40, 12, 10, 4), np.uint8),
    "grey with transparency": ((40, 12, 10, 2), np.uint8),
    "float": ((40, 9, 7), np.float64),
    "bool": ((40, 9, 7), bool),
    "large": ((20, 150, 140), np.uint8),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images_of_any_kind_have_report_data_and_a_page(name, rng):
    shape, dtype = IMAGES[name]
    x = rng.integers(0, 256, shape).astype(np.uint8)
    x = x.astype(dtype) if dtype == np.uint8 else (x > 128 if dtype is bool else x / dtype(100))
    report = gather(fit(x, max_epochs=0), x)
    domains = report["images"]["domains"]
    assert [domain["same"] for domain in domains] == [True, False]
    assert decoded(report["rows"]["typical"]["original"][0]).max() > 200
    assert (report["images"]["scale_note"] is None) == (dtype == np.uint8)
    assert render(report).startswith("<!doctype html>")
    json.dumps(report, allow_nan=False)


ROWS = {
    "one column": lambda rng: rng.normal(size=(60, 1)),
    "one number": lambda rng: rng.normal(size=(60, 4)),
    "four rows": lambda rng: rng.normal(size=(4, 3)),
    "constant": lambda rng: np.ones((30, 3)),
    "sparse": lambda rng: sparse.csr_array(rng.poisson(0.3, (60, 8)).astype(float)),
    "tensor": lambda rng: torch.from_numpy(rng.normal(size=(60, 5))),
    "binary": lambda rng: (rng.random((80, 6)) < 0.4).astype(np.uint8),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_of_any_kind_have_report_data_and_a_page(name, rng):
    x = ROWS[name](rng)
    size = 1 if name.startswith("one") else 2
    report = gather(fit(x, size), x, color=np.arange(x.shape[0]))
    json.dumps(report, allow_nan=False)
    assert render(report).startswith("<!doctype html>")
    assert (report["features"] is None) == (name == "one column")


def test_a_code_wider_than_the_rows_is_compared_with_all_of_pca(rng):
    x = rng.normal(size=(60, 3))
    report = gather(fit(x, 5, kind="regularized"), x)
    assert report["measured"]["baselines"]["pca"]["n_components"] == 3
    assert report["measured"]["baselines"]["pca"]["explained_variance"] == pytest.approx(1)


def test_usage_names_dead_units_and_copies(rng):
    from isthmus.report.sections.usage import usage

    codes = rng.normal(size=(200, 4))
    codes[:, 1], codes[:, 3] = 0, -codes[:, 0]
    used = usage(codes)
    assert (used["dead"], used["duplicates"]) == ([1], [[3, 0]])
    assert used["strongest"] == pytest.approx(1)
    assert usage(rng.normal(size=(50, 80)))["correlation"] is None


def test_nothing_is_drawn_of_more_rows_than_can_be_seen(rng, monkeypatch):
    x = rng.normal(size=(7000, 3))
    report = gather(fit(x, 2), x, color=np.arange(7000) % 3)
    assert len(report["map"]["x"]) == len(report["map"]["color"]["of"]) == 3000
    assert report["usage"]["rows"] == 5000


def test_columns_in_another_order_are_the_same_rows(table_fit, frame, table_report):
    turned = gather(table_fit, frame[frame.columns[::-1]])["measured"]
    measured = table_report["measured"]
    assert (turned["rows"], turned["unseen"]) == (measured["rows"], measured["unseen"])
    figures = [(turned["ae"], measured["ae"])]
    figures += [(turned["baselines"]["pca"], measured["baselines"]["pca"])]
    for ours, theirs in figures:  # the strides of the turned table may change the last digit
        assert ours == pytest.approx(theirs, rel=1e-12)


def test_foreign_rows_are_refused(table_fit, frame):
    with pytest.raises(DataError, match="missing 'height'"):
        gather(table_fit, frame.drop(columns="height"))
    with pytest.raises(RequestError, match=r"color has shape \(3,\), but there are 160 rows"):
        gather(table_fit, frame, color=[1, 2, 3])


def test_a_subset_reads_the_rows_it_was_given(rng):
    source = array_source(rng.normal(size=(20, 3)))
    subset = Subset(source, np.array([5, 3, 9]))
    np.testing.assert_array_equal(subset.read(np.array([2, 0])), source.values[[9, 5]])
    assert len(subset) == 3
    np.testing.assert_array_equal(evenly_spaced(np.arange(100), 3), [0, 50, 99])
