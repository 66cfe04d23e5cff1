"""Learning curves of several fits in one chart: which they are, and when they do not compare."""

import json

import pytest

from isthmus import Autoencoder
from isthmus.errors import RequestError
from isthmus.report import gather, render, with_curve
from isthmus.report.sections.history import figure_of


@pytest.fixture(scope="module")
def other(frame):
    ae = Autoencoder(2, max_epochs=5, random_state=0, pretraining="autoencoder").fit(frame)
    return gather(ae, frame)


def test_another_curve_beside_our_own(table_report, other):
    before = json.dumps(table_report)
    both = with_curve(table_report, other, "layers & <b>all</b>")
    assert json.dumps(table_report) == before
    (curve,) = both["history"]["others"]
    assert curve["start"] == "autoencoder"
    assert curve["epochs"] == other["history"]["epochs"] == [0, 1, 2, 3, 4, 5]
    assert curve["terms"] == other["history"]["terms"]
    lines = figure_of(both["history"])["data"]
    assert [line["name"] for line in lines] == [
        "training rows",
        "validation rows",
        "validation rows, layers &amp; &lt;b&gt;all&lt;/b&gt;, from autoencoder",
    ]
    assert lines[2]["y"] == other["history"]["terms"]["reconstruction"]["validation"]
    assert len({json.dumps(line["line"]) for line in lines}) == 3
    assert "This fit began from random" in render(both)
    assert "This fit began" not in render(table_report)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"loss": "huber"}, "its loss is huber and here it is squared"),
        ({"penalties": ("l1",)}, "its list of loss terms is"),
    ],
)
def test_curves_that_do_not_compare(table_report, frame, settings, what):
    ae = Autoencoder(2, max_epochs=1, random_state=0, pretraining="random", **settings).fit(frame)
    with pytest.raises(RequestError, match=f"^that one: .*{what}.*name a model of the same data"):
        with_curve(table_report, gather(ae, frame), "that one")


def test_curves_of_other_rows(table_report, frame):
    ae = Autoencoder(2, max_epochs=1, random_state=0, pretraining="random").fit(frame[:-1])
    with pytest.raises(RequestError, match="its number of rows is 159 and here it is 160"):
        with_curve(table_report, gather(ae, frame[:-1]), "that one")


def test_the_curve_of_a_fit_that_was_given_up(table_fit, frame, table_report):
    given_up = [record for record in table_fit.history_ if "train" in record][:2]
    event = {"event": "restart", "epoch": 0, "message": "starting anew", "start": "random"}
    table_fit.history_.insert(0, event | {"given_up": given_up})
    try:
        history = gather(table_fit, frame)["history"]
    finally:
        del table_fit.history_[0]
    own = table_report["history"]["terms"]["reconstruction"]["validation"]
    (curve,) = history["others"]
    assert (curve["name"], curve["start"], curve["epochs"]) == ("given up", "random", [0, 1])
    assert curve["terms"]["reconstruction"]["validation"] == own[:2]
    assert history["events"][0]["message"] == "starting anew"
