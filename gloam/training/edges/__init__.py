"""Training of edge detectors on the town's exact edges."""
