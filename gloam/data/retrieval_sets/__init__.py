"""Readers of retrieval sets, one file for each kind of source; :mod:`.sets` finds them."""
