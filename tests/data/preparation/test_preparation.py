"""Preparation against scikit-learn's scaler, and back again, for every layout and scaling."""

import json

import numpy as np
import polars as pl
import pytest
import torch
from scipy import sparse
from sklearn.preprocessing import StandardScaler

from isthmus.data import Preparation, open_source, sparse_source
from isthmus.data.preparation.fit import SCALINGS, fit_preparation
from isthmus.data.splitting import holdout
from isthmus.errors import ArtifactError, DataError, RequestError
from isthmus.types import Facts


def fit(X, scaling="auto", weight=None, rows=None):
    source = open_source(X)
    rows = np.arange(len(source)) if rows is None else rows
    weight = np.ones(len(rows)) if weight is None else weight
    return fit_preparation(source, rows, weight, scaling)


OF_NUMBERS = [scaling for scaling in SCALINGS if scaling not in ("size_factors", "quantiles")]
"""The scalings of arrays of which nothing was declared."""


def table(rng):
    return 100 + rng.normal(size=(40, 5)) * [1e-3, 1, 1, 50, 1e4]


LAYOUTS = {
    "table": table,
    "counts": lambda rng: rng.integers(-5, 900, (40, 3)),
    "grey": lambda rng: rng.integers(0, 256, (30, 5, 4), np.uint8),
    "colour": lambda rng: rng.integers(0, 256, (30, 5, 4, 3), np.uint8),
    "channels first": lambda rng: rng.normal(size=(30, 3, 6, 5)),
    "signal": lambda rng: rng.normal(size=(30, 12, 2)),
    "short signal": lambda rng: rng.normal(size=(30, 16, 1)),
    "switches": lambda rng: rng.integers(0, 2, (40, 6)).astype(bool),
}


@pytest.mark.parametrize("scaling", OF_NUMBERS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_there_and_back(rng, layout, scaling):
    X = LAYOUTS[layout](rng)
    preparation = fit(X, scaling)
    prepared = preparation.encode(X, torch.float64)
    assert prepared.shape == (len(X), *preparation.schema.network_shape)
    assert prepared.min().item() == pytest.approx(preparation.low, abs=1e-12)
    assert prepared.max().item() == pytest.approx(preparation.high, abs=1e-12)
    np.testing.assert_allclose(preparation.decode(prepared), X.astype(float), rtol=1e-12, atol=1e-9)
    assert preparation.encode(X).dtype == torch.float32


@pytest.mark.parametrize("layout", LAYOUTS)
def test_measured_is_the_prepared_row_in_its_own_order_and_unit(rng, layout):
    X = LAYOUTS[layout](rng)
    preparation = fit(X, "global")
    measured = preparation.to_error_units(preparation.encode(X, torch.float64))
    peak = 255.0 if X.dtype == np.uint8 else 1.0
    differences = (X[1:].astype(float) - X[:-1].astype(float)).reshape(len(X) - 1, -1) / peak
    np.testing.assert_allclose(np.diff(measured, axis=0), differences, atol=1e-9)


def test_axes_go_where_networks_want_them(rng):
    colour, signal = rng.normal(size=(2, 5, 4, 3)), rng.normal(size=(2, 12, 2))
    prepared = fit(colour, "none").encode(colour, torch.float64)
    np.testing.assert_array_equal(prepared.numpy(), colour.transpose(0, 3, 1, 2))
    prepared = fit(signal, "none").encode(signal, torch.float64)
    np.testing.assert_array_equal(prepared.numpy(), signal.transpose(0, 2, 1))


@pytest.mark.parametrize("weight", [None, "integers", "fractions"])
def test_columns_is_scikit_learns_scaler(rng, weight):
    X = table(rng)
    weights = {"integers": rng.integers(1, 5, 40).astype(float), "fractions": rng.uniform(size=40)}
    w = weights.get(weight, np.ones(40))
    preparation = fit(X, "standard", w)
    theirs = StandardScaler().fit(X, sample_weight=w)
    np.testing.assert_allclose(preparation.encode(X, torch.float64), theirs.transform(X), atol=1e-7)
    assert preparation.unit == 1


@pytest.mark.parametrize("scaling", ["global", "standard"])
def test_weights_are_repetitions(rng, scaling):
    X, counts = table(rng), rng.integers(1, 5, 40)
    weighted, repeated = fit(X, scaling, counts), fit(np.repeat(X, counts, axis=0), scaling)
    np.testing.assert_allclose(weighted.shift, repeated.shift, rtol=1e-12)
    np.testing.assert_allclose(weighted.scale, repeated.scale, rtol=1e-9)
    assert (weighted.low, weighted.high) == pytest.approx((repeated.low, repeated.high))


def test_common_keeps_the_metric_and_has_unit_variance_on_average(rng):
    X = table(rng)
    z = fit(X, "global").encode(X, torch.float64).numpy()
    assert z.var(axis=0).mean() == pytest.approx(1.0)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-9)
    ratio = np.linalg.norm(X[1:] - X[:-1], axis=1) / np.linalg.norm(z[1:] - z[:-1], axis=1)
    np.testing.assert_allclose(ratio, ratio[0])


