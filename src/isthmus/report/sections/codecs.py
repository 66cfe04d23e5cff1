"""Section "images": the autoencoder next to image codecs at the same distortion."""

from typing import TypedDict

import numpy as np

from isthmus.report import formatting
from isthmus.report.data.codecs import (
    DistortionFigures,
    DomainFigures,
    code_range,
    codec_cells,
    codec_notes,
    domains,
    scale_note,
)
from isthmus.report.data.measurements import Measurements
from isthmus.report.data.records import ReportData
from isthmus.report.html import Charts, paragraph, section, table
from isthmus.report.plot import HUES, Figure, Trace, axis, figure, round_steps
from isthmus.report.sections.base import Section

DASHES = ("solid", "dot")


class Images(TypedDict):
    """Images of each origin, and the distortion of the autoencoder on them."""

    domains: list[DomainFigures]
    measured: list[DistortionFigures]
    scale_note: str | None


def collect(measurements: Measurements) -> Images | None:
    """Sizes and distortions on the measured rows and on other images; None if no codec applies."""
    images = domains(measurements.source, measurements.train_rows, measurements.measured_rows, None)
    if not images:
        return None
    is_train = np.isin(measurements.coded_rows, measurements.train_rows)
    low, high = code_range(measurements.codes[is_train])
    return {
        "domains": [domain.to_json() for domain in images],
        "measured": [domain.distortion(measurements.ae, low, high) for domain in images],
        "scale_note": scale_note(images[0].levels),
    }


def draw(values: Images, report: ReportData, charts: Charts) -> str:
    """A chart of likeness over bytes, and a table for each codec."""
    codecs = {name: report["labels"][name] for name in values["domains"][0]["codecs"]}
    names = formatting.listed(list(codecs.values()))
    chart = charts.add(
        _figure(values, codecs),
        f"PSNR over bytes per image, of {names} and of the autoencoder, for images like these and "
        "for others",
    )
    rows = [f"{domain['images']:,} {domain['name']}" for domain in values["domains"]]
    tables = []
    for name, codec in codecs.items():
        head, *cells = codec_cells(values["measured"], name, codec)
        body = [[row, *line] for row, line in zip(rows, cells, strict=True)]
        tables.append(table(["images", *head], body))
    text = (
        "Higher is closer to the original, further left is smaller. An autoencoder is trained on "
        f"one kind of image; {names} can store any."
    )
    notes = codec_notes(report["model"]["weights"], values["scale_note"])
    return section(
        "images",
        f"Comparison with {names}",
        paragraph(text),
        chart,
        *tables,
        paragraph(" ".join(notes), "note"),
    )


def _figure(values: Images, codecs: dict[str, str]) -> Figure:
    """A curve for each codec and a point for the autoencoder, for both kinds of images."""
    traces: list[Trace] = []
    for domain, measured in zip(values["domains"], values["measured"], strict=True):
        which = "images like these" if domain["same"] else "other images"
        hue = 0 if domain["same"] else 1
        for i, (name, codec) in enumerate(codecs.items()):
            points = domain["codecs"][name]
            line = {"color": f"@c{(hue + 2 * i) % HUES}", "dash": DASHES[hue], "width": 2}
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "name": f"{codec}, {which}",
                    "x": [point["bytes"] for point in points],
                    "y": [point["psnr"] for point in points],
                    "line": line,
                }
            )
        symbol = "diamond" if domain["same"] else "diamond-open"
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": f"autoencoder, {which}",
                "x": [measured["bytes"]],
                "y": [measured["psnr"]],
                "marker": {"color": f"@c{hue}", "size": 13, "symbol": symbol},
            }
        )
    for trace in traces:
        trace["hovertemplate"] = "%{x:.0f} bytes: %{y:.1f} dB"
    sizes = [size for trace in traces for size in trace["x"]]
    x = axis("bytes per image", type="log", tickvals=round_steps(min(sizes), max(sizes)))
    return figure(traces, x, axis("PSNR, dB"), height=360)


SECTION = Section(collect, draw)
