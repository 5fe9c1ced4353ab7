"""Whole jobs over all packages: the demo, papers' tables, reports."""
