"""The comparison is fair, true, and written as JSON and as text."""

import json

import numpy as np
import pytest
from sklearn.datasets import load_sample_images
from sklearn.decomposition import PCA

from isthmus import Autoencoder
from isthmus.data import open_source
from isthmus.data.splitting.holdout import validation_split
from isthmus.errors import DataError, RequestError
from isthmus.report import compare
from isthmus.report.data.codecs import PHOTOGRAPHS
from isthmus.report.data.pictures import sample_photographs

FAST = {"max_epochs": 2, "random_state": 0, "kind": "multilayer"}


@pytest.fixture(scope="module")
def of_images(dim):
    return compare(dim[:250], [2, 6], **FAST)


def test_both_are_measured_on_test_rows(rng):
    x = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 8)) + 0.1 * rng.normal(size=(200, 8))
    result = compare(x, [2], **FAST)
    split = validation_split(open_source(x), np.arange(200), np.ones(200), 0.2, 0)
    assert (result.train_rows, result.test_rows) == (len(split.train), len(split.validation))
    train, test = x[split.train], x[split.validation]
    ae = Autoencoder(2, **FAST).fit(train)
    entry = result.entries[0]
    assert entry.autoencoder.error == pytest.approx(ae.evaluate(test).total)
    pca = PCA(2).fit(train)
    expected = ((pca.inverse_transform(pca.transform(test)) - test) ** 2).mean()
    assert entry.baselines["pca"].error == pytest.approx(expected)
    assert entry.ratios["pca"] == pytest.approx(expected / entry.autoencoder.error)


def test_json_holds_every_figure(of_images):
    written = json.loads(json.dumps(of_images.to_json(), allow_nan=False))
    assert [entry["components"] for entry in written["entries"]] == [2, 6]
    entry = written["entries"][1]
    parts = {"components", "autoencoder", "baselines", "weights", "images", "events", "ratios"}
    assert set(entry) == parts
    assert set(entry["baselines"]["pca"]) == {"error", "explained_variance", "seconds"}
    assert [domain["same"] for domain in written["domains"]] == [True, False]
    assert [figures["bytes"] for figures in entry["images"]] == [6, 6]
    sizes = [point["bytes"] for point in written["domains"][0]["codecs"]["jpeg"]]
    assert sizes == sorted(sizes)


def test_lines_are_a_table_for_people(of_images):
    lines = of_images.lines()
    text = "\n".join(lines)
    assert "50 test rows, 200 training rows" in lines[0]
    assert PHOTOGRAPHS in text
    assert "values from 0 to 15 are mapped to grey levels" in text
    assert lines[2].split()[:3] == ["numbers", "per", "row"]
    assert [line.split()[0] for line in lines[3:5]] == ["2", "6"]


def test_the_table_has_a_flat_row_a_size(of_images):
    assert [row["components"] for row in of_images.table()] == [2, 6]
    assert all(np.isfinite(list(row.values())).all() for row in of_images.table())


def test_each_size_that_comes_back_to_pca_says_so(rng):
    rows = rng.standard_normal((60, 4))
    result = compare(rows, (1, 2), random_state=0, max_epochs=2)
    events = [entry.events for entry in result.entries]
    assert all(len(said) == 1 and "over PCA" in said[0] for said in events)
    (line,) = [line for line in result.lines() if "over PCA" in line]
    assert line.startswith("at 1, 2: ")


def test_rows_other_than_images_are_not_compared_with_jpeg(frame):
    result = compare(frame, (1,), **FAST)
    assert (result.domains, result.entries[0].images) == ([], [])
    assert "JPEG" not in "\n".join(result.lines())
    assert result.unit == "in standard deviations of each column"


def test_an_autoencoder_is_better_at_home_than_abroad(of_images):
    home, abroad = of_images.entries[1].images
    assert home["psnr"] > abroad["psnr"] + 3


def test_distortion_is_that_of_codes_of_8_bits(digits):
    x = digits[:250]
    result = compare(x, [6], **FAST)
    split = validation_split(open_source(x), np.arange(250), np.ones(250), 0.2, 0)
    ae = Autoencoder(6, **FAST).fit(x[split.train])
    train, test = ae.transform(x[split.train]), ae.transform(x[split.validation])
    low, step = train.min(axis=0), np.ptp(train, axis=0) / 255
    back = ae.inverse_transform(low + np.clip(np.round((test - low) / step), 0, 255) * step)
    expected = ((back.astype(float) - x[split.validation]) ** 2).mean()
    assert result.entries[0].images[0]["error"] == pytest.approx(expected, rel=1e-3)
    assert result.scale_note is None


def test_other_images_are_brought_to_the_same_form(digits, rng):
    other = rng.integers(0, 256, (9, 20, 30, 3), dtype=np.uint8)
    result = compare(digits[:120], [2], other=other, **FAST)
    assert result.domains[1]["name"] == "images of X"
    assert result.domains[1]["images"] == 9


def test_other_rows_must_be_images(digits, frame):
    with pytest.raises(RequestError, match="not images"):
        compare(digits[:120], [2], other=frame, **FAST)
    with pytest.raises(RequestError, match="other is for images"):
        compare(frame, [2], other=digits, **FAST)


def test_requests_that_make_no_sense_are_refused(frame):
    with pytest.raises(RequestError, match="components is empty"):
        compare(frame, [])
    with pytest.raises(RequestError, match="n_components=0"):
        compare(frame, [0, 2])
    with pytest.raises(DataError):
        compare(frame.iloc[:1], [1])
    with pytest.raises(RequestError, match="2 rows are too few"):
        compare(frame.iloc[:2], [1])


@pytest.mark.parametrize(("height", "width", "channels"), [(8, 8, 1), (20, 30, 3), (900, 40, 2)])
def test_photographs_are_pieces_of_the_right_form(height, width, channels):
    pieces = sample_photographs(height, width, channels)
    assert pieces.shape[1:] == (height, width, channels)
    assert pieces.dtype == np.uint8
    assert len(pieces) >= 8
    if channels == 2:
        assert (pieces[..., 1] == 255).all()


def test_pieces_cover_the_photographs():
    photograph = load_sample_images().images[0]
    pieces = sample_photographs(106, 106, 3)
    first = pieces[: len(pieces) // 2]
    assert abs(first.mean() - photograph.mean()) < 5
