"""Errors of poses, recall at their thresholds, and the paradigms that give the poses."""
