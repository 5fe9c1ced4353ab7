"""TensorRT 10.3 to 11: engines of fixed shapes behind the same Session as every other backend."""
