"""One dense or convolutional network, trained by each library with equal widths and batches.

Each function trains on float32 rows (n, D) or images (n, C, H, W) for a number of epochs. All use
Adam, the squared error and a learning rate of 0.001. Each returns a function that reconstructs
rows. `speed.py` runs each of them in its own process.
"""

import contextlib
import io
import itertools
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Rows = NDArray[np.float32]
Reconstruct = Callable[[Rows], Rows]
RATE = 0.001
VALIDATION_ROWS = 256
"""Rows that isthmus evaluates after each epoch; the other libraries evaluate none."""


class Size(NamedTuple):
    """The layers of a network and the settings of its training."""

    shape: tuple[int, ...]
    """The shape of a row (D,) or of an image (C, H, W)."""

    hidden: tuple[int, ...]
    """Widths of the hidden layers of the encoder, or channels of its convolutions."""

    code: int
    batch: int
    rows: int
    epochs: int

    @property
    def widths(self) -> list[int]:
        """The widths of all layers of a dense network, from input to output."""
        encoder = [int(np.prod(self.shape)), *self.hidden, self.code]
        return encoder + encoder[-2::-1]

    @property
    def sides(self) -> list[int]:
        """The side of the feature maps before and after each convolution, in pixels."""
        sides = [self.shape[1]]
        for _ in self.hidden:
            sides.append((sides[-1] + 1) // 2)
        return sides

    @property
    def products(self) -> int:
        """Multiply-adds per row in a forward pass."""
        if len(self.shape) == 1:
            return sum(a * b for a, b in itertools.pairwise(self.widths))
        maps, sides = [self.shape[0], *self.hidden], self.sides
        stages = zip(itertools.pairwise(maps), sides[1:], strict=True)
        convolutions = sum(9 * a * b * side**2 for (a, b), side in stages)
        return 2 * (convolutions + maps[-1] * sides[-1] ** 2 * self.code)


def isthmus(size: Size, rows: Rows, epochs: int, device: str = "cpu") -> Reconstruct:
    """The isthmus library, with everything but training switched off."""
    from isthmus import Autoencoder, kinds, optim

    kind: Any = kinds.Multilayer(hidden=size.hidden, activation="relu", skip=False)
    if len(size.shape) > 1:
        kind = kinds.Convolutional(channels=size.hidden, activation="relu", skip=False)
    if not size.hidden:
        kind = kinds.Vanilla()
    fitted = Autoencoder(
        size.code,
        kind=kind,
        optimizer=optim.Adam(lr=RATE, schedule="constant"),
        pretraining="random",
        preparation="none",
        batch_size=size.batch,
        max_epochs=epochs,
        early_stopping=False,
        transform_max_iter=0,
        random_state=0,
        device=device,
    ).fit(rows, validation=rows[:VALIDATION_ROWS])
    return lambda x: np.asarray(fitted.reconstruct(x), np.float32)


def dense(size: Size) -> nn.Sequential:
    """The dense or convolutional network of a size in plain PyTorch."""
    if len(size.shape) > 1:
        return convolutional(size)
    widths, middle = size.widths, len(size.hidden) + 1
    layers: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(itertools.pairwise(widths), 1):
        layers.append(nn.Linear(inputs, outputs))
        if number not in (middle, len(widths) - 1):
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def convolutional(size: Size) -> nn.Sequential:
    """Convolutions of width 3 and stride 2, a dense code, and a mirrored decoder."""
    maps, sides = [size.shape[0], *size.hidden], size.sides
    encoder: list[nn.Module] = []
    decoder: list[nn.Module] = []
    stages = zip(itertools.pairwise(maps), itertools.pairwise(sides), strict=True)
    for (before, after), (large, small) in stages:
        encoder += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
        padding = large - (2 * small - 1)
        transposed = nn.ConvTranspose2d(after, before, 3, 2, padding=1, output_padding=padding)
        decoder = [nn.ReLU(), transposed, *decoder]
    flat_width = maps[-1] * sides[-1] ** 2
    code = [nn.Flatten(), nn.Linear(flat_width, size.code), nn.Linear(size.code, flat_width)]
    return nn.Sequential(
        *encoder, *code, nn.Unflatten(1, (maps[-1], sides[-1], sides[-1])), *decoder
    )


def _by_torch(network: nn.Module) -> Reconstruct:
    @torch.no_grad()
    def reconstruct(x: Rows) -> Rows:
        network.eval()
        return network(torch.from_numpy(x)).float().numpy()

    return reconstruct


def tutorial(size: Size, rows: Rows, epochs: int) -> Reconstruct:
    """PyTorch as in its tutorials: a DataLoader, Adam and a loop."""
    torch.manual_seed(0)
    network = dense(size)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    data = torch.utils.data.TensorDataset(torch.from_numpy(rows))
    loader = torch.utils.data.DataLoader(data, batch_size=size.batch, shuffle=True)
    loss = nn.MSELoss()
    for _ in range(epochs):
        for (x,) in loader:
            optimizer.zero_grad()
            loss(network(x), x).backward()
            optimizer.step()
    return _by_torch(network)


def tuned(size: Size, rows: Rows, epochs: int, *, bf16: bool, channels_last: bool) -> Reconstruct:
    """PyTorch tuned by hand: batches sliced from a tensor, fused Adam, optionally bf16."""
    torch.manual_seed(0)
    network, x = dense(size), torch.from_numpy(rows)
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE, fused=True)
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for start in range(0, len(x), size.batch):
            batch = x[order[start : start + size.batch]]
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                out = network(batch)
            nn.functional.mse_loss(out.float(), batch).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    return _by_torch(network)


