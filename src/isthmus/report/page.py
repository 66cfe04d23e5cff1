"""The report page: one self-contained HTML file that opens offline."""

from html import escape
from importlib.resources import files

from isthmus.errors import ArtifactError
from isthmus.report import formatting
from isthmus.report.data.records import FORMAT, ReportData
from isthmus.report.html import Charts, paragraph, prose, sentence
from isthmus.report.sections import SECTIONS
from isthmus.report.summary import comparison, headline, measured_rows, validation_sentence

# The page may load nothing from outside this file.
POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; font-src data:"
)


def render(report: ReportData) -> str:
    """The page that shows the report data of `gather`.

    A section whose values are missing is left out. Raises ArtifactError if the data have another
    format or lack what every page needs.
    """
    if report.get("format") != FORMAT:
        raise ArtifactError(
            f"the report data have format {report.get('format')!r}, this version of isthmus draws "
            f"{FORMAT}; fit again, or report with the version that wrote them"
        )
    charts = Charts()
    try:
        drawn = "the head of the page"
        parts = [_head(report)]
        for name, section in SECTIONS.items():
            drawn, values = f"section {name!r}", report.get(name)
            parts.append("" if values is None else section.draw(values, report, charts))
        version = report["versions"]["isthmus"]
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise ArtifactError(
            f"{drawn} cannot be drawn from the report data ({error!r}); they were edited, or "
            "written by another version of isthmus; fit again"
        ) from error
    return whole("\n".join(parts), charts, headline(report), version)


def _head(report: ReportData) -> str:
    """The main result in words and in four figures."""
    measured, data, labels = report["measured"], report["data"], report["labels"]
    ours, baselines = measured["ae"], measured["baselines"]
    variance = [
        f"{labels[name]} {formatting.percent(figures['explained_variance'])}"
        for name, figures in baselines.items()
    ]
    errors = [
        f"{labels[name]} {formatting.number(figures['error'])}"
        for name, figures in baselines.items()
    ]
    boxes = [
        (
            f"{data['features']:,} → {report['model']['n_components']:,}",
            "numbers per row, before and in the code",
        ),
        (
            formatting.percent(ours["explained_variance"]),
            "; ".join(["explained variance", *variance]),
        ),
        (formatting.number(ours["error"]), "; ".join(["mean squared error", *errors])),
        (
            formatting.seconds(report["training"]["seconds"]),
            f"of training on {report['training']['device']}",
        ),
    ]
    tiles = "".join(
        f"<div><b>{prose(figure)}</b><span>{prose(text)}</span></div>" for figure, text in boxes
    )
    origin = "rows in memory" if data["origin"] == "X" else data["origin"]
    return "\n".join(
        [
            f"<header><h1>{escape(f'isthmus report · {origin}')}</h1>",
            paragraph(headline(report), "headline"),
            paragraph(" ".join(comparison(report, name) for name in baselines)),
            paragraph(_measured_note(report), "note"),
            f'<div class="figures">{tiles}</div></header>',
        ]
    )


def _measured_note(report: ReportData) -> str:
    """The rows and unit of the figures, and what the model has seen of the rows."""
    measured = report["measured"]
    text = (
        f"Measured on {measured_rows(report)}; errors are mean squared, {report['data']['unit']}."
    )
    if measured["unseen"]:
        return (
            f"{text} The network was not trained on these rows, but they chose the best epoch; "
            "isthmus compare measures on separate test rows."
        )
    if measured["validation"]:
        before = sentence(validation_sentence(measured["validation"]))
        return f"{text} The model was fitted to these rows too. {before}"
    return f"{text} The network may have been trained on these rows."


def whole(body: str, charts: Charts, description: str, version: str) -> str:
    """A page with this body, its style, and the script that draws its charts."""
    from plotly.offline import get_plotlyjs

    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="description" content="{escape(description)}">
<title>isthmus report</title>
<style>
{_resource("style.css")}</style>
</head>
<body>
<main>
{body}
<footer>Written by isthmus {escape(version)}.</footer>
</main>
<script>{get_plotlyjs()}</script>
<script type="application/json" id="charts">{charts.script()}</script>
<script>
{_resource("charts.js")}</script>
</body>
</html>
"""


def _resource(name: str) -> str:
    return files("isthmus.report").joinpath(name).read_text(encoding="utf-8")
