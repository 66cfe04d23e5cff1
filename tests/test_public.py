"""The public names are these, reached without importing torch until one is used."""

import subprocess
import sys

import pytest

import isthmus
from isthmus import corruptions, data, kinds, losses, optim, pretraining


def test_public_names():
    assert isthmus.__all__ == [
        *(
            "Autoencoder",
            "OutlierDetector",
            "SearchCV",
            "corruptions",
            "data",
            "fit_together",
            "kinds",
            "load",
            "losses",
            "optim",
            "pretraining",
        )
    ]
    assert all(getattr(isthmus, name) is not None for name in isthmus.__all__)
    assert dir(isthmus) == isthmus.__all__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Decoder'"):
        _ = isthmus.Decoder


def test_registries():
    assert list(kinds.KINDS) == ["vanilla", "multilayer", "regularized", "convolutional"]
    assert list(losses.LOSSES) == ["squared", "bernoulli", "huber", "mixed"]
    assert list(losses.PENALTIES) == ["l1", "kl", "contraction"]
    assert list(corruptions.CORRUPTIONS) == [
        "gaussian",
        "masking",
        "missing",
        "salt_and_pepper",
        "swap",
    ]
    assert list(pretraining.PRETRAININGS) == ["pca", "random", "lsuv", "rbm", "autoencoder"]
    assert list(optim.OPTIMIZERS) == [
        *("sgd", "nesterov", "rmsprop", "adam", "adamw", "muon"),
        *("conjugate_gradient", "lbfgs", "kfac"),
    ]


def test_importing_isthmus_imports_nothing_heavy():
    code = "import sys, isthmus; print(sorted({'torch', 'sklearn', 'pandas'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_public_names_of_data():
    assert data.__all__ == [
        *("FORMATS", "Column", "Preparation", "RecordingSource", "Schema", "Source"),
        *("array_source", "frame_source", "open_source", "series", "sparse_source"),
        *("tensor_source", "windows"),
    ]
    assert all(getattr(data, name) is not None for name in data.__all__)
