"""Rows that stay on disk: read in blocks, a few of which are in memory at a time."""
