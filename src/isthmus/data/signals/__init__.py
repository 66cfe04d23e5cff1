"""Recordings cut into windows, and windows joined into recordings again."""
