"""Recipes of edge detectors."""
