"""Matches of pairs: by mutual neighbours or a model, kept by content, and their files."""
