"""The report page: one self-contained HTML file that opens offline."""

from html import escape
from importlib.resources import files
from typing import Any

from isthmus.errors import ArtifactError
from isthmus.report.data.gather import FORMAT
from isthmus.report.html import Charts
from isthmus.report.sections import facts_table, main, reconstructions
from isthmus.report.summary import headline

# Nothing is fetched: what is not in this file is forbidden.
POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; font-src data:"
)


def render(evidence: dict[str, Any]) -> str:
    """The page that shows what `gather` found.

    Raises ArtifactError for evidence of another format.
    """
    if evidence.get("format") != FORMAT:
        raise ArtifactError(
            f"the evidence has format {evidence.get('format')!r}, this isthmus draws {FORMAT}; "
            "fit again, or report with the isthmus that wrote it"
        )
    charts = Charts()
    body = "\n".join(
        [
            main.head(evidence),
            reconstructions.rows(evidence, charts),
            main.curve(evidence, charts),
            main.code_map(evidence, charts),
            main.features(evidence, charts),
            main.usage(evidence, charts),
            main.images(evidence, charts),
            main.pretraining(evidence, charts),
            main.history(evidence, charts),
            facts_table.facts(evidence),
        ]
    )
    return whole(body, charts, headline(evidence), evidence["versions"]["isthmus"])


def whole(body: str, charts: Charts, headline: str, version: str) -> str:
    """A page with this body, whose charts are drawn by the script in it."""
    from plotly.offline import get_plotlyjs

    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="description" content="{escape(headline)}">
<title>isthmus report</title>
<style>
{_part("style.css")}</style>
</head>
<body>
<main>
{body}
<footer>Written by isthmus {escape(version)}.</footer>
</main>
<script>{get_plotlyjs()}</script>
<script type="application/json" id="charts">{charts.script()}</script>
<script>
{_part("charts.js")}</script>
</body>
</html>
"""


def _part(name: str) -> str:
    return files("isthmus.report").joinpath(name).read_text(encoding="utf-8")
