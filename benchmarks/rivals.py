"""One dense or convolutional network, trained by each library: the same widths, batch, optimizer.

Each function trains on rows (n, D) or images (n, C, H, W) of single precision for a number of
epochs, with Adam, squared error and a rate of 0.001, and returns what rebuilds rows. Run by
`speed.py`, each in a process of its own.
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
Rebuild = Callable[[Rows], Rows]
RATE = 0.001
JUDGES = 256
"""Rows that this library judges each epoch by; the others judge nothing."""


class Size(NamedTuple):
    """A network and how it is trained."""

    shape: tuple[int, ...]
    """(D,) of rows, or (C, H, W) of images."""

    hidden: tuple[int, ...]
    """Widths between rows and code, or the feature maps of each stage of convolutions."""

    code: int
    batch: int
    rows: int
    epochs: int

    @property
    def widths(self) -> list[int]:
        """The widths of all layers of a dense network, from rows to rows."""
        one_way = [int(np.prod(self.shape)), *self.hidden, self.code]
        return one_way + one_way[-2::-1]

    @property
    def sides(self) -> list[int]:
        """The sides of the maps of images, from stage to stage."""
        found = [self.shape[1]]
        for _ in self.hidden:
            found.append((found[-1] + 1) // 2)
        return found

    @property
    def products(self) -> int:
        """Multiply-adds that a row takes on its way through the network."""
        if len(self.shape) == 1:
            return sum(a * b for a, b in itertools.pairwise(self.widths))
        maps, sides = [self.shape[0], *self.hidden], self.sides
        stages = zip(itertools.pairwise(maps), sides[1:], strict=True)
        convolutions = sum(9 * a * b * side**2 for (a, b), side in stages)
        return 2 * (convolutions + maps[-1] * sides[-1] ** 2 * self.code)


def isthmus(size: Size, rows: Rows, epochs: int, device: str = "cpu") -> Rebuild:
    """This library, with everything but the training itself switched off."""
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
    ).fit(rows, validation=rows[:JUDGES])
    return lambda given: np.asarray(fitted.reconstruct(given), np.float32)


def dense(size: Size) -> nn.Sequential:
    """The network of a size in plain torch, dense or convolutional."""
    if len(size.shape) > 1:
        return convolutional(size)
    widths, middle = size.widths, len(size.hidden) + 1
    layers: list[nn.Module] = []
    for at, (wide, narrow) in enumerate(itertools.pairwise(widths), 1):
        layers.append(nn.Linear(wide, narrow))
        if at not in (middle, len(widths) - 1):
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def convolutional(size: Size) -> nn.Sequential:
    """Convolutions of width 3 and stride 2, a dense code, and the same back."""
    maps, sides = [size.shape[0], *size.hidden], size.sides
    forth: list[nn.Module] = []
    back: list[nn.Module] = []
    stages = zip(itertools.pairwise(maps), itertools.pairwise(sides), strict=True)
    for (before, after), (large, small) in stages:
        forth += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
        beyond = large - (2 * small - 1)
        turned = nn.ConvTranspose2d(after, before, 3, 2, padding=1, output_padding=beyond)
        back = [nn.ReLU(), turned, *back]
    wide = maps[-1] * sides[-1] ** 2
    code = [nn.Flatten(), nn.Linear(wide, size.code), nn.Linear(size.code, wide)]
    return nn.Sequential(*forth, *code, nn.Unflatten(1, (maps[-1], sides[-1], sides[-1])), *back)


def _by_torch(network: nn.Module) -> Rebuild:
    @torch.no_grad()
    def rebuild(given: Rows) -> Rows:
        network.eval()
        return network(torch.from_numpy(given)).float().numpy()

    return rebuild


def tutorial(size: Size, rows: Rows, epochs: int) -> Rebuild:
    """PyTorch as its tutorials write it: a DataLoader, Adam, a loop."""
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


def tuned(size: Size, rows: Rows, epochs: int, *, bf16: bool, channels_last: bool) -> Rebuild:
    """PyTorch by someone who knows it: batches of tensors, fused Adam, bf16 where it is faster."""
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
) -> Rebuild:
    """The same on a GPU: rows are there already; steps compiled, with CUDA graphs, or not."""
    torch.manual_seed(0)
    network, x = dense(size).to(device), torch.from_numpy(rows).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE, fused=True)

    def slopes(batch: torch.Tensor) -> None:
        with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
            out = network(batch)
        nn.functional.mse_loss(out.float(), batch).backward()

    step = torch.compile(slopes, mode="reduce-overhead") if compiled else slopes
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
    """scikit-learn's MLPRegressor, which trains as long as the others do."""
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


