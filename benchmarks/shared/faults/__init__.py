"""Faults to plant, and the small workspace that they are planted in."""
