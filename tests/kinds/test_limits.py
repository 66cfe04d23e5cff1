"""Where features end, outputs end: what is cut off, where, and what training feels of it."""

import numpy as np
import pandas as pd
import pytest
import torch

from isthmus import Autoencoder, data, kinds, load
from isthmus.data.preparation.fit import fit_preparation
from isthmus.errors import ArtifactError
from isthmus.kinds.blocks import Clipped

COUNTS = np.random.default_rng(0).poisson(0.7, size=(600, 12)).astype(float)


def preparation(values, **settings):
    source = data.array_source(values)
    return fit_preparation(source, np.arange(len(values)), np.ones(len(values)), **settings)


def test_an_end_reached_often_is_a_limit_and_one_reached_by_chance_is_none():
    rng = np.random.default_rng(1)
    open_ended = rng.normal(size=2000)
    counted = rng.poisson(2.0, size=2000) + 0.001 * rng.random(2000)
    floored = np.maximum(open_ended, -1)
    graded = rng.integers(1, 6, size=2000)
    values = np.stack([open_ended, counted, floored, graded], axis=1)
    found = preparation(values, scaling="none")
    assert found.floor == (None, None, -1.0, 1.0)
    assert found.ceiling == (None, None, None, 5.0)


def test_few_rows_on_an_end_prove_nothing():
    values = np.random.default_rng(2).normal(size=(40, 1))
    values[:4] = values.min()
    assert preparation(values).floor == ()
    values[4] = values.min()
    assert preparation(values, scaling="none").floor == (values.min(),)


def test_held_out_rows_that_go_further_lift_a_limit():
    values = np.maximum(np.random.default_rng(3).normal(size=(100, 2)), -0.5)
    values[99, 0] = -3.0
    source = data.array_source(values)
    train, unseen = np.arange(90), np.arange(90, 100)
    alone = fit_preparation(source, train, np.ones(100), "none")
    both = fit_preparation(source, train, np.ones(100), "none", validation=unseen)
    assert alone.floor == (-0.5, -0.5)
    assert both.floor == (None, -0.5)


def test_limits_do_not_hang_on_the_blocks_rows_come_in(monkeypatch):
    whole = preparation(COUNTS, scaling="none")
    monkeypatch.setattr("isthmus.data.splitting.holdout.BLOCK_BYTES", 7 * 12 * 8)
    assert preparation(COUNTS, scaling="none") == whole
    assert whole.floor == (0.0,) * 12


def test_images_share_their_limits():
    images = np.random.default_rng(4).integers(0, 256, size=(50, 6, 6)).astype(np.uint8)
    images[:, :2] = 0
    found = preparation(images)
    assert len(found.floor) == 1
    assert found.floor[0] == pytest.approx(found.low)
    assert found.facts.floor.shape == (1,)


def test_each_channel_of_a_signal_keeps_its_own_limits():
    rng = np.random.default_rng(5)
    signals = np.stack([rng.normal(size=(80, 10)), np.maximum(rng.normal(size=(80, 10)), 0)], -1)
    found = preparation(signals, scaling="none").facts
    assert found.floor.shape == (2, 10)
    assert np.isneginf(found.floor[0]).all()
    assert (found.floor[1] == 0).all()


