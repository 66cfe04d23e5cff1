"""Load a model folder back as a fitted Autoencoder, without running any code that is in it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from isthmus import artifact
from isthmus.artifact import Artifact
from isthmus.corruptions import CORRUPTIONS
from isthmus.data import Preparation
from isthmus.errors import ArtifactError
from isthmus.estimator.autoencoder import Autoencoder
from isthmus.estimator.saving import IMPUTER, MEAN, METRIC, NETWORK
from isthmus.imputation.imputer import Imputer
from isthmus.imputation.lazy import LazyImputer
from isthmus.kinds import KINDS, Kind
from isthmus.losses import LOSSES, PENALTIES, Reconstruction
from isthmus.optim import OPTIMIZERS
from isthmus.pretraining import PRETRAININGS
from isthmus.runtime.device import resolve_device
from isthmus.spec import AnySpec, Spec, from_json, is_integer

DTYPES = (torch.float32, torch.float64)


def load(
    folder: str | Path, *, device: str = "auto", specs: Sequence[type[Spec]] = ()
) -> Autoencoder:
    """The fitted Autoencoder saved in `folder`, on `device`.

    `specs` are classes of your own that the model uses. Raises ArtifactError when the folder is
    missing, damaged, foreign, or from a newer isthmus.
    """
    found = artifact.load(folder)
    classes, where = _known(specs), resolve_device(device)
    with torch.inference_mode(False):  # a model loaded in it could not refine its codes
        return _made(folder, found, classes, where)


def _made(
    folder: str | Path, found: Artifact, classes: Mapping[str, type[Spec]], where: torch.device
) -> Autoencoder:
    try:
        settings = {key: from_json(value, classes) for key, value in found.settings.items()}
        estimator = Autoencoder(**settings)
        _restore(estimator, found, classes, where)
    except ArtifactError as error:
        raise ArtifactError(f"{folder}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(
            f"{folder}: the parts of the model do not fit together ({reason}); it was edited, or "
            f"written by another isthmus ({found.versions.get('isthmus')})"
        ) from error
    return estimator


def _restore(
    estimator: Autoencoder, found: Artifact, classes: Mapping[str, type[Spec]], device: torch.device
) -> None:
    preparation = Preparation.from_json(found.preparation)
    kind = _part(found.kind, classes, Kind)
    weights = dict(found.weights)
    mean, metric = weights.pop(MEAN), weights.get(METRIC)
    _check_tensors(mean, weights, preparation)
    _check_refinement(metric, found.facts)
    weights.pop(METRIC, None)
    imputer = _pop_imputer(weights, device)
    size = int(found.facts["n_components"])
    network = kind.build(preparation.facts, size).to(device, mean.dtype)
    network.load_state_dict({k.removeprefix(NETWORK): v for k, v in weights.items()})
    network.eval()
    estimator.network_, estimator.kind_ = network, kind
    estimator.loss_ = _part(found.loss, classes, Reconstruction).bound(preparation.facts)
    estimator.preparation_, estimator.mean_ = preparation, mean
    # Copied, since a file's tensors lie anywhere in memory, and sums depend on where.
    estimator.metric_ = None if metric is None else metric.clone().to(device)
    estimator._imputer = None
    if preparation.allow_missing:
        estimator._imputer = LazyImputer(Imputer.from_tensors(imputer, mean.to(device), size))
    estimator.restore_facts(found.facts, found.history)


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


def _part(written: Any, classes: Mapping[str, type[Spec]], base: type[AnySpec]) -> AnySpec:
    part = from_json(written, classes)
    if not isinstance(part, base):
        raise ArtifactError(f"{written!r} is no {base.__name__}; save the model again")
    return part


def _known(specs: Sequence[type[Spec]]) -> dict[str, type[Spec]]:
    tables = (KINDS, LOSSES, PENALTIES, OPTIMIZERS, CORRUPTIONS, PRETRAININGS)
    known = {cls.__name__: cls for table in tables for cls in table.values()}
    return known | {cls.__name__: cls for cls in specs}