def test_common_shifts_an_image_by_one_grey_level():
    image = np.zeros((4, 2, 2))
    image[:, 0] = [[1, 2]]
    image[:2] *= 2
    assert len(fit(image, "global").shift) == 1
    assert fit(image, "global").shift[0] == pytest.approx(image.mean())


@pytest.mark.parametrize(
    ("dtype", "highest", "scaling", "scale", "unit"),
    [
        (np.uint8, 255, "unit", 255.0, 1.0),
        (np.uint8, 255, "none", 1.0, 1 / 255),
        (np.uint8, 1, "unit", 1.0, 1.0),
        (np.uint8, 1, "none", 1.0, 1.0),
        (np.float64, 255, "unit", 1.0, 1.0),
        (np.float64, 255, "none", 1.0, 1.0),
    ],
)
def test_fixed_scalings(rng, dtype, highest, scaling, scale, unit):
    X = (highest * rng.integers(0, 2, (9, 4, 4))).astype(dtype)
    preparation = fit(X, scaling)
    assert preparation.shift == (0.0,)
    assert preparation.scale == (scale,)
    assert preparation.unit == unit


NAMED = {
    "mixed units": ([1, 1e3, 1e-2], [0, 0, 0], "standard"),
    "one unit": ([1, 1.2, 0.8], [0, 0, 0], "global"),
    "one unit, far apart": ([1, 1, 1], [0, 100, 200], "standard"),
    "one column": ([5], [0], "global"),
}


@pytest.mark.parametrize("case", NAMED)
def test_auto_scales_named_columns_one_by_one_unless_they_share_a_range(rng, case):
    scales, shifts, expected = NAMED[case]
    X = rng.uniform(size=(50, len(scales))) * scales + shifts
    frame = pl.DataFrame(X, schema=[f"c{i}" for i in range(len(scales))])
    assert fit(frame).scaling == expected
    assert fit(X).scaling == "global"


@pytest.mark.parametrize("scaling", ["global", "standard"])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e9])
def test_constant_columns_are_listed_and_harmless(rng, scaling, value):
    X = np.column_stack([rng.normal(size=30), np.full(30, value), rng.normal(size=30)])
    preparation = fit(X, scaling)
    assert preparation.constant == ("1",)
    z = preparation.encode(X, torch.float64).numpy()
    assert np.abs(z[:, 1]).max() < 1e-6
    np.testing.assert_allclose(preparation.decode(torch.tensor(z)), X, rtol=1e-12)


@pytest.mark.parametrize("scaling", OF_NUMBERS)
def test_rows_that_are_all_the_same_are_not_blown_up(scaling):
    X = np.full((30, 3), 0.1)
    preparation = fit(X, scaling)
    assert preparation.constant == ("0", "1", "2")
    assert set(preparation.scale) == {1.0}


def test_a_column_that_varies_little_beside_its_size_still_varies():
    stamps = 1.7e15 + np.random.default_rng(0).normal(0, 1000, 200)  # microseconds of one hour
    X = np.column_stack([stamps, np.arange(200.0)])
    z = fit(X, "standard").encode(X, torch.float64).numpy()
    np.testing.assert_allclose(z.std(axis=0), 1, rtol=1e-6)


def test_only_the_given_rows_are_learnt_from(rng):
    X = table(rng)
    X[20:] = 1e12
    some = fit(X, "standard", np.ones(20), np.arange(20))
    assert some.to_json() == fit(X[:20], "standard").to_json()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_small_blocks_agree_with_one(rng, monkeypatch, layout):
    X, scaling = LAYOUTS[layout](rng), "standard" if layout == "table" else "global"
    weight = rng.uniform(0.5, 2, len(X))
    whole = fit(X, scaling, weight)
    monkeypatch.setattr(holdout, "BLOCK_BYTES", 8 * whole.schema.n_features * 7)
    assert len(holdout.row_blocks(open_source(X))) > 3
    pieces = fit(X, scaling, weight)
    np.testing.assert_allclose(pieces.shift, whole.shift, rtol=1e-12)
    np.testing.assert_allclose(pieces.scale, whole.scale, rtol=1e-10)
    assert pieces.binary == whole.binary


