"""Exported models as callables on images, by the kind that their card states."""
