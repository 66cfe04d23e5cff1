"""From measurements to findings: each harmful issue in one line, with what to do about it."""

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import NamedTuple

from torch import nn

from isthmus.training.diagnostics.code_stats import NetworkStats
from isthmus.training.diagnostics.layer_stats import Activity, has_linear_path
from isthmus.training.state import Record

MIN_EXPLAINABLE = 0.05
"""The share of the variance a linear code must explain before a network is expected to learn."""

MIN_EXPLAINED = 0.1
"""A network that explains less than this share of what a linear code does predicts the average.

Fits that had hardly begun explained a quarter of it. Collapsed fits explained less than 0.001.
"""

MAX_DEAD, MAX_SATURATED = 0.75, 0.9
"""The largest harmless shares of a layer's dead units and of its saturated activations.

Twelve rectified layers that learned had up to a third of their units dead.
"""

MIN_DISTINCT = 0.5
"""The smallest harmless share of different codes among different rows."""

MAX_UNUSED_VARIANCE = 0.05
"""The largest harmless share of the variance that unused units could explain in a linear code."""

MIN_GRADIENT, MIN_STEP = 1e-4, 1e-2
"""Shares of the largest gradient times weight, and of the largest step, of all layers.

Below both, a layer does not learn. Healthy layers stayed above 0.02 of the first. The first three
of twelve sigmoid layers stayed below 1e-6 of it, and below 2e-3 of the second even under Adam.
"""

LayerNorms = dict[str, list[float]]
"""For each layer the norms of its gradient, of its weights, and of a step."""


class Issue(StrEnum):
    """The issues that a fit can have, the most serious first."""

    AVERAGE = "average"
    CONSTANT = "constant"
    FEW_CODES = "few_codes"
    UNUSED = "unused"
    DEAD = "dead"
    SATURATED = "saturated"
    DETACHED = "detached"
    VANISHING = "vanishing"


SEVERE = frozenset({Issue.AVERAGE, Issue.CONSTANT, Issue.FEW_CODES, Issue.DETACHED})
"""The issues that make the code useless; the others may make it worse than it could be."""

ADVICE = {
    Issue.AVERAGE: "start at PCA (skip=True, pretraining='pca') or from layers that are learned "
    "one by one (pretraining='autoencoder'), train longer, or lower the weights of penalties",
    Issue.CONSTANT: "lower lr and the weights of penalties, or change the code's activation",
    Issue.FEW_CODES: "lower the weights of penalties or take more components",
    Issue.UNUSED: "lower the weights of penalties, train longer, start at PCA "
    "(pretraining='pca'), or take fewer components",
    Issue.DEAD: "lower lr or use another activation, such as 'silu'",
    Issue.SATURATED: "scale the data, lower lr or use another activation, such as 'silu'",
    Issue.DETACHED: "look for .detach(), torch.no_grad() or a path that is never used",
    Issue.VANISHING: "use activation='relu' or 'silu', or a start that is not random, such as "
    "pretraining='autoencoder'",
}


class Finding(NamedTuple):
    """An issue and the message that describes it."""

    issue: Issue
    message: str


class Diagnosis(NamedTuple):
    """The findings of a fit, the most serious first; empty for a healthy network."""

    findings: tuple[Finding, ...] = ()

    @property
    def severe(self) -> tuple[Finding, ...]:
        """The findings that make the code useless."""
        return tuple(finding for finding in self.findings if finding.issue in SEVERE)

    @property
    def issue(self) -> str:
        """The most serious `Issue`, or "" without findings."""
        return self.findings[0].issue.value if self.findings else ""


def is_average(record: Record) -> bool:
    """Whether the reconstructions of a "diagnostics" record are no better than the mean row.

    They then explain less than a tenth of the variance that a linear code of the same size does.
    If that code explains less than a twentieth, the mean row is the right answer.
    """
    possible = 1 - record.get("linear_relative_error", 1.0)
    explained = 1 - record["relative_error"]
    return bool(possible > MIN_EXPLAINABLE and explained < MIN_EXPLAINED * possible)


def diagnose(stats: NetworkStats, network: nn.Module, history: list[Record]) -> Diagnosis:
    """The diagnosis of a network, from its statistics and the "diagnostics" records of its fit."""
    norms = [record["layers"] for record in history if "layers" in record]
    average, gradients = average_finding(stats.record()), _gradient_findings(network, norms)
    findings = [*average, *_code_findings(stats), *_unit_findings(stats.activity), *gradients]
    # These issues cut off the gradient of the layers before them, which is no separate issue.
    if {finding.issue for finding in findings} & {Issue.DEAD, Issue.SATURATED, Issue.CONSTANT}:
        findings = [finding for finding in findings if finding.issue != Issue.DETACHED]
    return Diagnosis(tuple(findings))


