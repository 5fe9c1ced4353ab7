"""Ranking scores by the protocols of the field's retrieval and place recognition sets."""
