"""Sections of the report page, drawn from collected values."""
