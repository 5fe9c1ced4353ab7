"""Figures 3 and 4 of mduit, of which the paper's text alone is known, from weak pairs or on the town."""
