"""Trains networks: embedders, translators, edge detectors; each kind a folder that knows none of the others."""