def test_clipping_and_its_slope_in_training():
    clipped = Clipped(np.array([-1.0, -np.inf]), np.array([np.inf, 2.0])).double()
    x = torch.tensor([[-3.0, -3.0], [0.5, 0.5], [4.0, 4.0]], dtype=torch.float64)
    expected = torch.tensor([[-1.0, -3.0], [0.5, 0.5], [4.0, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(clipped.eval()(x), expected)
    clipped.train()
    torch.testing.assert_close(clipped(x), expected + 0.1 * (x - expected))
    assert torch.autograd.gradcheck(clipped, x.requires_grad_())


@pytest.mark.parametrize("kind", ["vanilla", "multilayer", "regularized", "convolutional"])
def test_counts_come_back_as_what_counts_can_be(kind, tmp_path):
    model = Autoencoder(4, kind=kind, random_state=0, max_epochs=5).fit(COUNTS)
    rebuilt = model.reconstruct(COUNTS)
    assert rebuilt.min() >= -1e-6
    free = getattr(kinds, kind.capitalize())(output="linear")
    linear = Autoencoder(4, kind=free, random_state=0, max_epochs=5).fit(COUNTS)
    assert linear.reconstruct(COUNTS).min() < -0.01
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").reconstruct(COUNTS), rebuilt)


def test_models_from_before_limits_were_known_have_none():
    written = preparation(COUNTS).to_json()
    for name in ("floor", "ceiling"):
        del written[name]
    assert data.Preparation.from_json(written).facts.floor is None


@pytest.mark.parametrize("broken", [[0.0, 0.0], [float("nan")], ["a"]])
def test_limits_that_cannot_be_are_refused(broken):
    written = preparation(COUNTS).to_json() | {"floor": broken}
    with pytest.raises(ArtifactError, match="preparation cannot be read"):
        data.Preparation.from_json(written)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("scaling", ["standard", "global", "quantiles"])
@pytest.mark.parametrize("mixed", [False, True])
def test_what_is_clipped_comes_back_as_the_very_end(precision, scaling, mixed, rng, tmp_path):
    if mixed and scaling == "global":
        pytest.skip("columns of many kinds share no scale")
    hidden = rng.normal(size=(400, 2))
    amount = np.maximum(30 * np.exp(1.2 * hidden[:, 0]) - 40, 0)
    share = np.clip(30.3 * hidden[:, 1] + 15, 0, 30.3)
    frame = pd.DataFrame({"amount": amount, "share": share, "other": hidden[:, 0]})
    if mixed:
        frame["word"] = np.where(hidden[:, 1] > 0, "up", "down")
    ae = Autoencoder(2, preparation=scaling, precision=precision, max_epochs=20, random_state=0)
    ae.fit(frame).save(tmp_path / "model")
    limits = ae.preparation_.facts
    for model in (ae, load(tmp_path / "model")):
        codes = torch.as_tensor(model.transform(frame)).to(model.model_.dtype)
        with torch.no_grad():
            raw = model.network_.decode(codes).float().numpy()
        back = model.reconstruct(frame)
        for at, name, ends, end in (
            (0, "amount", limits.floor, 0.0),
            (1, "share", limits.floor, 0.0),
            (1, "share", limits.ceiling, 30.3),
        ):
            clipped = raw[:, at] == np.float32(ends[at])
            assert clipped.sum() > 20
            assert ((back[name] == end) == clipped).all()
    wide = np.array([[-9.0, 3.0, 0.0, 0.0][: 3 + mixed]]) * 1e3
    if not mixed and scaling != "quantiles":  # what was not clipped stays as it is
        decoded = ae.preparation_.decode(torch.as_tensor(wide))
        scale, shift = np.asarray(ae.preparation_.scale), np.asarray(ae.preparation_.shift)
        np.testing.assert_allclose(decoded, wide * scale + shift)


def test_pixels_come_back_as_the_very_end():
    images = np.random.default_rng(4).integers(0, 8, size=(50, 6, 6)) / 10 + 0.1
    found = preparation(images)
    ends = np.asarray([found.floor[0], found.ceiling[0]], np.float32)
    back = found.decode(torch.as_tensor(np.resize(ends, (1, *found.network_shape))))
    assert back.reshape(-1)[:2].tolist() == [0.1, images.max()]


def test_ends_that_do_not_fit_are_refused():
    written = preparation(COUNTS).to_json()
    for name in ("lowest", "highest"):
        if written[name]:
            broken = written | {name: [None] * len(written[name])}
            with pytest.raises(ArtifactError, match="known in one unit only"):
                data.Preparation.from_json(broken)
    assert written["lowest"]
    old = {key: value for key, value in written.items() if key not in ("lowest", "highest")}
    assert data.Preparation.from_json(old).lowest == ()
