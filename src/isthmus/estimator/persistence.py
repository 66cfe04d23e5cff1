"""A fitted model to and from plain values and tensors; no code of a model folder is run."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from isthmus.artifact import Artifact
from isthmus.corruptions import CORRUPTIONS
from isthmus.data.preparation.preparation import Preparation
from isthmus.errors import ArtifactError
from isthmus.estimator.code_refinement import CodeRefinement
from isthmus.estimator.fitted_model import FittedModel
from isthmus.imputation.imputer import Imputer
from isthmus.imputation.lazy import LazyImputer
from isthmus.kinds import KINDS, Kind
from isthmus.losses import LOSSES, PENALTIES, Reconstruction
from isthmus.optim import OPTIMIZERS
from isthmus.pretraining import PRETRAININGS
from isthmus.spec import AnySpec, Spec, from_json, is_integer, to_plain

NOT_SAVED = ("callbacks", "verbose", "checkpoint")
"""Settings that belong to one run, not to the model."""

MEAN, METRIC = "mean", "metric"
NETWORK, IMPUTER = "network.", "imputer."
DTYPES = (torch.float32, torch.float64)

SpecClasses = Mapping[str, type[Spec]]
"""The classes that a model folder may name, by class name."""


def model_to_artifact(
    model: FittedModel,
    settings: Mapping[str, object],
    facts: dict[str, Any],
    history: list[dict[str, Any]],
) -> Artifact:
    """A fitted model with the settings of its estimator, as plain values and tensors."""
    weights = {f"{NETWORK}{k}": v for k, v in model.network.state_dict().items()}
    weights[MEAN] = model.mean
    if model.refinement.metric is not None:
        weights[METRIC] = model.refinement.metric
    if model.imputer is not None:
        weights |= {f"{IMPUTER}{k}": v for k, v in model.imputer().tensors().items()}
    return Artifact(
        settings={k: _plain_setting(v) for k, v in settings.items() if k not in NOT_SAVED},
        kind=model.kind.to_json(),
        loss=model.loss.to_json(),
        preparation=model.preparation.to_json(),
        facts=facts,
        weights=weights,
        history=history,
    )


def _plain_setting(value: object) -> object:
    value = str(value) if isinstance(value, torch.device) else to_plain(value)
    # A RandomState is a stream that has moved on; there is nothing of it to keep.
    return value if isinstance(value, (str, int, float, bool, list, dict)) else None


def model_from_artifact(
    artifact: Artifact, classes: SpecClasses, device: torch.device
) -> FittedModel:
    """The fitted model of an artifact, on a device; ValueError if its parts do not fit together."""
    preparation = Preparation.from_json(artifact.preparation)
    kind = _spec(artifact.kind, classes, Kind)
    weights = dict(artifact.weights)
    mean, metric = weights.pop(MEAN), weights.get(METRIC)
    _check_tensors(mean, weights, preparation)
    _check_refinement(metric, artifact.facts)
    weights.pop(METRIC, None)
    imputer = _pop_imputer(weights, device)
    size = int(artifact.facts["n_components"])
    network = kind.build(preparation.facts, size).to(device, mean.dtype)
    network.load_state_dict({k.removeprefix(NETWORK): v for k, v in weights.items()})
    network.eval()
    lazy = None
    if preparation.allow_missing:
        lazy = LazyImputer(Imputer.from_tensors(imputer, mean.to(device), size))
    return FittedModel(
        network=network,
        kind=kind,
        loss=_spec(artifact.loss, classes, Reconstruction).with_facts(preparation.facts),
        preparation=preparation,
        mean=mean,
        n_components=size,
        refinement=CodeRefinement(
            steps=artifact.facts.get("transform_max_iter", 0),
            # Copied, since a file's tensors lie anywhere in memory, and sums depend on where.
            metric=None if metric is None else metric.clone().to(device),
        ),
        imputer=lazy,
    )


def settings_from_artifact(artifact: Artifact, classes: SpecClasses) -> dict[str, Any]:
    """The settings of the estimator that was saved."""
    return {name: from_json(value, classes) for name, value in artifact.settings.items()}


def known_classes(specs: Sequence[type[Spec]]) -> dict[str, type[Spec]]:
    """All registered spec classes and the given ones, by class name."""
    tables = (KINDS, LOSSES, PENALTIES, OPTIMIZERS, CORRUPTIONS, PRETRAININGS)
    registered = {cls.__name__: cls for table in tables for cls in table.values()}
    return registered | {cls.__name__: cls for cls in specs}


def _check_tensors(mean: Tensor, weights: Mapping[str, Tensor], preparation: Preparation) -> None:
    if mean.shape != (1, *preparation.facts.shape) or mean.dtype not in DTYPES:
        raise ValueError(f"the mean is {mean.dtype} of shape {tuple(mean.shape)}")
    for name, tensor in weights.items():
        if tensor.dtype != mean.dtype:  # torch would cast it in silence
            raise ValueError(f"{name} is {tensor.dtype}, the mean {mean.dtype}")


def _check_refinement(metric: Tensor | None, facts: Mapping[str, Any]) -> None:
    steps, size = facts.get("transform_max_iter", 0), facts["n_components"]
    if not (is_integer(steps) and steps >= 0):
        raise ValueError(f"transform_max_iter is {steps!r}")
    if metric is None and steps:
        raise ValueError(f"transform_max_iter is {steps}, and there is no {METRIC} to refine by")
    if metric is not None and metric.shape != (size, size):
        raise ValueError(f"the {METRIC} has shape {tuple(metric.shape)} for {size} numbers a code")


def _pop_imputer(weights: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    names = [name for name in weights if name.startswith(IMPUTER)]
    return {n.removeprefix(IMPUTER): weights.pop(n).clone().to(device) for n in names}


def _spec(written: object, classes: SpecClasses, base: type[AnySpec]) -> AnySpec:
    spec = from_json(written, classes)
    if not isinstance(spec, base):
        raise ArtifactError(f"{written!r} is not a {base.__name__}; save the model again")
    return spec
