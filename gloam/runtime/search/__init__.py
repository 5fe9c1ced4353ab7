"""Neighbours: FAISS indexes, pair lists, and local features by ASMK."""
