"""The sections of the page, each from the evidence; one with nothing to say is empty."""

from html import escape
from typing import Any

from isthmus.report import formatting
from isthmus.report.charts import figures, maps
from isthmus.report.data.jpeg import jpeg_cells, jpeg_notes
from isthmus.report.html import Charts, paragraph, prose, section, table
from isthmus.report.summary import beside_pca, headline, usage_sentence, validation_sentence, whose

Evidence = dict[str, Any]

FEWEST_EPOCHS = 2
ALIKE = 0.05


def head(evidence: Evidence) -> str:
    """What the code keeps, in words and in four figures."""
    measured, data, model = evidence["measured"], evidence["data"], evidence["model"]
    ours, theirs = measured["ae"], measured["pca"]
    seconds = formatting.seconds(evidence["training"]["seconds"])
    boxes = [
        (
            f"{data['features']:,} → {model['n_components']:,}",
            "numbers a row, before and in the code",
        ),
        (
            formatting.percent(ours["explained_variance"]),
            f"of the variance kept; PCA {formatting.percent(theirs['explained_variance'])}",
        ),
        (
            formatting.number(ours["error"]),
            f"squared error; PCA {formatting.number(theirs['error'])}",
        ),
        (seconds, f"of training on {evidence['training']['device']}"),
    ]
    tiles = "".join(
        f"<div><b>{prose(figure)}</b><span>{prose(text)}</span></div>" for figure, text in boxes
    )
    title = f"isthmus report · {_origin(data)}"
    return "\n".join(
        [
            f"<header><h1>{escape(title)}</h1>",
            paragraph(headline(evidence), "headline"),
            paragraph(beside_pca(evidence)),
            paragraph(_figures_note(evidence), "note"),
            f'<div class="figures">{tiles}</div></header>',
        ]
    )


def _origin(data: dict[str, Any]) -> str:
    return "rows in memory" if data["origin"] == "X" else data["origin"]


def _figures_note(evidence: Evidence) -> str:
    measured, data = evidence["measured"], evidence["data"]
    text = f"Figures are of {whose(evidence)}, errors {data['unit']}."
    if measured["unseen"]:
        return (
            f"{text} No network learned from them, but they chose the best epoch; "
            "isthmus compare measures on rows kept from that too."
        )
    if measured.get("validation"):
        told = validation_sentence(measured["validation"])
        return f"{text} The model has learned from them; {told}."
    return f"{text} The network may have learned from them."


def history(evidence: Evidence, charts: Charts) -> str:
    """The loss over the epochs, and what happened on the way."""
    record = evidence["history"]
    events = [paragraph(_sentence(event["message"]), "event") for event in record["events"]]
    chart = ""
    if len(record["epochs"]) > FEWEST_EPOCHS:
        chart = charts.add(
            figures.history(record),
            f"loss over {record['epochs'][-1]} epochs; the best is epoch {record['best_epoch']}",
        )
    best = f"The dashed line is epoch {record['best_epoch']}, whose weights were kept."
    if record.get("others"):
        best += f" This fit began from {record['start']}; dashed curves are other fits."
    return section("history", "Learning", paragraph(best) if chart else "", chart, *events)


def pretraining(evidence: Evidence, charts: Charts) -> str:
    """What each layer learned alone, before all learned together."""
    layers = evidence["history"].get("pretraining")
    if not layers:
        return ""
    text = (
        "Before training, each layer learned alone to rebuild what lies below it; the error is "
        "in the units of that layer's input."
    )
    drawn = [charts.add(figures.layers(layers, "error"), "error of each layer over its epochs")]
    if all("free_energy_gap" in layer for layer in layers):
        text += (
            " The free-energy gap, mean free energy of held-out rows minus that of as many "
            "training rows, grows where a machine learns its rows by heart."
        )
        drawn.append(
            charts.add(
                figures.layers(layers, "free_energy_gap"),
                "free-energy gap of each layer over its epochs",
            )
        )
    head = ["layer", "numbers", "units", "error at first", "at the end"]
    body = [
        [str(layer["layer"]), f"{layer['below']:,} → {layer['above']:,}", layer["units"]]
        + [formatting.number(layer["error"][end]) for end in (0, -1)]
        for layer in layers
    ]
    return section("pretraining", "Pretraining", paragraph(text), *drawn, table(head, body))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def curve(evidence: Evidence, charts: Charts) -> str:
    """PCA's explained variance across code sizes, and ours at one."""
    record, size = evidence["curve"], evidence["model"]["n_components"]
    explained = evidence["measured"]["ae"]["explained_variance"]
    if len(record["sizes"]) < 2 or explained is None:
        return ""
    chart = charts.add(
        figures.curve(record, size, explained),
        f"variance kept by PCA for 1 to {record['largest']} numbers a row, and by the autoencoder "
        f"with {size}: {formatting.percent(explained)}",
    )
    text = "What PCA keeps with 1, 2, ... numbers a row, and the autoencoder with its own."
    return section("curve", "Beside PCA, size by size", paragraph(text), chart)


