"""OutlierDetector: detection, reasons, the guarantee of the threshold, and saving."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from isthmus import Autoencoder, OutlierDetector, data, load
from isthmus.data import array_source
from isthmus.detector.fit import check_scores
from isthmus.errors import ArtifactError, DivergenceError, RequestError
from isthmus.estimator.fitted_model import FittedModel

FAST = Autoencoder(n_components=2, kind="vanilla", preparation="standard", max_epochs=5)
PLANTED = 5


def rows_near_a_plane(n=400, seed=0):
    draw = np.random.default_rng(seed)
    plane = draw.normal(size=(n, 2)) @ np.array([[1, 2, 0, 1, -1, 0.5], [0, 1, 3, -1, 1, 2]])
    return plane + 0.05 * draw.normal(size=(n, 6))


@pytest.fixture(scope="module")
def planted():
    rows = rows_near_a_plane()
    rows[:PLANTED, 2] += 20
    return rows


@pytest.fixture(scope="module")
def fitted(planted):
    return OutlierDetector(FAST).fit(planted)


def test_planted_rows_score_highest_and_are_labelled(fitted):
    assert set(np.argsort(fitted.decision_scores_)[-PLANTED:]) == set(range(PLANTED))
    assert fitted.labels_[:PLANTED].all()
    assert fitted.labels_[PLANTED:].mean() < 0.1


def test_scores_are_finite_distinct_and_do_not_change_between_runs(fitted, planted):
    scores = fitted.decision_scores_
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) == len(planted)
    again = clone(fitted).fit(planted)
    np.testing.assert_array_equal(again.decision_scores_, scores)
    np.testing.assert_array_equal(again.score_samples(planted[7:9]), -scores[7:9])


def test_the_contract_of_signs(fitted, planted):
    np.testing.assert_allclose(fitted.score_samples(planted), -fitted.decision_scores_)
    decided = fitted.decision_function(planted)
    np.testing.assert_allclose(decided, fitted.threshold_ - fitted.decision_scores_)
    np.testing.assert_array_equal(fitted.predict(planted), np.where(decided < 0, -1, 1))
    np.testing.assert_array_equal(fitted.labels_ == 1, fitted.predict(planted) == -1)


def test_contributions_sum_to_the_score_and_name_the_column(fitted, planted):
    parts = fitted.contributions(planted)
    assert parts.shape == planted.shape
    np.testing.assert_allclose(parts.sum(axis=1), fitted.decision_scores_)
    assert (parts[:PLANTED].argmax(axis=1) == 2).all()
    reason = fitted.explain(planted[:1], n_reasons=2)[0][0]
    assert reason.column == "2"
    assert reason.value == planted[0, 2]
    assert abs(reason.expected - (planted[0, 2] - 20)) < abs(reason.expected - planted[0, 2])


def test_the_expected_row_is_near_typical_rows(fitted, planted):
    expected = fitted.expected_rows(planted[:PLANTED])
    nearest = np.linalg.norm(expected[:, None] - planted[None, PLANTED:], axis=2).min(axis=1)
    away = np.linalg.norm(planted[:PLANTED, None] - planted[None, PLANTED:], axis=2).min(axis=1)
    assert (nearest < away / 3).all()


def test_robust_training_trims_planted_rows(fitted, planted):
    assert not fitted.inlier_mask_[:PLANTED].any()
    trusting = OutlierDetector(FAST, robust=False).fit(planted)
    assert trusting.inlier_mask_.all()


def test_a_cluster_of_outliers_is_found_by_robust_training_alone():
    draw = np.random.default_rng(1)
    rows = np.concatenate([draw.normal(size=(300, 4)), 6 + 0.05 * draw.normal(size=(20, 4))])
    truth = np.arange(320) >= 300
    scores = {
        robust: OutlierDetector(FAST, robust=robust).fit(rows).decision_scores_
        for robust in (True, False)
    }
    assert roc_auc_score(truth, scores[True]) > 0.95
    assert roc_auc_score(truth, scores[False]) < 0.5


def test_the_guarantee_of_the_threshold_holds_on_new_rows():
    detector = OutlierDetector(FAST, robust=False, false_alarm_rate=0.1, confidence=0.9)
    detector.fit(rows_near_a_plane(1000))
    fresh = rows_near_a_plane(4000, seed=5)
    assert (detector.predict(fresh) == -1).mean() <= 0.11
    assert "with 90% confidence, at most 0.1" in detector.threshold_statement_


def test_the_threshold_changes_without_a_fit(planted):
    detector = OutlierDetector(FAST).fit(planted)
    scores = detector.decision_scores_.copy()
    detector.set_threshold(contamination=0.2)
    assert detector.labels_.mean() == pytest.approx(0.2, abs=0.01)
    assert detector.contamination == 0.2
    detector.set_threshold(false_alarm_rate=0.3)
    assert detector.contamination == "auto"
    np.testing.assert_array_equal(detector.decision_scores_, scores)
    with pytest.raises(RequestError, match=r"contamination=0.7 must be"):
        detector.set_threshold(contamination=0.7)
    assert detector.contamination == "auto"


def test_members_differ_and_their_mean_is_the_score(planted):
    pair = OutlierDetector(FAST, n_estimators=2).fit(planted)
    first, second = (
        member.contributions(array_source(planted)).sum(axis=1) for member in pair._members
    )
    assert not np.allclose(first, second)
    np.testing.assert_allclose((first + second) / 2, pair.decision_scores_)


def test_frames_with_missing_values_and_text_have_reasons_in_their_own_values(planted):
    frame = pd.DataFrame(planted, columns=list("abcdef"))
    frame["side"] = np.where(frame["a"] > 0, "right", "left")
    outlier = int((frame["a"] - 1.5).abs().argmin())  # clearly right, and otherwise like other rows
    frame.loc[outlier, "side"] = "left"
    frame.loc[60, "b"] = np.nan
    detector = OutlierDetector(Autoencoder(3, max_epochs=30)).fit(frame)
    reason = detector.explain(frame.iloc[[outlier]], n_reasons=1)[0][0]
    assert reason.column == "side"
    assert (reason.value, reason.expected) == ("left", "right")
    assert detector.contributions(frame.iloc[[60]])[0, 1] == 0
    assert list(detector.expected_rows(frame.iloc[:3]).dtypes) == list(frame.dtypes)


def test_images_and_sparse_rows():
    draw = np.random.default_rng(0)
    images = draw.integers(0, 60, (60, 8, 8)).astype(np.uint8)
    images[0, 2:6, 2:6] = 255
    detector = OutlierDetector(Autoencoder(2, max_epochs=2)).fit(images)
    assert detector.decision_scores_.argmax() == 0
    assert detector.expected_rows(images[:2]).dtype == np.uint8


def test_a_collapse_is_an_error(planted):
    with pytest.raises(DivergenceError, match="400 different rows have 1 different scores"):
        check_scores(np.ones(400), array_source(planted))
    with pytest.raises(DivergenceError, match="not finite"):
        check_scores(np.full(400, np.nan), array_source(planted))


def test_a_dead_autoencoder_is_an_error(planted, monkeypatch):
    decode = FittedModel.decode_batch
    monkeypatch.setattr(
        FittedModel,
        "decode_batch",
        lambda model, code, *rest: decode(model, code * torch.nan, *rest),
    )
    with pytest.raises((DivergenceError, ValueError)):
        OutlierDetector(FAST).fit(planted)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"contamination": 0.0}, "contamination=0.0 must be"),
        ({"contamination": "high"}, "contamination='high' must be"),
        ({"false_alarm_rate": 1.0}, "false_alarm_rate=1.0 must be"),
        ({"confidence": 0}, "confidence=0 must be"),
        ({"n_neighbors": 0}, "n_neighbors=0 must be"),
        ({"n_estimators": 1.5}, "n_estimators=1.5 must be"),
        ({"robust": "yes"}, "robust='yes' must be"),
        ({"n_components": 0}, "n_components=0 must be"),
        ({"autoencoder": "vanilla"}, "autoencoder='vanilla' must be"),
    ],
)
def test_settings_out_of_range_are_refused(settings, match, planted):
    with pytest.raises(RequestError, match=match):
        OutlierDetector(**settings).fit(planted)


@pytest.mark.parametrize("autoencoder", [None, FAST])
def test_n_components_changes_nothing_but_the_size_of_the_code(planted, autoencoder):
    default = OutlierDetector(autoencoder).fit(planted).estimators_[0]
    sized = OutlierDetector(autoencoder, n_components=1).fit(planted).estimators_[0]
    assert sized.n_components_ == 1 != default.n_components_
    changed = default.get_params(deep=False) | {"n_components": 1}
    assert repr(sized.get_params(deep=False)) == repr(changed)


def test_a_saved_detector_comes_back_the_same(fitted, planted, tmp_path):
    fitted.save(tmp_path / "saved")
    assert not list(tmp_path.rglob("*.pkl"))
    loaded = load(tmp_path / "saved")
    assert isinstance(loaded, OutlierDetector)
    np.testing.assert_array_equal(loaded.decision_scores_, fitted.decision_scores_)
    np.testing.assert_allclose(loaded.score_samples(planted), fitted.score_samples(planted))
    assert loaded.threshold_ == fitted.threshold_
    assert loaded.threshold_statement_ == fitted.threshold_statement_
    loaded.set_threshold(contamination=0.1)
    with pytest.raises(RequestError, match="exists"):
        fitted.save(tmp_path / "saved", force=False)


def test_no_other_folder_is_replaced(fitted, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.txt").write_text("precious")
    with pytest.raises(RequestError, match="is not the folder of a detector"):
        fitted.save(tmp_path / "photos")
    assert (tmp_path / "photos" / "one.txt").read_text() == "precious"


def test_a_damaged_folder_is_one_line(fitted, tmp_path):
    fitted.save(tmp_path / "saved")
    (tmp_path / "saved" / "memory.safetensors").write_bytes(b"cut")
    with pytest.raises(ArtifactError, match="do not fit together"):
        load(tmp_path / "saved")
    path = tmp_path / "saved" / "detector.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(ArtifactError, match=r"format 99 .* upgrade"):
        load(tmp_path / "saved")


def test_time_steps_of_a_recording_are_scored():
    time = np.arange(1500)
    recording = np.stack([np.sin(time / 7), np.cos(time / 11)], axis=1)
    recording += 0.05 * np.random.default_rng(0).normal(size=recording.shape)
    anomalous = recording.copy()
    anomalous[700:706, 1] += 3
    detector = OutlierDetector(Autoencoder(4, kind="multilayer", max_epochs=20))
    detector.fit(data.windows(recording, length=30, hop=5))
    scores = detector.score_timesteps(anomalous)
    assert scores.shape == (1500,)
    assert 700 <= scores.argmax() < 706
    assert detector.expected_rows(anomalous).shape == anomalous.shape
    worst = int(detector.score_samples(anomalous).argmin())
    reason = detector.explain(anomalous, n_reasons=1)[worst][0]
    assert reason.value - reason.expected > 1
    with pytest.raises(RequestError, match="is for recordings"):
        OutlierDetector(FAST).fit(rows_near_a_plane(60)).score_timesteps(rows_near_a_plane(9))


def test_integers_and_booleans_with_missing_values_have_reasons_too():
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"a": draw.normal(size=200), "b": draw.normal(size=200)})
    frame["n"] = pd.array(draw.integers(0, 9, 200), "Int64")
    frame["t"] = pd.array(draw.random(200) > 0.5, "boolean")
    frame.loc[5, ["n", "t"]] = pd.NA
    frame.loc[5, "a"] = 30.0
    detector = OutlierDetector(Autoencoder(2, max_epochs=3)).fit(frame)
    result = detector.explain(frame)[5]
    assert (result[0].column, result[0].value) == ("a", 30.0)
    assert not {"n", "t"} & {reason.column for reason in result}


def test_settings_of_numpy_are_kept(planted, tmp_path):
    settings = {"n_neighbors": np.int64(9), "contamination": np.float32(0.25)}
    detector = OutlierDetector(FAST, robust=np.bool_(False), **settings).fit(planted)
    detector.save(tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    assert loaded.n_neighbors == 9
    assert loaded.contamination == 0.25
    assert loaded.robust is False
    np.testing.assert_allclose(loaded.score_samples(planted), detector.score_samples(planted))


def test_rows_that_are_all_the_same_are_refused():
    with pytest.raises(DivergenceError, match="all rows are the same"):
        OutlierDetector(FAST).fit(np.ones((100, 3)))


def test_copies_score_nothing_and_no_score_explodes():
    rows = np.repeat(np.random.default_rng(0).normal(size=(30, 4)), 10, axis=0)
    detector = OutlierDetector(FAST).fit(rows)
    assert detector.decision_scores_.max() < 1e9


def test_only_one_setting_of_the_threshold_is_taken(fitted):
    with pytest.raises(RequestError, match="both set the threshold"):
        clone(fitted).fit(rows_near_a_plane(60)).set_threshold(
            contamination=0.1, false_alarm_rate=0.1
        )


def test_a_series_of_unique_length_is_scored_too():
    draw = np.random.default_rng(0)
    series = [
        np.sin(np.arange(n) / 5 + phase)
        for n, phase in zip(draw.integers(20, 30, 40), draw.uniform(0, 6, 40), strict=True)
    ]
    series[3] = np.sin(np.arange(70) / 5)
    fast = Autoencoder(2, kind="vanilla", max_epochs=2, early_stopping=False)
    for seed in range(3):
        assert np.isfinite(
            OutlierDetector(fast, random_state=seed).fit(series).decision_scores_
        ).all()


def test_wild_rows_among_copies_of_one_are_found():
    draw = np.random.default_rng(0)
    rows = np.zeros((1000, 5))
    wild = draw.choice(1000, 20, replace=False)
    rows[wild] = 5 * draw.normal(size=(20, 5))
    fast = Autoencoder(2, kind="vanilla", max_epochs=2, early_stopping=False)
    result = np.flatnonzero(OutlierDetector(fast).fit(rows).labels_)
    np.testing.assert_array_equal(result, np.sort(wild))