def scikit_learn(size: Size, rows: Rows, epochs: int) -> Rebuild:
    """MLPRegressor of the rows on themselves; its activation is the same in all hidden layers."""
    fitted = perceptron(size, epochs, RATE).fit(rows, rows)
    return lambda given: np.asarray(fitted.predict(given), np.float32)


def skorch(size: Size, rows: Rows, epochs: int) -> Rebuild:
    """A NeuralNet without a validation split and without its printed log."""
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
    return lambda given: np.asarray(fitted.predict(given), np.float32)


def pythae(size: Size, rows: Rows, epochs: int) -> Rebuild:
    """Its AE with encoder and decoder of the same layers."""
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
    return lambda given: model.reconstruct(torch.from_numpy(given)).detach().numpy()


def pyod(size: Size, rows: Rows, epochs: int) -> Rebuild:
    """Its AutoEncoder without dropout and batch norm, and without scaling of its own."""
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


def keras(size: Size, rows: Rows, epochs: int) -> Rebuild:
    """Keras on JAX, its steps compiled."""
    import keras as k

    k.utils.set_random_seed(0)
    widths, middle = size.widths[1:], len(size.hidden)
    last = len(widths) - 1
    acts = [None if at in (middle, last) else "relu" for at in range(len(widths))]
    model = k.Sequential(
        [k.Input(size.shape)]
        + [k.layers.Dense(width, activation=act) for width, act in zip(widths, acts, strict=True)]
    )
    model.compile(optimizer=k.optimizers.Adam(RATE), loss="mse")
    model.fit(rows, rows, batch_size=size.batch, epochs=epochs, verbose=0)
    return lambda given: np.asarray(model.predict(given, verbose=0, batch_size=4096))


def jax(size: Size, rows: Rows, epochs: int) -> Rebuild:
    """JAX by hand: a whole epoch in one compiled `lax.scan`."""
    import jax as j
    import jax.numpy as jnp

    widths, middle = size.widths, len(size.hidden) + 1
    keys = j.random.split(j.random.PRNGKey(0), len(widths))
    weights = [
        ((j.random.uniform(key, (a, b)) * 2 - 1) / a**0.5, jnp.zeros(b))
        for key, a, b in zip(keys, widths[:-1], widths[1:], strict=False)
    ]

    def forward(weights: Any, x: Any) -> Any:
        for at, (matrix, offset) in enumerate(weights, 1):
            x = x @ matrix + offset
            x = x if at in (middle, len(weights)) else j.nn.relu(x)
        return x

    def step(state: Any, x: Any) -> Any:
        weights, mean, square, count = state
        slope = j.grad(lambda w: jnp.mean((forward(w, x) - x) ** 2))(weights)
        count = count + 1
        mean = j.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, slope)
        square = j.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, square, slope)
        a, b = 1 - 0.9**count, 1 - 0.999**count
        moved = j.tree.map(
            lambda w, m, v: w - RATE * (m / a) / (jnp.sqrt(v / b) + 1e-8), weights, mean, square
        )
        return (moved, mean, square, count), None

    @j.jit
    def epoch(state: Any, x: Any, order: Any) -> Any:
        return j.lax.scan(lambda s, at: step(s, x[at]), state, order)[0]

    zeros = j.tree.map(jnp.zeros_like, weights)
    state, x = (weights, zeros, zeros, 0.0), jnp.asarray(rows)
    draw, whole = np.random.default_rng(0), len(rows) // size.batch
    for _ in range(epochs):
        order = draw.permutation(len(rows))[: whole * size.batch].reshape(whole, size.batch)
        state = epoch(state, x, jnp.asarray(order))
    final = j.block_until_ready(state[0])
    return lambda given: np.asarray(forward(final, jnp.asarray(given)))
