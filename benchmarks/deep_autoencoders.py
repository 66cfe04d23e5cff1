"""How low do optimizers and starts get on the three classical deep autoencoders, and how fast?

    python benchmarks/deep_autoencoders.py [--problems mnist,curves,faces] [--minutes 2]
        [--optimizers muon,adamw,...] [--starts random,pca,rbm,autoencoder]
        [--activations silu,sigmoid] [--recipe hinton2006] [--page curves.html] [--no-record]

Metric: squared error an image, summed over its pixels, on training and test images. Every run has
its own process and as many epochs as fit into `--minutes` at the speed of its first one, so that
each schedule ends at its end. Logistic units learn by cross-entropy, as in the papers; modern ones
by squared error. `--recipe hinton2006` is that of Hinton and Salakhutdinov (2006): RBMs layer by
layer, then conjugate gradients, three line searches on each batch of 1000.
"""

import argparse
import multiprocessing
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import PCA

from common import ROOT, record, table
from problems import PROBLEMS, Images, Problem

HINTON = ("conjugate_gradient", "rbm", "sigmoid")
HEAD = ("problem", "optimizer", "start", "units", "train", "test", "seconds", "epochs")


@dataclass(frozen=True)
class Run:
    """One way to train one network, for so long."""

    problem: str
    optimizer: str
    start: str
    activation: str
    minutes: float

    @property
    def name(self) -> str:
        """The way, without the problem."""
        return f"{self.optimizer}, {self.start}, {self.activation}"

    @property
    def sensible(self) -> bool:
        """Whether there is such a start: RBMs have logistic units, PCA needs a linear path."""
        if self.start == "rbm":
            return self.activation == "sigmoid"
        return self.start != "pca" or self.activation != "sigmoid"


def error(model: Any, images: Images) -> float:
    """Squared error an image, summed over its pixels."""
    return float(((model.reconstruct(images) - images) ** 2).sum(axis=1).mean())


def estimator(run: Run, problem: Problem, epochs: int) -> Any:
    """The autoencoder of a run."""
    from isthmus import Autoencoder, kinds

    in_unit_range = problem.train.min() >= 0 and problem.train.max() <= 1
    logistic = run.activation == "sigmoid"
    return Autoencoder(
        problem.n_components,
        kind=kinds.Multilayer(
            hidden=problem.hidden, activation=run.activation, skip=run.start == "pca"
        ),
        loss="bernoulli" if logistic and in_unit_range else "squared",
        pretraining=run.start,
        optimizer=run.optimizer,
        max_epochs=epochs,
        random_state=0,
    )


def train(run: Run) -> dict[str, Any]:
    """One line of the table, with the curve of the held-out loss."""
    problem = PROBLEMS[run.problem]()
    assert problem is not None
    first = estimator(run, problem, 1).fit(problem.train)
    before, after = (record["seconds"] for record in first.history_ if "train" in record)
    an_epoch = after - before
    epochs = max(1, int(run.minutes * 60 / max(an_epoch, 1e-3)))
    began = time.perf_counter()
    model = estimator(run, problem, epochs).fit(problem.train)
    seconds = time.perf_counter() - began
    scale = (model.preparation_.unit**2) * problem.train.shape[1]
    epochs_seen = [r for r in model.history_ if "held_out" in r]
    comparable = model.loss_.to_json()["type"] == "Squared"
    return {
        "problem": problem.name,
        "optimizer": run.optimizer,
        "start": run.start,
        "units": run.activation,
        "train": error(model, problem.train),
        "test": error(model, problem.test),
        "seconds": seconds,
        "epochs": model.facts_["epochs"],
        "curve": [[r["seconds"], scale * r["held_out"]["reconstruction"]] for r in epochs_seen]
        if comparable
        else [],
    }


