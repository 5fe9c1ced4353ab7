"""A network of keypoints and descriptors to ONNX: uint8 images of any size in, a fixed number of keypoints out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from gloam.errors import ModelError
from gloam.export.proved import Shapes
from gloam.export.spec import ExportSpec, export_spec
from gloam.model_card import KEYPOINT_OUTPUTS, InputRule, KeypointRule, ModelCard, Photometric, TensorSpec
from gloam.networks.local_features import LocalFeatureNetwork
from gloam.padding import PaddingProfile

EXAMPLE = (2, 97, 131)  # odd, so that a wrong pad or crop shows
# Of means over keypoints. Where scores are saturated, neighbours are equal to a rounding, and one of some hundred
# keypoints is there in one backend and not in another: up to 4e-3 was seen with ALIKE's weights. A quarter of a pixel
# everywhere makes 9e-3.
TOLERANCE = {"fp32": 5e-3}
KEYPOINTS = 2048  # of an image


def export_keypoints(
    model: LocalFeatureNetwork,
    path: str | Path,
    *,
    keypoints: int | None = None,
    threshold: float | None = None,
    profile: PaddingProfile | None = None,
    photometric: Photometric | None = None,
    input_rule: InputRule | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> ModelCard:
    """Export a network of local features and return the card that the file carries.

    Args:
        model: put in eval mode, on the CPU.
        path: ``.onnx`` file to write, atomically.
        keypoints: that the outputs have room for; 2048 by default. TensorRT takes at most 3840.
        threshold: of a keypoint's score; the network's own by default, 0 for the strongest, whatever they score.
        profile: ``dynamic``, for its batch.
        photometric: the normalisation that callers must apply to the decoded image.
        input_rule: the sizes that callers must bring images to; the card states none where it is left out, and the
            literature's holds.
        provenance: ``recipe``, ``data``, ``licence``; the weights' sha256 is computed here.

    Raises:
        ModelError: another network, a profile that would change the keypoints, or an invalid graph.
        UsageError: a number of keypoints or a threshold that no file has.
    """
    profile = profile or PaddingProfile.dynamic()
    name = str(getattr(model, "name", type(model).__name__))
    if not isinstance(model, LocalFeatureNetwork):
        raise ModelError(f"{name}: gives no keypoints; import a network of local features")
    if profile.kind == "fixed":
        raise ModelError(f"{name}: {model.not_fixed}; use the dynamic profile")
    rule = KeypointRule(
        KEYPOINTS if keypoints is None else keypoints, model.threshold if threshold is None else threshold
    )
    count = rule.count
    names = dict(
        zip(
            KEYPOINT_OUTPUTS,
            (
                ("float32", (count, 2), "x, y in pixels of the image as it was given, the first pixel's centre at 0"),
                ("float32", (count,), "score of each; in falling order where it was found"),
                ("float32", (count, model.dimension), "unit length"),
                ("int64", (), "how many of them there are; the rest is zeros"),
            ),
            strict=True,
        )
    )
    spec = ExportSpec(
        kind="local_features",
        model=model,
        graph=partial(model.extract_uint8, count=count, threshold=rule.threshold),
        profile=profile,
        example=EXAMPLE,
        outputs=tuple(
            TensorSpec(output, dtype, ("batch", *shape), meaning) for output, (dtype, shape, meaning) in names.items()
        ),
        selftest=Shapes(EXAMPLE),
        facts={
            "mean": model.mean,
            "std": model.std,
            "input_rule": input_rule,
            "photometric": photometric or Photometric(),
            "dimension": model.dimension,
            "keypoints": rule,
        },
        tolerance=TOLERANCE,
        least=model.traced_from,
    )
    return export_spec(spec, path, provenance)
