"""Divide rows into training and validation rows, in memory or while streaming."""
