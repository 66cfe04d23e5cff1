"""Sentences and tables say what the figures say."""

import copy

import pytest

from isthmus.report import formatting, summary_lines
from isthmus.report.summary import comparison, headline, usage_sentence


def changed(report, **parts):
    """The report with some values of its parts replaced."""
    other = copy.deepcopy(report)
    for name, values in parts.items():
        other[name] |= values
    return other


def test_lines_hold_both_errors_and_the_time(table_report):
    lines = summary_lines(table_report)
    assert lines[0].split() == ["autoencoder", "PCA"]
    measured = table_report["measured"]
    assert lines[1].split()[-2:] == [
        formatting.number(figures["error"])
        for figures in (measured["ae"], measured["baselines"]["pca"])
    ]
    assert f"measured on {measured['rows']} validation rows" in lines[3]
    assert "2 of 2 units in use" in lines[4]
    took = formatting.seconds(table_report["training"]["seconds"])
    assert lines[5].startswith(f"training took {took} for 3 epochs on cpu")


def test_the_headline_is_one_sentence(table_report):
    pca = {"pca": {"explained_variance": 0.66}}
    figures = {"ae": {"explained_variance": 0.812}, "baselines": pca}
    seen = changed(table_report, measured=figures)
    assert headline(seen) == (
        "2 numbers per row explain 81.2 % of the variance of the validation rows; "
        "PCA explains 66.0 %."
    )
    single = changed(seen, model={"n_components": 1}, measured={"unseen": False})
    assert headline(single).startswith(
        "1 number per row explains 81.2 % of the variance of the rows"
    )
    still = changed(table_report, measured={"ae": {"explained_variance": None}})
    assert "do not vary" in headline(still)


@pytest.mark.parametrize(
    ("ours", "theirs", "reached", "text"),
    [
        (
            1.0,
            2.5,
            7,
            "2.50 times as large: the autoencoder's is 60.0 % lower. PCA needs 7 numbers per row",
        ),
        (1.0, 2.0, None, "PCA does not explain as much variance even with 16 numbers per row"),
        (1.0, 1.001, 3, "At this code size, PCA is as good."),
        (
            1.0,
            0.9,
            1,
            "PCA does better here: it explains as much variance with only 1 number per row",
        ),
    ],
)
def test_the_comparison_with_pca_is_in_words(table_report, ours, theirs, reached, text):
    report = changed(
        table_report,
        measured={
            "ae": {"error": ours},
            "baselines": {"pca": {"error": theirs, "reached_at": reached, "largest": 16}},
        },
    )
    assert text in comparison(report, "pca")


def test_idle_units_are_counted():
    used = {"units": 8, "n_dead": 2, "n_duplicates": 1}
    assert usage_sentence(used) == "5 of 8 units in use, 2 dead, 1 repeating another"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "50.0 %"),
        (0.9951, "99.51 %"),
        (0.99951, "99.951 %"),
        (-0.2, "-20.0 %"),
        (None, formatting.MISSING),
    ],
)
def test_shares_are_written_as_per_cent(value, text):
    assert formatting.percent(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00123456, "0.00123"),
        (12345.6, "12,346"),
        (3.0, "3"),
        (2.0001, "2.00"),
        (None, formatting.MISSING),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert formatting.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0512, "0.051 s"), (5, "5.0 s"), (42.4, "42 s"), (600, "10 min"), (9000, "2.5 h")],
)
def test_times_have_a_unit(value, text):
    assert formatting.seconds(value) == text