def code_map(evidence: Evidence, charts: Charts) -> str:
    """The rows where their codes lie."""
    record = evidence["map"]
    drawn, everything = len(record["x"]), evidence["data"]["rows"]
    if record["y"] is None:
        text = "How often each value of the one number occurs."
    elif record["shares"] is None:
        which = "the two" if evidence["model"]["n_components"] == 2 else "the first two"
        text = f"Each point is a row, at {which} numbers of its code."
    else:
        both = formatting.percent(sum(record["shares"]))
        text = (
            "Each point is a row, seen along the two directions in which codes vary most; "
            f"they hold {both} of the codes' variance."
        )
    if drawn < everything:
        text += f" {drawn:,} of {everything:,} rows, evenly spaced."
    chart = charts.add(maps.code_map(record), text)
    return section("map", "A map of the codes", paragraph(text), chart)


def features(evidence: Evidence, charts: Charts) -> str:
    """Where in a row the error is."""
    record, unit = evidence["features"], evidence["data"]["unit"]
    if record is None:
        return ""
    layout = evidence["data"]["layout"]
    if layout == "image":
        chart = charts.add(maps.heat(record), "typical error of each pixel")
        text = f"Root of the mean squared error of each pixel, {unit}."
        return section("features", "Where the error is", paragraph(text), chart)
    if layout == "signal":
        chart = charts.add(figures.over_time(record), "typical error at each point in time")
        text = f"Root of the mean squared error at each point in time, {unit}."
        return section("features", "When the error is", paragraph(text), chart)
    shown, total = len(record["names"]), record["features"]
    text = f"Root of the mean squared error of each column, {unit}"
    text += f"; the {shown} largest of {total:,}." if shown < total else ", the largest first."
    chart = charts.add(figures.bars(record), "typical error of each column")
    return section("features", "Which columns are hard to keep", paragraph(text), chart)


def usage(evidence: Evidence, charts: Charts) -> str:
    """Which units of the code do something of their own."""
    record = evidence["usage"]
    if record["units"] == 1:
        return ""
    sentence = usage_sentence(record) + f", over {formatting.count(record['rows'], 'row')}."
    parts = []
    if record["smallest"] > (1 - ALIKE) * record["largest"]:
        sentence += f" All have much the same variance, {formatting.number(record['largest'])}."
    else:
        bars = charts.add(figures.variances(record), "variance of each unit of the code")
        parts.append(f"<div><h3>Variance</h3>{bars}</div>")
    strongest = record["strongest"]
    if record["correlation"] is None or strongest < ALIKE:
        sentence += f" No two correlate by more than {formatting.number(max(strongest, 0.01), 2)}."
    else:
        chart = charts.add(
            maps.correlation(record["correlation"]), "correlation of the units of the code"
        )
        parts.append(f"<div><h3>Correlation</h3>{chart}</div>")
    joined = f'<div class="columns">{"".join(parts)}</div>' if parts else ""
    return section("usage", "How the code is used", paragraph(sentence), joined, _idle(record))


def _idle(record: dict[str, Any]) -> str:
    texts = []
    if record["dead"]:
        listed = ", ".join(map(str, record["dead"][:20]))
        texts.append(f"Dead, with hardly any variance: {listed}{_more(record['n_dead'])}.")
    if record["duplicates"]:
        listed = ", ".join(f"{copy} repeats {unit}" for copy, unit in record["duplicates"][:20])
        texts.append(f"Correlated beyond 0.99: {listed}{_more(record['n_duplicates'])}.")
    return paragraph(" ".join(texts), "note") if texts else ""


def _more(total: int) -> str:
    return " and others" if total > 20 else ""


def images(evidence: Evidence, charts: Charts) -> str:
    """Beside JPEG, on images of the same kind and on others."""
    record = evidence["images"]
    if record is None:
        return ""
    chart = charts.add(
        figures.distortion(record),
        "likeness over bytes an image, of JPEG and of the autoencoder, for images like these and "
        "for others",
    )
    cells = jpeg_cells(record["measured"])
    names = [f"{domain['images']:,} {domain['name']}" for domain in record["domains"]]
    body = [[name, *row] for name, row in zip(names, cells[1:], strict=True)]
    notes = jpeg_notes(evidence["model"]["weights"], record["scale_note"])
    text = (
        "Higher is closer to the original, further left is smaller. An autoencoder knows one kind "
        "of image; JPEG treats all alike."
    )
    return section(
        "jpeg",
        "Beside JPEG",
        paragraph(text),
        chart,
        table(["images", *cells[0]], body),
        paragraph(" ".join(notes), "note"),
    )
