"""A tiny example of every registered part, and fits that use one each."""

from collections.abc import Callable

import numpy as np
import pytest

from isthmus import Autoencoder, corruptions, kinds, losses, optim, pretraining
from isthmus.spec import Spec

# Who adds a part to a registry adds an example here, and every test of this folder is for free.
TINY: dict[str, dict[str, Spec]] = {
    "kind": {
        "vanilla": kinds.Vanilla(activation="tanh"),
        "multilayer": kinds.Multilayer(hidden=(8,)),
        "regularized": kinds.Regularized(hidden=(8,), sparsity=0.01, contraction=0.01),
        "convolutional": kinds.Convolutional(channels=(3,)),
    },
    "loss": {
        "squared": losses.Squared(),
        "bernoulli": losses.Bernoulli(),
        "huber": losses.Huber(delta=0.7),
        "mixed": losses.Mixed(numeric="huber", delta=0.7),
    },
    "penalties": {
        "l1": losses.L1(weight=0.01),
        "kl": losses.KL(weight=0.01, target_rate=0.2),
        "contraction": losses.Contraction(weight=0.01, probes=2),
    },
    "corruption": {
        "gaussian": corruptions.Gaussian(std=0.2),
        "masking": corruptions.Masking(rate=0.3),
        "missing": corruptions.MissingValues(rate=0.2),
        "salt_and_pepper": corruptions.SaltAndPepper(rate=0.1),
        "swap": corruptions.SwapRows(rate=0.2),
    },
    "pretraining": {
        "pca": pretraining.PCA(),
        "random": pretraining.Random(),
        "lsuv": pretraining.LSUV(),
        "rbm": pretraining.RBM(epochs=3, k=2, persistent=True, batch_size=20),
        "autoencoder": pretraining.AutoencoderStack(epochs=3, masking_rate=0.1, batch_size=20),
    },
    "optimizer": {
        "sgd": optim.SGD(lr=0.02),
        "nesterov": optim.Nesterov(lr=0.02),
        "adam": optim.Adam(lr=0.01, betas=(0.8, 0.95)),
        "adamw": optim.AdamW(lr=0.01, schedule="linear"),
        "rmsprop": optim.RMSprop(lr=0.01, momentum=0.5),
        "muon": optim.Muon(lr=0.02, adamw_lr=0.01),
        "conjugate_gradient": optim.ConjugateGradient(update="hager_zhang", searches=2),
        "lbfgs": optim.LBFGS(iterations=2),
        "kfac": optim.KFAC(damping=0.1, inverse_interval=5),
    },
}


@pytest.fixture
def tiny() -> dict[str, dict[str, Spec]]:
    """A tiny example of every part, by slot and registered name."""
    return TINY


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """(60, 4, 5) grey images in [0, 1] that two numbers nearly tell."""
    rng = np.random.default_rng(7)
    hidden = rng.normal(size=(60, 2)) @ rng.normal(size=(2, 20))
    values = 1 / (1 + np.exp(-hidden - 0.1 * rng.normal(size=(60, 20))))
    values.flags.writeable = False
    return values.reshape(60, 4, 5)


@pytest.fixture
def fit(images) -> Callable[..., Autoencoder]:
    """fit(slot, part, ...) is a short fit with that part, from a random start."""

    def fitted(slot: str, part: Spec, *, resume=False, **settings) -> Autoencoder:
        own = {
            "kind": kinds.Multilayer(
                hidden=(8,), activation="sigmoid" if slot == "pretraining" else "silu"
            ),
            "loss": "squared",
            "pretraining": "random",
            "optimizer": optim.Adam(lr=0.01),
            "max_epochs": 4,
            "batch_size": 8,
            "random_state": 0,
            slot: (part,) if slot == "penalties" else part,
        }
        return Autoencoder(2, **(own | settings)).fit(images, resume=resume)

    return fitted
