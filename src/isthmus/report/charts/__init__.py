"""Charts as plain dictionaries for plotly."""
