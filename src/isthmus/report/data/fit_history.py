"""The course of a fit as plain values: losses epoch by epoch, events, layers that learned alone."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from isthmus.errors import RequestError
from isthmus.estimator import Autoencoder

Evidence = dict[str, Any]


def history(ae: Autoencoder) -> dict[str, Any]:
    """Each loss term epoch by epoch, for training and held-out rows, and what else happened."""
    return {
        **_losses(ae.history_),
        "best_epoch": ae.best_epoch_,
        "start": ae.facts_.get("pretraining"),
        "others": [
            {"name": "given up", "start": record["start"]} | _losses(record["given_up"])
            for record in ae.history_
            if "given_up" in record
        ],
        "events": [
            {name: record[name] for name in ("event", "epoch", "message")}
            for record in ae.history_
            if "event" in record
        ],
        "pretraining": _pretraining(ae),
    }


def with_curve(evidence: Evidence, other: Mapping[str, Any], name: str) -> Evidence:
    """`evidence` with the learning curve of another fit, by `name`, beside its own.

    Raises RequestError where the two did not learn the same loss on as many rows of the same kind.
    """
    for what, ours, theirs in zip(
        ("loss", "terms of the loss", "number of rows", "number of features"),
        *map(_comparable, (evidence, other)),
        strict=True,
    ):
        if ours != theirs:
            raise RequestError(
                f"{name}: its learning curve does not compare, its {what} being {theirs} and here "
                f"{ours}; name a model of the same data and loss"
            )
    found = other["history"]
    curve = {"name": name, "start": found.get("start")} | {k: found[k] for k in ("epochs", "terms")}
    mine = evidence["history"]
    return evidence | {"history": mine | {"others": [*mine.get("others", []), curve]}}


def _comparable(evidence: Mapping[str, Any]) -> tuple[Any, ...]:
    training = evidence["training"]
    return (
        evidence["model"]["loss"],
        ", ".join(evidence["history"]["terms"]),
        # Not how many were held out: the share may be another one.
        training["training_rows"] + training["validation_rows"],
        evidence["data"]["features"],
    )


def _losses(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    epochs = [record for record in records if "train" in record]
    names = list(dict.fromkeys(name for record in epochs for name in record["train"]))
    return {
        "epochs": [record["epoch"] for record in epochs],
        "terms": {
            name: {
                part: [_finite(record[part].get(name, np.nan)) for record in epochs]
                for part in ("train", "validation")
                if all(part in record for record in epochs)
            }
            for name in names
        },
    }


def _pretraining(ae: Autoencoder) -> list[dict[str, Any]]:
    """Each layer that learned alone: its units, and its figures epoch by epoch."""
    layers: dict[int, list[dict[str, Any]]] = {}
    for record in ae.history_:
        if "pretraining" in record and "layer" in record:
            layers.setdefault(record["layer"], []).append(record)
    curves = ("error", "validation_error", "free_energy_gap")
    return [
        {
            **{name: records[0][name] for name in ("layer", "below", "above", "units")},
            "epochs": [record["epoch"] for record in records],
            **{
                name: [_finite(record[name]) for record in records]
                for name in curves
                if all(name in record for record in records)
            },
        }
        for records in layers.values()
    ]


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
