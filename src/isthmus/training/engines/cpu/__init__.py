"""Engines for processors: a C kernel and Adam in bfloat16."""
