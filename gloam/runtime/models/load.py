"""Load any exported model: what its card says it is decides which object comes back."""

from __future__ import annotations

from pathlib import Path

from gloam.runtime.backends.placement import Placement
from gloam.runtime.backends.selftest import open_tested
from gloam.runtime.models.appearance import Appearance
from gloam.runtime.models.edge_detector import EdgeDetector
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.models.local_features import LocalExtractor
from gloam.runtime.models.matcher import Matcher
from gloam.runtime.models.translator import Translator

Model = Embedder | Translator | EdgeDetector | LocalExtractor | Matcher | Appearance
KINDS: dict[str, type[Model]] = {
    "embedder": Embedder,
    "fused": Embedder,
    "translator": Translator,
    "edges": EdgeDetector,
    "local_features": LocalExtractor,
    "matcher": Matcher,
    "appearance": Appearance,
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
    """Load an ``.onnx`` file or a TensorRT engine; its self-test must pass here.

    The self-test runs once for a file, backend and processor, about as long as a few images take; that it passed stands
    in ``$XDG_CACHE_HOME/gloam``. ``gloam check`` says by how much a model fails that is refused here.

    Args:
        path: the model.
        device, threads, backend, cpu_precision, requests: where and how it runs, see :class:`Placement`; on the CPU by
            default.

    Returns:
        an object to call with a list of uint8 ``[H, W, 3]`` RGB images: by the kind of the model's card an
        :class:`Embedder` (descriptors), :class:`Translator` or :class:`EdgeDetector` (pictures), or
        :class:`LocalExtractor` (keypoints with descriptors, or HOW's local features), or :class:`Appearance` (filters
        for a translator). A :class:`Matcher` is called with the features of two images instead.

    Raises:
        ModelError: unreadable, a checkpoint that was never exported, or its self-test fails.
        DeviceError: the device is not active.
        UsageError: an unknown device, backend or precision.
    """
    placement = Placement(device, threads, backend, cpu_precision, requests)
    session = open_tested(path, placement, lambda card, where: None)  # every kind that a card can be of has its object
    return KINDS[session.card.kind](session)
