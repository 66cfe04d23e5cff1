"""What is said of a fit when it is over."""

import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from isthmus import Autoencoder, kinds, load, optim
from isthmus.data.arrays import array_source
from isthmus.errors import DivergenceError
from isthmus.estimator.pca_fallback import why_pca
from isthmus.report import gather, render
from isthmus.training.engines.dense.adam_loop import AdamLoop
from isthmus.training.state import ALL_DONE, State


@pytest.fixture(scope="module")
def digits():
    return load_digits().data[:1500]


def last_message(model):
    (event,) = [record for record in model.history_ if record.get("event") == "pca"]
    return event["message"]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_who_diverged_is_brought_back(digits):
    fit = Autoencoder(8, max_epochs=5, random_state=0, optimizer=optim.SGD(lr=3e3)).fit(digits)
    trained = [record["train"]["reconstruction"] for record in fit.history_ if "train" in record]
    assert sum(record.get("event") == "diverged" for record in fit.history_) > 0
    # Outputs end where values end, and with them held-out losses: training rows alone told it.
    assert max(trained) < 1e4 * trained[0]


@pytest.mark.parametrize(
    ("restores", "trained", "ending"),
    [
        (0, 0.4, "; more epochs may gain something"),
        (1, 0.4, "; training diverged, so a lower learning rate may gain something"),
        (0, 11.0, "; training diverged, so a lower learning rate may gain something"),
    ],
)
def test_a_fit_that_diverged_needs_no_more_epochs(restores, trained, ending):
    records = [
        {"epoch": at, "train": {"reconstruction": loss}} for at, loss in ((0, 0.3), (1, trained))
    ]
    state = State(seed=0, restores=restores, ceiling=10.0, stopped=ALL_DONE, history=records)
    assert why_pca(state, 150, few_epochs=True).endswith(ending)
    assert "more epochs" not in why_pca(state, 150, few_epochs=False)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_who_cannot_be_brought_back_has_no_model(digits):
    fit = Autoencoder(8, max_epochs=5, random_state=0, optimizer=optim.SGD(lr=1e6))
    with pytest.raises(DivergenceError, match="diverged 6 times"):
        fit.fit(digits)


def test_who_was_only_short_is(rng):
    fit = Autoencoder(2, max_epochs=1, random_state=0).fit(rng.normal(size=(200, 6)))
    assert last_message(fit).endswith("; more epochs may gain something")


def test_who_came_back_to_pca_says_so(rng, tmp_path):
    rows = rng.normal(size=(200, 6))
    fit = Autoencoder(2, max_epochs=1, random_state=0).fit(rows)
    assert fit.facts_["outcome"] == (
        "PCA of all 200 rows, the 50 held out among them; training gained nothing over it"
    )
    assert (fit.facts_["training_rows"], fit.facts_["validation_rows"]) == (150, 50)
    # That is what it is: the model equals scikit-learn's PCA of all rows.
    assert len(fit.validation_rows_) == 0
    pca = PCA(2).fit(rows)
    rebuilt = pca.inverse_transform(pca.transform(rows))
    assert fit.reconstruction_error(rows) == pytest.approx(((rows - rebuilt) ** 2).mean())
    fit.save(tmp_path / "model")
    assert load(tmp_path / "model").facts_["outcome"] == fit.facts_["outcome"]
    shown = gather(fit, array_source(rows))["training"]
    assert (shown["outcome"], shown["validation_rows"]) == (fit.facts_["outcome"], 50)
    assert fit.facts_["outcome"] in render(gather(fit, array_source(rows)))
    assert fit.partial_fit(rows).facts_["outcome"].endswith("the last one by partial_fit")


def test_rows_given_to_judge_by_are_not_among_those_of_pca(rng):
    rows = rng.normal(size=(200, 6))
    fit = Autoencoder(2, max_epochs=1, random_state=0).fit(
        rows, validation=rng.normal(size=(50, 6))
    )
    assert fit.facts_["outcome"] == "PCA of all 200 rows; training gained nothing over it"
    assert (fit.facts_["training_rows"], fit.facts_["validation_rows"]) == (200, 0)


@pytest.mark.parametrize(
    ("settings", "outcome"),
    [
        ({"max_epochs": 0}, "the start, untrained"),
        ({"kind": kinds.Multilayer(hidden=(6,), skip=False), "max_epochs": 3}, "the network of"),
    ],
)
def test_others_say_what_they_are(rng, settings, outcome):
    fit = Autoencoder(2, random_state=0, **settings).fit(rng.normal(size=(100, 6)))
    number = "" if outcome.endswith("untrained") else f" epoch {fit.best_epoch_}"
    assert fit.facts_["outcome"] == outcome + number
    assert fit.facts_["training_rows"] == len(fit.train_rows_)
    assert fit.facts_["validation_rows"] == len(fit.validation_rows_) == 25


def test_too_few_rows_to_judge_by_are_said(rng):
    fit = Autoencoder(2, random_state=0).fit(rng.normal(size=(8, 6)))
    assert fit.facts_["outcome"] == (
        "PCA of all 8 rows, the 2 held out among them; "
        "too few different rows (2) were held out to show a gain over it"
    )


def test_the_engine_is_named(rng):
    """Averaged weights need each step, so that no engine takes several per call."""
    rows = rng.normal(size=(200, 6))
    fits = [
        Autoencoder(2, max_epochs=2, optimizer=optim.AdamW(ema_decay=ema_decay)).fit(rows)
        for ema_decay in (0.0, 0.9)
    ]
    assert [fit.facts_["engine"] for fit in fits] == [AdamLoop.name, "manual gradients"]
