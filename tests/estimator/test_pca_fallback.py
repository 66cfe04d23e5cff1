"""The guard keeps what beats PCA on new rows, not what chance or more rows would explain."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from isthmus import Autoencoder, kinds, load, optim
from isthmus.data.arrays import array_source
from isthmus.data.loading.rows import Rows
from isthmus.data.preparation.fit import fit_preparation
from isthmus.errors import DivergenceError
from isthmus.estimator.pca_fallback import _excess_within, beats_pca, pca_errors, why_pca
from isthmus.pretraining import principal_components
from isthmus.report import gather, render
from isthmus.training.engines.dense.adam_loop import AdamLoop
from isthmus.training.state import ALL_DONE, State
from isthmus.types import Network, Output

K = 3


class Shrinking(Network):
    """Rebuilds what PCA rebuilds plus a share of what PCA loses; the share may differ by row."""

    def __init__(self, solution, share):
        super().__init__()
        self.solution, self.share = solution, share

    def forward(self, x):
        components = self.solution.components
        near = (x - self.solution.mean) @ components.t() @ components + self.solution.mean
        share = torch.as_tensor(self.share).expand(len(x))[:, None]
        return Output(near + share * (x - near), x[:, :K])


@pytest.fixture(params=[0, 1, 2])
def parts(request):
    rng = np.random.default_rng(request.param)
    values = rng.normal(size=(200, K)) @ rng.normal(size=(K, 8)) + 0.3 * rng.normal(size=(200, 8))
    source = array_source(values)
    preparation = fit_preparation(source, np.arange(150), np.ones(150))
    chosen = [np.arange(150), np.arange(150, 200)]
    train, validation = (Rows(source, preparation, rows, dtype=torch.float64) for rows in chosen)
    return train, validation, principal_components(train, K)


def decision(parts, share):
    train, validation, solution = parts
    network = Shrinking(solution, share)

    def rebuild(x):
        return network(x).reconstruction

    return beats_pca(rebuild, network.clamp_output, train, validation, solution, distinct=50)


def test_pca_itself_does_not_beat_pca(parts):
    assert not decision(parts, 0.0)


def test_a_large_gain_is_kept(parts):
    assert decision(parts, 0.5)


def test_what_is_worse_is_not_kept(parts):
    assert not decision(parts, -0.1)


def test_a_gain_on_a_single_row_is_chance(parts):
    share = np.zeros(50)
    share[0] = 1.0
    assert not decision(parts, share)


def test_a_gain_that_more_rows_would_bring_is_not_kept(parts):
    train, validation, solution = parts
    mean_validation = float(pca_errors(solution, validation).mean())
    own = float(pca_errors(solution, train).mean())
    # Closed form: the training error of PCA is the variance it leaves out.
    left_out = (solution.total_variance - float(solution.scales.square().sum())) / 8
    assert own == pytest.approx(left_out, rel=1e-9)
    more_rows = 0.25 * (mean_validation - own) / 2
    if more_rows > 0:
        share = 1 - np.sqrt(1 - 0.9 * more_rows / mean_validation)
        assert not decision(parts, share)


def test_errors_agree_with_scikit_learn(parts):
    from sklearn.decomposition import PCA

    train, validation, solution = parts
    pca = PCA(K).fit(train.take(np.arange(150)).numpy())
    x = validation.take(np.arange(50)).numpy()
    expected = ((x - pca.inverse_transform(pca.transform(x))) ** 2).mean(axis=1)
    np.testing.assert_allclose(pca_errors(solution, validation).numpy(), expected, rtol=1e-9)


def test_new_rows_are_those_of_cross_validation_too(parts):
    """Of scikit-learn's PCA on eight parts; its excess is drawn down from n of 7 / 8 to all n."""
    from sklearn.decomposition import PCA

    train, _, solution = parts
    x, own = train.take(np.arange(150)).numpy(), 0.05
    total = 0.0
    for part in range(8):
        new = np.arange(150) % 8 == part
        pca = PCA(K).fit(x[~new])
        total += ((x[new] - pca.inverse_transform(pca.transform(x[new]))) ** 2).mean(axis=1).sum()
    found = _excess_within(solution, train, torch.positive, own)
    assert found == pytest.approx((total / 150 - own) * 2 / (1 + 8 / 7), rel=1e-9)


def test_what_pca_gains_from_more_rows_is_foreseen():
    """Closed enough: the mean over many draws of what a quarter more rows really bring."""
    rng = np.random.default_rng(0)
    foreseen, real = [], []
    for _ in range(40):
        back = rng.normal(size=(K, 12))
        values = rng.normal(size=(2100, K)) @ back + rng.normal(size=(2100, 12))
        source = array_source(values)
        preparation = fit_preparation(source, np.arange(75), np.ones(75))
        few, all_rows, new = (
            Rows(source, preparation, rows, dtype=torch.float64)
            for rows in (np.arange(75), np.arange(100), np.arange(100, 2100))
        )
        solution = principal_components(few, K)
        own = float(pca_errors(solution, few).mean())
        foreseen.append(0.25 * _excess_within(solution, few, torch.positive, own) / 2)
        more = principal_components(all_rows, K)
        real.append(float((pca_errors(solution, new) - pca_errors(more, new)).mean()))
    assert np.mean(foreseen) == pytest.approx(np.mean(real), rel=0.25)


