"""TensorRT engines from exported files, and what they show while they are built."""
