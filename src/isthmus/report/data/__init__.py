"""Collect what the report shows, as plain values."""
