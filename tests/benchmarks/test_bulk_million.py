"""The fake embedder of ``bulk_million`` is what the pipeline asks for, whatever the pipeline has learned to ask."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import bulk_million
from gloam.runtime.bulk import extract as pipeline
from gloam.runtime.descriptors.store import DescriptorStore


def test_a_small_run_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pipeline, "decode_image", pipeline.decode_image)  # the run replaces it
    bulk_million.write_tars(tmp_path / "tars", 120)
    bulk_million.child(str(tmp_path / "tars"), str(tmp_path / "store"), "50")
    assert json.loads(capsys.readouterr().out.strip().splitlines()[-1])["summary"]["described"] == 120
    assert len(DescriptorStore.open(tmp_path / "store").names) == 120
