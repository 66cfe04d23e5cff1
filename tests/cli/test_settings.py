"""Settings on the command line reach the estimator as the specs they stand for."""

import pytest

from isthmus import corruptions, kinds, losses, optim, pretraining
from isthmus.cli.options import ColumnOptions, ReadingOptions, TrainingOptions
from isthmus.cli.settings import (
    CORRUPTION,
    KIND,
    LOSS,
    OPTIMIZER,
    PENALTY,
    PRETRAINING,
    estimator_arguments,
    open_arguments,
    parse_part,
)
from isthmus.data import Schema
from isthmus.errors import RequestError
from isthmus.estimator import Autoencoder

TABLE = Schema(layout="table", shape=(9,), dtypes=("float64",))
IMAGES = Schema(layout="image", shape=(28, 28), dtypes=("uint8",))


@pytest.mark.parametrize(
    ("option", "text", "spec"),
    [
        (KIND, "vanilla", kinds.Vanilla()),
        (KIND, "multilayer:hidden=8,4:tied=true", kinds.Multilayer(hidden=(8, 4), tied=True)),
        (KIND, "multilayer:hidden=none:skip=no", kinds.Multilayer(hidden=None, skip=False)),
        (KIND, "regularized:hidden=:sparsity=1", kinds.Regularized(hidden=(), sparsity=1.0)),
        (KIND, "convolutional:channels=8", kinds.Convolutional(channels=(8,))),
        (LOSS, "huber=2", losses.Huber(delta=2.0)),
        (PENALTY, "l1=0.001", losses.L1(weight=0.001)),
        (PENALTY, "kl=0.1:target_rate=0.2", losses.KL(weight=0.1, target_rate=0.2)),
        (PENALTY, "contraction:probes=3", losses.Contraction(probes=3)),
        (CORRUPTION, "masking=0.2", corruptions.Masking(rate=0.2)),
        (CORRUPTION, "gaussian=1", corruptions.Gaussian(std=1.0)),
        (PRETRAINING, "pca", pretraining.PCA()),
        (PRETRAINING, "rbm:k=3:persistent=yes", pretraining.RBM(k=3, persistent=True)),
        (PRETRAINING, "autoencoder=5", pretraining.AutoencoderStack(epochs=5)),
        (OPTIMIZER, "adamw=0.01:betas=0.8,0.9", optim.AdamW(lr=0.01, betas=(0.8, 0.9))),
        (OPTIMIZER, "sgd:clip_norm=none", optim.SGD(clip_norm=None)),
    ],
)
def test_parts(option, text, spec):
    assert parse_part(option, text) == spec
    assert type(parse_part(option, text)) is type(spec)


def test_every_setting_of_the_estimator_can_be_asked_for():
    asked = estimator_arguments(TrainingOptions(), TABLE)
    elsewhere = {"n_components", "validation_fraction", "callbacks", "verbose", "checkpoint"}
    assert asked.keys() | elsewhere == Autoencoder().get_params(deep=False).keys()


def test_the_defaults_are_the_estimator_s():
    asked = estimator_arguments(TrainingOptions(), TABLE)
    defaults = Autoencoder(random_state=0).get_params(deep=False)
    assert asked == {name: defaults[name] for name in asked}


def test_shortcuts_set_a_part_s_own_settings():
    asked = estimator_arguments(TrainingOptions(hidden="30,20", lr=0.5, optimizer="sgd"), TABLE)
    assert asked["kind"] == kinds.Multilayer(hidden=(30, 20))
    assert asked["optimizer"] == optim.SGD(lr=0.5)
    asked = estimator_arguments(TrainingOptions(hidden="30", kind="regularized:denoising=0"), TABLE)
    assert asked["kind"] == kinds.Regularized(hidden=(30,), denoising=0)


def test_hidden_means_nothing_for_images_unless_a_kind_is_named():
    with pytest.raises(RequestError, match="the convolutional kind has no hidden layers"):
        estimator_arguments(TrainingOptions(hidden="30"), IMAGES)
    asked = estimator_arguments(TrainingOptions(hidden="30", kind="multilayer"), IMAGES)
    assert asked["kind"].hidden == (30,)


def test_lists_of_names_may_hold_commas():
    column_options = ColumnOptions(columns='a,"b,c",d e', drop="a")
    options = open_arguments(ReadingOptions(resize="32x48"), column_options)
    assert options["columns"] == ["a", "b,c", "d e"]
    assert options["drop"] == ["a"]
    assert options["resize"] == (32, 48)
    assert open_arguments(ReadingOptions(resize="9"))["resize"] == (9, 9)


def test_a_number_or_a_word():
    asked = estimator_arguments(TrainingOptions(batch_size="full", transform_max_iter="2"), TABLE)
    assert (asked["batch_size"], asked["transform_max_iter"]) == ("full", 2)
    assert estimator_arguments(TrainingOptions(batch_size="64"), TABLE)["batch_size"] == 64
    with pytest.raises(RequestError, match="--batch-size some: give a whole number, or full"):
        estimator_arguments(TrainingOptions(batch_size="some"), TABLE)
    with pytest.raises(
        RequestError, match=r"--transform-max-iter 1\.5: give a whole number, or au"
    ):
        estimator_arguments(TrainingOptions(transform_max_iter="1.5"), TABLE)
