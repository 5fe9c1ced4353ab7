"""Bulk runs given out to the workers of a Ray cluster."""
