"""Recipes for translators."""
