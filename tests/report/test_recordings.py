"""What the report shows of windows and of series of different lengths."""

import numpy as np
import pandas as pd
import pytest

from isthmus import Autoencoder
from isthmus.data import series, windows
from isthmus.report import gather, render


def fitted(source):
    settings = {"kind": "multilayer", "loss": "huber", "max_epochs": 2, "random_state": 0}
    return Autoencoder(3, **settings).fit(source)


@pytest.fixture(scope="module")
def frame():
    time = np.arange(900)
    noise = 0.1 * np.random.default_rng(0).normal(size=(900, 2))
    waves = np.stack([np.sin(time / 5), np.cos(time / 7)], axis=1) + noise
    return pd.DataFrame(waves, columns=["lead I", "lead <II>"])


@pytest.fixture(scope="module")
def report(frame):
    source = windows([frame, frame[:300] + 0.5], length=30)
    return gather(fitted(source), source)


def test_windows_are_shown_by_channel_and_place(frame, report):
    assert report["data"]["channels"] == ["lead I", "lead <II>"]
    assert report["data"]["cut"] == "windows of 30 samples, one every 15"
    group = report["rows"]["typical"]
    where = windows([frame, frame[:300]], length=30).extents
    for row, lines, place in zip(group["rows"], group["original"], group["places"], strict=True):
        recording, start, stop = where[row]
        expected = (frame + 0.5 * recording).to_numpy()[start:stop]
        np.testing.assert_allclose(np.transpose(lines), expected)
        assert place.startswith(f"from sample {start}")


def test_the_figures_are_of_windows_held_out_in_stretches(report):
    assert report["measured"]["unseen"]
    assert "held out in whole segments" in report["history"]["events"][0]["message"]


def test_the_page_names_the_channels(report):
    page = render(report)
    assert "lead &lt;II&gt;" in page
    assert "lead <II>" not in page.replace("lead \\u003cII\\u003e", "")
    assert "from sample" in page


def test_series_are_drawn_as_long_as_they_are():
    lengths = [30, *range(12, 30), *range(12, 30), *range(12, 30)]
    source = series([np.sin(np.arange(n) / 3) + n / 99 for n in lengths])
    report = gather(fitted(source), source)
    group = report["rows"]["typical"]
    for row, before, after, place in zip(
        *(group[name] for name in ("rows", "original", "reconstruction", "places")), strict=True
    ):
        known = [value is not None for value in before[0]]
        assert known == [value is not None for value in after[0]]
        assert sum(known) == lengths[row]
        assert place == f"{lengths[row]} samples"
    assert report["data"]["cut"] == "whole series, of up to 30 samples"
    assert "series of 12 to 30 samples" in report["history"]["events"][0]["message"]
    assert "missing" not in " ".join(event["message"] for event in report["history"]["events"])
    assert render(report)
