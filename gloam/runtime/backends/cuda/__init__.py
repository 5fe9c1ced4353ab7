"""CUDA behind one small interface: memory, streams, events, copies and graphs, by cuda-python or by pycuda."""
