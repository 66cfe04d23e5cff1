"""From symptoms to diseases: what is harmful, said in one line each with what to do."""

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import NamedTuple

from torch import nn

from isthmus.training.diagnostics.code_stats import Look
from isthmus.training.diagnostics.layer_stats import Activity, has_bypass
from isthmus.training.state import Record

LEARNABLE = 0.05
"""Share of the variance a linear code must explain before a network is blamed for less."""

FAR_BEHIND = 0.1
"""Who explains less than this share of what a linear code does has learned the average.

Fits that had hardly begun explained a quarter of it, fits that had collapsed less than 0.001.
"""

TOO_DEAD, TOO_SATURATED, TOO_ALIKE = 0.75, 0.9, 0.5
"""Shares of a layer's units, of its activations, and (at least) of different codes for rows.

Twelve rectified layers that learned had up to a third of their units dead.
"""

MISSED = 0.05
"""Share of the variance that units out of use could explain, were they used only linearly."""

FAINT_PULL, FAINT_STEP = 1e-4, 1e-2
"""Shares of the strongest layer's gradient times weight, and of the largest step.

Below both, a layer does not learn. Healthy layers stayed above 0.02 of the first; the first three
of twelve sigmoid layers below 1e-6 of it, and below 2e-3 of the second even under Adam.
"""

Layers = dict[str, list[float]]
"""For each layer the norms of its gradient, of its weights, and of a step."""


class Issue(StrEnum):
    """What can be wrong, the gravest first."""

    AVERAGE = "average"
    CONSTANT = "constant"
    ALIKE = "alike"
    UNUSED = "unused"
    DEAD = "dead"
    SATURATED = "saturated"
    DETACHED = "detached"
    VANISHING = "vanishing"


SEVERE = frozenset({Issue.AVERAGE, Issue.CONSTANT, Issue.ALIKE, Issue.DETACHED})
"""Diseases after which the code is of no use; with the others it may be worse than it could be."""

ADVICE = {
    Issue.AVERAGE: "start at PCA (skip=True, pretraining='pca') or from layers that are learned "
    "one by one (pretraining='autoencoder'), train longer, or lower the weights of penalties",
    Issue.CONSTANT: "lower lr and the weights of penalties, or change the code's activation",
    Issue.ALIKE: "lower the weights of penalties or take more components",
    Issue.UNUSED: "lower the weights of penalties, train longer, start at PCA "
    "(pretraining='pca'), or take fewer components",
    Issue.DEAD: "lower lr or use another activation, such as 'silu'",
    Issue.SATURATED: "scale the data, lower lr or use another activation, such as 'silu'",
    Issue.DETACHED: "look for .detach(), torch.no_grad() or a path that is never used",
    Issue.VANISHING: "use activation='relu' or 'silu', or a start that is not random, such as "
    "pretraining='autoencoder'",
}


class Finding(NamedTuple):
    """One disease, in words."""

    issue: Issue
    message: str


class Diagnosis(NamedTuple):
    """What the doctor found, the gravest first; nothing when the network is healthy."""

    findings: tuple[Finding, ...] = ()

    @property
    def severe(self) -> tuple[Finding, ...]:
        """The findings after which the code is of no use."""
        return tuple(finding for finding in self.findings if finding.issue in SEVERE)

    @property
    def issue(self) -> str:
        """The gravest disease, as `Disease` calls it, or "" when there is none."""
        return self.findings[0].issue.value if self.findings else ""


def is_average(record: Record) -> bool:
    """Whether this "diagnostics" record tells of reconstructions no better than the mean row.

    They explain less than a tenth of the variance that a linear code of the same size does, which
    is a twentieth of all at least: where nothing can be learned, the mean row is the right answer.
    """
    possible = 1 - record.get("linear", 1.0)
    return bool(possible > LEARNABLE and 1 - record["beside_mean"] < FAR_BEHIND * possible)


def diagnose(look: Look, network: nn.Module, history: list[Record]) -> Diagnosis:
    """The diagnosis of a network, from its state and the "diagnostics" records of its fit."""
    steps = [record["layers"] for record in history if "layers" in record]
    average, gradients = average_of(look.record()), _gradients(network, steps)
    found = [*average, *_code(look), *_units(look.activity), *gradients]
    # These leave the layers before them without a gradient, which is then no disease of its own.
    diseases = {finding.issue for finding in found}
    if diseases & {Issue.DEAD, Issue.SATURATED, Issue.CONSTANT}:
        found = [finding for finding in found if finding.issue != Issue.DETACHED]
    return Diagnosis(tuple(found))


