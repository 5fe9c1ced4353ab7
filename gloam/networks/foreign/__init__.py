"""Weights as other projects publish them, by key maps to gloam's own networks."""
