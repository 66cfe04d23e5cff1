"""Sentences and tables say what the figures say."""

import copy

import pytest

from isthmus.report import formatting, summary_lines
from isthmus.report.summary import beside_pca, headline, usage_sentence


def changed(evidence, **parts):
    """The evidence with some values of its parts replaced."""
    other = copy.deepcopy(evidence)
    for name, values in parts.items():
        other[name] |= values
    return other


def test_lines_hold_both_errors_and_the_time(table_evidence):
    lines = summary_lines(table_evidence)
    assert lines[0].split() == ["autoencoder", "PCA"]
    measured = table_evidence["measured"]
    assert lines[1].split()[-2:] == [
        formatting.number(measured[who]["error"]) for who in ("ae", "pca")
    ]
    assert f"of {measured['rows']} held-out rows" in lines[3]
    assert "2 of 2 units in use" in lines[4]
    took = formatting.seconds(table_evidence["training"]["seconds"])
    assert lines[5].startswith(f"training took {took} for 3 epochs on cpu")


def test_the_headline_is_one_sentence(table_evidence):
    figures = {"ae": {"explained_variance": 0.812}, "pca": {"explained_variance": 0.66}}
    seen = changed(table_evidence, measured=figures)
    assert headline(seen) == (
        "2 numbers a row keep 81.2 % of the variance of rows the network has not seen; "
        "PCA keeps 66.0 %."
    )
    one = changed(seen, model={"n_components": 1}, measured={"unseen": False})
    assert headline(one).startswith("1 number a row keeps 81.2 % of the variance of the rows")
    still = changed(table_evidence, measured={"ae": {"explained_variance": None}})
    assert "do not vary" in headline(still)


@pytest.mark.parametrize(
    ("ours", "theirs", "reached", "text"),
    [
        (1.0, 2.5, 7, "2.50 times smaller than PCA's, which needs 7 numbers"),
        (1.0, 2.0, None, "PCA does not reach it even with 16 numbers"),
        (1.0, 1.001, 3, "as good as PCA"),
        (1.0, 0.9, 1, "PCA does better here: it needs only 1 number a row"),
    ],
)
def test_the_comparison_with_pca_is_in_words(table_evidence, ours, theirs, reached, text):
    evidence = changed(
        table_evidence,
        measured={"ae": {"error": ours}, "pca": {"error": theirs}},
        curve={"reached_at": reached, "largest": 16},
    )
    assert text in beside_pca(evidence)


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
