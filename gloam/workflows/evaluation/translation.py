"""How night-like translated images are, beside their controls: one table over folders of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gloam.errors import UsageError, require
from gloam.eval.translation.features import EmbedderFeatures, FeatureExtractor
from gloam.eval.translation.images import ImageSet, Resize
from gloam.eval.translation.scores import Partners, TranslationScores, score_translation, table
from gloam.heartbeat import progress_bar

INCEPTION = "inception"


@dataclass(frozen=True)
class TranslationOptions:
    """What to score.

    Attributes:
        real: real images of the target domain, a folder or a list.
        fake: translated images, likewise.
        features: file of an exported embedder that was not trained on the judged places, a DINOv2 checkpoint
            (``.safetensors``), or ``inception``.
        weights: of Inception, instead of a download.
        controls: name and folder of further sets for the same table.
        day: what ``fake`` was made of, matched by name without suffix: adds SSIM and SIFT distance.
        target: real night photographs of the same places: the same against those.
        day_cycle: ``day`` after day to night to day.
        real_cycle: ``real`` after night to day to night.
        max_side: longer side in pixels, 0 keeps native sizes; ignored where ``size`` is given.
        size: width and height in pixels to which every image is stretched.
        seed: of subsets, clusterings and drawn pairs.
        device: where the features are computed.
    """

    real: Path
    fake: Path
    features: str
    weights: Path | None = None
    controls: Sequence[tuple[str, Path]] = ()
    day: Path | None = None
    target: Path | None = None
    day_cycle: Path | None = None
    real_cycle: Path | None = None
    max_side: int = 512
    size: tuple[int, int] | None = None
    seed: int = 0
    device: Literal["cpu", "cuda"] = "cpu"

    def __post_init__(self) -> None:
        if self.weights is not None and self.features != INCEPTION:
            raise UsageError(f"--weights belongs to --features {INCEPTION}; an exported embedder holds its own")
        if self.day_cycle is not None and self.day is None:
            raise UsageError("--day-cycle needs --day, the images that the cycle started from")
        if self.max_side < 0:
            raise UsageError(f"--max-side must be 0 or more, not {self.max_side}")


@dataclass(frozen=True)
class TranslationEvaluation:
    """How it came out: the scores, and the seed of whatever was drawn."""

    scores: TranslationScores
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return self.scores.to_dict() | {"seed": self.seed}

    def to_text(self) -> str:
        """One table."""
        return table(self.scores)


def evaluate_translation(options: TranslationOptions) -> TranslationEvaluation:
    """Score the translated images and their controls; progress goes to stderr.

    Raises:
        DataError: a folder without images, or pairs that do not match.
        ImageError: an image that cannot be read; a set without it would not be the set.
        MissingExtraError: Inception or a checkpoint is asked for where torch is not installed.
    """
    resize = Resize(None, options.size) if options.size else Resize(options.max_side or None)

    def optional(name: str, folder: Path | None) -> ImageSet | None:
        return None if folder is None else ImageSet.open(name, folder, resize)

    real = ImageSet.open("real", options.real, resize)
    sets = [ImageSet.open(name, path, resize) for name, path in [("fake", options.fake), *options.controls]]
    partners = Partners(
        optional("day", options.day),
        optional("target", options.target),
        optional("day cycle", options.day_cycle),
        optional("real cycle", options.real_cycle),
    )
    extractor = open_extractor(options.features, options.weights, options.device)
    total = len(real) + sum(map(len, sets))
    with progress_bar(total) as bar:
        scores = score_translation(real, sets, extractor, partners, seed=options.seed, advance=bar.update)
    return TranslationEvaluation(scores, options.seed)


def open_extractor(features: str, weights: Path | None, device: Literal["cpu", "cuda"]) -> FeatureExtractor:
    """What describes images for the distances of sets.

    Args:
        features: file of an exported embedder; a DINOv2 checkpoint, ``.safetensors``, for FD-DINOv2; or ``inception``.
        weights: of Inception, in place of a download.
        device: where it runs.

    Raises:
        ModelError: it cannot be loaded, or a checkpoint of another network.
        MissingExtraError: torch is needed and not installed.
    """
    if features == INCEPTION:
        require("torch", "fidelity", "compute Inception features")
        from gloam.networks.inception import InceptionFeatures

        return InceptionFeatures(weights, device=device)
    if Path(features).suffix == ".safetensors":
        require("torch", "train", "compute DINOv2's class tokens from a checkpoint")
        from gloam.networks.dinov2_features import DinoV2Features

        return DinoV2Features(features, device=device)
    from gloam.runtime.backends.placement import Placement
    from gloam.runtime.models.embedder import Embedder

    return EmbedderFeatures(Embedder.load(features, Placement(device=device)))
