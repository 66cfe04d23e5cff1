"""How low do optimizers and starts get on the three classic deep autoencoders, and how fast?

    python benchmarks/quality/deep_autoencoders.py [--problems mnist,curves,faces] [--minutes 2]
        [--optimizers muon,adamw,...] [--starts random,pca,rbm,autoencoder]
        [--activations silu,sigmoid] [--recipe hinton2006] [--epochs 45] [--jobs 2]
        [--page curves.html] [--no-record]

Metric: squared error per image, summed over its pixels, on training and test images. Every run has
its own process. It trains for as many epochs as fit into `--minutes` of CPU time at the speed of
its first epoch, so that each schedule ends as planned. The cost of pretraining comes on top. It is
counted for every run with that start, although only the first run does the work. Logistic units
learn by cross-entropy if pixels lie in [0, 1], as in the papers; other units by squared error.
With `--jobs 2` two runs share the cores, half each. Ctrl-C ends the benchmark and reports the runs
that are complete.

Optimizers and starts are compared by the encoder's own codes. Recipes refine codes if the fit
finds a gain, as by default, and report both errors. `--recipe hinton2006` is that of Hinton and
Salakhutdinov (2006): RBMs layer by layer, then conjugate gradients with three line searches on each
batch of 1000. `--recipe defaults` sets nothing but the layers.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_model, save_file
from sklearn.decomposition import PCA

sys.path.append(str(Path(__file__).parents[1]))

from common import ROOT, record, table
from curves_page import draw
from hessian_free import HessianFree
from isthmus.pretraining import PRETRAININGS, Pretraining, PretrainingJob
from isthmus.refinement import Refinement, inverse_curvature
from problems import PROBLEMS, Images, Problem

OPTIMIZERS = "adamw,muon,kfac,conjugate_gradient,lbfgs,nesterov"
HINTON = ("conjugate_gradient", "rbm", "sigmoid")
DEFAULTS = ("auto", "auto", "silu")
REFINED_EVERY, STEPS, PRINTED_EVERY = 5, 4, 5
CURVE_IMAGES = 2000
"""Test images whose error makes the curve of a run."""

HEAD = (
    *("problem", "optimizer", "start", "units", "train", "test", "encoder alone"),
    *("seconds", "of the processor", "epochs"),
)


@dataclass(frozen=True)
class Run:
    """The settings of one training run."""

    problem: str
    optimizer: str
    start: str
    activation: str
    minutes: float
    epochs: int | None = None
    """The number of epochs if `minutes` does not decide it."""

    threads: int = 0
    """The number of threads; 0 leaves it unchanged."""

    refined: bool = False
    """Whether codes may be refined, as by default."""

    starts: str = ""
    """The folder of starts that several runs share."""

    @property
    def name(self) -> str:
        """The label of the run in progress messages."""
        return f"{self.problem}, {self.optimizer} from {self.start}, {self.activation}"

    @property
    def sensible(self) -> bool:
        """Whether the start exists: RBMs have logistic units, PCA needs a linear path."""
        if self.start == "rbm":
            return self.activation == "sigmoid"
        return self.start != "pca" or self.activation != "sigmoid"


@dataclass(kw_only=True)
class SharedStart(Pretraining):
    """Pretraining by `start` whose weights are stored in the file `path` and loaded from it."""

    start: str
    path: str

    def run(self, job: PretrainingJob) -> list[dict[str, Any]]:
        """Train and store the weights, or load them with a record of their cost."""
        path = Path(self.path)
        if path.exists():
            load_model(job.network, path)
            with safe_open(path, framework="pt") as file:
                cost = json.loads(file.metadata()["cost"])
            return [{"event": "shared start", "shared": self.start, **cost}]
        worked, began = time.process_time(), time.perf_counter()
        records = PRETRAININGS[self.start]().run(job)
        cost = {
            "of the processor": time.process_time() - worked,
            "seconds": time.perf_counter() - began,
        }
        new = path.with_suffix(".new")
        save_file(job.network.state_dict(), new, {"cost": json.dumps(cost)})
        new.rename(path)
        return records


def cost_of_start(history: list[dict[str, Any]]) -> tuple[float, float]:
    """CPU and wall-clock seconds that another run has spent on the start of this one."""
    shared = [record for record in history if "shared" in record]
    return (shared[0]["of the processor"], shared[0]["seconds"]) if shared else (0.0, 0.0)


class Curve:
    """The error on test images after each epoch, over CPU seconds since the start."""

    def __init__(
        self, name: str, model: Any, images: Images, refined: Images | None = None
    ) -> None:
        """`images` are prepared as by `model`.

        `refined` are training images for the metric of `isthmus.refinement`. With them, every
        fifth epoch also evaluates refined codes.
        """
        self.name, self.refined = name, list[list[float]]()
        self.sample = refined if refined is None else model.preparation_.encode(refined)
        self.points: list[list[float]] = []
        self.loss, self.unit = model.loss_, model.preparation_.unit
        self.images = model.preparation_.encode(images, model.model_.dtype)
        self.network: Any = None
        self.began, self.clock = time.process_time(), time.perf_counter()

    def see(self, network: Any) -> None:
        """Evaluate this network from now on."""
        self.network = network

    def __call__(self, record: dict[str, Any]) -> None:
        """Append the present error of the network."""
        with torch.no_grad():
            code = self.network.encode(self.images)
            self.points.append(self._point(code))
            if record["epoch"] % PRINTED_EVERY == 0:
                seconds, error, _ = self.points[-1]
                progress = f"{self.name}, epoch {record['epoch']}: {error:.3f}"
                print(f"{progress} on test images, {seconds:.0f} s", file=sys.stderr, flush=True)
            if self.sample is not None and record["epoch"] % REFINED_EVERY == 0:
                metric = inverse_curvature(self.network, self.loss, self.sample, seed=0)
                refine = Refinement(self.network, self.loss.per_row, metric)
                self.refined.append(self._point(refine(self.images, code, STEPS)))

    def _point(self, code: Any) -> list[float]:
        difference = self.loss.mean(self.network.decode(code)) - self.images
        error = float(difference.square().sum()) / len(self.images) * self.unit**2
        return [time.process_time() - self.began, error, time.perf_counter() - self.clock]


class EpochTimer:
    """CPU seconds at the beginning and the end of a fit's only epoch."""

    before = after = 0.0

    def __call__(self, record: dict[str, Any]) -> None:
        """The epoch has ended."""
        del record
        self.after = time.process_time()

    def see(self, network: Any) -> None:
        """The network has been built, and the epoch begins."""
        del network
        self.before = time.process_time()


