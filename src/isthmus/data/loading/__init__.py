"""Prepared rows in batches, from memory or from disk."""
