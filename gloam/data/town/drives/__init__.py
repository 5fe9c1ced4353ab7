"""Drives: the same streets under several conditions, each by a drive of its own, as weak pairs with parts by street."""
