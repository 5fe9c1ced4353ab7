"""Load any exported model: what its card says it is decides which object comes back."""

from __future__ import annotations

from pathlib import Path

from gloam.errors import ModelError
from gloam.runtime.backends.open import open_session
from gloam.runtime.backends.placement import Placement
from gloam.runtime.models.edge_detector import EdgeDetector
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.models.image_model import refuse_weights
from gloam.runtime.models.local_features import LocalExtractor
from gloam.runtime.models.matcher import Matcher
from gloam.runtime.models.translator import Translator

Model = Embedder | Translator | EdgeDetector | LocalExtractor | Matcher
KINDS: dict[str, type[Model]] = {
    "embedder": Embedder,
    "fused": Embedder,
    "translator": Translator,
    "edges": EdgeDetector,
    "local_features": LocalExtractor,
    "matcher": Matcher,
}


def load(
    path: str | Path,
    *,
    device: str = "cpu",
    threads: int | None = None,
    backend: str | None = None,
    cpu_precision: str | None = None,
    requests: int | None = None,
) -> Model:
    """Load an ``.onnx`` file or a TensorRT engine.

    Args:
        path: the model.
        device, threads, backend, cpu_precision, requests: where and how it runs, see :class:`Placement`; on the CPU by
            default.

    Returns:
        an object to call with a list of uint8 ``[H, W, 3]`` RGB images: by the kind of the model's card an
        :class:`Embedder` (descriptors), :class:`Translator` or :class:`EdgeDetector` (pictures), or
        :class:`LocalExtractor` (keypoints with descriptors, or HOW's local features). A :class:`Matcher` is called with
        the features of two images instead.

    Raises:
        ModelError: unreadable, a checkpoint that was never exported, or of a kind that nothing here runs.
        DeviceError: the device is not active.
        UsageError: an unknown device, backend or precision.
    """
    refuse_weights(Path(path))
    session = open_session(path, Placement(device, threads, backend, cpu_precision, requests))
    kind = KINDS.get(session.card.kind)
    if kind is None:
        raise ModelError(
            f"{path}: a model of kind '{session.card.kind}', which cannot be run here; give one of {', '.join(KINDS)}"
        )
    return kind(session)
