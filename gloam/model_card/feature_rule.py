"""The rules of local features: where keypoints are counted from, and which features a matcher takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gloam.errors import UsageError
from gloam.model_card.tensor_spec import TensorSpec
from gloam.record import Written, sparse

MOST_KEYPOINTS = 1 << 16  # of an image
KEYPOINT_OUTPUTS = ("keypoints", "scores", "descriptors", "count")


@dataclass(frozen=True)
class KeypointRule(Written):
    """Where the keypoints of a file of local features are counted from, and which of them it gives.

    Attributes:
        frame: ``stored``: pixels of the image as its file stores it, before an EXIF orientation turns it. A caller who
            turns images first gets keypoints of the turned ones.
        origin: x and y of the centre of the first pixel; COLMAP's cameras have it at 0.5.
        count: keypoints that the outputs have room for; the output ``count`` says how many there are.
        threshold: of a keypoint's score; 0 for the strongest, whatever they score.

    Raises:
        UsageError: values that no file has.
    """

    count: int
    threshold: float = 0.0
    frame: Literal["stored"] = "stored"
    origin: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST_KEYPOINTS:
            raise UsageError(f"{self.count} keypoints; 1 to {MOST_KEYPOINTS} of an image are possible")
        if not 0 <= self.threshold <= 1e6:
            raise UsageError(f"a keypoint's score of at least {self.threshold:g}; the threshold is 0 or more")
        if self.frame != "stored" or not -1 <= self.origin <= 1:
            raise UsageError(f"keypoints in the frame {self.frame!r} from {self.origin:g}, unknown to this gloam")


@dataclass(frozen=True)
class FeatureRule(Written):
    """The local features that a matcher takes.

    Attributes:
        name: of the network that gives them, e.g. ``aliked``, or ``sift``.
        dimension: of a descriptor, which has unit length.
        oriented: whether scales and orientations come with them.
        origin: coordinate of the first pixel's centre in the keypoints: 0 where keypoints count in pixels, 0.5
            where they count in the frame of COLMAP's intrinsics.
    """

    name: str
    dimension: int
    oriented: bool = sparse(False)
    origin: float = sparse(0.0)

    def __str__(self) -> str:
        oriented = ", with scales and orientations" if self.oriented else ""
        return f"{self.name}, {self.dimension}-D{oriented}, the first pixel's centre at {self.origin:g}"


def matcher_inputs(takes: FeatureRule) -> tuple[TensorSpec, ...]:
    """What the graph of a matcher takes: of the first image everything with a 0 behind its name, of the second a 1."""
    place = f"x, y in pixels, the first pixel's centre at {takes.origin:g}"
    specs = [
        *_of_both("keypoints", (2,), place),
        *_of_both("descriptors", (takes.dimension,), "of unit length"),
        *(TensorSpec(f"sizes{at}", "int32", ("batch", 2), "height and width of the image") for at in (0, 1)),
        TensorSpec("counts", "int32", ("batch", 2), "keypoints of either image; what stands behind them is no matter"),
    ]
    if takes.oriented:
        specs += [*_of_both("scales", (), "diameter, pixels"), *_of_both("orientations", (), "radians")]
    return tuple(specs)


def _of_both(name: str, last: tuple[int, ...], meaning: str) -> list[TensorSpec]:
    return [TensorSpec(f"{name}{at}", "float32", ("batch", f"keypoints{at}", *last), meaning) for at in (0, 1)]