def average_of(record: Record) -> Iterator[Finding]:
    """The finding that the network has learned the average, if this record shows it."""
    if is_average(record):
        yield _finding(
            Issue.AVERAGE,
            "the network has learned the average: its error is "
            f"{record['beside_mean']:.3g} of that of predicting the mean row, where a linear code "
            f"leaves {record['linear']:.2g}",
        )


def _code(look: Look) -> Iterator[Finding]:
    code = look.code
    if code.constant:
        text = f"the code is the same for every row: its variance is {code.largest:.2g} at most"
        yield _finding(Issue.CONSTANT, text)
    elif code.distinct < TOO_ALIKE * look.rows:
        text = f"{look.rows} different rows have only {code.distinct} different codes"
        yield _finding(Issue.ALIKE, text)
    if look.idle is not None and look.idle > MISSED:
        text = f"{code.unused} units of the code are the same for every row, though a linear code "
        text += f"would explain {look.idle:.2g} more of the variance with them"
        yield _finding(Issue.UNUSED, text)


def _units(activity: Activity) -> Iterator[Finding]:
    flat = {name: share for name, share in activity.saturated.items() if share > TOO_SATURATED}
    dead = {name: share for name, share in activity.dead.items() if share > TOO_DEAD}
    if dead := {name: share for name, share in dead.items() if name not in flat}:
        text = f"{_named(list(dead))}: {_percent(dead)} of the units are dead, they react to no row"
        yield _finding(Issue.DEAD, text)
    if flat:
        text = f"{_named(list(flat))}: {_percent(flat)} of the activations are saturated"
        yield _finding(Issue.SATURATED, text)


def _gradients(network: nn.Module, looks: list[Layers]) -> Iterator[Finding]:
    """The layers that got hardly any gradient, and hardly moved, in every look."""
    if not looks:
        return
    names, strongest = list(looks[-1]), ""
    cut_off = {name for name in names if all(look[name][0] == 0 for look in looks)}
    faint = dict.fromkeys(cut_off, 0.0) if len(cut_off) < len(names) else {}
    for chain in _chains(names, bypass=has_bypass(network)):
        pulls, steps = _shares(looks, chain, _pull), _shares(looks, chain, _step)
        ill = {n: p for n, p in pulls.items() if 0 < p < FAINT_PULL and steps[n] < FAINT_STEP}
        if ill:
            faint |= ill
            strongest = max(pulls, key=lambda name: pulls[name])
    ill_ones = _named([name for name in names if name in faint])
    if strongest:
        yield _finding(
            Issue.VANISHING,
            f"hidden layers are not learning: {ill_ones} received at most "
            f"{max(faint.values()):.0e} of the gradient of {strongest}, each times its weights",
        )
    elif faint:
        yield _finding(Issue.DETACHED, f"no gradient at all reaches {ill_ones}")


def _chains(layers: list[str], *, bypass: bool) -> list[list[str]]:
    """The layers whose gradients may be compared.

    Beside a linear path the stacks start silenced, each by itself: within a stack all layers then
    get little, and the linear path gets all.
    """
    if not bypass:
        return [layers]
    stacks: dict[str, list[str]] = {}
    for name in layers:
        stacks.setdefault(name.split(".")[0], []).append(name)
    return list(stacks.values())


def _pull(norms: list[float]) -> float:
    # Gradient times weight is what a relative change of the layer does to the loss. In a chain
    # of homogeneous layers it is the same for all, whatever their scales (Du, Hu and Lee 2018).
    return norms[0] * norms[1]


def _step(norms: list[float]) -> float:
    return norms[2]


def _shares(
    looks: list[Layers], chain: list[str], measure: Callable[[list[float]], float]
) -> dict[str, float]:
    """For each layer its largest share, over all looks, of what the strongest of its chain had."""
    shares = dict.fromkeys(chain, 0.0)
    for look in looks:
        largest = max(measure(look[name]) for name in chain)
        for name in chain:
            if largest > 0:
                shares[name] = max(shares[name], measure(look[name]) / largest)
    return shares


def _finding(issue: Issue, text: str) -> Finding:
    return Finding(issue, f"{text}; {ADVICE[issue]}")


def _named(layers: list[str]) -> str:
    if len(layers) <= 2:
        return ("layer " if len(layers) == 1 else "layers ") + " and ".join(layers)
    return f"{len(layers)} layers ({layers[0]} to {layers[-1]})"


def _percent(shares: dict[str, float]) -> str:
    return f"{'at least ' if len(shares) > 1 else ''}{min(shares.values()):.0%}"