def average_finding(record: Record) -> Iterator[Finding]:
    """The finding that the network has learned the average, if this record shows it."""
    if is_average(record):
        yield _finding(
            Issue.AVERAGE,
            "the network has learned the average: its error is "
            f"{record['relative_error']:.3g} of that of predicting the mean row, where a linear "
            f"code leaves {record['linear_relative_error']:.2g}",
        )


def _code_findings(stats: NetworkStats) -> Iterator[Finding]:
    code = stats.code
    if code.constant:
        text = "the code is the same for every row: its variance is at most "
        yield _finding(Issue.CONSTANT, f"{text}{code.max_variance:.2g}")
    elif code.distinct < MIN_DISTINCT * stats.rows:
        text = f"{stats.rows} different rows have only {code.distinct} different codes"
        yield _finding(Issue.FEW_CODES, text)
    if stats.unused_variance is not None and stats.unused_variance > MAX_UNUSED_VARIANCE:
        text = f"{code.unused} units of the code are the same for every row, though a linear code "
        text += f"would explain {stats.unused_variance:.2g} more of the variance with them"
        yield _finding(Issue.UNUSED, text)


def _unit_findings(activity: Activity) -> Iterator[Finding]:
    saturated = {name: p for name, p in activity.saturated.items() if p > MAX_SATURATED}
    dead = {name: share for name, share in activity.dead.items() if share > MAX_DEAD}
    if dead := {name: share for name, share in dead.items() if name not in saturated}:
        text = f"{_named(list(dead))}: {_percent(dead)} of the units are dead, they react to no row"
        yield _finding(Issue.DEAD, text)
    if saturated:
        text = f"{_named(list(saturated))}: {_percent(saturated)} of the activations are saturated"
        yield _finding(Issue.SATURATED, text)


def _gradient_findings(network: nn.Module, records: list[LayerNorms]) -> Iterator[Finding]:
    """The finding of layers that had almost no gradient and step in every record."""
    if not records:
        return
    names, strongest = list(records[-1]), ""
    detached = {name for name in names if all(norms[name][0] == 0 for norms in records)}
    weak = dict.fromkeys(detached, 0.0) if len(detached) < len(names) else {}
    for chain in _chains(names, linear_path=has_linear_path(network)):
        gradients = _largest_shares(records, chain, _gradient_times_weight)
        steps = _largest_shares(records, chain, _step)
        vanishing = {
            name: share
            for name, share in gradients.items()
            if 0 < share < MIN_GRADIENT and steps[name] < MIN_STEP
        }
        if vanishing:
            weak |= vanishing
            strongest = max(gradients, key=lambda name: gradients[name])
    weak_layers = _named([name for name in names if name in weak])
    if strongest:
        yield _finding(
            Issue.VANISHING,
            f"hidden layers are not learning: gradient times weight in {weak_layers} is at most "
            f"{max(weak.values()):.0e} of that in {strongest}",
        )
    elif weak:
        yield _finding(Issue.DETACHED, f"no gradient at all reaches {weak_layers}")


def _chains(layers: list[str], *, linear_path: bool) -> list[list[str]]:
    """The groups of layers whose gradients may be compared.

    With a parallel linear path, each stack of layers starts at zero and forms its own group. All
    layers of a stack then have small gradients, since the linear path has the large ones.
    """
    if not linear_path:
        return [layers]
    stacks: dict[str, list[str]] = {}
    for name in layers:
        stacks.setdefault(name.split(".")[0], []).append(name)
    return list(stacks.values())


def _gradient_times_weight(norms: list[float]) -> float:
    # What a relative change of the layer does to the loss. In a chain of homogeneous layers it is
    # the same for all of them, whatever their scales (Du, Hu and Lee 2018).
    return norms[0] * norms[1]


def _step(norms: list[float]) -> float:
    return norms[2]


def _largest_shares(
    records: list[LayerNorms], chain: list[str], measure: Callable[[list[float]], float]
) -> dict[str, float]:
    """For each layer its largest share, over all records, of the largest value of its chain."""
    shares = dict.fromkeys(chain, 0.0)
    for norms in records:
        largest = max(measure(norms[name]) for name in chain)
        for name in chain:
            if largest > 0:
                shares[name] = max(shares[name], measure(norms[name]) / largest)
    return shares


def _finding(issue: Issue, text: str) -> Finding:
    return Finding(issue, f"{text}; {ADVICE[issue]}")


def _named(layers: list[str]) -> str:
    if len(layers) <= 2:
        return ("layer " if len(layers) == 1 else "layers ") + " and ".join(layers)
    return f"{len(layers)} layers ({layers[0]} to {layers[-1]})"


def _percent(shares: dict[str, float]) -> str:
    return f"{'at least ' if len(shares) > 1 else ''}{min(shares.values()):.0%}"