def tuned_gpu(
    size: Size, rows: Rows, epochs: int, *, bf16: bool, compiled: bool, device: str
) -> Reconstruct:
    """Tuned PyTorch on a GPU that holds all rows; `compiled` steps use CUDA graphs."""
    torch.manual_seed(0)
    network, x = dense(size).to(device), torch.from_numpy(rows).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE, fused=True)

    def gradients(batch: torch.Tensor) -> None:
        with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
            out = network(batch)
        nn.functional.mse_loss(out.float(), batch).backward()

    step = torch.compile(gradients, mode="reduce-overhead") if compiled else gradients
    for _ in range(epochs):
        order = torch.randperm(len(x), device=device)
        for start in range(0, len(x), size.batch):
            step(x[order[start : start + size.batch]])
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    torch.cuda.synchronize()
    network.cpu()
    return _by_torch(network)


def perceptron(size: Size, epochs: int, rate: float) -> Any:
    """An MLPRegressor of scikit-learn that trains for all epochs, without early stopping."""
    from sklearn.neural_network import MLPRegressor

    return MLPRegressor(
        hidden_layer_sizes=tuple(size.widths[1:-1]),
        batch_size=size.batch,
        learning_rate_init=rate,
        alpha=0.0,
        max_iter=epochs,
        tol=0.0,
        n_iter_no_change=epochs + 1,
        random_state=0,
    )


def scikit_learn(size: Size, rows: Rows, epochs: int) -> Reconstruct:
    """An MLPRegressor that predicts its own input; all its hidden layers have the activation."""
    fitted = perceptron(size, epochs, RATE).fit(rows, rows)
    return lambda x: np.asarray(fitted.predict(x), np.float32)


def skorch(size: Size, rows: Rows, epochs: int) -> Reconstruct:
    """A skorch network without a validation split and without a printed log."""
    from skorch import NeuralNetRegressor

    torch.manual_seed(0)
    fitted = NeuralNetRegressor(
        dense(size),
        optimizer=torch.optim.Adam,
        lr=RATE,
        batch_size=size.batch,
        max_epochs=epochs,
        train_split=None,
        iterator_train__shuffle=True,
        verbose=0,
    ).fit(rows, rows)
    return lambda x: np.asarray(fitted.predict(x), np.float32)


