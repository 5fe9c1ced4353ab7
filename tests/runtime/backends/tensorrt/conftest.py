"""Fixtures of a machine with a GPU and TensorRT that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from gloam.export.engine.build import build_engine
from tests.fakes.fixtures import gpu, onnx_file, rtx, trt
from tests.fakes.tensorrt import FakeTensorRT

__all__ = ["engine", "gpu", "onnx_file", "rtx", "trt"]


@pytest.fixture
def engine(trt: FakeTensorRT, onnx_file: Path, tmp_path: Path) -> Path:
    build_engine(onnx_file, tmp_path / "engine")
    return tmp_path / "engine"
