"""The whole way from rows to a start at PCA, and to an end that is no worse."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from isthmus import Autoencoder, kinds
from isthmus.kinds import KINDS
from isthmus.losses import LOSSES
from isthmus.optim import Adam


def pca_error(X, n_components=2, rows=None):
    """The mean squared error of scikit-learn's PCA of some rows, on the others or on all."""
    flat = X.reshape(len(X), -1).astype(float)
    train = flat if rows is None else flat[rows]
    test = flat if rows is None else np.delete(flat, rows, axis=0)
    pca = PCA(n_components).fit(train)
    return ((test - pca.inverse_transform(pca.transform(test))) ** 2).mean()


def start(X, kind, **settings):
    """A fit of no epochs on all rows."""
    settings = {"max_epochs": 0, "validation_fraction": 0, "random_state": 0} | settings
    return Autoencoder(2, kind=kind, **settings).fit(X)


@pytest.mark.parametrize("loss", ["auto", "squared", "huber"])
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_starts_at_pca_by_default(images, name, loss):
    ae = start(images, name, loss=loss)
    assert ae.facts_["pretraining"] == "pca"
    assert ae.reconstruction_error(images) == pytest.approx(pca_error(images), rel=1e-8)
    np.testing.assert_allclose(ae.transform(images).std(axis=0), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "kind",
    [
        kinds.Vanilla(tied=True),
        kinds.Vanilla(tied=True, activation="relu"),
        kinds.Vanilla(activation="sigmoid"),
        kinds.Multilayer(hidden=(8,), tied=True),
        kinds.Regularized(hidden=(8,), tied=True),
    ],
    ids=str,
)
@pytest.mark.parametrize("epochs", [0, 3])
def test_unusual_networks_start_and_end_no_worse_than_pca(images, kind, epochs):
    ae = start(images, kind, max_epochs=epochs, validation_fraction=0.25)
    if len(ae.validation_rows_):
        validation = images[ae.validation_rows_]
        theirs = pca_error(images, rows=ae.train_rows_)
        assert ae.reconstruction_error(validation) <= 1.01 * theirs
    else:  # nothing was gained, and PCA learnt from all rows
        assert ae.reconstruction_error(images) <= 1.01 * pca_error(images)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_a_network_that_cannot_start_at_pca_does_not_pretend_to(images, activation):
    kind = kinds.Vanilla(tied=True, activation=activation)
    ae = start(images, kind, max_epochs=2, validation_fraction=0.25)
    assert ae.facts_["pretraining"] == "random"
    assert all("PCA" not in record.get("message", "") for record in ae.history_)
    with pytest.raises(ValueError, match="pretraining='pca' needs a network that can be linear"):
        start(images, kind, pretraining="pca")


@pytest.mark.parametrize(
    ("name", "pretraining"),
    [
        ("multilayer", "rbm"),
        ("regularized", "rbm"),
        ("multilayer", "autoencoder"),
        ("regularized", "autoencoder"),
        ("convolutional", "autoencoder"),
    ],
)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_kind_with_hidden_layers_starts_layer_by_layer(images, name, pretraining, loss):
    kind = KINDS[name](activation="sigmoid")
    settings = {"loss": loss, "pretraining": pretraining, "preparation": "unit"}
    ae = start(images, kind, **settings)
    assert ae.facts_["pretraining"] == pretraining
    layers = {record["layer"] for record in ae.history_ if "pretraining" in record}
    assert layers == set(range(1, ae.network_.encoder.depth + 1))
    # The linear path rests, and the very first step reaches it.
    path = ae.network_.linear.encode_weight
    assert not path.any()
    ae.partial_fit(images)
    assert path.any()


def test_a_bounded_network_keeps_what_it_learnt(rng):
    # Nothing here is above PCA, yet what was learnt is above where a bounded network starts.
    X = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 8)) + 0.3 * rng.normal(size=(200, 8))
    kind = kinds.Vanilla(output="bounded")
    begun = start(X, kind, validation_fraction=0.25)
    ended = start(X, kind, validation_fraction=0.25, max_epochs=30)
    validation = X[begun.validation_rows_]
    assert ended.best_epoch_ > 0
    assert ended.reconstruction_error(validation) < 0.99 * begun.reconstruction_error(validation)
    spread = 0.05 * np.ptp(X) + 1e-9
    assert X.min() - spread <= ended.reconstruct(X).min()
    assert ended.reconstruct(X).max() <= X.max() + spread


@pytest.mark.parametrize("output", ["auto", "linear", "bounded"])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_output_can_reach_the_datas_range(rng, loss, output):
    bits = rng.integers(0, 2, (200, 2))
    X = np.repeat(bits, 4, axis=1).astype(float)
    kind = kinds.Multilayer(hidden=(8,), output=output)
    ae = Autoencoder(
        2,
        kind=kind,
        loss=loss,
        preparation="unit",
        max_epochs=50,
        optimizer=Adam(lr=0.02),
        validation_fraction=0,  # a fit that never saw one of the four rows could not tell it
        random_state=0,
    )
    rebuilt = ae.fit(X).reconstruct(X)
    assert np.abs(rebuilt - X).max() < 0.1


@pytest.mark.parametrize("preparation", ["auto", "standard", "none"])
@pytest.mark.parametrize("name", KINDS)
def test_rows_that_are_all_the_same_are_a_code_of_nothing(name, preparation):
    X = np.full((30, 6), 0.1)
    ae = start(X, name, preparation=preparation)
    np.testing.assert_allclose(ae.reconstruct(X), X, atol=1e-6)
    assert np.abs(ae.transform(X)).max() < 10


@pytest.mark.parametrize("name", KINDS)
def test_weights_are_repetitions_at_the_start(images, rng, name):
    counts = rng.integers(0, 4, len(images))
    weighted = Autoencoder(2, kind=name, max_epochs=0, random_state=0).fit(
        images, sample_weight=counts
    )
    repeated = Autoencoder(2, kind=name, max_epochs=0, random_state=0).fit(
        np.repeat(images, counts, axis=0)
    )
    np.testing.assert_allclose(weighted.transform(images), repeated.transform(images), atol=1e-5)