def pythae(size: Size, rows: Rows, epochs: int) -> Reconstruct:
    """The AE of pythae with the encoder and decoder of `dense`."""
    from pythae.models import AE, AEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.pipelines import TrainingPipeline
    from pythae.trainers import BaseTrainerConfig

    layers = list(dense(size).children())
    middle = 2 * len(size.hidden) + 1

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(*layers[:middle])

        def forward(self, x: torch.Tensor) -> Any:
            return ModelOutput(embedding=self.layers(x))

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(*layers[middle:])

        def forward(self, z: torch.Tensor) -> Any:
            return ModelOutput(reconstruction=self.layers(z))

    model = AE(AEConfig(input_dim=size.shape, latent_dim=size.code), Encoder(), Decoder())
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        config = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=epochs,
            learning_rate=RATE,
            per_device_train_batch_size=size.batch,
            no_cuda=True,
        )
        TrainingPipeline(training_config=config, model=model)(train_data=rows)
    return lambda x: model.reconstruct(torch.from_numpy(x)).detach().numpy()


def pyod(size: Size, rows: Rows, epochs: int) -> Reconstruct:
    """The AutoEncoder of PyOD without dropout, batch norm and scaling."""
    from pyod.models.auto_encoder import AutoEncoder

    fitted = AutoEncoder(
        preprocessing=False,
        lr=RATE,
        epoch_num=epochs,
        batch_size=size.batch,
        optimizer_params={"weight_decay": 0.0},
        hidden_neuron_list=[*size.hidden, size.code],
        batch_norm=False,
        dropout_rate=0.0,
        random_state=0,
        verbose=0,
    ).fit(rows)
    return _by_torch(fitted.model)


def keras(size: Size, rows: Rows, epochs: int) -> Reconstruct:
    """Keras on JAX with compiled steps."""
    import keras as k

    k.utils.set_random_seed(0)
    widths, middle = size.widths[1:], len(size.hidden)
    last = len(widths) - 1
    acts = [None if layer in (middle, last) else "relu" for layer in range(len(widths))]
    model = k.Sequential(
        [k.Input(size.shape)]
        + [k.layers.Dense(width, activation=act) for width, act in zip(widths, acts, strict=True)]
    )
    model.compile(optimizer=k.optimizers.Adam(RATE), loss="mse")
    model.fit(rows, rows, batch_size=size.batch, epochs=epochs, verbose=0)
    return lambda x: np.asarray(model.predict(x, verbose=0, batch_size=4096))


def jax(size: Size, rows: Rows, epochs: int) -> Reconstruct:
    """JAX by hand, with each epoch in one compiled `lax.scan`."""
    import jax as j
    import jax.numpy as jnp

    widths, middle = size.widths, len(size.hidden) + 1
    keys = j.random.split(j.random.PRNGKey(0), len(widths))
    weights = [
        ((j.random.uniform(key, (a, b)) * 2 - 1) / a**0.5, jnp.zeros(b))
        for key, a, b in zip(keys, widths[:-1], widths[1:], strict=False)
    ]

    def forward(weights: Any, x: Any) -> Any:
        for layer, (matrix, bias) in enumerate(weights, 1):
            x = x @ matrix + bias
            x = x if layer in (middle, len(weights)) else j.nn.relu(x)
        return x

    def step(state: Any, x: Any) -> Any:
        weights, mean, square, count = state
        gradient = j.grad(lambda w: jnp.mean((forward(w, x) - x) ** 2))(weights)
        count = count + 1
        mean = j.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, gradient)
        square = j.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, square, gradient)
        a, b = 1 - 0.9**count, 1 - 0.999**count
        moved = j.tree.map(
            lambda w, m, v: w - RATE * (m / a) / (jnp.sqrt(v / b) + 1e-8), weights, mean, square
        )
        return (moved, mean, square, count), None

    @j.jit
    def epoch(state: Any, x: Any, order: Any) -> Any:
        return j.lax.scan(lambda s, rows: step(s, x[rows]), state, order)[0]

    zeros = j.tree.map(jnp.zeros_like, weights)
    state, x = (weights, zeros, zeros, 0.0), jnp.asarray(rows)
    draw, whole = np.random.default_rng(0), len(rows) // size.batch
    for _ in range(epochs):
        order = draw.permutation(len(rows))[: whole * size.batch].reshape(whole, size.batch)
        state = epoch(state, x, jnp.asarray(order))
    final = j.block_until_ready(state[0])
    return lambda x: np.asarray(forward(final, jnp.asarray(x)))
