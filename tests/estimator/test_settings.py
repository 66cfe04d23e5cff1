"""Every setting of a wrong type or range is refused by name, in one line, before any training."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone

from isthmus import Autoencoder, corruptions, kinds, load, losses, optim, pretraining
from isthmus.errors import RequestError
from isthmus.estimator.defaults import Decisions
from isthmus.estimator.fit import FitRun
from isthmus.estimator.resolve import resolve_patience
from isthmus.estimator.settings import folder_of, reporter_of
from isthmus.runtime.device import resolve_device
from isthmus.training.reporters import LineReporter, SilentReporter
from isthmus.training.trainer import Trainer

X = np.random.default_rng(0).normal(size=(30, 5))


def make(**settings):
    tiny = {"n_components": 2, "kind": "vanilla", "max_epochs": 1, "random_state": 0}
    return Autoencoder(**(tiny | settings))


def reason(model):
    """What fit says, which must be one line, said before a step is taken."""
    with pytest.raises(RequestError) as caught:
        model.fit(X)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def _no_training(monkeypatch):
    def refuse(trainer):
        raise AssertionError("training began")

    monkeypatch.setattr(Trainer, "run", refuse)


WHOLE = (2.5, 2.0, "2", True, np.False_, [2], np.array([2, 3]), np.nan, {}, object)
ARRAY = np.array(["auto", "auto"])

WRONG = {
    "n_components": [(WHOLE, "must be a whole number, or None"), ((0, -1), "must be a whole")],
    "max_epochs": [((*WHOLE, -1), "must be a whole number, at least 0, or None")],
    "batch_size": [
        ((*WHOLE, 0, -1), "must be a whole number, at least 1, 'full', or None"),
        (("all", "FULL"), "must be a whole number, at least 1, 'full', or None"),
    ],
    "transform_max_iter": [
        ((None, "4", "never", -1, 2.5, True, [4], {}), "must be 'auto' or a whole number, at le")
    ],
    "validation_fraction": [
        (
            (None, "0.1", "half", True, np.False_, 1, 1.0, -0.1, np.nan, np.inf, [0.1], ARRAY, {}),
            "must be 'auto' or a number, at least 0 and below 1",
        )
    ],
    "early_stopping": [
        (
            (None, "yes", 0, -1, 1.0, 2.5, [True], np.array([1, 2]), {}),
            "must be True, False, or a whole number, at least 1",
        )
    ],
    "penalties": [
        (("l1", losses.L1(weight=0.1), None, 3, {"l1": 0.1}, {"l1"}, losses.L1), "a sequence"),
        (((None,), (3,), ("l3",), ["l1", "l3"], (losses.L1,), (losses.Huber(),)), "is not known"),
    ],
    "callbacks": [((None, 3, print, "print", {"a": print}, (3,), [None]), "of functions, such as")],
    "n_init": [((0, -1, 1.5, "3", None, True, [], ARRAY), "a whole number, at least 1")],
    "verbose": [
        (
            (None, "yes", 1.0, [], {}, LineReporter, print, torch.zeros(2)),
            "must be 0, 1, or an object",
        )
    ],
    "checkpoint": [(("", 3, True, b"kept", ["kept"], {}), "must be the path of a folder, or None")],
    "kind": [((None, 3, [], {}, kinds.Vanilla, losses.L1(), ARRAY), "use one of 'vanilla'")],
    "loss": [((None, 3, [], {}, losses.Huber, losses.L1(), ARRAY), "use one of 'squared'")],
    "corruption": [
        (("auto", 3, [], {}, corruptions.Masking, losses.L1(), ARRAY), "one of 'gaussian'")
    ],
    "optimizer": [(("best", None, 3, [], {}, optim.Adam, 0.1, ARRAY), "use one of 'sgd'")],
    "pretraining": [
        ((None, 3, True, [], {}, "PCA", pretraining.RBM, ARRAY), "use one of 'pca', 'random'")
    ],
    "preparation": [((None, 3, True, [], {}, "rank", ARRAY), "not known; use one of auto, global")],
    "precision": [
        ((None, 64, [], {}, torch.float32, ARRAY), "not known; use one of auto, float64")
    ],
    "device": [
        ((None, 0, True, [], {}, b"cpu", ARRAY), "must be a name, such as"),
        (("meta", "meta:0"), "computes nothing; use 'cpu' or 'auto'"),
        (("", "abacus", "CPU", "hpu", "xla", "privateuseone"), "cannot be used here"),
    ],
    "random_state": [
        (("seed", 1.5, -1, 2**40, [1], {}, np.random.default_rng(0)), "must be a whole number from")
    ],
}
CASES = [
    (name, value, words)
    for name, groups in WRONG.items()
    for values, words in groups
    for value in values
]


@pytest.mark.usefixtures("_no_training")
@pytest.mark.parametrize(("name", "value", "words"), CASES)
def test_a_setting_of_a_wrong_type_or_range_is_named(name, value, words):
    said = reason(make(**{name: value}))
    assert f"{name}=" in said
    assert words in said


def test_every_setting_is_tried():
    assert WRONG.keys() == make().get_params(deep=False).keys()


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, value, _ in CASES])
def test_the_constructor_only_stores(name, value):
    assert getattr(make(**{name: value}), name) is value


@pytest.mark.parametrize(("name", "value"), [("batch_size", 0), ("penalties", "l1")])
def test_partial_fit_asks_the_same(tmp_path, name, value):
    with pytest.raises(RequestError, match=f"{name}="):
        make(**{name: value}).partial_fit(X)
    make().fit(X).save(tmp_path / "model")
    with pytest.raises(RequestError, match=f"{name}="):
        load(tmp_path / "model").set_params(**{name: value}).partial_fit(X)


@pytest.mark.usefixtures("_no_training")
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"optimizer": optim.AdamW(lr="0.1")}, "AdamW: lr='0.1' must be a number; found str"),
        ({"optimizer": optim.Adam(betas=0.9)}, "Adam: betas=0.9 must be a tuple"),
        ({"optimizer": optim.Adam(betas=("a", "b"))}, "Adam: betas=('a', 'b') must be a tuple"),
        ({"optimizer": optim.SGD(schedule=["linear"])}, "SGD: schedule=['linear'] must be text"),
        ({"optimizer": optim.SGD(clip_norm="1")}, "SGD: clip_norm='1' must be a number or None"),
        ({"penalties": [losses.L1(weight=np.inf)]}, "L1: weight=inf must be a number; found inf"),
        ({"penalties": [losses.L1(weight=None)]}, "L1: weight=None must be a number"),
        (
            {"penalties": [losses.Contraction(probes=1.5)]},
            "Contraction: probes=1.5 must be a whole",
        ),
        ({"loss": losses.Huber(delta="1")}, "Huber: delta='1' must be a number"),
        ({"corruption": corruptions.Masking(rate=None)}, "Masking: rate=None must be a number"),
        ({"corruption": corruptions.Gaussian(std=np.nan)}, "Gaussian: std=nan must be a number"),
        ({"kind": kinds.Multilayer(dropout="0")}, "Multilayer: dropout='0' must be a number"),
        ({"kind": kinds.Multilayer(skip="no")}, "Multilayer: skip='no' must be True or False"),
        ({"kind": kinds.Multilayer(activation=["relu"])}, "activation=['relu'] must be text"),
        ({"kind": kinds.Multilayer(hidden=(8, "4"))}, "hidden=(8, '4') must be a tuple"),
        ({"kind": kinds.Multilayer(hidden=64)}, "hidden=64 must be a tuple of widths, such as (64"),
        ({"kind": kinds.Regularized(hidden="64")}, "hidden='64' must be a tuple of widths"),
        ({"kind": kinds.Convolutional(kernel_size="3")}, "kernel_size='3' must be a whole number"),
        ({"kind": kinds.Regularized(sparsity="1")}, "Regularized: sparsity='1' must be a number"),
        ({"penalties": "l1"}, "penalties='l1' must be a sequence, such as ('l1',)"),
        (
            {"penalties": losses.L1(weight=0.1)},
            "penalties=L1(weight=0.1) must be a sequence, such as (L1(weight=0.1),)",
        ),
        ({"penalties": {"l1": 1}}, "penalties={'l1': 1} must be a sequence, such as ('l1',)"),
    ],
)
def test_a_setting_of_a_part_of_a_wrong_type_is_named(settings, said):
    assert said in reason(make(**settings))


def a_callback(record):
    return record["epoch"] > 0


@pytest.mark.parametrize(
    "settings",
    [
        {"n_components": np.int64(2), "max_epochs": np.int32(1), "batch_size": np.uint8(16)},
        {"n_components": None, "max_epochs": 0, "batch_size": None},
        {"validation_fraction": 0},
        {"validation_fraction": np.float32(0.25), "early_stopping": np.int64(3)},
        {"penalties": ["l1", losses.KL(weight=np.float64(0.1))], "callbacks": [a_callback]},
        {"penalties": np.array(["l1", "kl"]), "callbacks": (a_callback, a_callback)},
        {"verbose": np.False_, "device": "cpu", "random_state": np.int64(5)},
        {"verbose": np.int64(0), "random_state": np.random.RandomState(5)},
        {"verbose": SilentReporter(), "corruption": "swap", "precision": np.str_("float32")},
        {"kind": kinds.Multilayer(hidden=np.array([8, 4]), skip=np.True_)},
        {"optimizer": optim.Adam(lr=1, betas=np.array([0.9, 0.99]), clip_norm=None)},
        {"device": "cpu:0"},
        {"device": torch.device("cpu")},
    ],
)
def test_legal_settings_pass_and_are_saved(tmp_path, settings):
    model = clone(make(**settings)).fit(X)
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").transform(X), model.transform(X))


@pytest.mark.parametrize("value", [True, False])
def test_numpys_truth_stops_as_pythons_does(value):
    fits = [make(early_stopping=v, max_epochs=30).fit(X) for v in (value, np.bool_(value))]
    assert fits[0].facts_.keys() == fits[1].facts_.keys()
    assert fits[0].facts_["epochs"] == fits[1].facts_["epochs"]
    assert fits[0].facts_["stopped"] == fits[1].facts_["stopped"]


@pytest.mark.parametrize(
    ("value", "patience"), [(True, 500), (np.True_, 500), (False, None), (np.False_, None), (7, 7)]
)
def test_how_long_early_stopping_waits(value, patience):
    settings = replace(make()._settings(resume=False), early_stopping=value)
    assert resolve_patience(settings, 5, 27, 64, Decisions()) == patience


def test_verbose_is_a_number_or_a_reporter():
    assert all(
        type(reporter_of(value)) is LineReporter for value in (True, 1, 2, np.True_, np.int8(1))
    )
    assert all(type(reporter_of(value)) is SilentReporter for value in (False, 0, np.False_))
    own = LineReporter()
    assert reporter_of(own) is own


def test_a_checkpoint_is_any_path(tmp_path):
    assert folder_of(None) is None
    assert folder_of("kept") == folder_of(Path("kept")) == Path("kept")
    assert folder_of(np.str_("kept")) == Path("kept")
    make(checkpoint=tmp_path / "not" / "yet" / "there").fit(X)
    make(checkpoint=str(tmp_path)).fit(X)


def a_file(folder):
    (folder / "file").write_text("precious")
    return folder / "file"


@pytest.mark.usefixtures("_no_training")
@pytest.mark.parametrize(
    "place",
    [
        a_file,
        lambda folder: a_file(folder) / "below",
        lambda folder: "/dev/null",
        lambda folder: "/dev/null/kept",
        lambda folder: folder / ("long" * 99),
        lambda folder: "zero\0byte",
    ],
    ids=["file", "below a file", "device", "below a device", "long", "zero"],
)
def test_a_checkpoint_that_cannot_be_a_folder_is_named_at_once(tmp_path, place):
    said = reason(make(checkpoint=place(tmp_path)))
    assert said.startswith("checkpoint='")
    assert "cannot be a folder to write into (" in said
    assert {path.name for path in tmp_path.iterdir()} <= {"file"}


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no /proc here")
def test_a_checkpoint_where_nobody_may_write_is_named_at_once():
    assert "cannot be a folder to write into" in reason(make(checkpoint="/proc/kept"))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_checkpoint_in_a_folder_that_is_read_only_is_named_at_once(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o555)
    assert "Permission denied" in reason(make(checkpoint=tmp_path / "closed" / "kept"))


def test_who_has_no_checkpoint_cannot_go_on_from_it():
    with pytest.raises(RequestError, match="the estimator has none; give checkpoint="):
        make().fit(X, resume=True)


def test_asking_for_a_checkpoint_leaves_nothing_behind(tmp_path, monkeypatch):
    def stop(fitting):
        raise InterruptedError

    monkeypatch.setattr(FitRun, "run", stop)
    with pytest.raises(InterruptedError):
        make(checkpoint=tmp_path / "a" / "b").fit(X)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["auto", "cpu", "cpu:0"])
def test_a_device_that_computes_is_taken(name):
    assert isinstance(resolve_device(name), torch.device)


def test_a_numpy_learning_rate_is_saved_as_a_number(tmp_path):
    rows = np.random.default_rng(0).normal(size=(60, 4))
    model = Autoencoder(2, optimizer=optim.AdamW(lr=np.float32(0.01)), max_epochs=2)
    model.fit(rows).save(tmp_path / "model")
    rates = [record["lr"] for record in model.history_ if "lr" in record]
    assert [type(rate) for rate in rates] == [float, float]
    assert load(tmp_path / "model").history_ == model.history_
