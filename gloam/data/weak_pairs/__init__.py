"""Weak pairs: images of two domains, such as snow and night, taken at one place in one direction."""
