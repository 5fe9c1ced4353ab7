"""A model of local features in a few lines of numpy: bright pixels are its keypoints, described by where they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.model_card import FeatureRule, KeypointRule, ModelCard, TensorSpec, matcher_inputs
from gloam.padding import PaddingProfile
from gloam.runtime.backends.facts import BackendFacts

COUNT = 40  # keypoints that the model has room for
DIMENSION = 8


def card(kind: str = "local_features", name: str = "bright", **more: Any) -> ModelCard:
    if kind == "matcher":
        takes = FeatureRule(name, DIMENSION)
        outputs = ("matches", "scores")
        more = {"inputs": matcher_inputs(takes), "takes": takes, "profile": PaddingProfile.dynamic((1, 4)), **more}
    else:
        outputs = ("keypoints", "scores", "descriptors", "count")
        image = TensorSpec("images", "uint8", ("batch", "height", "width", 3), "")
        given = {"keypoints": KeypointRule(COUNT), "dimension": DIMENSION, "profile": PaddingProfile.dynamic()}
        more = {"inputs": (image,), **given, **more}
    specs = tuple(TensorSpec(output, "float32", (), "") for output in outputs)
    facts: dict[str, Any] = {"network": {}, "mean": (0.0,), "std": (1.0,), "provenance": {}}
    return ModelCard(kind=kind, name=name, outputs=specs, **facts | more)  # type: ignore[arg-type]  # by its fields' names


class BrightModel:
    """A session that finds every pixel above 200, the brightest first."""

    def __init__(self, **more: Any) -> None:
        self.card = card(**more)
        self.fingerprint = "f"
        self.backend = BackendFacts("none", ("none",), "fp32", device="cpu", version="1")

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        grey = inputs["images"][0].mean(2)
        y, x = np.nonzero(grey > 200)
        order = np.argsort(-grey[y, x], kind="stable")[:COUNT]
        places = np.stack((x, y), 1)[order].astype(np.float32)
        words = np.random.default_rng(0).normal(size=(256, DIMENSION)).astype(np.float32)[grey[y, x][order].astype(int)]
        found = (places, grey[y, x][order].astype(np.float32), words / np.linalg.norm(words, axis=1, keepdims=True))
        rows = [np.concatenate((each, np.zeros((COUNT - len(order), *each.shape[1:]), np.float32))) for each in found]
        names = (spec.name for spec in self.card.outputs)
        return dict(zip(names, [*(row[None] for row in rows), np.array([len(order)])], strict=True))


class NearestModel:
    """A session of a matcher: mutual neighbours by a product; notes the batches it is given."""

    def __init__(self, name: str = "bright", **more: Any) -> None:
        self.card = card("matcher", name, **more)
        self.fingerprint = "m"
        self.backend = BackendFacts("none", ("none",), "fp32", device="cpu", version="1")
        self.batches: list[int] = []

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        self.batches.append(len(inputs["counts"]))
        shape = inputs["keypoints0"].shape[:2]
        matches, scores = np.full(shape, -1, np.int32), np.zeros(shape, np.float32)
        for row, (first, second) in enumerate(inputs["counts"]):
            likeness = inputs["descriptors0"][row, :first] @ inputs["descriptors1"][row, :second].T
            best = likeness.argmax(1)
            mutual = likeness.argmax(0)[best] == np.arange(first)
            matches[row, :first] = np.where(mutual, best, -1)
            scores[row, :first] = 0.5
        return {"matches": matches, "scores": scores}
