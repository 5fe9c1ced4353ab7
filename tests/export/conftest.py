"""Fixtures of a machine with a GPU and TensorRT that is not there."""

from tests.fakes.fixtures import gpu, onnx_file, trt

__all__ = ["gpu", "onnx_file", "trt"]
