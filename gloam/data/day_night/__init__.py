"""Photographs by day and by night as two domains: reading them, the papers' splits, crops."""
