"""What every registered part owes a fit, and proof that each check finds a planted fault."""

import copy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from isthmus import Autoencoder, kinds, load
from isthmus.corruptions import CORRUPTIONS
from isthmus.errors import DivergenceError
from isthmus.kinds import KINDS
from isthmus.losses import L1, LOSSES, PENALTIES
from isthmus.optim import OPTIMIZERS, Adam
from isthmus.pretraining import PRETRAININGS

REGISTRIES = {
    "kind": KINDS,
    "loss": LOSSES,
    "penalties": PENALTIES,
    "corruption": CORRUPTIONS,
    "pretraining": PRETRAININGS,
    "optimizer": OPTIMIZERS,
}
every_part = pytest.mark.parametrize(
    ("slot", "name"), [(slot, name) for slot, registry in REGISTRIES.items() for name in registry]
)
# A fit that starts at PCA may rightly end there, wherever its seed would have led it.
every_other_part = pytest.mark.parametrize(
    ("slot", "name"),
    [(slot, name) for slot, registry in REGISTRIES.items() for name in registry if name != "pca"],
)
every_kind = pytest.mark.parametrize("name", KINDS)


def weights(ae):
    return ae.network_.state_dict()


def same_bits(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


def check_seeds(fit, slot, part):
    first, again = fit(slot, part, random_state=3), fit(slot, part, random_state=3)
    assert same_bits(weights(first), weights(again))
    losses = [[r["train"] for r in ae.history_ if "train" in r] for ae in (first, again)]
    assert losses[0] == losses[1]
    assert not same_bits(weights(first), weights(fit(slot, part, random_state=4)))


def check_saved(fit, slot, part, images, folder):
    ae = fit(slot, part)
    ae.save(folder)
    again = load(folder, specs=[type(part)])
    assert same_bits(weights(ae), weights(again))
    np.testing.assert_array_equal(again.transform(images), ae.transform(images))
    np.testing.assert_array_equal(again.reconstruct(images), ae.reconstruct(images))
    np.testing.assert_array_equal(again.score_samples(images), ae.score_samples(images))


def check_moves(fit, slot, part):
    """Every single weight tensor takes part in training (Adam alone would not decay it)."""
    start, end = fit(slot, part, max_epochs=0), fit(slot, part, early_stopping=False)
    still = [name for name, w in weights(end).items() if torch.equal(w, weights(start)[name])]
    assert still == []
    assert all(w.isfinite().all() for w in weights(end).values())


def check_falls(fit, slot, part):
    ae = fit(slot, part, max_epochs=25, validation_fraction=0)
    losses = [sum(record["train"].values()) for record in ae.history_ if "train" in record]
    assert np.isfinite(losses).all()
    assert min(losses[1:]) < 0.9 * losses[0]
    assert losses[-1] < losses[0]


def check_batches(fit, slot, part, images, monkeypatch):
    ae = fit(slot, part)
    codes, scores = ae.transform(images), ae.score_samples(images)
    order = np.random.default_rng(1).permutation(len(images))

    def check(found_codes, found_scores):
        np.testing.assert_allclose(found_codes, codes, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found_scores, scores, rtol=1e-6, atol=1e-9)

    back = np.argsort(order)
    check(ae.transform(images[order])[back], ae.score_samples(images[order])[back])
    one = [(ae.transform(row[None])[0], ae.score_samples(row[None])[0]) for row in images]
    check(*map(np.array, zip(*one, strict=True)))
    monkeypatch.setattr("isthmus.data.loading.rows.ROWS_AT_ONCE", 7)
    check(ae.transform(images), ae.score_samples(images))
    torch.set_num_threads(2)
    try:
        check(ae.transform(images), ae.score_samples(images))
    finally:
        torch.set_num_threads(1)


def check_zero_weight(fit, part, beside, **settings):
    """A penalty of weight 0 leaves every bit as it is, but for its own line in the history."""
    without = fit("penalties", part, penalties=beside, **settings)
    beside_it = fit("penalties", part, penalties=(part, *beside), **settings)
    assert same_bits(weights(without), weights(beside_it))
    assert without.best_epoch_ == beside_it.best_epoch_
    extra = beside_it.history_[0]["train"].keys() - without.history_[0]["train"].keys()
    assert len(extra) == 1


@every_other_part
def test_the_seed_decides_every_bit(fit, tiny, slot, name):
    check_seeds(fit, slot, tiny[slot][name])


@every_part
def test_saved_and_loaded_is_the_same(fit, tiny, slot, name, images, tmp_path):
    check_saved(fit, slot, tiny[slot][name], images, tmp_path / "model")


@every_other_part
def test_every_weight_moves_and_stays_finite(fit, tiny, slot, name):
    check_moves(fit, slot, tiny[slot][name])


@every_other_part
def test_the_loss_falls(fit, tiny, slot, name):
    check_falls(fit, slot, tiny[slot][name])


@every_kind
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_codes_and_scores_do_not_depend_on_the_batch(
    fit, tiny, name, images, precision, monkeypatch
):
    def one(slot, part):
        return fit(slot, part, precision=precision)

    check_batches(one, "kind", tiny["kind"][name], images, monkeypatch)


@every_kind
def test_codes_are_the_same_each_time(fit, tiny, name, images):
    part = type(tiny["kind"][name])(**tiny["kind"][name].get_params() | {"dropout": 0.4})
    ae = fit("kind", part, corruption="masking")
    np.testing.assert_array_equal(ae.transform(images), ae.transform(images))
    ae.partial_fit(images)
    np.testing.assert_array_equal(ae.reconstruct(images), ae.reconstruct(images))


def test_a_failed_partial_fit_leaves_the_model_as_it_was(fit, images):
    ae = fit("kind", kinds.Multilayer(hidden=(8,), dropout=0.4))
    codes, before = ae.transform(images), copy.deepcopy(weights(ae))
    with pytest.raises(DivergenceError):
        ae.partial_fit(1e200 * images)
    np.testing.assert_array_equal(ae.transform(images), codes)
    assert same_bits(weights(ae), before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PENALTIES)
def test_a_penalty_without_weight_changes_nothing(fit, tiny, name, kind):
    part = PENALTIES[name](weight=0.0)
    check_zero_weight(fit, part, (), kind=tiny["kind"][kind], corruption="masking")


@pytest.mark.parametrize("name", PENALTIES)
def test_nor_does_it_take_luck_from_others_or_pca_from_the_fit(fit, name):
    part, contraction = PENALTIES[name](weight=0.0), PENALTIES["contraction"](weight=0.1)
    check_zero_weight(fit, part, (contraction,))
    check_zero_weight(fit, part, (), pretraining="auto", max_epochs=1)


def test_a_linear_autoencoder_reaches_pca_from_anywhere(rng):
    X = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 8)) + 0.3 * rng.normal(size=(200, 8))
    pca = PCA(3).fit(X)
    best = ((X - pca.inverse_transform(pca.transform(X))) ** 2).mean()
    for tied in (False, True):
        ae = Autoencoder(
            3,
            kind=kinds.Vanilla(tied=tied),
            pretraining="random",
            optimizer=Adam(lr=0.02),
            max_epochs=150,
            validation_fraction=0,
            random_state=0,
        )
        ours = ae.fit(X).reconstruction_error(X)
        assert best <= ours * (1 + 1e-9)
        assert ours <= 1.01 * best


