"""An exported network of keypoints gives torch's, at any size and batch, says where they are counted from, and refuses
what would change them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch

import gloam
from gloam.cli.main import main
from gloam.data.images import decode_image
from gloam.errors import ModelError, UsageError
from gloam.export.engine.build import build_engine
from gloam.export.engine.options import BuildOptions
from gloam.export.keypoints import export_keypoints
from gloam.export.proved import expect_proved
from gloam.export.weights import ExportRequest, export_weights
from gloam.model_card import KEYPOINT_OUTPUTS, KeypointRule
from gloam.networks.foreign.read import import_network
from gloam.networks.local_features import EXTRACTORS, LocalFeatureNetwork, create_extractor
from gloam.padding import PaddingProfile
from gloam.runtime.backends.onnx_file import read_card
from gloam.runtime.backends.selftest import run_selftest
from gloam.runtime.models.local_features import LocalExtractor, LocalFeatures
from gloam.runtime.search.asmk_images import LocalImages

KEYPOINTS = 1500  # more than the pixels of the smallest image
REAL = ("aliked/aliked-t16.pth", "aliked/aliked-n16.pth", "alike/alike-n.pth", "xfeat/xfeat_without_fine_matcher.pth",
        "disk/disk_depth_fp16.pth", "r2d2/r2d2_WASF_N16.pt")  # fmt: skip


def small() -> LocalFeatureNetwork:
    torch.manual_seed(0)
    return create_extractor("alike", variant="t").eval()


def picture(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Smooth, so that neighbours have no equal scores."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 4 + 2, width // 4 + 2, 3), dtype=np.uint8)
    return np.ascontiguousarray(np.kron(coarse, np.ones((4, 4, 1), np.uint8))[:height, :width])


def expected(
    model: LocalFeatureNetwork, image: npt.NDArray[np.uint8], count: int, threshold: float
) -> list[np.ndarray]:
    with torch.no_grad():
        points, scores, descriptors, number = model.extract_uint8(torch.from_numpy(image)[None], count, threshold)
    return [item[0, : int(number[0])].numpy() for item in (points, scores, descriptors)]


def expect_equal(found: LocalFeatures, points: np.ndarray, scores: np.ndarray, descriptors: np.ndarray) -> None:
    """99 % of the keypoints both ways, and what belongs to them."""
    assert abs(len(found) - len(points)) <= 0.01 * len(points)
    distance = np.abs(found.keypoints[:, None] - points[None]).max(2)
    assert (distance.min(0) < 1e-2).mean() >= 0.99
    assert (distance.min(1) < 1e-2).mean() >= 0.99
    same, nearest = distance.min(1) < 1e-2, distance.argmin(1)
    assert np.abs(found.scores[same] - scores[nearest][same]).max() <= 1e-4 * max(1, scores.max())
    assert np.abs(found.descriptors[same] - descriptors[nearest][same]).max() <= 1e-4


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "alike.onnx"
    export_keypoints(small(), path, keypoints=KEYPOINTS, provenance={"recipe": "test", "licence": "none"})
    return path


@pytest.mark.parametrize("size", [(32, 32), (33, 64), (97, 131), (210, 75)])
def test_agrees_with_torch_at_any_size(exported: Path, size: tuple[int, int]) -> None:
    image = picture(*size)
    extractor = gloam.load(exported)
    assert isinstance(extractor, LocalExtractor)
    expect_equal(extractor([image])[0], *expected(small(), image, KEYPOINTS, 0.0))


def test_a_batch_gives_what_its_images_give_alone(exported: Path) -> None:
    session = LocalExtractor.load(exported).session
    images = np.stack([picture(61, 90, seed) for seed in range(3)])
    together = session.run({"images": images})
    for row in range(3):
        alone = session.run({"images": images[row : row + 1]})
        for name in KEYPOINT_OUTPUTS:
            assert together[name][row] == pytest.approx(alone[name][0], abs=1e-4)


def test_the_card_says_what_a_caller_must_know(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = read_card(exported)
    assert (card.kind, card.dimension, card.metric) == ("local_features", 64, "cosine")
    assert card.keypoints == KeypointRule(KEYPOINTS, 0.0, "stored", 0.0)
    assert [(output.name, output.dtype, output.shape) for output in card.outputs] == [
        ("keypoints", "float32", ("batch", KEYPOINTS, 2)),
        ("scores", "float32", ("batch", KEYPOINTS)),
        ("descriptors", "float32", ("batch", KEYPOINTS, 64)),
        ("count", "int64", ("batch",)),
    ]
    difference, tolerance = run_selftest(LocalExtractor.load(exported).session)
    assert difference <= tolerance == 5e-3
    assert main(["check", str(exported)]) == 0
    assert "local_features" in capsys.readouterr().out


def test_no_operator_is_one_that_a_backend_lacks(exported: Path) -> None:
    used = {node.op_type for node in onnx.load(exported).graph.node}
    assert not used & {"NonZero", "Unique", "DeformConv", "ScatterElements", "ScatterND", "NonMaxSuppression"}
    assert "TopK" in used


def test_a_graph_that_misplaces_keypoints_is_not_written(exported: Path) -> None:
    session = LocalExtractor.load(exported).session

    class Off:
        card = session.card

        def __init__(self, name: str, shift: float) -> None:
            self.name, self.shift = name, shift

        def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            outputs = dict(session.run(inputs))
            outputs[self.name] = outputs[self.name] + np.float32(self.shift)
            return outputs

    expect_proved(session, "whole.onnx")
    for name, shift in (("keypoints", 0.5), ("descriptors", 0.01)):
        with pytest.raises(ModelError, match="not written, because the graph differs from the network"):
            expect_proved(Off(name, shift), "off.onnx")  # type: ignore[arg-type]  # as much as is needed of a session


def test_what_would_change_keypoints_is_refused(exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for name in EXTRACTORS:
        with pytest.raises(ModelError, match=rf"{name}: .* padding.*; use the dynamic profile"):
            export_keypoints(create_extractor(name), path, profile=PaddingProfile.fixed((256,), (256,)))
    with pytest.raises(ModelError, match="Linear: gives no keypoints"):
        export_keypoints(torch.nn.Linear(1, 1), path)  # type: ignore[arg-type]  # what a caller may do
    with pytest.raises(UsageError, match="0 keypoints; 1 to 65536"):
        export_keypoints(small(), path, keypoints=0)
    with pytest.raises(UsageError, match="the threshold is 0 or more"):
        export_keypoints(small(), path, threshold=-1.0)
    with pytest.raises(UsageError, match="takes any size, and an engine needs fixed shapes; name those of your images"):
        build_engine(exported, tmp_path / "engine", BuildOptions(target="rtx"))
    with pytest.raises(ModelError, match="gives keypoints for poses, not features for ASMK"):
        LocalImages(exported, tmp_path).open()
    assert not path.exists()


def test_options_of_other_networks_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    with pytest.raises(UsageError, match="--keypoints is for networks of local features, but hed is of kind 'edges'"):
        export_weights(ExportRequest(out, network="hed", random_init=0, options={"width": 2}, keypoints=9))
    with pytest.raises(UsageError, match="--p is for embedders, but alike is of kind 'local_features'"):
        export_weights(ExportRequest(out, network="alike", random_init=0, p=3.0))
    torch.save({"other.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match="a plain state dict does not say its network; name it with --network"):
        export_weights(ExportRequest(out, tmp_path / "other.pth"))
    with pytest.raises(ModelError, match="not the weights of disk"):
        export_weights(ExportRequest(out, tmp_path / "other.pth", network="disk"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EXTRACTORS if name != "alike"])
def test_every_network_agrees_with_torch(tmp_path: Path, name: str) -> None:
    torch.manual_seed(1)
    model = create_extractor(name, **({"variant": "t16"} if name == "aliked" else {})).eval()
    path = tmp_path / "model.onnx"
    export_keypoints(model, path, keypoints=KEYPOINTS, threshold=0.0)
    extractor = LocalExtractor.load(path)
    for size in ((32, 32), (45, 63), (97, 131), (300, 271)):
        image = picture(*size)
        expect_equal(extractor([image])[0], *expected(model, image, KEYPOINTS, 0.0))


@pytest.mark.parametrize("given", [{"max_side": 0}, {"max_side": 4097}, {"stretch": (5000, 720)}], ids=str)
def test_a_network_for_reduced_images_is_not_exported_for_larger_ones(tmp_path: Path, given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="the network is for images of up to 4096 px; leave it out, or give less"):
        export_weights(ExportRequest(tmp_path / "model.onnx", random_init=0, network="r2d2", **given))
    assert not (tmp_path / "model.onnx").exists()


def test_a_least_scale_is_of_networks_that_look_at_several(tmp_path: Path) -> None:
    given: dict[str, Any] = {"random_init": 0, "min_scale": 0.5}
    with pytest.raises(UsageError, match="--min-scale is for r2d2; xfeat looks at an image at one scale"):
        export_weights(ExportRequest(tmp_path / "model.onnx", network="xfeat", **given))
    with pytest.raises(UsageError, match="--min-scale is for networks of local features"):
        export_weights(ExportRequest(tmp_path / "model.onnx", network="gem_resnet18", **given))
    with pytest.raises(UsageError, match="the network is for images of up to 2048 px"):
        export_weights(ExportRequest(tmp_path / "model.onnx", network="r2d2", max_side=3000, **given))


@pytest.mark.slow
@pytest.mark.parametrize("file", REAL)
def test_public_weights_are_exported_as_they_are(
    tmp_path: Path, file: str, data_pack: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    weights, path = data_pack("weights") / file, tmp_path / "model.onnx"
    assert main(["export", str(weights), "-o", str(path), "--keypoints", "500"]) == 0
    said = capsys.readouterr().out
    assert "keypoints   the 500 strongest" in said
    assert "licence     " in said
    card = read_card(path)
    assert card.provenance["data"] == weights.name
    assert ("NC" in card.provenance["licence"]) == ("r2d2" in file)
    model = import_network(weights).model
    photo = decode_image(sorted((data_pack("wxbs_daynight") / "WGLBS").glob("*/*.*"))[0].read_bytes(), max_side=400)
    assert card.keypoints is not None
    expect_equal(LocalExtractor.load(path)([photo])[0], *expected(model, photo, 500, card.keypoints.threshold))