def pca(problem: Problem) -> dict[str, Any]:
    """scikit-learn's PCA with as many components as the code has units."""
    began = time.perf_counter()
    model = PCA(problem.n_components, svd_solver="covariance_eigh").fit(problem.train)
    seconds = time.perf_counter() - began
    errors = [
        float(((model.inverse_transform(model.transform(x)) - x) ** 2).sum(axis=1).mean())
        for x in (problem.train, problem.test)
    ]
    row = ("PCA", "", "linear", *errors, seconds, 0)
    return dict(zip(HEAD, (problem.name, *row), strict=True)) | {"curve": []}


def published(problem: Problem) -> list[dict[str, Any]]:
    """What the papers print for the original problem."""
    components, of_pca = problem.pca
    return [
        {"problem": problem.name, "optimizer": who, "test": test, "train": training}
        for who, test, training in (
            (f"published: PCA, {components} components", of_pca, None),
            ("published: RBM and CG (2006)", problem.paper, None),
            ("published: Hessian-free (2013)", None, problem.hessian_free),
        )
    ]


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """The curves of held-out error over seconds, one panel a problem, in one page."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    names = list(dict.fromkeys(r["problem"] for r in results if r["curve"]))
    page = make_subplots(rows=max(len(names), 1), cols=1, subplot_titles=names)
    for result in results:
        if not result["curve"]:
            continue
        seconds, errors = np.transpose(result["curve"])
        label = ", ".join(result[key] for key in ("optimizer", "start", "units"))
        line = go.Scatter(x=seconds[1:], y=errors[1:], name=label, mode="lines")
        page.add_trace(line, row=names.index(result["problem"]) + 1, col=1)
    page.update_xaxes(title="seconds", type="log")
    page.update_yaxes(title="squared error, held-out images", type="log")
    page.update_layout(height=520 * max(len(names), 1), template="plotly_white")
    page.write_html(path, include_plotlyjs=True)


def runs_of(chosen: argparse.Namespace) -> list[Run]:
    """Every combination asked for that makes sense."""
    if chosen.recipe == "hinton2006":
        return [Run(p, *HINTON, chosen.minutes) for p in chosen.problems.split(",")]
    wanted = [
        Run(problem, optimizer, start, activation, chosen.minutes)
        for problem in chosen.problems.split(",")
        for activation in chosen.activations.split(",")
        for start in chosen.starts.split(",")
        for optimizer in chosen.optimizers.split(",")
    ]
    return [run for run in wanted if run.sensible]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--problems", default=",".join(PROBLEMS))
    parser.add_argument("--optimizers", default="adamw,muon,kfac,conjugate_gradient,lbfgs,nesterov")
    parser.add_argument("--starts", default="random,pca,rbm,autoencoder")
    parser.add_argument("--activations", default="silu,sigmoid")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--recipe", choices=["hinton2006"])
    parser.add_argument("--page", type=Path, default=ROOT / "deep_autoencoders.html")
    parser.add_argument("--no-record", action="store_true")
    return parser.parse_args()


def main() -> int:
    """Run one after the other, print the table, draw the curves."""
    chosen = arguments()
    results: list[dict[str, Any]] = []
    for name in chosen.problems.split(","):
        problem = PROBLEMS[name]()
        if problem is None:
            print(f"{name}: not found; set ISTHMUS_DATA to the folder of data sets; skipped")
            continue
        print(table([dict.fromkeys(HEAD, "") | line for line in published(problem)]))
        results.append(pca(problem))
    missing = {name for name in chosen.problems.split(",") if PROBLEMS[name]() is None}
    for run in runs_of(chosen):
        if run.problem in missing:
            continue
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            results.append(pool.apply(train, (run,)))
        print({key: results[-1][key] for key in HEAD}, file=sys.stderr, flush=True)
    if results:
        print(table([{key: result[key] for key in HEAD} for result in results]))
        draw(results, chosen.page)
    if results and not chosen.no_record:
        record("deep_autoencoders", results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
