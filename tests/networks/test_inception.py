"""Inception features: what is refused and how, with a stand-in for torch-fidelity; and the real network where it is
installed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from gloam.errors import MissingExtraError, ModelError
from gloam.eval.translation.features import ClassExtractor
from gloam.files import sha256_file
from gloam.networks.inception import URL, InceptionFeatures
from tests.torchvision_shim import torchvision_without_operators

MODULE = "torch_fidelity.feature_extractor_inceptionv3"


class FakeNetwork(torch.nn.Module):
    """Mean colour and twice that, from weights of one known key."""

    def __init__(self, name: str, layers: list[str], feature_extractor_weights_path: str) -> None:
        super().__init__()
        assert layers == ["2048", "logits_unbiased"]
        self.gain = torch.nn.Parameter(torch.zeros(1))
        self.load_state_dict(torch.load(feature_extractor_weights_path, weights_only=False))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert x.dtype == torch.uint8
        mean = x.float().mean((2, 3)) * self.gain
        return mean, 2 * mean


@pytest.fixture
def fidelity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, MODULE, SimpleNamespace(FeatureExtractorInceptionV3=FakeNetwork))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.save({"gain": torch.ones(1)}, tmp_path / "inception.pth")
    return tmp_path / "inception.pth"


@pytest.mark.usefixtures("fidelity")
def test_features_of_mixed_sizes_keep_their_order(weights: Path) -> None:
    extractor = InceptionFeatures(weights)
    assert isinstance(extractor, ClassExtractor)
    assert extractor.weights_sha256 == sha256_file(weights)
    images = [np.full((10 + index // 3, 12, 3), index, np.uint8) for index in range(40)]
    features, logits = extractor.features_and_logits(images)
    assert np.array_equal(features, np.repeat(np.arange(40.0)[:, None], 3, axis=1))
    assert np.array_equal(logits, 2 * features)


@pytest.mark.usefixtures("fidelity")
def test_missing_wrong_and_executable_weights_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no such file; give Inception weights with --weights, from https") as missing:
        InceptionFeatures(tmp_path / "none.pth")
    wrong = tmp_path / "wrong.pth"
    torch.save({"other": torch.ones(1)}, wrong)
    with pytest.raises(ModelError, match="not the Inception weights") as refused:
        InceptionFeatures(wrong)
    pickled = tmp_path / "pickled.pth"
    torch.save(Path("anything that is no tensor"), pickled)
    with pytest.raises(ModelError, match="not the Inception weights"):
        InceptionFeatures(pickled)
    assert "\n" not in f"{missing.value}{refused.value}"


@pytest.mark.usefixtures("fidelity")
def test_offline_says_where_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*arguments: object, **options: object) -> None:
        raise OSError("<urlopen error [Errno -3] Temporary failure in name resolution>")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(ModelError, match=r"cannot be downloaded .*name resolution.* fetch https.*--weights FILE"):
        InceptionFeatures()


@pytest.mark.usefixtures("fidelity")
def test_downloads_once(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def download(url: str, path: str, hash_prefix: str, progress: bool) -> None:
        calls.append((url, hash_prefix, progress))
        Path(path).write_bytes(weights.read_bytes())

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    assert InceptionFeatures().weights_sha256 == InceptionFeatures().weights_sha256
    assert calls == [(URL, "6726825d", True)]


def test_without_torch_fidelity_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, weights: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    with pytest.raises(MissingExtraError, match=r"pip install 'gloam\[fidelity\]'"):
        InceptionFeatures(weights)


def test_a_torchvision_of_another_build_is_named(monkeypatch: pytest.MonkeyPatch, weights: Path) -> None:
    def broken(name: str) -> ModuleType:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr("gloam.errors.importlib.import_module", broken)
    with pytest.raises(MissingExtraError, match=r"torchvision.*nms does not exist.*PyTorch's own index"):
        InceptionFeatures(weights)


if importlib.util.find_spec("torch_fidelity") is not None:

    def test_the_real_network_with_random_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with torchvision_without_operators():
            module = importlib.import_module(MODULE)
        with monkeypatch.context() as patch:
            patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
            torch.save({}, tmp_path / "empty.pth")
            torch.manual_seed(0)
            random = module.FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(tmp_path / "empty.pth")
            )
        torch.save(random.state_dict(), tmp_path / "random.pth")
        extractor = InceptionFeatures(tmp_path / "random.pth")
        images = [np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8) for seed in range(2)]
        features, logits = extractor.features_and_logits(images)
        assert (features.shape, logits.shape) == ((2, 2048), (2, 1008))
        (expected,) = random(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2))
        assert np.allclose(features, expected, atol=1e-6)
