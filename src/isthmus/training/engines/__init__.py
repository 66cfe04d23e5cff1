"""Engines: the implementations of a training step, from autograd to compiled C."""
