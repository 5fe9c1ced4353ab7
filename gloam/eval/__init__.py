"""Scores and protocols: of any object that describes or translates images; no torch."""