def test_variance_does_not_drown_in_a_large_mean(rng, monkeypatch):
    X = 1e9 + rng.normal(size=(500, 3))
    monkeypatch.setattr(holdout, "BLOCK_BYTES", 8 * 3 * 50)
    np.testing.assert_allclose(fit(X, "standard").scale, (X - 1e9).std(axis=0), rtol=1e-6)


def test_sparse_rows_are_dense_rows(rng):
    X = rng.normal(size=(40, 6)) * (rng.uniform(size=(40, 6)) < 0.3)
    source, weight = sparse_source(sparse.csr_array(X)), rng.uniform(size=40)
    for scaling in OF_NUMBERS:
        ours = fit_preparation(source, np.arange(40), weight, scaling).to_json()
        theirs = fit(X, scaling, weight).to_json()
        ours.pop("schema"), theirs.pop("schema")
        assert ours == theirs


@pytest.mark.parametrize(
    ("X", "binary"),
    [([[0, 1], [1, 1]], True), ([[0.0, 1], [1, 0.5]], False), ([[0, 2], [1, 1]], False)],
)
def test_binary(X, binary):
    assert fit(np.array(X)).binary == binary
    assert fit(np.array(X), "unit").binary == binary


@pytest.mark.parametrize("layout", LAYOUTS)
def test_through_json_and_back(rng, layout):
    X = LAYOUTS[layout](rng)
    preparation = fit(X)
    read = Preparation.from_json(json.loads(json.dumps(preparation.to_json(), allow_nan=False)))
    assert read == preparation
    assert torch.equal(read.encode(X), preparation.encode(X))
    shape = preparation.schema.network_shape
    assert read.facts == Facts(shape=shape, low=preparation.low, high=preparation.high)


@pytest.mark.parametrize("damage", [{"shift": None}, {"schema": None}, {"colour": "red"}])
def test_damaged_json_is_refused(rng, damage):
    written = fit(table(rng)).to_json()
    written = {k: v for k, v in (written | damage).items() if v is not None}
    with pytest.raises(ArtifactError, match="the model's preparation cannot be read"):
        Preparation.from_json(written)


def test_an_unknown_scaling_is_named(rng):
    with pytest.raises(RequestError, match="preparation='minmax' is not known; use one of auto"):
        fit(table(rng), "minmax")


def test_the_rows_given_are_left_alone(rng):
    X = table(rng)
    before = X.copy()
    preparation = fit(X, "none")
    preparation.encode(X, torch.float64).zero_()
    np.testing.assert_array_equal(X, before)


def test_held_out_rows_decide_what_is_constant_and_shared_but_not_the_mean():
    rows = np.zeros((40, 3))
    rows[:, :2] = np.arange(40)[:, None]
    rows[39, 2] = 1e6
    source = open_source(pl.DataFrame(rows, schema=["a", "b", "c"]))
    seen, unseen = np.arange(39), np.array([39])
    alone = fit_preparation(source, seen, np.ones(39))
    assert alone.constant == ("c",)
    fitted = fit_preparation(source, seen, np.ones(39), validation=unseen)
    assert fitted.constant == ()
    assert fitted.scaling == "standard"
    assert fitted.shift == (19.0, 19.0, 0.0)
    assert fitted.scale[2] == pytest.approx(1e6)


@pytest.mark.parametrize("factor", [1e200, 1e-200])
def test_values_whose_squares_leave_the_numbers_are_refused(factor):
    rows = factor * np.random.default_rng(0).normal(size=(20, 3))
    with pytest.raises(DataError, match="rescale them"):
        fit_preparation(open_source(rows), np.arange(20), np.ones(20))


def test_columns_of_unlike_ranges_under_one_scale_are_remarked(rng):
    alike = rng.standard_normal((30, 4))
    unlike = alike * [1, 1, 1, 1000]
    (remark,) = fit(unlike).remarks
    assert "preparation='standard'" in remark
    assert fit(alike).remarks == fit(unlike, "standard").remarks == ()
    assert fit(pl.DataFrame(unlike, schema=list("abcd"))).remarks == ()


def test_more_channels_than_time_steps_are_remarked(rng):
    (remark,) = fit(rng.standard_normal((9, 3, 50))).remarks
    assert "3 time steps of 50 channels" in remark
    assert fit(rng.standard_normal((9, 50, 3))).remarks == ()