def watched(kind: Any, watcher: Curve | EpochTimer) -> Any:
    """The kind, with its networks passed to the watcher."""

    class Watched(type(kind)):  # type: ignore[misc]
        def build(self, facts: Any, n_components: int) -> Any:
            network = super().build(facts, n_components)
            watcher.see(network)
            return network

    return Watched(**kind.get_params(deep=False))


def error(model: Any, images: Images) -> float:
    """Squared error per image, summed over its pixels."""
    return float(((model.reconstruct(images) - images) ** 2).sum(axis=1).mean())


def start_of(run: Run) -> Any:
    """The pretraining of a run, shared if it is expensive."""
    if run.start not in ("rbm", "autoencoder") or not run.starts:
        return run.start
    name = f"{run.problem}-{run.start}-{run.activation}.safetensors"
    return SharedStart(start=run.start, path=str(Path(run.starts) / name))


def estimator(run: Run, problem: Problem, epochs: int | None) -> Any:
    """The autoencoder of a run."""
    from isthmus import Autoencoder, kinds

    if (run.optimizer, run.start) == DEFAULTS[:2]:
        kind = kinds.Multilayer(hidden=problem.hidden)
        return Autoencoder(problem.n_components, kind=kind, max_epochs=epochs, random_state=0)
    in_unit_range = problem.train.min() >= 0 and problem.train.max() <= 1
    logistic = run.activation == "sigmoid"
    return Autoencoder(
        problem.n_components,
        kind=kinds.Multilayer(
            hidden=problem.hidden, activation=run.activation, skip=run.start == "pca"
        ),
        loss="bernoulli" if logistic and in_unit_range else "squared",
        pretraining=start_of(run),
        optimizer=HessianFree() if run.optimizer == "hessian_free" else run.optimizer,
        max_epochs=epochs,
        transform_max_iter="auto" if run.refined else 0,
        random_state=0,
    )


def train(run: Run) -> dict[str, Any]:
    """One line of the table, with the curve of the error on test images."""
    if run.threads:
        torch.set_num_threads(run.threads)
    problem = PROBLEMS[run.problem]()
    assert problem is not None
    first = estimator(run, problem, 1).set_params(pretraining="random")
    timer = EpochTimer()
    first.set_params(kind=watched(first.kind, timer), callbacks=(timer,)).fit(problem.train)
    epochs = run.epochs
    if run.minutes:
        epochs = max(1, int(run.minutes * 60 / (timer.after - timer.before)))
    model = estimator(run, problem, epochs)
    by_default = run.optimizer == "auto"
    sample = problem.train[:1000] if by_default else None
    curve = Curve(run.name, first, problem.test[:CURVE_IMAGES], sample)
    model.set_params(kind=watched(model.kind, curve), callbacks=(curve,))
    began = time.perf_counter()
    model.fit(problem.train)
    seconds, worked = time.perf_counter() - began, time.process_time() - curve.began
    cost, waited = cost_of_start(model.history_)
    line = {
        "problem": problem.name,
        "optimizer": run.optimizer,
        "start": run.start,
        "units": run.activation,
        "train": error(model, problem.train),
        "test": error(model, problem.test),
        "seconds": seconds + waited,
        "of the processor": worked + cost,
        "epochs": model.facts_["epochs"],
    }
    steps = model.facts_["transform_max_iter"]
    alone = error(model.set_params(transform_max_iter=0), problem.test) if steps else line["test"]
    curves = {
        name: [[spent + cost, error, clock + waited] for spent, error, clock in points]
        for name, points in (("curve", curve.points), ("refined", curve.refined))
    }
    return line | {"encoder alone": alone, "facts": model.facts_} | curves


