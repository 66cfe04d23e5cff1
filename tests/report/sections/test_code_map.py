"""Where rows lie on the map of codes, and how they are coloured."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from isthmus.report.sections.code_map import code_map, coloring

ROWS = np.arange(4)


def test_two_numbers_are_drawn_as_they_are(rng):
    codes = rng.normal(size=(4, 2))
    drawn = code_map(codes, ROWS)
    np.testing.assert_allclose(drawn["x"], codes[:, 0], rtol=1e-5)
    np.testing.assert_allclose(drawn["y"], codes[:, 1], rtol=1e-5)
    assert drawn["shares"] is None


def test_more_numbers_are_drawn_along_their_principal_directions(rng):
    codes = rng.normal(size=(50, 5)) * [1, 5, 3, 1, 1]
    drawn = code_map(codes, np.arange(50))
    pca = PCA(2).fit(codes)
    ours, theirs = np.array([drawn["x"], drawn["y"]]).T, pca.transform(codes)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(drawn["shares"], pca.explained_variance_ratio_)


def test_isotropic_codes_are_drawn_as_they_are():
    white = np.linalg.qr(np.random.default_rng(0).normal(size=(100, 6)))[0]
    drawn = code_map(white, np.arange(100))
    np.testing.assert_allclose(drawn["x"], white[:, 0], rtol=1e-5)
    assert drawn["shares"] is None


def test_one_number_has_no_second_direction():
    assert code_map(np.array([[1.0], [2.0]]), np.arange(2))["y"] is None


@pytest.mark.parametrize(
    ("values", "names", "of"),
    [
        ([10, 2, 2, 10], ["2", "10"], [1, 0, 0, 1]),
        ([1.0, 2.0, 1.0, np.nan], ["1", "2", "missing"], [0, 1, 0, 2]),
        (["b", "a", "b", "a"], ["a", "b"], [1, 0, 1, 0]),
        (np.array(["b", None, "b", "a"], object), ["a", "b", "missing"], [1, 2, 1, 0]),
        ([True, False, True, True], ["False", "True"], [1, 0, 1, 1]),
    ],
)
def test_few_values_are_categories(values, names, of):
    colors = coloring(values, "label", 4, ROWS)
    assert (colors["name"], colors["categories"], colors["of"]) == ("label", names, of)


def test_many_numbers_are_a_scale():
    values = np.array([0.5, np.nan, 2.5, 3.5])
    assert coloring(values, None, 4, ROWS) == {"name": "colour", "numbers": [0.5, None, 2.5, 3.5]}
    assert "numbers" in coloring(np.arange(100), "n", 100, ROWS)


def test_the_rarest_of_many_texts_are_others():
    texts = [f"t{i % 30}" for i in range(1000)] + ["rare"]
    colors = coloring(texts, "text", 1001, np.arange(1001))
    assert len(colors["categories"]) == 20
    assert colors["categories"][-1] == "other"
    assert colors["categories"][colors["of"][-1]] == "other"


def test_no_colour_is_none():
    assert coloring(None, "label", 4, ROWS) is None
