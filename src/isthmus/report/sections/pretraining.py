"""Section "pretraining": the errors of each layer that was trained alone."""

from typing import Any, NotRequired, TypedDict

from isthmus.report import formatting
from isthmus.report.data.measurements import Measurements
from isthmus.report.data.records import ReportData
from isthmus.report.data.row_access import finite
from isthmus.report.html import Charts, paragraph, section, table
from isthmus.report.plot import HUES, Figure, axis, figure, wide_axis
from isthmus.report.sections.base import Section

CURVES = ("error", "validation_error", "free_energy_gap")


class Layer(TypedDict):
    """A layer that was trained alone, and its figures per epoch."""

    layer: int
    below: int
    above: int
    units: str
    epochs: list[int]
    error: list[float | None]
    validation_error: NotRequired[list[float | None]]
    free_energy_gap: NotRequired[list[float | None]]


def collect(measurements: Measurements) -> list[Layer] | None:
    """The layers in their order; None if the fit had no pretraining by layers."""
    layers: dict[int, list[dict[str, Any]]] = {}
    for record in measurements.ae.history_:
        if "pretraining" in record and "layer" in record:
            layers.setdefault(record["layer"], []).append(record)
    return [_layer(records) for records in layers.values()] or None


def _layer(records: list[dict[str, Any]]) -> Layer:
    first = records[0]
    layer: Layer = {
        "layer": first["layer"],
        "below": first["below"],
        "above": first["above"],
        "units": first["units"],
        "epochs": [record["epoch"] for record in records],
        "error": [],
    }
    for name in CURVES:
        if all(name in record for record in records):
            layer[name] = [finite(record[name]) for record in records]  # type: ignore[literal-required]
    return layer


def draw(layers: list[Layer], report: ReportData, charts: Charts) -> str:
    """Charts of errors and differences in free energy, and a table of the layers."""
    del report
    text = (
        "Before training, each layer was trained alone to reconstruct its own input; errors are "
        "in the units of that input."
    )
    errors = [layer["error"] for layer in layers]
    drawn = [charts.add(_figure(layers, errors, "error"), "error of each layer over its epochs")]
    free_energies = [layer["free_energy_gap"] for layer in layers if "free_energy_gap" in layer]
    if len(free_energies) == len(layers):
        text += (
            " The difference in free energy is the mean free energy of validation rows minus that "
            "of as many training rows. It grows if a machine overfits the training rows."
        )
        drawn.append(
            charts.add(
                _figure(layers, free_energies, "difference in free energy"),
                "difference in free energy of each layer over its epochs",
            )
        )
    head = ["layer", "numbers", "units", "first error", "last error"]
    body = [
        [str(layer["layer"]), f"{layer['below']:,} → {layer['above']:,}", layer["units"]]
        + [formatting.number(layer["error"][end]) for end in (0, -1)]
        for layer in layers
    ]
    return section("pretraining", "Pretraining", paragraph(text), *drawn, table(head, body))


def _figure(layers: list[Layer], curves: list[list[float | None]], title: str) -> Figure:
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": layer["epochs"],
            "y": curve,
            "name": f"layer {layer['layer']}",
            "line": {"color": f"@c{i % HUES}", "width": 2},
            "hovertemplate": "epoch %{x}: %{y:.4g}",
        }
        for i, (layer, curve) in enumerate(zip(layers, curves, strict=True))
    ]
    values = [value for curve in curves for value in curve if value is not None]
    return figure(data, axis("epoch"), wide_axis(title, values or [0.0]), height=300)


SECTION = Section(collect, draw)
