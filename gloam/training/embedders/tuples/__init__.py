"""Tuples of metric learning: which images an epoch and a step take, and as what the network sees them."""