def test_held_out_rows_that_lack_the_odd_ones_do_not_tell_alone():
    """As in ECG5000: a sure gain of a few percent, less than PCA itself gains from more rows."""
    rng = np.random.default_rng(1)
    values = 3 * rng.normal(size=(200, 3)) @ rng.normal(size=(3, 40))
    values += 0.3 * rng.normal(size=(200, 40))
    values[:10] += 2 * rng.normal(size=(10, 40))
    source = array_source(values)
    preparation = fit_preparation(source, np.arange(150), np.ones(150))
    chosen = [np.arange(150), np.arange(150, 200)]
    train, validation = (Rows(source, preparation, rows, dtype=torch.float64) for rows in chosen)
    solution = principal_components(train, 8)
    theirs, own = (float(pca_errors(solution, rows).mean()) for rows in (validation, train))
    assert theirs < own  # by the held-out rows alone, more rows would bring PCA nothing
    within = _excess_within(solution, train, torch.positive, own)
    more_rows = 0.25 * (0.75 * within + 0.25 * (theirs - own)) / 2
    assert more_rows > 0.1 * theirs
    share = 1 - np.sqrt(1 - 0.9 * more_rows / theirs)
    assert not decision((train, validation, solution), share)
    assert decision((train, validation, solution), 3 * share)


COPIES = {
    "one-hot": np.repeat(np.eye(4), (80, 60, 40, 20), axis=0),
    "many copies of few rows": np.repeat(np.random.default_rng(0).normal(size=(30, 8)), 40, axis=0),
    "mostly one row": np.concatenate(
        [np.zeros((300, 5)), np.random.default_rng(1).normal(size=(9, 5))]
    ),
    "three rows": np.random.default_rng(2).normal(size=(3, 6)),
    "eight rows": np.random.default_rng(3).normal(size=(8, 6)),
}


@pytest.mark.parametrize("rows", COPIES.values(), ids=COPIES.keys())
@pytest.mark.parametrize("kind", ["multilayer", "convolutional"])
def test_too_few_different_rows_to_judge_by_end_at_pca(rows, kind):
    from sklearn.decomposition import PCA

    from isthmus import Autoencoder

    model = Autoencoder(2, kind=kind, random_state=0, max_epochs=40).fit(rows)
    pca = PCA(2).fit(rows)
    rebuilt = pca.inverse_transform(pca.transform(rows))
    if len(rows) > 1000 or rows.max() == 1:  # each value comes many times
        rebuilt = rebuilt.clip(rows.min(axis=0), rows.max(axis=0))
    theirs = ((rows - rebuilt) ** 2).mean()
    assert model.reconstruction_error(rows) == pytest.approx(theirs, rel=1e-6, abs=1e-12)


def test_without_held_out_rows_on_request_training_is_trusted():
    from isthmus import Autoencoder

    rows = np.random.default_rng(2).normal(size=(8, 6))
    model = Autoencoder(1, validation_fraction=0, max_epochs=100, random_state=0).fit(rows)
    assert model.best_epoch_ > 0
    assert len(model.train_rows_) == 8


def test_a_return_to_pca_keeps_the_figures_of_unseen_rows():
    from sklearn.decomposition import PCA

    from isthmus import Autoencoder
    from isthmus.data.splitting.holdout import validation_split

    rows = 5 * np.random.default_rng(4).normal(size=(200, 6))
    split = validation_split(array_source(rows), np.arange(200), np.ones(200), 0.25, seed=0)
    model = Autoencoder(2, max_epochs=1, random_state=0).fit(
        rows, validation=rows[split.validation]
    )
    assert model.history_[-1]["event"] == "pca"
    assert "more epochs" in model.history_[-1]["message"]
    told = model.history_[-1]["validation"]
    pca = PCA(2).fit(rows)
    lost = pca.inverse_transform(pca.transform(rows[split.validation])) - rows[split.validation]
    around = rows[split.validation] - rows.mean(axis=0)
    assert told["rows"] == len(split.validation)
    assert told["error"] == pytest.approx((lost**2).mean(), rel=1e-9)
    explained = 1 - (lost**2).sum() / (around**2).sum()
    assert told["explained_variance"] == pytest.approx(explained, rel=1e-9)


def test_the_start_itself_is_no_gain(monkeypatch):
    from isthmus import Autoencoder

    rows = np.random.default_rng(4).normal(size=(200, 6))
    monkeypatch.setattr("isthmus.estimator.fit.beats_pca", lambda *_: True)
    # Steps too small to matter in one epoch of warm-up leave the start the best.
    monkeypatch.setattr("isthmus.training.trainer.Trainer._update_best", lambda *_: None)
    model = Autoencoder(2, max_epochs=2, random_state=0).fit(rows)
    assert model.best_epoch_ == 0
    assert model.history_[-1]["event"] == "pca"


def test_what_is_judged_is_what_the_model_will_do(monkeypatch):
    from isthmus import Autoencoder

    angles = np.random.default_rng(0).uniform(0, 2, size=(400, 2))
    rows = np.sin(angles @ np.random.default_rng(9).normal(size=(2, 12)))
    seen = {}

    def spy(rebuild, clamp_output, train, validation, *_):
        seen["rebuilt"] = rebuild(validation.take(np.arange(len(validation))))
        return True

    monkeypatch.setattr("isthmus.estimator.fit.beats_pca", spy)
    model = Autoencoder(2, max_epochs=40, random_state=0).fit(rows)
    assert model.facts_["transform_max_iter"] == 4
    judged = model.preparation_.decode(seen["rebuilt"])
    np.testing.assert_allclose(judged, model.reconstruct(rows[model.validation_rows_]), atol=1e-5)


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
