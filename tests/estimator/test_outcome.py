"""What is said of a fit when it is over."""

import pytest
from sklearn.datasets import load_digits

from isthmus import Autoencoder, optim


@pytest.fixture(scope="module")
def digits():
    return load_digits().data[:1500]


def last_message(model):
    (event,) = [record for record in model.history_ if record.get("event") == "pca"]
    return event["message"]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("lr", [1e6, 3e3])  # brought back four times; accepted at once
def test_who_diverged_is_not_told_to_go_on(digits, lr):
    fit = Autoencoder(8, max_epochs=5, random_state=0, optimizer=optim.SGD(lr=lr)).fit(digits)
    trained = [record["train"]["reconstruction"] for record in fit.history_ if "train" in record]
    rescues = sum(record.get("event") == "diverged" for record in fit.history_)
    assert rescues > 0 or trained[-1] > 1e6 * trained[0]
    assert "more epochs" not in last_message(fit)
    assert last_message(fit).endswith(
        "; training diverged, so a lower learning rate may gain something"
    )


def test_who_was_only_short_is(rng):
    fit = Autoencoder(2, max_epochs=1, random_state=0).fit(rng.normal(size=(200, 6)))
    assert last_message(fit).endswith("; more epochs may gain something")
