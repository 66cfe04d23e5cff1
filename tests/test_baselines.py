"""PCA against numpy's SVD, JPEG against Pillow's bytes, codes of 8 bits against arithmetic."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import sparse

from isthmus import Autoencoder
from isthmus.baselines import CodecPoint, JPEGBaseline, PCABaseline, quantised, rate_at
from isthmus.baselines.pca import choose_solver
from isthmus.data import open_source
from isthmus.data.preparation.fit import fit_preparation
from isthmus.errors import RequestError
from isthmus.metrics import psnr

TRAIN, TEST = np.arange(0, 80), np.arange(80, 100)


def table(rng, offset=0.0):
    return (
        rng.normal(size=(100, 5)) @ rng.normal(size=(5, 12)) + rng.normal(size=(100, 12)) + offset
    )


def prepared(values, scaling="auto"):
    source = open_source(values)
    return source, fit_preparation(source, TRAIN, np.ones(len(TRAIN)), scaling)


def by_svd(x, k):
    """Test rows rebuilt by numpy from the first k right singular vectors of the training rows."""
    mean = x[TRAIN].mean(axis=0)
    _, _, right = np.linalg.svd(x[TRAIN] - mean, full_matrices=False)
    return mean + (x[TEST] - mean) @ right[:k].T @ right[:k]


def expected(x, k):
    squared = (x[TEST] - by_svd(x, k)) ** 2
    away = ((x[TEST] - x[TRAIN].mean(axis=0)) ** 2).sum()
    return squared, 1 - squared.sum() / away


@pytest.mark.parametrize("k", [1, 4, 12])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_pca_is_what_an_svd_gives(rng, k, offset):
    x = table(rng, offset)
    source, preparation = prepared(x, "none")
    errors = PCABaseline(k).fit(source, preparation, TRAIN).evaluate(source, TEST)
    squared, explained = expected(x, k)
    np.testing.assert_allclose(errors.per_row, squared.mean(axis=1), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(errors.per_feature, squared.mean(axis=0), rtol=1e-6, atol=1e-9)
    assert errors.total == pytest.approx(squared.mean(), rel=1e-6, abs=1e-9)
    assert errors.explained_variance == pytest.approx(explained, abs=1e-8)


def test_columns_are_measured_in_standard_deviations(rng):
    x = table(rng) * 10.0 ** np.arange(12)
    source, preparation = prepared(x, "standard")
    scaled = (x - x[TRAIN].mean(axis=0)) / x[TRAIN].std(axis=0)
    errors = PCABaseline(3).fit(source, preparation, TRAIN).evaluate(source, TEST)
    assert errors.total == pytest.approx(expected(scaled, 3)[0].mean(), rel=1e-9)


def test_a_network_that_is_pca_measures_the_same(rng):
    x = table(rng)
    ae = Autoencoder(4, kind="multilayer", max_epochs=0, validation_fraction=0, random_state=0)
    ae.fit(x[TRAIN])
    source = open_source(x)
    pca = PCABaseline(4).fit(source, ae.preparation_, TRAIN)
    ours, theirs = ae.evaluate(x[TEST]), pca.evaluate(source, TEST)
    np.testing.assert_allclose(ours.per_row, theirs.per_row, rtol=1e-6)
    assert ours.explained_variance == pytest.approx(theirs.explained_variance, abs=1e-8)


def test_the_curve_is_the_explained_variance_of_every_size(rng):
    source, preparation = prepared(table(rng))
    pca = PCABaseline(40).fit(source, preparation, TRAIN)
    curve = pca.curve(source, TEST)
    assert len(curve) == pca.largest_size == 12
    for size in (1, 3, 12):
        alone = pca.evaluate(source, TEST, n_components=size).explained_variance
        assert curve[size - 1] == pytest.approx(alone, abs=1e-12)


def test_the_curve_is_measured_from_any_reference(rng):
    x = table(rng)
    source, preparation = prepared(x, "none")
    pca = PCABaseline(5).fit(source, preparation, TRAIN)
    reference = x.max(axis=0)
    alone = pca.evaluate(source, TEST, n_components=5, reference=reference).explained_variance
    assert pca.curve(source, TEST, reference=reference)[-1] == pytest.approx(alone, abs=1e-12)


def test_constant_rows_have_no_explained_variance():
    source, preparation = prepared(np.ones((100, 3)))
    pca = PCABaseline(2).fit(source, preparation, TRAIN)
    assert np.isnan(pca.curve(source, TEST)).all()
    assert pca.evaluate(source, TEST).total == 0


def test_sparse_rows_are_the_same_rows(rng):
    x = table(rng) * (rng.random((100, 12)) < 0.3)
    dense, sparse_rows = prepared(x), prepared(sparse.csr_array(x))
    errors = [
        PCABaseline(3).fit(*both, TRAIN).evaluate(both[0], TEST) for both in (dense, sparse_rows)
    ]
    assert errors[0].total == pytest.approx(errors[1].total, rel=1e-12)


def test_images_with_channels_last_and_first_measure_the_same(rng):
    x = rng.integers(0, 256, (100, 6, 5, 3), dtype=np.uint8)
    both = [prepared(values) for values in (x, np.moveaxis(x, -1, 1))]
    errors = [PCABaseline(3).fit(s, p, TRAIN).evaluate(s, TEST) for s, p in both]
    assert errors[0].total == pytest.approx(errors[1].total, rel=1e-9)


def test_much_data_in_single_precision_agrees(rng, monkeypatch):
    x = table(rng, 1e4)
    source, preparation = prepared(x, "none")
    monkeypatch.setattr("isthmus.baselines.pca.DOUBLE_VALUES", 10)
    errors = PCABaseline(4).fit(source, preparation, TRAIN).evaluate(source, TEST)
    assert errors.total == pytest.approx(expected(x, 4)[0].mean(), rel=1e-4)


def test_data_beyond_memory_are_thinned_out_and_it_is_said(rng, monkeypatch):
    source, preparation = prepared(table(rng))
    monkeypatch.setattr("isthmus.baselines.pca.DENSE_BYTES", 40 * 12 * 4)
    pca = PCABaseline(4).fit(source, preparation, TRAIN)
    assert pca.n_rows_ == 40
    monkeypatch.undo()
    assert PCABaseline(4).fit(source, preparation, TRAIN).n_rows_ == 80


def test_the_iterative_solver_agrees_with_the_exact_one(rng, monkeypatch):
    x = table(rng)
    source, preparation = prepared(x, "none")
    monkeypatch.setattr("isthmus.baselines.pca.choose_solver", lambda rows, width: "randomized")
    errors = PCABaseline(4).fit(source, preparation, TRAIN).evaluate(source, TEST)
    assert errors.total == pytest.approx(expected(x, 4)[0].mean(), rel=1e-6)


@pytest.mark.parametrize(
    ("rows", "width", "solver"),
    [
        (60_000, 784, "covariance_eigh"),
        (400, 4096, "full"),
        (50, 50, "covariance_eigh"),
        (50_000, 13_488, "randomized"),
    ],
)
def test_the_solver_is_exact_unless_that_takes_minutes(rows, width, solver):
    assert choose_solver(rows, width) == solver


def test_a_baseline_needs_a_component():
    with pytest.raises(RequestError, match="n_components=0"):
        PCABaseline(0)


def pillow(image, **settings):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", optimize=True, **settings)
    return buffer.getvalue(), np.asarray(Image.open(buffer), float)


def scan_length(written):
    """The bytes after the last header, found by walking over the headers one by one."""
    position = 2
    while written[position + 1] != 0xDA:
        position += 2 + int.from_bytes(written[position + 2 : position + 4], "big")
    position += 2 + int.from_bytes(written[position + 2 : position + 4], "big")
    assert written[-2:] == b"\xff\xd9"
    return len(written) - 2 - position


def test_grey_jpegs_are_pillows_files(digits):
    images = np.repeat(np.repeat(digits[:5], 3, axis=1), 3, axis=2)
    for point in JPEGBaseline().curve(images, (1, 40, 95)):
        files = [pillow(image, quality=point.quality) for image in images]
        assert point.bytes == np.mean([len(written) for written, _ in files])
        assert point.payload_bytes == np.mean([scan_length(written) for written, _ in files])
        squares = [(back - image) ** 2 for (_, back), image in zip(files, images, strict=True)]
        assert point.error == pytest.approx(np.mean(squares))
        assert point.psnr == pytest.approx(10 * np.log10(255**2 / np.mean(squares)))


def test_colour_jpegs_come_with_full_and_halved_colour(rng):
    images = rng.integers(0, 256, (3, 24, 20, 3), dtype=np.uint8)
    points = JPEGBaseline().curve(images, (30,))
    for point, subsampling in zip(points, (0, 2), strict=True):
        sizes = [len(pillow(image, quality=30, subsampling=subsampling)[0]) for image in images]
        assert point.bytes == np.mean(sizes)


def test_other_channels_are_pictures_of_their_own(rng):
    images = rng.integers(0, 256, (3, 16, 16, 2), dtype=np.uint8)
    both = JPEGBaseline().curve(images, (50,))[0]
    alone = [JPEGBaseline().curve(images[..., i], (50,))[0] for i in range(2)]
    assert both.bytes == pytest.approx(sum(point.bytes for point in alone))
    assert both.error == pytest.approx(np.mean([point.error for point in alone]))


@pytest.mark.parametrize("images", [np.zeros((2, 8, 8)), np.zeros((8, 8), np.uint8)])
def test_what_is_no_8_bit_image_is_refused(images):
    with pytest.raises(RequestError, match="uint8"):
        JPEGBaseline().curve(images)


CURVE = (
    CodecPoint(1, 100.0, 10.0, 400.0, psnr(400.0)),
    CodecPoint(50, 200.0, 110.0, 100.0, psnr(100.0)),
    CodecPoint(60, 260.0, 170.0, 120.0, psnr(120.0)),  # worse and larger than the one before
    CodecPoint(100, 800.0, 710.0, 1.0, psnr(1.0)),
)


def test_bytes_at_a_measured_distortion_are_those_bytes():
    for point in (CURVE[0], CURVE[1], CURVE[3]):
        answer = rate_at(CURVE, point.error)
        assert answer.bytes == pytest.approx(point.bytes)
        assert answer.payload_bytes == pytest.approx(point.payload_bytes)
        assert (answer.bound, answer.psnr) == ("", pytest.approx(point.psnr))


def test_a_point_that_another_beats_does_not_count():
    assert rate_at(CURVE, 120.0).bytes < 200


def test_between_two_qualities_bytes_lie_between():
    assert 100 < rate_at(CURVE, 200.0).bytes < 200


def test_jpeg_cannot_be_as_coarse_or_as_close_as_anything():
    coarse, close = rate_at(CURVE, 5000.0), rate_at(CURVE, 0.0)
    assert (coarse.bound, coarse.bytes) == ("at most", pytest.approx(100))
    assert coarse.psnr == pytest.approx(psnr(400.0))
    assert (close.bound, close.bytes) == ("more than", pytest.approx(800))


def test_codes_of_8_bits_are_off_by_half_a_step_at_most(rng):
    codes = rng.normal(size=(500, 3)) * [1.0, 10.0, 0.0] + [0.0, 5.0, 2.0]
    low, high = codes.min(axis=0), codes.max(axis=0)
    back = quantised(codes, low, high)
    assert (np.abs(back - codes) <= (high - low) / 255 / 2 + 1e-12).all()
    assert all(len(np.unique(unit)) <= 256 for unit in back.T)
    np.testing.assert_array_equal(back[:, 2], 2.0)


def test_codes_beyond_the_training_range_are_clipped():
    back = quantised(np.array([[-9.0], [9.0]]), np.array([-1.0]), np.array([1.0]))
    np.testing.assert_allclose(back, [[-1.0], [1.0]])


def test_no_error_is_infinitely_close():
    assert psnr(0.0) == float("inf")
    assert psnr(255.0**2) == 0
