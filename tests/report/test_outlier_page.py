"""The page of outliers."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from isthmus import Autoencoder, OutlierDetector
from isthmus.report import OutlierRow, outlier_report, render_outliers

OUTLIER = 3


@pytest.fixture(scope="module")
def page():
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.normal(size=(200, 3)), columns=["width", "<b>height</b>", "depth"])
    frame["kind"] = np.where(frame["width"] > 0, "wide", "<i>narrow</i>")
    frame.loc[OUTLIER, "<b>height</b>"] = 30.0
    detector = OutlierDetector(Autoencoder(2, max_epochs=5)).fit(frame)
    scores, why = detector.decision_scores_, detector.explain(frame)
    worst = [OutlierRow(f"row {i}", scores[i], why[i]) for i in np.argsort(-scores)[:25]]
    parts = detector.contributions(frame)[detector.labels_ == 1].mean(axis=0)
    report = outlier_report(detector, "people.csv", scores, worst, parts)
    return detector, report, render_outliers(report)


def test_the_largest_score_comes_first_with_its_reason(page):
    _, report, _ = page
    assert report.worst[0].name == f"row {OUTLIER}"
    assert report.worst[0].reasons[0].column == "<b>height</b>"
    assert report.worst[0].reasons[0].value == 30.0
    assert report.columns[int(report.contributions.argmax())] == "<b>height</b>"


def test_the_page_shows_the_result_and_no_markup_of_the_data(page):
    detector, _, text = page
    outliers = int(detector.labels_.sum())
    assert f'<p class="headline">{outliers} of 200 rows are outliers</p>' in text
    assert detector.threshold_statement_[1:40] in text
    assert "&lt;b&gt;height&lt;/b&gt;: 30 (expected" in text
    body = text[: text.index("<script>")]
    assert "<b>" not in body
    assert "<i>" not in body
    assert "src=" not in body


def test_every_row_is_in_the_histogram(page):
    _, _, text = page
    charts = json.loads(
        re.search(r'<script type="application/json" id="charts">(.*?)</script>', text, re.DOTALL)[1]
    )
    assert sum(charts["chart-0"]["data"][0]["y"]) == 200
    line = charts["chart-0"]["layout"]["shapes"][0]["x0"]
    assert 10**line == pytest.approx(page[0].threshold_)
