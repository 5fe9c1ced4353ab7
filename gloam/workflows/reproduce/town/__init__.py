"""The papers' tables of retrieval in miniature, on procedural streets."""
