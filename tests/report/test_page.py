"""The page, as it is written and as a browser shows it."""

import json
import re
import time

import plotly.graph_objects as go
import pytest

from isthmus.errors import ArtifactError
from isthmus.report import SECTIONS, gather, render
from isthmus.report.plot import round_steps

REPORTS = ["table_report", "image_report", "signal_report"]
DRAWN = "[...document.querySelectorAll('.chart')].every(c => c.querySelector('.main-svg'))"


@pytest.fixture(params=REPORTS)
def report(request):
    return request.getfixturevalue(request.param)


def figures_of(html):
    script = re.search(
        r'<script type="application/json" id="charts">(.*?)</script>', html, re.DOTALL
    )
    return json.loads(script[1])


def without_colours(value):
    """The figure with the page's colours replaced by one that plotly knows."""
    if isinstance(value, dict):
        return {key: without_colours(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_colours(item) for item in value]
    return "#000" if isinstance(value, str) and value.startswith("@") else value


def test_every_chart_is_one_that_plotly_accepts(report):
    figures = figures_of(render(report))
    assert figures
    for figure in figures.values():
        assert go.Figure(without_colours(figure)).data


def test_plotly_is_there_once_and_nothing_is_fetched(report):
    html = render(report)
    assert html.count("* plotly.js v") == 1
    own = html.replace(html[html.index("<script>") : html.index("</script>")], "")
    assert not re.search(r'(src|href)="(?!data:)|url\(|@import|https?://', own)
    assert len(html) < 6_000_000


def test_report_data_can_be_drawn_again_from_its_json(report):
    assert render(json.loads(json.dumps(report))) == render(report)


def test_what_users_wrote_is_escaped(table_report):
    html = render(table_report)
    assert "<script>window.hacked" not in html
    assert "&lt;script&gt;window.hacked" in html
    assert "<b>strong" not in html


def test_every_picture_has_words(report):
    html = render(report)
    images, charts = re.findall(r"<img [^>]*>", html), re.findall(r'<div class="chart"[^>]*>', html)
    assert charts
    assert all(re.search(r'alt="[^"]+"', image) for image in images)
    assert all(re.search(r'aria-label="[^"]+"', chart) for chart in charts)


def test_a_picture_that_says_nothing_is_left_out(table_report):
    small = table_report | {
        "usage": table_report["usage"] | {"units": 1},
        "features": None,
        "history": table_report["history"] | {"epochs": [0, 1], "events": []},
        "curve": {"pca": {"sizes": [1], "explained": [0.5]}},
    }
    html = render(small)
    for name in ("usage", "features", "history", "curve"):
        assert f'id="{name}"' in render(table_report)
        assert f'id="{name}"' not in html


def test_report_data_of_another_format_is_refused(table_report):
    with pytest.raises(ArtifactError, match="format 99"):
        render(table_report | {"format": 99})


@pytest.mark.parametrize("missing", [*SECTIONS, "toy"])
def test_a_section_without_values_is_left_out(table_report, missing):
    smaller = {name: values for name, values in table_report.items() if name != missing}
    page = render(smaller)
    assert f'<section id="{missing}">' not in page
    assert "<h1>isthmus report" in page


@pytest.mark.parametrize("missing", ["data", "model", "training", "measured", "labels", "versions"])
def test_report_data_that_lack_something_are_refused(table_report, missing):
    smaller = {name: values for name, values in table_report.items() if name != missing}
    with pytest.raises(ArtifactError, match=f"cannot be drawn .*{missing}.*fit again"):
        render(smaller)
    with pytest.raises(ArtifactError, match="cannot be drawn"):
        render(table_report | {missing: []})


def test_decisions_of_the_fit_are_a_table(table_fit, table_report, frame, monkeypatch):
    assert "<h3>Decisions</h3>" not in render(
        table_report | {"facts": table_report["facts"] | {"decisions": []}}
    )
    decision = {"name": "batch_size", "value": 64, "reason": "a <b>tenth</b> of the rows"}
    monkeypatch.setitem(table_fit.facts_, "decisions", [decision, decision | {"value": None}])
    report = gather(table_fit, frame)
    page = render(json.loads(json.dumps(report)))
    table = page[page.index("<h3>Decisions</h3>") :]
    row = "<td>batch size</td><td>64</td><td>a &lt;b&gt;tenth&lt;/b&gt; of the rows</td>"
    assert row in table
    assert row.replace("64", "none") in table


@pytest.fixture
def written(tmp_path, report):
    path = tmp_path / "report.html"
    path.write_text(render(report), encoding="utf-8")
    return path


def until(tab, expression):
    """Wait for it to hold; the page itself forbids evaluating text, as wait_for_function does."""
    end = time.monotonic() + 20
    while not tab.evaluate(expression):
        assert time.monotonic() < end, expression
        tab.wait_for_timeout(50)


def opened(page, path, **context):
    tab = page(path, **context)
    until(tab, DRAWN)
    return tab


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 1280])
def test_every_chart_is_drawn_and_the_page_is_not_wider_than_the_screen(page, written, width):
    tab = opened(page, written, width=width)
    assert tab.evaluate("document.querySelectorAll('.chart').length") > 0
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("window.hacked") is None


@pytest.mark.browser
def test_axis_titles_fit_into_a_phone(page, written):
    tab = opened(page, written, width=360)
    clipped = """[...document.querySelectorAll('.chart')].flatMap(chart => {
        const box = chart.getBoundingClientRect();
        return [...chart.querySelectorAll('.xtitle, .ytitle, .legendtext')].filter(text => {
            const own = text.getBoundingClientRect();
            return own.right > box.right + 1 || own.left < box.left - 1 || own.top < box.top - 1;
        }).map(text => text.textContent);
    })"""
    assert tab.evaluate(clipped) == []


COLOURS = """() => {
    const style = (q, p) => getComputedStyle(document.querySelector(q))[p];
    return [style('body', 'backgroundColor'), style('body', 'color'), style('.xtick text', 'fill')];
}"""


@pytest.mark.browser
def test_charts_follow_the_colour_scheme(page, written):
    tab = opened(page, written, color_scheme="light")
    light = tab.evaluate(COLOURS)
    tab.emulate_media(color_scheme="dark")
    until(tab, f"({COLOURS})()[2] !== {json.dumps(light[2])}")
    dark = tab.evaluate(COLOURS)
    assert all(before != after for before, after in zip(light, dark, strict=True))
    assert opened(page, written, color_scheme="dark").evaluate(COLOURS) == dark


@pytest.mark.parametrize(
    ("low", "high", "steps"),
    [(3.0, 40.0, [2, 5, 10, 20, 50]), (10.0, 100.0, [10, 20, 50, 100]), (7.0, 7.0, [5, 10])],
)
def test_round_steps_enclose_what_is_drawn(low, high, steps):
    assert round_steps(low, high) == steps
