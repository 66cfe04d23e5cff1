"""The sections of the report, in the order of the page."""

from typing import Any

from isthmus.report.sections import (
    code_map,
    codecs,
    curve,
    facts,
    features,
    history,
    pretraining,
    reconstructions,
    usage,
)
from isthmus.report.sections.base import Section

SECTIONS: dict[str, Section[Any]] = {
    "rows": reconstructions.SECTION,
    "curve": curve.SECTION,
    "map": code_map.SECTION,
    "features": features.SECTION,
    "usage": usage.SECTION,
    "images": codecs.SECTION,
    "pretraining": pretraining.SECTION,
    "history": history.SECTION,
    "facts": facts.SECTION,
}
"""The sections by name; a page has each one whose values the report data hold."""

__all__ = ["SECTIONS", "Section"]
