"""A matcher of a fixed profile becomes an engine whose shapes are numbers of keypoints."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from gloam.cli.main import main
from gloam.errors import UsageError
from gloam.export.engine.build import build_engine
from gloam.export.engine.options import BuildOptions
from gloam.export.matcher import export_matcher
from gloam.padding import PaddingProfile
from tests.export.test_matcher import small

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorrt_rtx") is None,
        reason="TensorRT for RTX is not installed; pip install 'gloam[tensorrt-rtx]'",
    ),
]


def test_it_is_built_for_numbers_of_keypoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.onnx"
    export_matcher(small("lighterglue"), path, profile=PaddingProfile.fixed((256, 512), (256,), (1, 2)))
    assert main(["engine", str(path), "-o", str(tmp_path / "engine"), "--for", "rtx"]) == 0
    out = capsys.readouterr().out
    assert "shapes 256x256 256x512; batch 1 to 2" in out  # second image first, as widths come before heights
    rtx = BuildOptions(target="rtx", heights=(768,))
    with pytest.raises(UsageError, match="heights 768 are asked for, but the model has 256, 512"):
        build_engine(path, tmp_path / "other", rtx)
    turing = BuildOptions(target="rtx", heights=(256,), architectures=("sm75",))
    with pytest.raises(UsageError, match=r"cannot build the model for sm75 .*; leave it out of --gpu"):
        build_engine(path, tmp_path / "turing", turing)
