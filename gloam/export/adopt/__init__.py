"""Anyone's exported ONNX embedder read, probed, and written again with a model card; without torch."""
