"""Readers of retrieval sets, one file for each kind of source; ``gloam.data.tuples.read_retrieval_set`` finds them."""
