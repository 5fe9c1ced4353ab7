"""Bulk extraction given out to the workers of a Ray cluster."""
