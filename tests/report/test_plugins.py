"""Baselines and sections that are registered from outside the package."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from isthmus.baselines import BASELINES, CodeBaseline, ImageCodec, measured_blocks
from isthmus.errors import ArtifactError, RequestError
from isthmus.report import SECTIONS, Section, compare, gather, render, summary_lines
from isthmus.report.html import paragraph, section

FAST = {"max_epochs": 2, "random_state": 0, "kind": "multilayer"}


class MeanRow(CodeBaseline):
    """Every row is reconstructed as the mean training row."""

    label = "mean row <b>"

    def fit(self, source, preparation, rows):
        blocks = measured_blocks(source, preparation, rows)
        self.mean_ = np.concatenate(list(blocks)).mean(axis=0)
        self.preparation_, self.n_rows_ = preparation, len(rows)
        return self

    def reconstruct(self, x, n_components=None):
        return np.broadcast_to(self.mean_, x.shape)


class WebP(ImageCodec):
    """Lossless WebP files; the quality is the effort of the compression."""

    label = "WebP"
    qualities = (10, 80)

    def encode(self, image, quality, variant=0):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "WEBP", lossless=True, quality=quality)
        return buffer.getvalue()


@pytest.fixture
def mean_row(monkeypatch):
    monkeypatch.setitem(BASELINES, "mean", MeanRow)


@pytest.fixture
def webp(monkeypatch):
    monkeypatch.setitem(BASELINES, "webp", WebP)


def test_compare_measures_another_baseline(rng, mean_row):
    x = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 8))
    comparison = compare(x, [1, 2], **FAST)
    errors = [entry.baselines["mean"].error for entry in comparison.entries]
    assert errors[0] == errors[1] > comparison.entries[0].baselines["pca"].error
    assert [entry.baselines["mean"].explained_variance for entry in comparison.entries] == (
        pytest.approx([0, 0], abs=1e-9)
    )
    assert [row["mean_error"] for row in comparison.table()] == errors
    assert all(row["mean_ratio"] > row["pca_ratio"] for row in comparison.table())
    written = json.loads(json.dumps(comparison.to_json(), allow_nan=False))
    assert written["entries"][1]["baselines"]["mean"]["error"] == errors[1]
    assert "mean row <b>" in comparison.lines()[2]


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        (np.nan, "returned NaN"),
        (np.inf, "returned NaN or infinity"),
        (None, r"returned \(\d+, 1\)"),
    ],
)
def test_a_baseline_that_returns_no_rows_is_refused(rng, monkeypatch, wrong, fault):
    class Wrong(MeanRow):
        """A baseline with a fault."""

        def reconstruct(self, x, n_components=None):
            return x[:, :1] if wrong is None else np.full_like(x, wrong)

    monkeypatch.setitem(BASELINES, "wrong", Wrong)
    with pytest.raises(RequestError, match=f"Wrong.reconstruct: {fault}"):
        compare(rng.normal(size=(60, 3)), [1], **FAST)


def test_names_of_the_report_are_refused(table_fit, frame, monkeypatch):
    monkeypatch.setitem(SECTIONS, "data", SECTIONS["facts"])
    with pytest.raises(RequestError, match=r"SECTIONS\['data'\]"):
        gather(table_fit, frame)
    monkeypatch.setitem(BASELINES, "autoencoder", MeanRow)
    with pytest.raises(RequestError, match=r"BASELINES\['autoencoder'\]"):
        compare(frame, [1], **FAST)


def test_a_section_that_fails_is_named(table_report, monkeypatch):
    monkeypatch.setitem(SECTIONS, "toy", Section(lambda _: 1, lambda values, *_: values["typo"]))
    with pytest.raises(ArtifactError, match="section 'toy' cannot be drawn"):
        render({**table_report, "toy": {}})


def test_the_report_shows_another_baseline(table_fit, frame, mean_row, monkeypatch):
    report = gather(table_fit, frame)
    measured = report["measured"]["baselines"]["mean"]
    assert measured["explained_variance"] == pytest.approx(0, abs=1e-3)
    assert set(report["curve"]) == set(report["features"]["bars"]["baselines"]) == {"pca", "mean"}
    assert "mean row <b>" in summary_lines(report)[0]
    monkeypatch.undo()  # the page needs no registry
    page = render(json.loads(json.dumps(report, allow_nan=False)))
    assert "mean row &lt;b&gt; explains" in page
    assert "Mean row &lt;b&gt;&#x27;s squared error is" in page
    assert "mean row <b>" not in page[: page.index("<script>")]


def test_another_baseline_leaves_the_figures_of_pca_alone(table_fit, frame, table_report, mean_row):
    measured = gather(table_fit, frame)["measured"]
    assert measured["baselines"]["pca"] == table_report["measured"]["baselines"]["pca"]
    assert measured["ae"] == table_report["measured"]["ae"]


def test_images_are_compared_with_another_codec(images_fit, dim, webp):
    report = gather(images_fit, dim)
    own, other = report["images"]["measured"]
    assert {*own["codecs"]} == {*other["codecs"]} == {"jpeg", "webp"}
    assert own["codecs"]["webp"]["bound"] == "more than" or own["codecs"]["webp"]["bytes"] > 0
    assert all(point["error"] == 0 for point in report["images"]["domains"][0]["codecs"]["webp"])
    page = render(report)
    assert "Comparison with JPEG and WebP" in page
    assert page.count("WebP, bytes") == 1
    text = "\n".join(compare(dim[:120], [2], **FAST).lines())
    assert text.count("Comparison with WebP at the same distortion") == 2


def test_a_section_is_a_record_of_two_functions(table_fit, frame, monkeypatch):
    def collect(measurements):
        return {"rows": len(measurements.measured_rows), "note": "<i>toy</i>"}

    def draw(values, report, charts):
        text = f"{values['rows']} of {report['data']['rows']} rows, {values['note']}"
        return section("toy", "Toy", paragraph(text))

    monkeypatch.setitem(SECTIONS, "toy", Section(collect, draw))
    report = gather(table_fit, frame)
    assert report["toy"] == {"rows": len(table_fit.validation_rows_), "note": "<i>toy</i>"}
    page = render(json.loads(json.dumps(report)))
    assert f"{report['toy']['rows']} of 160 rows, &lt;i&gt;toy&lt;/i&gt;" in page
    monkeypatch.undo()
    assert 'id="toy"' not in render(report)
