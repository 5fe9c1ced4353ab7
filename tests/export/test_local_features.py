"""An exported HOW model gives torch's features, carries its self-test, and refuses what would change them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from gloam.cli.main import main
from gloam.errors import ModelError
from gloam.export.local_features import export_local_features
from gloam.padding import PaddingProfile
from gloam.runtime.backends.selftest import run_selftest
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.models.local_features import LocalExtractor
from tests.networks.embedders.test_how import tiny

SCALES = (1.414, 1.0)  # each more makes the export seconds longer


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "how.onnx"
    export_local_features(tiny(), path, scales=SCALES, provenance={"recipe": "test", "licence": "none"})
    return path


@pytest.mark.parametrize("size", [(32, 32), (97, 131), (120, 75)])
def test_agrees_with_torch(exported: Path, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    found = LocalExtractor.load(exported, strongest=10**6)([image])[0]
    with torch.no_grad():
        features, attention, positions, scales = tiny().local_features(torch.from_numpy(image)[None], SCALES)
    order = np.lexsort((found.positions[:, 0], found.positions[:, 1], found.scales))  # unlike attention without ties
    inside = positions.clamp(min=0).minimum(torch.tensor((size[1] - 1, size[0] - 1)))
    expected = np.lexsort((inside[:, 0], inside[:, 1], scales))
    assert np.abs(found.descriptors[order] - features[0].numpy()[expected]).max() <= 1e-5
    assert np.abs(found.attention[order] - attention[0].numpy()[expected]).max() <= 1e-5
    assert np.abs(found.positions[order] - inside.numpy()[expected]).max() <= 1e-4


def test_the_graph_resizes_to_whole_sides_and_the_selftest_passes(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proto = onnx.load(exported)
    resizes = [node for node in proto.graph.node if node.op_type == "Resize"]
    assert len(resizes) == 1
    assert all(len(node.input) == 4 and not node.input[2] for node in resizes)  # sizes, and no factor
    session = LocalExtractor.load(exported).session
    difference, tolerance = run_selftest(session)
    assert difference <= tolerance
    assert (session.card.kind, session.card.dimension, session.card.scales) == ("local_features", 16, SCALES)
    assert main(["check", str(exported)]) == 0
    assert "local_features" in capsys.readouterr().out


def test_what_would_change_the_features_is_refused(exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(ModelError, match="use the dynamic profile"):
        export_local_features(tiny(), path, profile=PaddingProfile.fixed((256,), (256,), batch=(1, 2)))
    with pytest.raises(ModelError, match=r"scales 1.0, 3.0: different numbers of 0.25..2 are needed"):
        export_local_features(tiny(), path, scales=(1.0, 3.0))
    with pytest.raises(ModelError, match="gives no local features"):
        export_local_features(torch.nn.Linear(1, 1), path)
    with pytest.raises(ModelError, match="'embedder' is needed here"):
        Embedder.load(exported)
    assert not path.exists()
