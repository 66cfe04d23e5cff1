"""Principal components by all three ways against NumPy's SVD and scikit-learn's PCA."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from isthmus.pretraining import pca, principal_components
from isthmus.types import WeightedRows


class Weighted(WeightedRows):
    """Rows of a matrix with weights, as `principal_components` reads them."""

    def __init__(self, values, weight=None):
        self.values = torch.as_tensor(values)
        weight = np.ones(len(values)) if weight is None else np.asarray(weight, float)
        self.weight = torch.as_tensor(weight / weight.mean())

    def __len__(self):
        return len(self.values)

    def take(self, positions):
        return self.values[positions].reshape(len(positions), 1, -1)


WAYS = {"covariance": (200, 12), "gram": (25, 60), "subspace": (90, 60)}


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """The name of one of the three ways, which `principal_components` will have to take."""
    monkeypatch.setattr(pca, "BLOCK_ROWS", 16)
    if request.param == "subspace":
        monkeypatch.setattr(pca, "EXACT_SIDE", 20)
    others = {"covariance", "gram", "subspace"} - {request.param}
    for other in others:
        monkeypatch.setattr(pca, f"_from_{other}", None)
    return request.param


def decaying(rng, way, scale=10.0):
    n, width = WAYS[way]
    spectrum = 0.7 ** np.arange(width)
    basis = np.linalg.qr(rng.normal(size=(width, width)))[0]
    return scale + rng.normal(size=(n, width)) * spectrum @ basis


def same_up_to_signs(ours, theirs, atol=1e-7):
    signs = np.sign((ours * theirs).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(ours * signs, theirs, atol=atol)


def test_components_are_scikit_learns(way, rng):
    X = decaying(rng, way)
    ours, theirs = principal_components(Weighted(X), 5), PCA(5, svd_solver="full").fit(X)
    same_up_to_signs(ours.components.numpy(), theirs.components_)
    variance = theirs.explained_variance_ * (len(X) - 1) / len(X)
    np.testing.assert_allclose(ours.scales.numpy() ** 2, variance, rtol=1e-7)
    np.testing.assert_allclose(ours.mean.numpy(), theirs.mean_, atol=1e-12)
    assert ours.total_variance == pytest.approx(X.var(axis=0).sum(), rel=1e-12)


def test_components_are_the_right_singular_vectors(way, rng):
    X = decaying(rng, way)
    ours = principal_components(Weighted(X), 4)
    _, values, vectors = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    same_up_to_signs(ours.components.numpy(), vectors[:4])
    np.testing.assert_allclose(ours.scales.numpy(), values[:4] / np.sqrt(len(X)), rtol=1e-7)


def test_weights_are_repetitions(way, rng):
    X = decaying(rng, way)
    counts = rng.integers(1, 4, len(X))
    ours = principal_components(Weighted(X, counts), 4)
    theirs = PCA(4, svd_solver="full").fit(np.repeat(X, counts, axis=0))
    same_up_to_signs(ours.components.numpy(), theirs.components_)
    np.testing.assert_allclose(ours.mean.numpy(), theirs.mean_, atol=1e-12)
    variance = theirs.explained_variance_ * (counts.sum() - 1) / counts.sum()
    np.testing.assert_allclose(ours.scales.numpy() ** 2, variance, rtol=1e-7)


@pytest.mark.parametrize("rank", [0, 1, 3])
@pytest.mark.parametrize("offset", [0.0, 0.1, 1e6])
def test_rows_of_lower_rank_have_no_more_components(way, rng, rank, offset):
    n, width = WAYS[way]
    X = offset + rng.normal(size=(n, rank)) @ rng.normal(size=(rank, width))
    ours = principal_components(Weighted(X), 8)
    assert len(ours.components) == len(ours.scales) == rank
    assert (ours.scales > 0).all()
    left = X - X.mean(axis=0)
    left = left - left @ ours.components.numpy().T @ ours.components.numpy()
    np.testing.assert_allclose(left, 0, atol=1e-8 * max(offset, 1))


def test_rows_are_orthonormal_largest_first_and_signed(way, rng):
    ours = principal_components(Weighted(decaying(rng, way)), 10)
    torch.testing.assert_close(
        ours.components @ ours.components.t(), torch.eye(10, dtype=torch.float64)
    )
    assert (ours.scales.diff() <= 0).all()
    peaks = ours.components.gather(1, ours.components.abs().argmax(dim=1, keepdim=True))
    assert (peaks > 0).all()


def test_the_same_rows_give_the_same_bits(way, rng):
    X = decaying(rng, way)
    first, again = (principal_components(Weighted(X), 5, seed=3) for _ in range(2))
    assert torch.equal(first.components, again.components)
    assert torch.equal(first.scales, again.scales)
    other = principal_components(Weighted(X), 5, seed=4)
    torch.testing.assert_close(first.components, other.components, atol=1e-7, rtol=0)
    turned = principal_components(Weighted(X[::-1].copy()), 5)
    torch.testing.assert_close(first.components, turned.components, atol=1e-7, rtol=0)


def test_no_more_components_than_rows_or_columns(rng):
    assert len(principal_components(Weighted(rng.normal(size=(5, 20))), 50).components) == 4
    assert len(principal_components(Weighted(rng.normal(size=(20, 5))), 50).components == 5)


def test_the_first_few_of_many(rng):
    many = principal_components(Weighted(rng.normal(size=(50, 6))), 6)
    few = many.first(2)
    assert torch.equal(few.components, many.components[:2])
    assert torch.equal(few.scales, many.scales[:2])
    assert torch.equal(few.mean, many.mean)
    assert few.total_variance == many.total_variance


def test_single_precision_rows_are_summed_in_double(rng):
    X = (1000 + rng.normal(size=(5000, 3))).astype(np.float32)
    ours = principal_components(Weighted(X), 3)
    np.testing.assert_allclose(ours.mean.numpy(), X.astype(float).mean(axis=0), rtol=1e-12)
    assert ours.components.dtype == torch.float64
    assert ours.total_variance == pytest.approx(X.astype(float).var(axis=0).sum(), rel=1e-9)
