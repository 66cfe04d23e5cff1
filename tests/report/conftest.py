"""Small fits of every layout, each with its report data, made once."""

import numpy as np
import pandas as pd
import pytest

from isthmus import Autoencoder
from isthmus.data import array_source
from isthmus.report import gather

HOSTILE = "<script>window.hacked = true</script>"


def fit(rows, size, **settings):
    # Away from PCA at once, so that no fit ends as PCA of all rows.
    chosen = {"max_epochs": 3, "random_state": 0, "pretraining": "random"} | settings
    return Autoencoder(size, **chosen).fit(rows)


@pytest.fixture(scope="session")
def frame():
    rng = np.random.default_rng(1)
    hidden = rng.normal(size=(160, 2))
    return pd.DataFrame(
        {
            "height": hidden[:, 0] * 10 + 170 + rng.normal(size=160),
            "weight": hidden[:, 0] * 12 + 70 + rng.normal(size=160) * 3,
            HOSTILE: hidden[:, 1] + rng.normal(size=160) * 0.1,
            "children": rng.poisson(2, 160),
            "constant": np.full(160, 3.0),
        }
    )


@pytest.fixture(scope="session")
def table_fit(frame):
    return fit(frame, 2)


@pytest.fixture(scope="session")
def table_report(table_fit, frame):
    color = np.where(frame["height"] > 170, "tall & <b>strong</b>", "small")
    return gather(table_fit, frame, color=color, color_name=HOSTILE)


@pytest.fixture(scope="session")
def dim(digits):
    """Digits that use a sixteenth of the range of 8-bit images."""
    return digits[:300] // 16


@pytest.fixture(scope="session")
def images_fit(dim):
    return fit(dim, 6, kind="multilayer")


@pytest.fixture(scope="session")
def image_report(images_fit, dim, digit_labels):
    return gather(images_fit, dim, color=digit_labels[:300])


@pytest.fixture(scope="session")
def signals():
    rng = np.random.default_rng(2)
    phase = rng.uniform(0, 6, (120, 1, 1))
    time = np.linspace(0, 12, 50)[None, :, None]
    waves = np.sin(time + phase + np.array([0.0, 1.5])) + rng.normal(size=(120, 50, 2)) * 0.05
    return array_source(waves, layout="signal")


@pytest.fixture(scope="session")
def signal_report(signals):
    return gather(fit(signals, 3, kind="multilayer"), signals, color=np.linspace(0, 1, 120))