def pca(problem: Problem) -> dict[str, Any]:
    """scikit-learn's PCA with as many components as the code has units."""
    began = time.perf_counter()
    model = PCA(problem.n_components, svd_solver="covariance_eigh").fit(problem.train)
    seconds = time.perf_counter() - began
    errors = [
        float(((model.inverse_transform(model.transform(x)) - x) ** 2).sum(axis=1).mean())
        for x in (problem.train, problem.test)
    ]
    row = ("PCA", "", "linear", *errors, errors[1], seconds, seconds, 0)
    return dict(zip(HEAD, (problem.name, *row), strict=True)) | {"curve": []}


def published(problem: Problem) -> list[dict[str, Any]]:
    """The figures that the papers report for the original problem."""
    components, of_pca = problem.pca
    return [
        {"problem": problem.name, "optimizer": who, "test": test, "train": training}
        for who, test, training in (
            (f"published: PCA, {components} components", of_pca, None),
            ("published: RBM and CG (2006)", problem.paper, None),
            ("published: Hessian-free (2013)", None, problem.hessian_free),
        )
    ]


def runs_of(chosen: argparse.Namespace) -> list[Run]:
    """Every selected combination that is possible."""
    threads = (os.cpu_count() or 1) // chosen.jobs if chosen.jobs > 1 else 0
    minutes = 0.0 if chosen.epochs or chosen.recipe == "defaults" else chosen.minutes
    rest = (minutes, chosen.epochs, threads)
    problems = chosen.problems.split(",")
    if chosen.recipe is not None:
        recipe = HINTON if chosen.recipe == "hinton2006" else DEFAULTS
        return [Run(problem, *recipe, *rest, refined=True) for problem in problems]
    combinations = itertools.product(
        problems,
        chosen.activations.split(","),
        chosen.starts.split(","),
        chosen.optimizers.split(","),
    )
    selected = [
        Run(problem, optimizer, start, units, *rest)
        for problem, units, start, optimizer in combinations
    ]
    return [run for run in selected if run.sensible]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--problems", default=",".join(PROBLEMS))
    parser.add_argument("--optimizers", default=OPTIMIZERS)
    parser.add_argument("--starts", default="random,pca,rbm,autoencoder")
    parser.add_argument("--activations", default="silu,sigmoid")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--epochs", type=int, help="number of epochs, instead of --minutes")
    parser.add_argument("--recipe", choices=["hinton2006", "defaults"])
    parser.add_argument("--jobs", type=int, default=1, help="concurrent runs")
    parser.add_argument("--page", type=Path, default=ROOT / "deep_autoencoders.html")
    parser.add_argument("--no-record", action="store_true")
    return parser.parse_args()


def all_of(runs: list[Run], jobs: int) -> Iterator[dict[str, Any]]:
    """The result of each run, `jobs` at a time, in the order in which they end."""
    spawned = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as starts,
        spawned.Pool(jobs, maxtasksperchild=1) as pool,
    ):
        runs = [replace(run, starts=starts) for run in runs]
        yield from pool.imap_unordered(train, runs, chunksize=1)


def main() -> int:
    """Run one after the other, print the table, draw the curves."""
    chosen = arguments()
    results: list[dict[str, Any]] = []
    available: set[str] = set()
    for name in chosen.problems.split(","):
        problem = PROBLEMS[name]()
        if problem is None:
            print(f"{name}: not found; set ISTHMUS_DATA to the folder of data sets; skipped")
            continue
        print(table([dict.fromkeys(HEAD, "") | line for line in published(problem)]))
        results.append(pca(problem))
        available.add(name)
    runs = [run for run in runs_of(chosen) if run.problem in available]
    try:
        for result in all_of(runs, chosen.jobs):
            results.append(result)
            print({key: result[key] for key in HEAD}, file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("stopped by hand: these runs are complete", file=sys.stderr)
    if results:
        print(table([{key: result[key] for key in HEAD} for result in results]))
        draw(results, chosen.page)
    if results and not chosen.no_record:
        record("deep_autoencoders", results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
