"""Weights in, files that explain themselves out."""
