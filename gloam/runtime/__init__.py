"""Exported models at full speed: numpy in, numpy out; imports without torch, faiss, kapture or a GPU."""
