"""Shared by the benchmarks of matching: exported extractors and matchers with real weights, and SIFT in their place.

Not a benchmark of its own. A folder named by ``GLOAM_BENCH_RUNS`` keeps the exports.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.shared.lightglue_heads import lightglue_head
from benchmarks.shared.result import KEPT, code_state, data_pack
from gloam.data.plain_opencv import plain_opencv
from gloam.export.weights import ExportRequest, export_weights
from gloam.files import sha256_file, sha256_json
from gloam.runtime.backends.placement import Placement
from gloam.runtime.localization.matches.mutual import MutualMatcher
from gloam.runtime.models.local_features import LocalExtractor, LocalFeatures
from gloam.runtime.models.matcher import FeatureMatcher, Matcher

EXTRACTORS = {
    "ALIKE-n": "alike/alike-n.pth",
    "XFeat": "xfeat/xfeat_without_fine_matcher.pth",
    "DISK": "disk/disk_depth_fp16.pth",
    "ALIKED-t16": "aliked/aliked-t16.pth",
    "ALIKED-n16": "aliked/aliked-n16.pth",
}
MATCHERS = {"ALIKED-n16": "LightGlue", "DISK": "LightGlue", "XFeat": "LighterGlue"}  # learned for these features
MOST = 2048  # keypoints of an image that the extractors give
MAKERS = ("gloam/export", "gloam/networks", "gloam/model_card")  # the code that an exported file depends on
HEADS = {"ALIKED-n16": "aliked", "DISK": "disk"}


@dataclass(frozen=True)
class Sift:
    """RootSIFT by OpenCV as its documentation has it, with the face of an extractor.

    Attributes:
        count: keypoints of an image, the strongest.
    """

    count: int

    @plain_opencv()
    def __call__(self, images: list[npt.NDArray[np.uint8]]) -> list[LocalFeatures]:
        return [self._extract(image) for image in images]

    def _extract(self, image: npt.NDArray[np.uint8]) -> LocalFeatures:
        sift = cv2.SIFT.create(nfeatures=self.count)
        points, descriptors = sift.detectAndCompute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None)
        order = np.argsort([-point.response for point in points], kind="stable")[: self.count]
        rooted = np.sqrt(descriptors[order] / np.maximum(descriptors[order].sum(1, keepdims=True), 1e-12))
        places = np.array([point.pt for point in points], np.float32)[order]
        strengths = np.array([point.response for point in points], np.float32)[order]
        return LocalFeatures(places, strengths, rooted, (image.shape[1], image.shape[0]), name="sift")


def extractor_of(name: str, folder: Path, count: int) -> LocalExtractor | Sift:
    """The extractor of a name in :data:`EXTRACTORS`, or SIFT; its ``count`` strongest keypoints, however weak."""
    if name == "SIFT":
        return Sift(count)
    path = exported(data_pack("weights") / EXTRACTORS[name], folder, keypoints=MOST, threshold=0.0, max_side=0)
    return LocalExtractor.load(path, Placement(backend="onnxruntime"), strongest=count)


def matchers_of(name: str, folder: Path) -> dict[str, FeatureMatcher]:
    """Mutual neighbours, and the learned matcher of an extractor's features where there is one.

    Raises:
        DataError: its weights cannot be had.
    """
    found: dict[str, FeatureMatcher] = {"mutual neighbours": MutualMatcher()}
    if name in MATCHERS:
        found[MATCHERS[name]] = learned_matcher(name, folder)
    return found


def learned_matcher(name: str, folder: Path, batch_size: int = 1, backend: str = "onnxruntime") -> Matcher:
    """The learned matcher of an extractor's features; OpenVINO is the faster backend on a CPU, about twice."""
    if name in HEADS:
        path = exported(lightglue_head(HEADS[name]), folder, network=f"lightglue_{HEADS[name]}")
    else:
        path = exported(data_pack("weights") / "xfeat" / "lighterglue_fp16.pth", folder)
    return Matcher.load(path, Placement(backend=backend), batch_size=batch_size)


def exported(weights: Path, folder: Path, **options: object) -> Path:
    """The exported file of some weights; read where an earlier run of the same exporters and networks kept it."""
    kept = os.environ.get(KEPT)
    place = Path(kept) / "matching_models" if kept else folder
    stated = {name: str(value) for name, value in options.items()}
    path = place / f"{weights.stem}-{sha256_json([sha256_file(weights), stated, code_state(*MAKERS)])[:12]}.onnx"
    if not path.is_file():
        place.mkdir(parents=True, exist_ok=True)
        export_weights(ExportRequest(path, weights=weights, **options))  # type: ignore[arg-type]  # by its fields' names
    return path