# Planted faults: each breaks one promise, and its check must say so.


@dataclass(kw_only=True)
class Deaf(kinds.Vanilla):
    """An encoder that no gradient reaches."""

    def build(self, facts, n_components):
        network = super().build(facts, n_components)
        listen = network.linear.encode
        network.linear.encode = lambda x: listen(x).detach()
        return network


@dataclass(kw_only=True)
class Moody(kinds.Vanilla):
    """Weights that the seed does not decide."""

    def build(self, facts, n_components):
        network = super().build(facts, n_components)
        nn.init.constant_(network.linear.encode_bias, float(np.random.default_rng().normal()))
        return network


@dataclass(kw_only=True)
class Sociable(kinds.Vanilla):
    """A code that depends on the other rows of the batch."""

    def build(self, facts, n_components):
        network = super().build(facts, n_components)
        alone = network.linear.encode
        network.linear.encode = lambda x: alone(x - x.mean(dim=0))
        return network


class Secretive(nn.Module):
    """Counts the batches it was trained on where no state_dict shows."""

    seen = 0

    def forward(self, code):
        self.seen += self.training
        return code + 0.01 * self.seen


@dataclass(kw_only=True)
class Forgetful(kinds.Vanilla):
    """A network with something learnt that is not saved."""

    def build(self, facts, n_components):
        network = super().build(facts, n_components)
        network.code_activation = Secretive()
        return network


@dataclass(kw_only=True)
class Greedy(L1):
    """A penalty that uses up randomness even without weight."""

    def __call__(self, step):
        return (
            self.weight * torch.rand_like(step.output.code).mean() + 1e-3 * step.output.code.mean()
        )


def test_planted_faults_are_found(fit, images, tmp_path, monkeypatch):
    with pytest.raises(AssertionError, match="encode_weight"):
        check_moves(fit, "kind", Deaf())
    with pytest.raises(AssertionError):
        check_seeds(fit, "kind", Moody())
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_batches(fit, "kind", Sociable(), images, monkeypatch)
    with pytest.raises(AssertionError, match="Arrays are not equal"):
        check_saved(fit, "kind", Forgetful(), images, tmp_path / "model")
    with pytest.raises(AssertionError):
        check_zero_weight(fit, Greedy(weight=0.0), ())
    with pytest.raises(AssertionError):
        check_falls(fit, "optimizer", Adam(lr=1e-12))


@every_kind
def test_the_kind_in_use_tells_the_sizes_that_were_chosen(name, images):
    ae = Autoencoder(3, kind=name, max_epochs=0, random_state=0).fit(images)
    assert None not in (getattr(ae.kind_, size, ()) for size in ("hidden", "channels"))
    again = Autoencoder(3, kind=ae.kind_, max_epochs=0, random_state=0).fit(images)
    assert same_bits(weights(ae), weights(again))
