"""CUDA behind one small interface: memory, streams, events, copies and graphs, by pycuda or by cuda-python."""
